#!/usr/bin/env bash
# Make sure of what compiling needs, then run a command that compiles.
#
# Needed: cargo, g++, libclang (for RocksDB's bindings), and RocksDB itself (see rocksdb.sh). What is missing and
# can be installed with apt-get and the rights at hand is; otherwise one line says what to type.
#
# Sets CARGO_TARGET_DIR, ROCKSDB_LIB_DIR and ROCKSDB_STATIC, unless they are set; WAYSTATION_CACHE for the command.
#
# usage: prepare.sh [--only-paths] COMMAND [ARGUMENT…]
#   --only-paths   set the paths of cargo and the cache only: nothing will be compiled
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

say() { printf 'prepare: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The cache outside the clone, or ./target where there is no home to write to.
choose_paths() {
    WAYSTATION_CACHE=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/waystation
    if ! mkdir -p "$WAYSTATION_CACHE/target" 2>/dev/null || ! [ -w "$WAYSTATION_CACHE/target" ]; then
        WAYSTATION_CACHE=$(dirname "$here")/target
    fi
    local target=$WAYSTATION_CACHE/target
    [ "$WAYSTATION_CACHE" != "$(dirname "$here")/target" ] || target=$WAYSTATION_CACHE
    export WAYSTATION_CACHE CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$target}
}

# bindgen loads libclang.so, and libclang parses with the headers that come beside it.
has_libclang() {
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    local dirs='/usr/lib /usr/lib64 /usr/lib/*-linux-gnu /usr/lib/llvm*/lib /usr/local/lib /usr/local/llvm*/lib'
    local library headers dir
    for dir in $dirs; do
        for library in "$dir"/libclang.so* "$dir"/libclang-[0-9]*.so*; do
            [ -e "$library" ] || continue
            for headers in /usr/lib*/clang/*/include /usr/lib/llvm*/lib/clang/*/include /usr/local/lib/clang/*/include; do
                [ ! -e "$headers/stddef.h" ] || return 0
            done
        done
    done
    return 1
}

missing_packages() {
    command -v g++ >/dev/null || echo g++
    has_libclang && return
    # Debian 12's pair is 7 MB, where libclang-dev is 31.
    if apt-cache show libclang1-14 >/dev/null 2>&1; then
        echo libclang1-14 libclang-common-14-dev
    else
        echo libclang-dev
    fi
}

install_packages() {
    local packages root=()
    packages=$(missing_packages | xargs)
    [ -n "$packages" ] || return 0
    command -v apt-get >/dev/null ||
        fail "g++ or libclang is missing; install both with this system's package manager, then repeat"
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null ||
            fail "missing: $packages; type: sudo apt-get update && sudo apt-get install -y --no-install-recommends $packages"
        root=(sudo -n)
    fi
    root+=(env DEBIAN_FRONTEND=noninteractive)
    # A fresh container has no package lists, so the name to install is known only after this.
    "${root[@]}" apt-get update -q >&2 || say "apt-get update failed; trying with the package lists there are"
    packages=$(missing_packages | xargs)
    say "installing $packages"
    # shellcheck disable=SC2086
    "${root[@]}" apt-get install -q -y --no-install-recommends $packages >&2 ||
        fail "apt-get could not install: $packages; install them by hand, then repeat"
}

[ $# -gt 0 ] || fail "usage: prepare.sh [--only-paths] COMMAND [ARGUMENT…]"
command -v cargo >/dev/null || fail "cargo is missing; install Rust (https://rustup.rs), open a new shell, then repeat"
choose_paths
[ "$1" != --only-paths ] || { shift; exec "$@"; }

mkdir -p "$WAYSTATION_CACHE" || fail "cannot write to $WAYSTATION_CACHE; set XDG_CACHE_HOME to a folder that can be written"
# One installer at a time under `make -j`; whoever waited finds nothing missing.
exec 8>"$WAYSTATION_CACHE/prepare.lock"
flock 8
install_packages
exec 8>&-

if [ -z "${ROCKSDB_LIB_DIR:-}" ]; then
    ROCKSDB_LIB_DIR=$("$here/rocksdb.sh" "$WAYSTATION_CACHE")
    export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1
fi
exec "$@"
