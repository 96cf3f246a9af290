#!/usr/bin/env bash
# Checks the units with systemd's own tools: that they are understood, and how exposed each way to run
# the service is. Needs systemd-analyze (Debian: apt-get install systemd); nothing is installed, and
# no systemd has to run.
set -euo pipefail
cd "$(dirname "$0")"
command -v systemd-analyze >/dev/null ||
    { echo "systemd-analyze is missing: apt-get install systemd" >&2; exit 69; }

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
units="$root/etc/systemd/system"
mkdir -p "$units" "$root/usr/lib/systemd" "$root/usr/local/bin" "$root/bin"
# The targets that units depend on, and programs to be started.
cp -r /lib/systemd/system "$root/usr/lib/systemd/"
install -m 755 /dev/stdin "$root/usr/local/bin/framegate" <<<'#!/bin/sh'
install -m 755 /dev/stdin "$root/bin/kill" <<<'#!/bin/sh'

# check NAME THRESHOLD DROP-IN...: the service with these drop-ins; the threshold is ten times the exposure.
check() {
    local name=$1 threshold=$2 drop_in said
    shift 2
    rm -rf "$units"
    mkdir -p "$units/framegate.service.d"
    cp framegate.service framegate.socket "$units"
    for drop_in in "$@"; do
        cp "framegate.service.d/$drop_in" "$units/framegate.service.d/"
    done
    # What systemd ignores it only says; that is a failure too.
    said=$(systemd-analyze verify --man=no --root="$root" framegate.service framegate.socket 2>&1) ||
        { printf '%s\n%s: not valid\n' "$said" "$name" >&2; exit 1; }
    said=$(grep framegate <<<"$said" || true)
    [ -z "$said" ] || { printf '%s\n%s: not clean\n' "$said" "$name" >&2; exit 1; }
    said=$(systemd-analyze security --offline=true --root="$root" --threshold="$threshold" \
        --no-pager framegate.service) ||
        { printf '%s\n%s: more exposed than %s\n' "$said" "$name" "$threshold" >&2; exit 1; }
    printf '%-28s %s\n' "$name" "$(tail -1 <<<"$said")"
}

check "service" 16
check "with privileged ports" 16 privileged-ports.conf
check "with the socket" 13 socket.conf
# Systemd before 253 does not know this type, and says so.
version=$(systemd-analyze --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
if [ "$version" -ge 253 ]; then
    check "with the socket, 253" 13 socket.conf notify-reload.conf
else
    echo "systemd $version: framegate.service.d/notify-reload.conf is for 253 and newer, not checked"
fi
