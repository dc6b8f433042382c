#!/usr/bin/env bash
# Fetches PostgreSQL 13 to 18 for the tests: about 140 MB to load, 350 MB on disk, in node_modules beside this file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if ! command -v npm >/dev/null; then
    echo "fetch.sh: npm is needed: apt-get install npm" >&2
    exit 1
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "fetch.sh: the servers in package-lock.json are built for Linux on x86-64, this is $(uname -sm)" >&2
    exit 1
fi
echo "fetch.sh: npm ci, PostgreSQL 13 to 18 as pinned in package-lock.json"
npm ci --no-audit --no-fund --loglevel=error

for package in node_modules/pg*; do
    # The archive cannot hold symbolic links: a script of the package makes them. npm may be set not to run it.
    if [ ! -L "$package/native/lib/libpq.so" ]; then
        (cd "$package" && node scripts/hydrate-symlinks.js)
    fi
    echo "fetch.sh: ${package#node_modules/} is $("$package/native/bin/postgres" --version)"
done

# The mark that everything above was done, for this lock file.
cp package-lock.json node_modules/.fetched.json
