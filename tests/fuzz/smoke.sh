#!/usr/bin/env bash
# Builds all fuzz targets with the stable compiler and runs each for a while, with its seeds.
#
#   tests/fuzz/smoke.sh [seconds [target ...]]     20 seconds each by default, as many at once as there are cores
#
# Needs Rust and a C++ compiler, and neither nightly nor cargo-fuzz: these are the flags cargo-fuzz sets, without
# AddressSanitizer, which safe Rust has little use for. Debug assertions and overflow checks are on.
# To look for long: cargo +nightly fuzz run --fuzz-dir tests/fuzz TARGET tests/fuzz/corpus/TARGET tests/fuzz/seeds/TARGET
# A finding is left in tests/fuzz/artifacts/TARGET; the same command with that file in place of the folders shows it again.
set -euo pipefail
cd "$(dirname "$0")"

seconds="${1:-20}"
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cd fuzz_targets && basename -s .rs -- *.rs)
host="$(rustc -vV | sed -n 's/^host: //p')"
jobs="${FUZZ_JOBS:-$(nproc)}"

coverage=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0
    --cfg fuzzing
)
# --target, even for the machine itself, keeps the flags away from build scripts and procedural macros.
began=$SECONDS
RUSTFLAGS="${coverage[*]}" cargo build --release --locked --target "$host" "${targets[@]/#/--bin=}"
echo "built in $((SECONDS - began)) s"
programs="$(realpath "${CARGO_TARGET_DIR:-target}")/$host/release"

# Runs one target; its last lines on success, everything when it found something.
run() {
    local target="$1" log began=$SECONDS
    mkdir -p "corpus/$target" "artifacts/$target"
    log="$(mktemp)"
    if "$programs/$target" "corpus/$target" "seeds/$target" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -artifact_prefix="artifacts/$target/" -print_final_stats=1 >"$log" 2>&1; then
        echo "ok   $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs in $((SECONDS - began)) s," \
            "$(sed -n 's/.*\(cov: [0-9]* ft: [0-9]* corp: [^ ]*\).*/\1/p' "$log" | tail -n 1)"
        rm -f "$log"
    else
        cat "$log"
        echo "FAIL $target: see above, and artifacts/$target"
        rm -f "$log"
        return 1
    fi
}

failed=0
for target in "${targets[@]}"; do
    # Bash counts the running ones; a failed one is remembered when it is waited for.
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || failed=1; done
    run "$target" &
done
while [ -n "$(jobs -p)" ]; do
    wait -n || { [ $? -eq 127 ] && break; failed=1; }
done
exit $failed
