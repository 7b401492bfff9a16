#!/bin/sh
# Makes the Python environment of the tests (zero-code instrumentation of a small
# web app), in $VESPID_TEST_CACHE, by default target/test-servers.
set -eu
cd "$(dirname "$0")/.."
cache=${VESPID_TEST_CACHE:-${CARGO_TARGET_DIR:-$PWD/target}/test-servers}
requirements=tests/clients/python/requirements.txt

skip() {
    echo "SKIPPED: $1, so the Python SDK's tests are skipped" >&2
    exit 0
}

command -v python3 >/dev/null || skip "there is no python3"
python3 -c 'import ensurepip, venv' 2>/dev/null || skip "python3 has no venv (Debian: python3-venv)"
if cmp -s "$requirements" "$cache/python/made-from"; then
    echo "python: $cache/python is there"
    exit 0
fi
mkdir -p "$cache"
python3 -m venv --clear "$cache/python"
"$cache/python/bin/pip" install --quiet --requirement "$requirements"
cp "$requirements" "$cache/python/made-from"
echo "python: $cache/python"
