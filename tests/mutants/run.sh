#!/usr/bin/env bash
# Plants bugs in a copy of the sources. For each bug, the simulator, or the unit tests that the list names, must fail.
#
#   tests/mutants/run.sh [SEEDS]   at most SEEDS seeds for each bug (10,000)
#
# bugs.txt lists the bugs. The copy is built once: PGBELL_BUG selects the bug that is active.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seeds=${1-10000}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
copy=$target/mutants/tree
rm -rf "$copy"
mkdir -p "$copy"
tar cf - --exclude=./target --exclude=./.git --exclude=node_modules . | tar xf - -C "$copy"

names=$(python3 tests/mutants/plant.py "$copy" tests/mutants/bugs.txt)
mapfile -t bugs <<<"$names"

binary=$(cd "$copy" && CARGO_TARGET_DIR=$target/mutants cargo test --locked -p pgbell --all-features --lib \
    --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)

# Runs the tests for one bug. As many run at a time as there are cores.
run() {
    local bug tests begin=$SECONDS output found
    read -r bug tests <<<"$1"
    # A bug that lets a test wait for ever is found too.
    if output=$(PGBELL_BUG=$bug PGBELL_SEEDS=$seeds timeout 900 "$binary" "$tests" --nocapture 2>&1); then
        printf '%-28s NOT FOUND by %s (%d seeds)\n' "$bug" "$tests" "$seeds"
        return 1
    fi
    # The output of a test that panics itself has no seed.
    found=$(grep -m 1 '^seed ' <<<"$output" || tail -n 1 <<<"$output")
    printf '%-28s %3d s  %s\n' "$bug" $((SECONDS - begin)) "$found"
}

export -f run
export seeds binary
printf '%s\0' "${bugs[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c 'set -euo pipefail; run "$1"' run
