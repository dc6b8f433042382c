#!/usr/bin/env bash
# Looks for planted secrets in what the tests have shown: passwords and keys of the tests hold a word of list.txt,
# which stands there in every form in which it could be printed.
#
#   check.sh REPORT [OUTPUT...]
#
# REPORT is nextest's, with the output of tests that pass. Lines are named and not shown. Ends with 1 when there is
# a secret, with 2 when there is nothing to look through.
set -euo pipefail
list=$(dirname "${BASH_SOURCE[0]}")/list.txt

[ $# -gt 0 ] || { echo "usage: check.sh REPORT [OUTPUT...]" >&2; exit 2; }
for stream in stdout stderr; do
    # A test of list.txt's neighbour main.rs prints it.
    grep -qs "tests print to $stream what is looked through" "$1" || {
        echo "$1 does not hold what tests print to $stream" >&2
        exit 2
    }
done
status=0
for file in "$@"; do
    [ -s "$file" ] || { echo "$file is empty or missing" >&2; exit 2; }
    # Base64 has no case to ignore, the other forms have.
    lines=$(grep -niFf "$list" -- "$file" | cut -d: -f1 | tr '\n' ' ') || true
    [ -z "$lines" ] || { echo "$file: a planted secret in line $lines" >&2; status=1; }
done
exit "$status"
