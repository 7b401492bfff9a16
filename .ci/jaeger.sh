#!/bin/sh
# Builds Jaeger, the second real back end of the tests, where a Go toolchain is.
# Cold this takes minutes and 2 GB of memory, so the tests never do it themselves:
# they look for the program in $VESPID_TEST_CACHE, by default target/test-servers.
set -eu
cd "$(dirname "$0")/.."
cache=${VESPID_TEST_CACHE:-${CARGO_TARGET_DIR:-$PWD/target}/test-servers}

if ! command -v go >/dev/null; then
    echo "SKIPPED: no Go toolchain, so Jaeger is not built and its tests are skipped" >&2
    exit 0
fi
mkdir -p "$cache"
# The module files name one version: as long as they are the same, so is the program.
want=$(cat tests/clients/jaeger/go.mod tests/clients/jaeger/go.sum | cksum)
if [ -x "$cache/jaeger" ] && [ "$(cat "$cache/jaeger.from" 2>/dev/null)" = "$want" ]; then
    echo "jaeger: $cache/jaeger is there"
    exit 0
fi
echo "jaeger: building (about five minutes the first time)"
CGO_ENABLED=0 go build -C tests/clients/jaeger -trimpath -ldflags "-s -w" \
    -o "$cache/jaeger.new" github.com/jaegertracing/jaeger/cmd/jaeger
mv "$cache/jaeger.new" "$cache/jaeger"
echo "$want" >"$cache/jaeger.from"
echo "jaeger: $cache/jaeger, $(du -h "$cache/jaeger" | cut -f1)"
