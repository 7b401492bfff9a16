#!/bin/sh
# What a person types here: ./dev.sh quickstart | test | bench [options]
# Each does its own set-up: it needs rustup, git and a C compiler.
set -eu
cd "$(dirname "$0")"

say() { printf '\n== %s\n' "$*"; }
die() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

# rustup may be told not to install by itself, so ask it for everything by name.
set_up() {
    command -v rustup >/dev/null 2>&1 || die "rustup is not installed" "see https://rustup.rs"
    command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 ||
        die "there is no C compiler" "install gcc or clang, such as by apt-get install gcc libc6-dev"
    channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    if ! rustup run "$channel" rustc --version >/dev/null 2>&1; then
        say "installing Rust $channel"
        rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy
    fi
    if ! rustup target list --installed --toolchain "$channel" | grep -qx wasm32-wasip2; then
        say "installing the target of plugins, wasm32-wasip2"
        rustup target add wasm32-wasip2 --toolchain "$channel"
    fi
}

target=${CARGO_TARGET_DIR:-$PWD/target}

# Plugins are workspaces of their own and share one target folder.
build_example() {
    CARGO_TARGET_DIR=$target/guests cargo build --release --locked --target wasm32-wasip2 \
        --manifest-path examples/rust-plugin/Cargo.toml
}

quickstart() {
    set_up
    say "1/3 building the example plugin, examples/rust-plugin"
    build_example
    say "2/3 building the collector (about six minutes on two cores the first time)"
    cargo build --locked -p vespid
    say "3/3 running it"
    exec "$target/debug/vespid" quickstart \
        --module "$target/guests/wasm32-wasip2/release/tidy.wasm" "$@"
}

run_tests() {
    set_up
    say "building plugins for the tests"
    build_example
    CARGO_TARGET_DIR=$target/guests cargo build --release --locked --target wasm32-wasip2 \
        --manifest-path tests/guests/Cargo.toml
    say "the example plugin in other languages, as far as their tools are here"
    CARGO_TARGET_DIR=$target .ci/languages.sh
    say "the example plugin's own tests"
    CARGO_TARGET_DIR=$target/guests cargo test --locked --manifest-path examples/rust-plugin/Cargo.toml
    say "the bundled plugins' own tests"
    CARGO_TARGET_DIR=$target/guests cargo test --locked --manifest-path plugins/Cargo.toml
    say "all tests of the collector and of the SDK"
    cargo test --locked --workspace "$@"
}

bench() {
    set_up
    cargo bench --locked -p vespid "$@"
}

command=${1:-}
[ $# -gt 0 ] && shift
case $command in
    quickstart) quickstart "$@" ;;
    test) run_tests "$@" ;;
    bench) bench "$@" ;;
    *) die "\`$command\` is no command" "write ./dev.sh quickstart, ./dev.sh test or ./dev.sh bench" ;;
esac
