#!/usr/bin/env bash
# Kills sessions and cuts networks while a writer commits a numbered sequence: every number must arrive once, in order, or be part
# of a reported gap. Kills sessions of a notifier with 64 callers: what is committed must arrive exactly once, what was refused or not
# sent must never arrive. Then it tests a consumer that never reads, many clients of a server that restarts, and half-open
# connections.
#
#   scripts/chaos.sh [DISCONNECTS [BIG_MESSAGES [CLIENTS]]]     by default 1,000, 1,000,000 (of 8 kB) and 1,000
#   scripts/chaos.sh publishing [DISCONNECTS]                   only the notifier; by default 1,000
#   scripts/chaos.sh log [RECORDS]                              only the log; by default 100,000
#   scripts/chaos.sh mirror [KILLS]                            only the mirror; by default 1,000
#   scripts/chaos.sh queue [JOBS]                               only the consumers of a queue of pgmq; by default 100,000
#   scripts/chaos.sh network                                    only the dead network
#
# The same tests run in ./test.sh, with smaller numbers. It needs PostgreSQL, which ./test.sh installs. The network is made of network
# namespaces: that part needs Linux, root and iproute2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run() { cargo nextest run --release -p pgbell --all-features --success-output immediate "$@"; }

network() {
    printf '=== a dead network between two network namespaces\n'
    run --test network --profile network
}

case ${1-} in
network)
    network
    exit
    ;;
log)
    export PGBELL_RECORDS=${2-100000}
    printf '=== about %s records of a log whose readers, backends and server are killed\n' "$PGBELL_RECORDS"
    run --test postgres --profile chaos -E 'test(chaos::log)'
    exit
    ;;
mirror)
    export PGBELL_KILLS=${2-1000}
    printf '=== %s kills of backends and of the server beside a mirror\n' "$PGBELL_KILLS"
    run --test postgres --profile chaos -E 'test(chaos::mirror)'
    exit
    ;;
queue)
    export PGBELL_JOBS=${2-100000}
    cargo fetch --locked --manifest-path testkit/pgmq/Cargo.toml
    printf '=== %s jobs of a queue whose consumers, listeners, backends and server are killed\n' "$PGBELL_JOBS"
    run --test postgres --profile chaos -E 'test(chaos::queue)'
    exit
    ;;
publishing)
    export PGBELL_DISCONNECTS=${2-1000}
    printf '=== %s lost sessions of a notifier with 64 callers, killed and cut\n' "$PGBELL_DISCONNECTS"
    run --test postgres --profile chaos -E 'test(chaos::publishing)'
    exit
    ;;
esac
export PGBELL_DISCONNECTS=${1-1000} PGBELL_BIG_MESSAGES=${2-1000000} PGBELL_CLIENTS=${3-1000}
printf '=== %s disconnects, %s notifications of 8 kB, %s clients\n' \
    "$PGBELL_DISCONNECTS" "$PGBELL_BIG_MESSAGES" "$PGBELL_CLIENTS"
# A socket for every client, and more for the tests.
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge $((PGBELL_CLIENTS + 500)) ] || ulimit -n $((PGBELL_CLIENTS + 500))
run --test postgres --profile chaos -E 'test(chaos::disconnects) or test(chaos::publishing) or test(chaos::bounds) or test(chaos::many)'
if [ "$(id -u)" = 0 ]; then
    network
else
    printf '=== skipped: the dead network: only root makes network namespaces\n'
fi
