#!/bin/sh
# Fetches what instruments a Node app without code, for the tests, into
# $VESPID_TEST_CACHE, by default target/test-servers.
set -eu
cd "$(dirname "$0")/.."
cache=${VESPID_TEST_CACHE:-${CARGO_TARGET_DIR:-$PWD/target}/test-servers}
here=tests/clients/node

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "SKIPPED: there is no node with npm, so the Node SDK's tests are skipped" >&2
    exit 0
fi
want=$(cat $here/package.json $here/package-lock.json | cksum)
if [ "$(cat "$cache/node/made-from" 2>/dev/null)" = "$want" ]; then
    echo "node: $cache/node is there"
    exit 0
fi
rm -rf "$cache/node"
mkdir -p "$cache/node"
cp $here/package.json $here/package-lock.json "$cache/node/"
npm ci --prefix "$cache/node" --no-audit --no-fund --ignore-scripts --silent
echo "$want" >"$cache/node/made-from"
echo "node: $cache/node"
