#!/usr/bin/env bash
# Searches the output of the tests for planted secrets: passwords and keys of the tests contain a word of list.txt, which lists
# every form in which the word could be printed.
#
#   check.sh REPORT [OUTPUT...]
#
# REPORT is nextest's, with the output of tests that pass. The numbers of lines are printed, not the lines. Exits with 1 if
# there is a secret, and with 2 if there is no output to search.
set -euo pipefail
list=$(dirname "${BASH_SOURCE[0]}")/list.txt

[ $# -gt 0 ] || { echo "usage: check.sh REPORT [OUTPUT...]" >&2; exit 2; }
for stream in stdout stderr; do
    # The test suite in main.rs prints this line.
    grep -qs "tests print to $stream a line that the check must find" "$1" || {
        echo "$1 does not contain the output of tests to $stream" >&2
        exit 2
    }
done
status=0
for file in "$@"; do
    [ -s "$file" ] || { echo "$file is empty or missing" >&2; exit 2; }
    # Base64 is case-sensitive, the other forms are not.
    lines=$(grep -niFf "$list" -- "$file" | cut -d: -f1 | tr '\n' ' ') || true
    [ -z "$lines" ] || { echo "$file: a planted secret in line $lines" >&2; status=1; }
done
exit "$status"
