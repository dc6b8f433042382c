#!/usr/bin/env bash
# Runs the tests that name a promise, and that are not in the matrix, on one version of PostgreSQL.
#
#   tests/promises/run.sh MAJOR
#
# The report, which table.py reads, is target/nextest/promises/junit.xml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ $# != 1 ]; then
    echo "usage: tests/promises/run.sh MAJOR" >&2
    exit 2
fi
filter=$(python3 tests/promises/table.py --filter)
PGBELL_MAJOR=$1 exec cargo nextest run --locked -p pgbell --all-features --test postgres --profile promises -E "$filter"
