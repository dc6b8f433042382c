#!/usr/bin/env bash
# Puts servers of all installed versions into the states that `pgbell doctor` must find: ./test.sh does it for the oldest and the newest one.
#
#   scripts/doctor.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PGBELL_ALL_VERSIONS=1 PGBELL_MATRIX_DIR=${PGBELL_MATRIX_DIR:-$PWD/testkit/servers/node_modules}
exec cargo nextest run --locked -p pgbell-cli --test doctor --success-output never "$@"
