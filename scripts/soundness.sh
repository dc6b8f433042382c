#!/usr/bin/env bash
# Checks that take too long for ./test.sh: memory errors, leaks, interleavings, more random cases.
#
#   scripts/soundness.sh                  all parts
#   scripts/soundness.sh asan valgrind    these parts only
#
#   selftest   the two tools below must report programs that are broken on purpose, and must not report a correct one
#   asan       AddressSanitizer and LeakSanitizer: unit tests and local tests, with the C code of the cryptography
#   valgrind   memcheck: ring, listener, notifications, buffers of TLS, and listeners on local sockets; without
#              property tests and decryption, which the sanitizer runs
#   loom       the models of the ring with one more preemption than in ./test.sh
#   proptest   all property tests, optimised and with overflow checks, with other seeds again and again
#   fuzz       all fuzz targets
#
# It prints one line for each part. The output of a part is in a file that its line names. SOUNDNESS_SECONDS (300) is the time
# of proptest, and of all of fuzz together. LOOM_PREEMPTIONS (4). Needs no nightly toolchain.
# It installs valgrind by apt-get, cargo-nextest and cargo-fuzz by cargo, where they are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

all=(selftest asan valgrind loom proptest fuzz)
parts=("$@")
[ $# -gt 0 ] || parts=("${all[@]}")
for part in "${parts[@]}"; do
    case " ${all[*]} " in
    *" $part "*) ;;
    *)
        echo "usage: scripts/soundness.sh [${all[*]}]..." >&2
        exit 2
        ;;
    esac
done

[ -d "$HOME/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
logs=$target/soundness
seconds=${SOUNDNESS_SECONDS:-300}
host=$(rustc -vV | sed -n 's/^host: //p')

# A tool that hangs fails after a time that is much longer than any of them takes.
longest=(timeout --kill-after=10 1800)

# The stable compiler has the sanitizers' runtimes. It accepts their flag with RUSTC_BOOTSTRAP.
asan_flags=(-Zsanitizer=address -Cforce-frame-pointers=yes -g)
asan_cflags="-fsanitize=address -fno-omit-frame-pointer -g"
asan_env=(
    RUSTC_BOOTSTRAP=1
    ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1
)

# Tests that take seconds in an optimised build take minutes in another, and more under such a tool. Overflows and failed
# debug assertions are still found.
optimised=(CARGO_PROFILE_DEV_OPT_LEVEL=2)

# Threads of the runtime that are not joined still run at the end: memory that they can reach is no leak.
valgrind=(valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect
    --errors-for-leak-kinds=definite,indirect --fair-sched=yes --num-callers=25)

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

needs() {
    case $1 in
    valgrind)
        command -v valgrind >/dev/null && return 0
        command -v apt-get >/dev/null && as_root apt-get update -q &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends valgrind libc6-dbg
        ;;
    nextest) cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked ;;
    fuzz) cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked ;;
    esac
}

# Programs with one error each, and one without. The compiler does not know their values.
write_programs() {
    cat >"$1/overflow.rs" <<'RUST'
fn main() {
    let bytes = vec![1_u8; std::env::args().count() + 7];
    let first = std::hint::black_box(bytes.as_ptr());
    std::process::exit(unsafe { first.add(bytes.len()).read_volatile() } as i32 & 0);
}
RUST
    cat >"$1/freed.rs" <<'RUST'
fn main() {
    let first = { std::hint::black_box(vec![1_u8; std::env::args().count() + 7]).as_ptr() };
    std::process::exit(unsafe { std::hint::black_box(first).read_volatile() } as i32 & 0);
}
RUST
    cat >"$1/leak.rs" <<'RUST'
#[inline(never)]
fn lose(count: usize) {
    std::mem::forget(std::hint::black_box(vec![1_u8; count]));
}
fn main() {
    (0..100).for_each(|more| lose(1_000 + more));
}
RUST
    cat >"$1/in_c.c" <<'C'
#include <stdlib.h>
int in_c(int count) {
    volatile char *bytes = malloc(count + 7);
    bytes[count + 7] = 1;
    free((void *)bytes);
    return 0;
}
C
    cat >"$1/in_c.rs" <<'RUST'
#[link(name = "in_c", kind = "static")]
unsafe extern "C" {
    fn in_c(count: i32) -> i32;
}
fn main() {
    std::process::exit(unsafe { in_c(std::env::args().count() as i32) });
}
RUST
    cat >"$1/sound.rs" <<'RUST'
fn main() {
    let thread = std::thread::spawn(|| vec![1_u8; std::env::args().count() + 7].iter().sum::<u8>());
    std::process::exit(thread.join().unwrap() as i32 & 0);
}
RUST
}

