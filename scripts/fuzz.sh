#!/usr/bin/env bash
# Fuzz every target in fuzz/ with libFuzzer, one after the other. Run it through prepare.sh.
#
# The same targets run as ordinary tests, briefly, in `cargo test`. A run starts from the inputs in the repository
# and from those in the cache, where it keeps what reaches something new. An input that breaks a target is kept
# under fuzz/__fuzz__/, where `cargo test` tries it from then on: commit it with the fix.
#
# bolero brings libFuzzer along, so this needs no tool and no nightly compiler. (cargo-bolero gives every binary
# of the package the same flags and then cannot link those without a fuzz target.)
#
# usage: fuzz.sh SECONDS_EACH
set -euo pipefail

seconds=${1:?usage: fuzz.sh SECONDS_EACH}
cache=${WAYSTATION_CACHE:?run this through scripts/prepare.sh}
host=$(rustc -vV | sed -n 's/^host: //p')

say() { printf 'fuzz: %s\n' "$*" >&2; }

# Coverage as libFuzzer wants it. The relay's own binary is built beside the targets and never run, so it need not
# have what the coverage calls.
flags=(
    --cfg fuzzing --cfg fuzzing_libfuzzer -Cpasses=sancov-module -Clink-arg=-Wl,--unresolved-symbols=ignore-all
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cllvm-args=-sanitizer-coverage-stack-depth
)

say "building the targets"
program=$(
    BOLERO_FUZZER=libfuzzer RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=$cache/fuzz-target CARGO_PROFILE_DEV_OPT_LEVEL=1 \
        cargo test --test fuzz --target "$host" --no-run --message-format json-render-diagnostics |
        grep '"name":"fuzz"' | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
)
[ -x "$program" ] || { say "fuzz/main.rs was not built"; exit 1; }
targets=$("$program" --list | sed -n 's/: test$//p')
[ -n "$targets" ] || { say "fuzz/main.rs has no targets"; exit 1; }

failed=()
for target in $targets; do
    one=("$program" "$target" --exact --nocapture --quiet --test-threads 1)
    export BOLERO_TEST_NAME=$target BOLERO_LIBTEST_HARNESS=1
    # Where `cargo test` looks for this target's inputs.
    home=$(CARGO_BOLERO_SELECT=one "${one[@]}" | sed -n 's/.*"work_dir":"\([^"]*\)".*/\1/p')
    [ -n "$home" ] || { say "$target is no fuzz target"; exit 1; }
    corpus=$cache/corpus/${target//::/-} crashes=$home/crashes
    mkdir -p "$corpus" "$crashes"
    say "$target, for $seconds s"
    # libFuzzer adds to the first folder and reads the others.
    known=("$crashes")
    [ ! -d "$home/corpus" ] || known+=("$home/corpus")
    options=("$corpus" "${known[@]}" "-artifact_prefix=$crashes/" -timeout=10 "-max_total_time=$seconds" -verbosity=0)
    BOLERO_LIBFUZZER_ARGS="${options[*]}" "${one[@]}" || failed+=("$target")
    rmdir --ignore-fail-on-non-empty -p "$crashes"
done
[ ${#failed[@]} = 0 ] || { say "broken: ${failed[*]}; the inputs are in fuzz/__fuzz__"; exit 1; }
say "nothing broke"
