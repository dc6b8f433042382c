#!/usr/bin/env bash
# Runs cargo-deny with deny.toml: licences, sources, crates that must not be used, and known vulnerabilities.
#
#   scripts/deny.sh            everything
#   scripts/deny.sh offline    without the vulnerabilities, whose list is fetched
#
# It installs cargo-deny if it is missing. tests/dependencies.rs checks the licences and sources in every test run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

checks=(licenses bans sources)
case ${1-} in
'') checks+=(advisories) ;;
offline) ;;
*)
    echo "usage: scripts/deny.sh [offline]" >&2
    exit 2
    ;;
esac
command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
exec cargo deny --locked check "${checks[@]}"