# `expect NAME TOOL ERROR COMMAND...`: the command must fail and its output name the error; without one, pass.
expect() {
    local name=$1 tool=$2 error=$3 output status=0
    shift 3
    output=$("$@" 2>&1) || status=$?
    printf '%s with %s: exit %d\n%s\n' "$name" "$tool" "$status" "$output"
    if [ -z "$error" ]; then
        [ "$status" = 0 ] || detail="$tool complains about a sound program"
    elif [ "$status" = 0 ] || ! grep -q -- "$error" <<<"$output"; then
        detail="$tool does not report $name"
    else
        reported=$((reported + 1))
        return 0
    fi
    [ "$status" = 0 ] && [ -z "$error" ]
}

part_selftest() {
    local dir reported=0 name kind
    needs valgrind || return
    dir=$(mktemp -d) || return
    # shellcheck disable=SC2064 # as it is here
    trap "rm -rf '$dir'" EXIT
    write_programs "$dir"
    for kind in asan valgrind; do
        mkdir "$dir/$kind"
        local flags=(-g -Awarnings --edition 2024 -L "$dir/$kind") cflags=-g
        if [ $kind = asan ]; then
            flags+=("${asan_flags[@]}")
            cflags=$asan_cflags
        fi
        # shellcheck disable=SC2086 # several words
        cc $cflags -c "$dir/in_c.c" -o "$dir/$kind/in_c.o" &&
            ar rcs "$dir/$kind/libin_c.a" "$dir/$kind/in_c.o" || return
        for name in overflow freed leak in_c sound; do
            env RUSTC_BOOTSTRAP=1 rustc "${flags[@]}" "$dir/$name.rs" -o "$dir/$kind/$name" || return
        done
    done
    local asan=(env "${asan_env[@]}")
    expect overflow asan heap-buffer-overflow "${asan[@]}" "$dir/asan/overflow" &&
        expect freed asan heap-use-after-free "${asan[@]}" "$dir/asan/freed" &&
        expect in_c asan heap-buffer-overflow "${asan[@]}" "$dir/asan/in_c" &&
        expect leak asan 'LeakSanitizer: detected memory leaks' "${asan[@]}" "$dir/asan/leak" &&
        expect sound asan '' "${asan[@]}" "$dir/asan/sound" &&
        expect overflow valgrind 'Invalid read' "${valgrind[@]}" "$dir/valgrind/overflow" &&
        expect freed valgrind 'Invalid read' "${valgrind[@]}" "$dir/valgrind/freed" &&
        expect in_c valgrind 'Invalid write' "${valgrind[@]}" "$dir/valgrind/in_c" &&
        expect leak valgrind 'definitely lost' "${valgrind[@]}" "$dir/valgrind/leak" &&
        expect sound valgrind '' "${valgrind[@]}" "$dir/valgrind/sound" || return
    detail="$reported errors reported, none in a sound program"
}

sum() { awk '{ sum += $1 } END { print sum + 0 }'; }

# Prints the number of tests in a runner's output, of all its binaries.
passed_tests() {
    sed -nE 's/.* ([0-9]+) tests? run: ([0-9]+) passed.*/\2/p; s/^test result: ok\. ([0-9]+) passed.*/\1/p' |
        sum
}

part_asan() {
    needs nextest || return
    # Without the tests that count allocations or measure memory: the sanitizer has its own of both.
    env "${asan_env[@]}" "${optimised[@]}" RUSTFLAGS="${asan_flags[*]}" "CFLAGS_${host//-/_}=$asan_cflags" \
        CARGO_TARGET_DIR="$target/asan" \
        "${longest[@]}" cargo nextest run --locked -p pgbell --features testing --target "$host" --lib \
        --test loopback --test hostile --test testing --test wire_properties --no-fail-fast \
        -E 'not test(/(^|::)matrix/)' || return
    detail="$(passed_tests <"$log") tests"
}

