#!/usr/bin/env bash
# Installs what the tests need on a bare Debian with Rust, then runs everything.
#
#   tests/run.sh            all of it
#   tests/run.sh --offline  installs nothing: for machines that have it all
set -euo pipefail
cd "$(dirname "$0")/.."

install=yes
case "${1:-}" in
    "") ;;
    --offline) install=no ;;
    *) echo "usage: tests/run.sh [--offline]" >&2; exit 64 ;;
esac

step() { printf '\n== %s\n' "$*"; }
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)

missing=()
{ command -v cc && command -v make; } >/dev/null || missing+=(build-essential)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || missing+=(chromium)
# For certs/make-dev.sh, and to send signals with.
command -v openssl >/dev/null || missing+=(openssl)
[ -x /usr/bin/kill ] || [ -x /bin/kill ] || missing+=(procps)
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
binary="$(realpath "${CARGO_TARGET_DIR:-target}")/debug/framegate"
(cd tests/browser && node run.mjs "$binary")

step "all passed"
