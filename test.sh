#!/usr/bin/env bash
# The project's test command.
#
#   ./test.sh         everything: lints, tests on PostgreSQL 13 to 18, models, documents, benches, fuzz targets, demo
#   ./test.sh quick   for use during work: format, lints of the library, unit, property and loopback tests
#
# It prints one line for each step, the slowest tests and the tables. The output of the commands is in target/test-log, and its end
# is printed if a step fails.
#
# It installs what is missing, and prints what it installs: PostgreSQL, libpq, Python, PgBouncer, openssl, Chromium and, for root, iproute2 by
# apt-get, the server matrix by npm, cargo-nextest and cargo-fuzz by cargo. No service is started or enabled. FUZZ_SECONDS (5) is the
# time of each fuzz target.
#
# The clusters of a run are copies of new data directories in target/test-templates.*, which is removed at the end. If a run is
# killed, its files there (a few hundred MB) are removed by a run some hours later.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec </dev/null

case ${1-full} in
full | quick) mode=${1-full} ;;
*)
    echo "usage: ./test.sh [quick]" >&2
    exit 2
    ;;
esac

target=${CARGO_TARGET_DIR:-target}
members=(--workspace --exclude peers)
[ -d "$HOME/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin

logs=$target/test-log
steps=0

say() { printf '\n=== %s\n' "$*"; }

# Runs one step: its title, then the command. Its output goes to a file of its own.
step() {
    local title=$1 begin=$SECONDS status=0
    shift
    steps=$((steps + 1))
    log=$logs/$(printf %02d "$steps")-$(printf %s "$title" | tr -cs 'A-Za-z0-9' - | cut -c -60).txt
    printf '=== %s\n    %s\n' "$title" "$*"
    "$@" >"$log" 2>&1 || status=$?
    [ "$status" = 0 ] || {
        tail -n 300 "$log"
        printf '=== FAILED after %d s: %s (exit %d). All of it is in %s\n' \
            $((SECONDS - begin)) "$title" "$status" "$log" >&2
        exit "$status"
    }
    printf '    done in %d s\n' $((SECONDS - begin))
}

# Prints the lines of the last step's output that match.
shown() { grep -E "$1" "$log" | sed 's/^/    /' || true; }

# Prints the summary and the report of the last step's tests.
report() {
    shown '^ *Summary'
    python3 tests/report.py target/nextest/default/junit.xml | sed 's/^/    /'
}

skip() { printf '\n=== skipped: %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Returns whether packages can be installed: by root, or with sudo without a password.
can_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

# Runs at the end in any case: see `install_packages` and `keep_templates`.
policy='' installing=() templates=''

clean_up() {
    [ -z "$templates" ] || rm -rf "$templates"
    services_off || true
}
trap clean_up EXIT

# Packages of servers would start and enable services, but the tests start their own servers.
install_packages() {
    if ! can_install; then
        printf '=== cannot install %s: needs apt-get, and root or sudo without a password\n' "$*" >&2
        return 1
    fi
    local status=0
    # A signal is handled after apt-get has ended.
    trap 'exit 130' INT TERM HUP
    installing=("$@")
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    { as_root apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; } || status=$?
    services_off
    trap - INT TERM HUP
    return "$status"
}

# Other packages may start their services again, and those that were just installed are not started at boot.
services_off() {
    local package
    [ -z "$policy" ] || as_root rm -f "$policy"
    policy=''
    for package in "${installing[@]}"; do
        [ ! -e "/etc/init.d/$package" ] || as_root update-rc.d "$package" disable
    done
    installing=()
}

has_postgres() {
    [ -n "${PGBELL_POSTGRES-}" ] || command -v postgres >/dev/null ||
        compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}

# The PATH of ordinary users often has no directory of system programs: the tests search there too.
has_pgbouncer() {
    local dir
    [ -z "${PGBELL_PGBOUNCER-}" ] && ! command -v pgbouncer >/dev/null || return 0
    for dir in /usr/sbin /usr/local/sbin /usr/local/bin; do
        [ ! -x "$dir/pgbouncer" ] || return 0
    done
    return 1
}

# The tests make their certificates with openssl.
has_openssl() { [ -n "${PGBELL_OPENSSL-}" ] || command -v openssl >/dev/null; }

# The tests read connection strings with libpq too, through Python's ctypes.
has_libpq() {
    command -v python3 >/dev/null && python3 -c 'import ctypes; ctypes.CDLL("libpq.so.5")' 2>/dev/null
}

has_ip() { PATH=$PATH:/usr/sbin:/sbin command -v ip >/dev/null; }

# The browser of demos/browser.py.
has_browser() {
    local name
    for name in "${PGBELL_CHROMIUM-}" chromium chromium-browser google-chrome google-chrome-stable; do
        [ -z "$name" ] || ! command -v "$name" >/dev/null || return 0
    done
    return 1
}

# Without the browser, its step is skipped.
try_install_browser() {
    install_packages chromium || echo "not installed: the step that needs it is skipped"
}

# A container may forbid it, root or not.
can_make_networks() {
    PATH=$PATH:/usr/sbin:/sbin ip netns add "pgbell-try-$$" && PATH=$PATH:/usr/sbin:/sbin ip netns delete "pgbell-try-$$"
}

# Returns whether all servers are installed, in the versions of the lock file.
has_matrix() {
    [ -n "${PGBELL_MATRIX_DIR-}" ] ||
        cmp -s testkit/servers/package-lock.json testkit/servers/node_modules/.fetched.json
}

fetch_matrix() {
    { command -v npm >/dev/null || install_packages npm; } && testkit/servers/fetch.sh
}

# Texts of SQL, which are never built.
fetch_pgmq() { cargo fetch --locked --manifest-path testkit/pgmq/Cargo.toml; }

# Prints where the SQL of pgmq is.
pgmq_sql() {
    cargo metadata --locked --offline --format-version 1 --manifest-path testkit/pgmq/Cargo.toml |
        grep -o '"[^"]*/pgmq-0\.33\.0/Cargo\.toml"' | head -n 1 | sed 's|"||g; s|/Cargo\.toml$|/src/install/embedded/sql/pgmq.sql|'
}

prepare() {
    command -v cargo >/dev/null || {
        echo "cargo is missing: install Rust first, https://rustup.rs" >&2
        exit 1
    }
    command -v cc >/dev/null || step "install: no C compiler found" install_packages gcc libc6-dev
    cargo fmt --version >/dev/null 2>&1 || step "install: rustfmt is missing" rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || step "install: clippy is missing" rustup component add clippy
    has_postgres || step "install: PostgreSQL is missing" install_packages postgresql
    has_pgbouncer || step "install: PgBouncer is missing" install_packages pgbouncer
    has_openssl || step "install: openssl is missing" install_packages openssl
    has_libpq || step "install: libpq or Python is missing" install_packages libpq5 python3
    cargo nextest --version >/dev/null 2>&1 ||
        step "install: cargo-nextest is missing" cargo install cargo-nextest --locked
    step "fetch the SQL of pgmq" fetch_pgmq
    if [ "$mode" = full ]; then
        has_browser || ! can_install || step "install: Chromium is missing" try_install_browser
        has_matrix || step "install: the server matrix is missing (140 MB)" fetch_matrix
        if [ -f fuzz/Cargo.toml ] && ! cargo fuzz --version >/dev/null 2>&1; then
            step "install: cargo-fuzz is missing" cargo install cargo-fuzz --locked
        fi
    fi
}

quick() {
    step "format" cargo fmt --all --check
    step "lints of the library" cargo clippy --locked -p pgbell --all-targets --all-features -- -D warnings
    step "unit, property and loopback tests" \
        cargo nextest run --locked -p pgbell --all-features -E 'not (binary(matrix) or test(/(^|::)matrix/))'
    report
}

format() {
    step "format" cargo fmt --all --check
    if [ -f fuzz/Cargo.toml ]; then
        step "format of the fuzz targets" cargo fmt --manifest-path fuzz/Cargo.toml --check
    fi
}

lints() {
    step "lints" cargo clippy --locked "${members[@]}" --all-targets --all-features -- -D warnings
    step "lints of the tests that run only when they are named" \
        cargo clippy --locked -p pgbell --test network --all-features -- -D warnings
    local features
    for features in \
        "--no-default-features" \
        "--no-default-features --features proto" \
        "--no-default-features --features saslprep" \
        "--no-default-features --features tokio" \
        "--no-default-features --features tls" \
        "--no-default-features --features tokio,tls" \
        "--no-default-features --features tokio,tls-aws-lc-rs" \
        "--no-default-features --features tokio,tracing" \
        "--no-default-features --features tokio,metrics" \
        "--no-default-features --features json" \
        "--no-default-features --features tokio,json" \
        "--no-default-features --features blocking" \
        "--no-default-features --features durable" \
        ""; do
        # shellcheck disable=SC2086 # several words
        step "lints with features: ${features:-default}" \
            cargo clippy --locked -p pgbell --lib $features -- -D warnings
    done
}

tests() {
    step "tests, on PostgreSQL 13 to 18 where they name the matrix" \
        cargo nextest run --locked "${members[@]}" --all-features
    report
    local features
    for features in tokio tokio,tls; do
        step "tests of what is not compiled in, with features: $features" \
            cargo test --locked -q -p pgbell --test features --no-default-features --features "$features"
    done
    promises
    step "examples in the documentation" cargo test --locked --doc "${members[@]}" --all-features -q
    step "examples in the documentation, default features" cargo test --locked --doc -p pgbell -q
}

# The tests that name a promise, on the oldest and the newest version. Those of the matrix have run on all. `reports` is what they printed.
reports=()
promises() {
    local major table=(python3 tests/promises/table.py) results=(target/nextest/default/junit.xml)
    for major in 13 18; do
        step "promises on PostgreSQL $major" tests/promises/run.sh "$major"
        shown '^ *Summary'
        reports+=("$logs/promises-$major.xml")
        mv target/nextest/promises/junit.xml "${reports[-1]}"
        results+=("$major=${reports[-1]}")
    done
    printf '    if it differs: %s --write %s\n' "${table[*]}" "${results[*]}"
    step "every promise passed on 13 and 18, as docs/promises.md says" "${table[@]}" --check "${results[@]}"
}

# It needs a network of its own, made of network namespaces.
dead_network() {
    local why="the dead network (scripts/chaos.sh network)"
    if [ "$(id -u)" != 0 ]; then
        skip "$why: only root makes network namespaces"
    elif ! has_ip && ! { can_install && say "install: iproute2 is missing" && install_packages iproute2; }; then
        skip "$why: it needs iproute2, which cannot be installed here"
    elif ! can_make_networks; then
        skip "$why: network namespaces cannot be made here"
    else
        step "a dead network between two network namespaces" cargo nextest run --locked -p pgbell \
            --all-features --test network --profile network --success-output immediate
    fi
}

# Plants known bugs into a copy: the simulator, or the tests that the list names, must find them.
mutants() {
    step "planted bugs are found by the simulator" tests/mutants/run.sh
    printf '    %s bugs, each found\n' "$(grep -c '^[a-z0-9-]* *[0-9]* s  ' "$log")"
}

models() {
    # Not in the same directory as the rest: with the flag everything would be built again each time.
    if grep -rqs 'loom' src/proto/ring; then
        step "loom models of the ring" env RUSTFLAGS="--cfg loom -C debug-assertions" LOOM_MAX_PREEMPTIONS=2 \
            CARGO_TARGET_DIR="$target/loom" \
            cargo test --locked --release -p pgbell --lib --no-default-features -q ring::
    else
        skip "loom models: the ring has none"
    fi
}

documents() {
    step "documentation, default features" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib -p pgbell
    step "documentation" env RUSTDOCFLAGS="-D warnings" \
        cargo doc --locked --no-deps --lib "${members[@]}" --all-features
    step "public items, as docs/public-items.txt lists them" python3 scripts/public_items.py --check
    step "examples" cargo build --locked "${members[@]}" --examples --all-features
}

# The first lines of examples that end by themselves say that. They get a temporary server. `documents` has built them: `cargo run` would
# build each again, with the features of fewer packages.
examples() {
    local runnable example url status=0
    mapfile -t runnable < <(grep -ls '^//! Ends by itself' examples/*.rs)
    if [ "${#runnable[@]}" = 0 ]; then
        skip "running examples: none says that it ends by itself"
        return
    fi
    cargo build --locked -q -p pgbell-testkit
    PGMQ_SQL=$(pgmq_sql)
    export PGMQ_SQL
    coproc SERVER { exec "$target/debug/pgbell-testkit"; }
    local input=${SERVER[1]} server=$SERVER_PID
    read -r url <&"${SERVER[0]}"
    for example in "${runnable[@]}"; do
        example=$(basename "$example" .rs)
        DATABASE_URL=$url step "example $example" \
            timeout 60 "$target/debug/examples/$example"
    done
    exec {input}>&-
    wait "$server" || status=$?
    return "$status"
}

# Programs of their own package, with the features of the tests, so that nothing is built twice.
demos() {
    local name
    step "build the demos" cargo build --locked "${members[@]}" --bins --all-features
    for name in fan_out cache_invalidation; do
        step "$name" timeout 120 "$target/debug/$name"
        shown .
    done
    if has_browser; then
        step "live_page in a browser, on a real server" timeout 180 demos/browser.py
    else
        skip "live_page in a browser: Chromium is missing, and cannot be installed here"
    fi
}

benches() {
    if compgen -G 'benches/*.rs' >/dev/null; then
        # In the profile of the tests: it checks that they run, not how fast they are.
        step "benches as tests" cargo bench --locked -p pgbell --bench '*' --all-features --profile dev -- --test
    else
        skip "benches: there are none"
    fi
}

fuzz() {
    if [ ! -f fuzz/Cargo.toml ]; then
        skip "fuzz targets: there are none"
        return
    fi
    # libFuzzer's instrumentation needs unstable flags: of a nightly, or of the stable compiler with RUSTC_BOOTSTRAP.
    local run=(cargo fuzz) name
    if rustup run nightly rustc --version >/dev/null 2>&1; then
        run=(rustup run nightly cargo fuzz)
    else
        export RUSTC_BOOTSTRAP=1
    fi
    local listed names scratch seeds corpus
    listed=$("${run[@]}" list)
    mapfile -t names <<<"$listed"
    # New inputs go to a directory of their own: the seeds in the repository are not changed.
    scratch=$target/fuzz-corpus
    rm -rf "$scratch"
    mkdir -p "$scratch"
    for name in "${names[@]}"; do
        mkdir "$scratch/$name"
        seeds=()
        for corpus in "fuzz/corpus/$name" "fuzz/seeds/$name"; do
            [ ! -d "$corpus" ] || seeds+=("$corpus")
        done
        step "fuzz target $name" timeout 900 "${run[@]}" run "$name" "$scratch/$name" "${seeds[@]}" -- \
            -max_total_time="${FUZZ_SECONDS:-5}" -rss_limit_mb=2048 -verbosity=0
    done
    unset RUSTC_BOOTSTRAP
}

demo() {
    # The command exists if the help names it.
    step "build the command line" cargo build --locked --release -p pgbell-cli
    if "$target/release/pgbell" --help 2>/dev/null | grep -q '\bdemo\b'; then
        step "demo on a real server" cargo run --locked --release -q -p pgbell-cli -- demo --json
        shown '^[{]'
    else
        skip "demo: the command line has none"
    fi
}

# Passwords and keys of the tests contain a planted word, which must not be in any output.
secrets() {
    # nextest has a directory of its own, independent of that of cargo.
    local shown
    mapfile -t shown < <(find "$logs" -name '*.txt' -size +0)
    step "no planted secret in what was shown" \
        tests/planted/check.sh target/nextest/default/junit.xml "${reports[@]}" "${shown[@]}"
}

# Returns whether no other user can exchange the directory, or one above it, while root writes in it. The testkit needs that.
is_safe() {
    local dir=$1
    [ "$(id -u)" = 0 ] || return 0
    while [ -O "$dir" ] && [ -z "$(find "$dir" -maxdepth 0 -perm /022 ! -perm -1000)" ]; do
        [ "$dir" != / ] || return 0
        dir=$(dirname "$dir")
    done
    return 1
}

# Makes the directory in which the tests keep one new data directory for each version and encoding.
keep_templates() {
    local place
    place=$(cd "$target" && pwd -P)
    find "$place" -maxdepth 1 -name 'test-templates.*' -mmin +240 -exec rm -rf {} +
    is_safe "$place" || return 0
    templates=$(mktemp -d "$place/test-templates.XXXXXX")
    export PGBELL_TEMPLATE_DIR=$templates
}

rm -rf "$logs"
mkdir -p "$logs"
prepare
keep_templates
# No program searches for servers in its build directory.
export PGBELL_MATRIX_DIR=${PGBELL_MATRIX_DIR:-$PWD/testkit/servers/node_modules}
if [ "$mode" = quick ]; then
    quick
else
    format
    lints
    tests
    dead_network
    mutants
    models
    documents
    examples
    demos
    benches
    fuzz
    demo
    secrets
fi
say "./test.sh $mode: passed in $SECONDS s"
