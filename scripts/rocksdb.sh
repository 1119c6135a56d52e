#!/usr/bin/env bash
# Build librocksdb.a from the sources that the librocksdb-sys crate ships, and print the folder it is in.
#
# Compiled one file at a time, RocksDB costs 25 minutes on two cores, nearly all of it spent parsing the same
# headers 342 times. Included into a few large translation units it costs 4. The archive is kept in a cache
# outside the source tree, keyed by everything that shapes it, and is linked through the crate's own
# ROCKSDB_LIB_DIR and ROCKSDB_STATIC. A plain `cargo build` does not need this script: it is only slower.
#
# usage: rocksdb.sh CACHE_DIR
set -euo pipefail

UNITS=14
OPTIMISE=-O2
cache=$(realpath -m "${1:?usage: rocksdb.sh CACHE_DIR}")
mkdir -p "$cache"

say() { printf 'rocksdb: %s\n' "$*" >&2; }

command -v g++ >/dev/null || { say "g++ is missing; install it with: sudo apt-get install -y g++"; exit 1; }

# Where cargo unpacked the crates that this lock file names.
crate_dir() {
    cargo metadata --format-version 1 --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" |
        grep -o "\"manifest_path\":\"[^\"]*/$1-[0-9][^\"/]*/Cargo.toml\"" | head -n 1 |
        sed -e 's/^"manifest_path":"//' -e 's,/Cargo.toml"$,,'
}
sys=$(crate_dir librocksdb-sys)
lz4=$(crate_dir lz4-sys)/liblz4/lib
zstd=$(crate_dir zstd-sys)/zstd/lib
[ -d "$sys" ] && [ -d "$lz4" ] && [ -d "$zstd" ] || { say "the crate sources are not where cargo says"; exit 1; }

flags=(
    -I "$sys/rocksdb/include" -I "$sys/rocksdb" -I "$sys" -I "$lz4" -I "$zstd"
    -DLZ4=1 -DZSTD=1 -DNDEBUG=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DOS_LINUX
    -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
    -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT
    -std=c++20 -include cstdint -ffunction-sections -fdata-sections -fPIC -w "$OPTIMISE"
)
# RocksDB finds hardware CRC-32C by the instruction set it is compiled for.
[ "$(uname -m)" = x86_64 ] && flags+=(-m64 -march=x86-64-v2)

key=$(printf '%s\n' "$(basename "$sys")" "$(g++ -dumpfullversion)" "$UNITS" "${flags[@]##*/}" | sha256sum | cut -c1-16)
out="$cache/rocksdb-$key"
[ -f "$out/librocksdb.a" ] && { printf '%s\n' "$out"; exit 0; }

# One builder at a time; whoever waited finds it done.
exec 9>"$cache/rocksdb.lock"
flock 9
[ -f "$out/librocksdb.a" ] && { printf '%s\n' "$out"; exit 0; }

work=$(mktemp -d "$cache/rocksdb-build.XXXXXX")
trap 'rm -rf "$work"' EXIT
say "compiling $(basename "$sys") once for this machine (about 4 minutes on 2 cores)"

grep '\.cc$' "$sys/rocksdb_lib_sources.txt" | tr -d '[:blank:]\r' | grep -v util/build_version.cc >"$work/sources"
per_unit=$((($(wc -l <"$work/sources") + UNITS - 1) / UNITS))
split -l "$per_unit" -d -a 2 "$work/sources" "$work/part"
for part in "$work"/part*; do
    sed 's,.*,#include "rocksdb/&",' "$part" >"$work/unit${part##*part}.cc"
done
cp "$sys/build_version.cc" "$work/unit_version.cc"

compile() { g++ "${flags[@]}" -c "$1" -o "${1%.cc}.o"; }
jobs_max=$(nproc)
failed=0
for unit in "$work"/unit*.cc; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs_max" ]; do wait -n || failed=1; done
    compile "$unit" &
done
while [ -n "$(jobs -p)" ]; do wait -n || failed=1; done
[ "$failed" = 0 ] || { say "the compiler failed; a plain 'cargo build' compiles RocksDB file by file instead"; exit 1; }

mkdir "$work/out"
ar crs "$work/out/librocksdb.a" "$work"/unit*.o
mv -T "$work/out" "$out"
say "done: $out"
printf '%s\n' "$out"
