#!/usr/bin/env bash
# Installs what the tests need on a bare Debian with Rust, then runs everything that fits into half an hour.
# tests/full.sh runs the rest: all stacks, all of Autobahn, long fuzzing, soak, comparison.
#
#   tests/run.sh            all of it
#   tests/run.sh --offline  installs nothing: for machines that have it all
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh

install=yes
case "${1:-}" in
    "") ;;
    --offline) install=no ;;
    *) echo "usage: tests/run.sh [--offline]" >&2; exit 64 ;;
esac

need_compiler
need_peers
need prometheus prometheus promtool
# In front of a WebSocket server, without the headers it needs (tests/gateway/doctor_upgrades.rs).
need nginx-light nginx
need prometheus-blackbox-exporter prometheus-blackbox-exporter
# The units, and a service manager's sockets.
need systemd systemd-socket-activate systemd-analyze
[ $install = no ] || install_packages
# A toolchain may come without these.
if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    [ $install = yes ] && rustup component add rustfmt clippy
fi

step "fmt"
for manifest in Cargo.toml tests/fuzz/Cargo.toml benches/compare/Cargo.toml; do
    cargo fmt --manifest-path "$manifest" --all --check
done

step "clippy"
cargo clippy --all-targets --locked -- -D warnings

step "without the tools: the gateway alone"
cargo clippy --all-targets --locked --no-default-features -- -D warnings

step "the comparison builds"
cargo check --manifest-path benches/compare/Cargo.toml --locked

step "units"
systemd/check.sh

step "tests"
cargo test --locked

step "tests, without the tools"
cargo test --locked --no-default-features

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked

cargo build --locked
binary="$(realpath "${CARGO_TARGET_DIR:-target}")/debug/framegate"

step "browser"
if [ $install = yes ]; then
    (cd tests/browser && npm ci --no-audit --no-fund)
fi
(cd tests/browser && node run.mjs "$binary")

step "Autobahn, the fast selection, both directions, with ends that check nothing and ends that check"
tests/autobahn/run.py "$binary" --fast

step "one stack: Node's ws behind the gateway, three kinds of clients"
tests/stacks/run.py node --framegate "$binary"

step "alerts"
promtool check config config/prometheus/prometheus.yml
promtool test rules config/prometheus/tests/*_test.yml
tests/prometheus/run.py --framegate "$binary"

step "fuzz targets, 20 seconds each"
tests/fuzz/smoke.sh

step "all passed"