part_valgrind() {
    needs valgrind || return
    # Without decryption: memcheck treats results of ring's own assembly as uninitialised, and reports each
    # comparison of a tag inside ring::aead (seen with valgrind 3.19). The sanitizer runs those tests.
    # Hundreds of cases of each property take an hour here. The sanitizer runs them all.
    local variable=${host//-/_} name skip=()
    for name in $(property_tests); do skip+=(--skip "$name"); done
    # A few seeds of the simulator are enough, and take minutes.
    local -x PGBELL_SEEDS=20
    local -x "CARGO_TARGET_${variable^^}_RUNNER=${valgrind[*]}" "${optimised[@]}" "CARGO_TARGET_DIR=$target/optimised"
    "${longest[@]}" cargo test --locked -p pgbell --features testing --lib -- --test-threads=2 "${skip[@]}" \
        ring:: listener:: notification:: net::tls::incoming net::tls::buffer net::tls::keys net::tls::record:: &&
        # Not optimised: a comparison that the compiler moves before the deciding one (of the niche of an Option, in
        # net/password.rs) reads uninitialised memory. The deciding one does not.
        env CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_TARGET_DIR="$target" \
            "${longest[@]}" cargo test --locked -p pgbell --features testing --test loopback -- --test-threads=2 \
            listener::every_way pins:: || return
    detail="$(passed_tests <"$log") tests"
}

part_loom() {
    local preemptions=${LOOM_PREEMPTIONS:-4}
    env RUSTFLAGS="--cfg loom -C debug-assertions" LOOM_MAX_PREEMPTIONS="$preemptions" \
        CARGO_TARGET_DIR="$target/loom" \
        "${longest[@]}" cargo test --locked --release -p pgbell --lib --no-default-features ring:: || return
    detail="$(passed_tests <"$log") models, $preemptions preemptions"
}

# Prints the names of all tests in a `proptest!`.
property_tests() {
    grep -rl 'proptest! *{' src tests | xargs awk '
        FNR == 1 { inside = 0 }
        /^ *proptest! *\{/ { inside = 1 }
        inside && /^ *fn [a-z0-9_]+\(/ { sub(/^ *fn /, ""); sub(/\(.*/, ""); print }
        /^\}/ { inside = 0 }'
}

part_proptest() {
    needs nextest || return
    local names
    names=$(property_tests | sort -u | paste -sd'|') && [ -n "$names" ] || return
    # Tests with numbers of their own: two threads, with any interleaving.
    names+='|two_threads_account_for_every_notification|many_threads_never_exceed_the_limit_and_release_all_of_it'
    # PROPTEST_CASES is for tests that do not set their number of cases.
    env "${optimised[@]}" CARGO_TARGET_DIR="$target/optimised" PROPTEST_CASES=4096 \
        "${longest[@]}" cargo nextest run --locked -p pgbell --features testing --lib \
        --test wire_properties --test conninfo --stress-duration "${seconds}s" -E "test(/(^|::)($names)\$/)" || return
    detail="$(property_tests | wc -l) properties, $(grep -c 'Summary' "$log") runs of all"
}

part_fuzz() {
    needs fuzz || return
    local run=(cargo fuzz) listed names name corpus each
    if rustup run nightly rustc --version >/dev/null 2>&1; then
        run=(rustup run nightly cargo fuzz)
    else
        local -x RUSTC_BOOTSTRAP=1
    fi
    listed=$("${run[@]}" list) || return
    mapfile -t names <<<"$listed"
    each=$((seconds / ${#names[@]} + 1))
    for name in "${names[@]}"; do
        # New inputs are kept for the next run. The seeds in the repository are not changed.
        corpus=$target/soundness/corpus/$name
        mkdir -p "$corpus"
        "${longest[@]}" "${run[@]}" run "$name" "$corpus" "fuzz/corpus/$name" -- \
            -max_total_time="$each" -rss_limit_mb=2048 -print_final_stats=1 || return
    done
    local inputs
    inputs=$(sed -nE 's/^stat::number_of_executed_units: *//p' "$log" | sum)
    detail="${#names[@]} targets, $each s each, $inputs inputs"
}

# A function, so that bash reads the whole script before it runs a command.
main() {
    local part failed=()
    mkdir -p "$logs"
    for part in "${parts[@]}"; do
        log=$logs/$part.log
        detail=
        begin=$SECONDS
        if "part_$part" >"$log" 2>&1; then
            verdict=passed
        else
            verdict=FAILED
            failed+=("$part")
        fi
        printf '%-9s %s %5d s  %s  %s\n' "$part" "$verdict" $((SECONDS - begin)) "${detail:--}" "$log"
        [ "$verdict" = passed ] || tail -n 40 "$log" | sed 's/^/    /'
    done
    if [ ${#failed[@]} -gt 0 ]; then
        echo "scripts/soundness.sh: FAILED: ${failed[*]}" >&2
        exit 1
    fi
    echo "scripts/soundness.sh: passed in $SECONDS s"
}

main
exit
