#!/usr/bin/env bash
# Installs what the tests need on a bare Debian with Rust, then runs everything.
#
#   tests/run.sh            all of it
#   tests/run.sh --offline  installs nothing: for machines that have it all
set -euo pipefail
cd "$(dirname "$0")/.."

install=yes
[ "${1:-}" = --offline ] && install=no

step() { printf '\n== %s\n' "$*"; }
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)

missing=()
command -v cc >/dev/null || missing+=(build-essential)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
[ -x /usr/bin/chromium ] || missing+=(chromium)
if [ $install = yes ] && [ ${#missing[@]} -gt 0 ]; then
    step "install ${missing[*]}"
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
fi
# A toolchain may come without these.
if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    [ $install = yes ] && rustup component add rustfmt clippy
fi

step "fmt"
cargo fmt --all --check

step "clippy"
cargo clippy --all-targets --locked -- -D warnings

step "tests"
cargo test --locked

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked

step "browser"
cargo build --locked
if [ $install = yes ]; then
    (cd tests/browser && npm ci --no-audit --no-fund)
fi
(cd tests/browser && node run.mjs "$PWD/../../target/debug/framegate")

step "all passed"
