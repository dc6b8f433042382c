#!/usr/bin/env bash
# Sessions killed and networks cut under a writer that commits a numbered sequence: every number must arrive once, in order, or lie
# in a reported gap. Then a consumer that never reads.
#
#   ./chaos.sh [DISCONNECTS [BIG_MESSAGES]]     by default 1,000 and 1,000,000 (of 8 kB)
#
# The same tests run in ./test.sh, with fewer of both. Needs PostgreSQL, as ./test.sh installs it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export PGBELL_DISCONNECTS=${1-1000} PGBELL_BIG_MESSAGES=${2-1000000}
printf '=== %s disconnects, %s notifications of 8 kB\n' "$PGBELL_DISCONNECTS" "$PGBELL_BIG_MESSAGES"
cargo nextest run --release -p pgbell --all-features --test postgres --profile chaos --success-output immediate \
    -E 'test(chaos::disconnects) or test(chaos::bounds)'
