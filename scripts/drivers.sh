#!/usr/bin/env bash
# Tests the server of `pgbell::testing` with other PostgreSQL clients, each in its newest release.
#
#   scripts/drivers.sh [CLIENT...]            all clients, or those named, and a table of them
#   scripts/drivers.sh --record [CLIENT...]   also writes what they send to tests/testing/drivers, for the test that replays it,
#                                       and their versions into the documentation
#
# Each client connects, listens, notifies by NOTIFY, by pg_notify and in transactions, receives, reads an answer of the
# test, sends a statement that the server does not support, and continues: tests/drivers. It does so without a password and with
# SCRAM-SHA-256.
#
# It installs the clients with pip, npm and cargo into a temporary directory, or into PGBELL_DRIVERS_DIR, which it keeps.
# It needs these, a C compiler, psql and libpq's headers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
programs=$PWD/tests/drivers

record=false
if [ "${1-}" = --record ]; then
    record=true
    shift
fi
all=(psql libpq psycopg psycopg2 asyncpg pg8000 pg postgres.js tokio-postgres sqlx)
clients=("$@")
[ $# -gt 0 ] || clients=("${all[@]}")
for client in "${clients[@]}"; do
    [[ " ${all[*]} " == *" $client "* ]] || {
        echo "no client of this name: $client; there are ${all[*]}" >&2
        exit 2
    }
done

if [ -n "${PGBELL_DRIVERS_DIR-}" ]; then
    directory=$PGBELL_DRIVERS_DIR
    mkdir -p "$directory"
else
    directory=$(mktemp -d)
fi
children=()
finish() {
    for child in ${children[@]+"${children[@]}"}; do
        kill "$child" 2>/dev/null || true
    done
    [ -n "${PGBELL_DRIVERS_DIR-}" ] || rm -rf "$directory"
}
trap finish EXIT

wanted() {
    local client
    for client in "$@"; do
        [[ " ${clients[*]} " != *" $client "* ]] || return 0
    done
    return 1
}

install() {
    if wanted psycopg psycopg2 asyncpg pg8000; then
        [ -d "$directory/python" ] || python3 -m venv "$directory/python"
        "$directory/python/bin/pip" install --quiet --upgrade 'psycopg[binary]' psycopg2-binary asyncpg pg8000
    fi
    if wanted pg postgres.js; then
        mkdir -p "$directory/node"
        cp "$programs"/*.mjs "$directory/node"
        npm install --silent --prefix "$directory/node" pg@latest postgres@latest
    fi
    if wanted libpq; then
        cc -Wall -I"$(pg_config --includedir)" -L"$(pg_config --libdir)" -o "$directory/libpq" "$programs/libpq.c" -lpq
    fi
    if wanted tokio-postgres sqlx; then
        rm -rf "$directory/rust"
        mkdir -p "$directory/rust/src"
        cp -r "$programs/rust" "$directory/rust/src/bin"
        (
            cd "$directory/rust"
            printf '[package]\nname = "drivers"\nedition = "2024"\n[workspace]\n' >Cargo.toml
            cargo add --quiet tokio --features rt,macros,time,sync,net
            cargo add --quiet futures-util tokio-postgres
            cargo add --quiet sqlx --no-default-features --features postgres,runtime-tokio
            CARGO_TARGET_DIR=$directory/rust-target cargo build --quiet
        )
    fi
}

# Runs the program of a client, which prints its version.
talk() {
    case $1 in
    psql) "$programs/psql.sh" ;;
    libpq) "$directory/libpq" ;;
    psycopg | psycopg2 | asyncpg | pg8000) "$directory/python/bin/python" "$programs/$1_client.py" ;;
    pg) node "$directory/node/pg_client.mjs" ;;
    postgres.js) node "$directory/node/postgres_client.mjs" ;;
    tokio-postgres | sqlx)
        sed -n "/^name = \"$1\"/{n;s/version = \"\(.*\)\"/\1/p;}" "$directory/rust/Cargo.lock"
        "$directory/rust-target/debug/${1/-/_}"
        ;;
    esac
}

# Starts a program that prints a connection string or a port, and ends with its input: sets `port`.
serve() {
    local pipe
    pipe=$(mktemp -u "$directory/pipe.XXXXXX")
    mkfifo "$pipe" "$pipe.out"
    "$@" <"$pipe" >"$pipe.out" &
    children+=($!)
    exec {input}>"$pipe"
    read -r port <"$pipe.out"
    port=${port##*:} port=${port%%/*}
    rm "$pipe" "$pipe.out"
}

# Runs one client: sets `outcome` and `version`, and adds an error to `failures`.
try() {
    local client=$1 method=$2 port=$3 input=
    if $record && [ "$method" = trust ]; then
        serve python3 "$programs/relay.py" "$port" "$directory/recorded"
    fi
    (
        export PGHOST=127.0.0.1 PGPORT=$port PGUSER=alice PGPASSWORD=pencil PGDATABASE=postgres
        export DATABASE_URL="postgres://alice:pencil@127.0.0.1:$port/postgres?sslmode=disable"
        export HOME=$directory PYTHONDONTWRITEBYTECODE=1
        talk "$client"
    ) >"$directory/output" 2>"$directory/log" && outcome=ok || outcome=FAILED
    version=$(head -n 1 "$directory/output")
    if [ -n "$input" ]; then
        exec {input}>&-
        wait "${children[-1]}" || outcome=FAILED
        unset 'children[-1]'
        if [ "$outcome" = ok ]; then
            mv "$directory/recorded" "tests/testing/drivers/$client.txt"
            sed -i "s/^| $client | [^|]* |/| $client | $version |/" src/testing/server/clients.md
        fi
    fi
    if [ "$outcome" = FAILED ]; then
        failures+="$client, $method:"$'\n'"$(tail -n 12 "$directory/log")"$'\n'
    fi
}

install
cargo build --quiet --example test_server --features testing,tokio
server_program=$(cargo metadata --no-deps --format-version 1 |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/examples/test_server
failures=''
serve "$server_program" trust
trust=$port
serve "$server_program" scram-sha-256
scram=$port
printf '%-16s %-12s %-8s %s\n' client version trust scram-sha-256
for client in "${clients[@]}"; do
    try "$client" trust "$trust"
    trusted=$outcome
    try "$client" scram-sha-256 "$scram"
    printf '%-16s %-12s %-8s %s\n' "$client" "$version" "$trusted" "$outcome"
done
if [ -n "$failures" ]; then
    printf '\n%s' "$failures"
    exit 1
fi
