#!/bin/sh
# Builds the program with the Go SDK that the tests run, into $VESPID_TEST_CACHE,
# by default target/test-servers.
set -eu
cd "$(dirname "$0")/.."
cache=${VESPID_TEST_CACHE:-${CARGO_TARGET_DIR:-$PWD/target}/test-servers}

if ! command -v go >/dev/null; then
    echo "SKIPPED: no Go toolchain, so the Go SDK's tests are skipped" >&2
    exit 0
fi
mkdir -p "$cache"
CGO_ENABLED=0 go build -C tests/clients/go -trimpath -ldflags "-s -w" -o "$cache/go-sdk" .
echo "go: $cache/go-sdk"
