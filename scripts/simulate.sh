#!/usr/bin/env bash
# Runs the simulator of a listener, of a hub, of a notifier or of the cursor of a log: N runs with failures, each determined by a seed.
#
#   scripts/simulate.sh [--hub | --notifier | --cursor] N [FIRST]   N seeds from FIRST (0), in release mode, on all processors
#   scripts/simulate.sh [--hub | --notifier | --cursor] 1 SEED      one seed, with its trace
#
# With PGBELL_ALL=1 it continues after a failure and prints the kinds of failures.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

test=ten_thousand_seeds_keep_every_promise
if [ "${1-}" = --hub ]; then
    test=thousands_of_seeds_of_a_hub_keep_every_promise
    shift
elif [ "${1-}" = --notifier ]; then
    test=thousands_of_seeds_of_a_notifier_keep_every_promise
    shift
elif [ "${1-}" = --cursor ]; then
    test=ten_thousand_seeds_of_a_cursor_deliver_every_record_once
    shift
fi
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: scripts/simulate.sh [--hub | --notifier | --cursor] N [FIRST]" >&2
    exit 2
fi
count=$1 first=${2-0}

binary=$(cargo test --locked --release -p pgbell --all-features --lib --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)

if [ "$count" = 1 ]; then
    exec env PGBELL_SEED="$first" "$binary" "$test" --nocapture
fi

workers=$(nproc)
share=$(((count + workers - 1) / workers))
pids=()
for ((worker = 0; worker < workers; worker++)); do
    from=$((first + worker * share))
    left=$((first + count - from))
    [ "$left" -gt 0 ] || break
    PGBELL_FIRST=$from PGBELL_SEEDS=$((left < share ? left : share)) "$binary" "$test" --nocapture &
    pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
    wait "$pid" || status=1
done
exit "$status"
