#!/bin/sh
# Builds tidy.py to tidy.wasm, and sets up what that takes below .build:
#
#     ./build.sh              tidy.py to tidy.wasm
#     ./build.sh rule.py      rule.py to rule.wasm
#
# WIT names the interface's folder, where it is not ../../wit; OUT the file.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=${1:-$here/tidy.py}
name=$(basename "$source" .py)
out=${OUT:-$here/$name.wasm}
wit=${WIT:-$here/../../wit}
tools=$here/.build/venv

command -v python3 >/dev/null || { echo "error: there is no python3" >&2; exit 1; }
if ! cmp -s "$here/requirements.txt" "$tools/made-from"; then
    python3 -m venv --clear "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$tools/made-from"
fi
mkdir -p "$(dirname "$out")"
# WASI stays in: it grants a plugin nothing but clocks and random numbers, and its
# standard error is how the log learns of what no `except` can catch.
"$tools/bin/componentize-py" --quiet --wit-path "$wit" --world span-processor componentize \
    --python-path "$(dirname "$source")" --output "$out" "$name"
echo "$out"
