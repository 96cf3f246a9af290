# What tests/run.sh and tests/full.sh share; sourced, not run.

step() { printf '\n== %s (%s s since the begin)\n' "$*" "$SECONDS"; }

# need PACKAGE PROGRAM...: notes a Debian package unless all its programs are there.
packages=()
need() {
    local package="$1" program
    shift
    for program in "$@"; do
        if ! command -v "$program" >/dev/null; then
            packages+=("$package")
            return
        fi
    done
}

# Installs what was noted.
install_packages() {
    [ ${#packages[@]} -gt 0 ] || return 0
    step "install ${packages[*]}"
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
}

# What the runners of the peers in Python, Node and Chromium need.
need_peers() {
    need python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
    need nodejs node
    need npm npm
    [ -x "${CHROMIUM:-/usr/bin/chromium}" ] || packages+=(chromium)
    # For certs/make-dev.sh, and to send signals with.
    need openssl openssl
    need procps /bin/kill
}

need_compiler() {
    need build-essential cc c++ make
}
