#!/usr/bin/env bash
# The long test: sessions in numbers while the endpoints are killed, frozen and restarted at random.
#
#   tests/soak.sh [MINUTES] [--sessions N] [--seed N] [--out FILE]    10 minutes, 1000 sessions
#
# Builds the release binary; needs Rust, a C compiler and Python 3, which it installs on Debian.
# Prints a summary in Markdown, and writes it to FILE; exit code 1 if something did not hold.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=10
case "${1:-}" in
    [0-9]*) minutes=$1; shift ;;
esac

sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
missing=()
command -v python3 >/dev/null || missing+=(python3)
{ command -v cc && command -v make; } >/dev/null || missing+=(build-essential)
if [ ${#missing[@]} -gt 0 ]; then
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
fi

cargo build --release --locked
exec python3 tests/soak/soak.py "${CARGO_TARGET_DIR:-target}/release/framegate" --minutes "$minutes" "$@"
