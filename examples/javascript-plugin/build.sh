#!/bin/sh
# Builds tidy.js to tidy.wasm, and sets up what that takes in node_modules:
#
#     ./build.sh              tidy.js to tidy.wasm
#     ./build.sh rule.js      rule.js to rule.wasm
#
# WIT names the interface's folder, where it is not ../../wit; OUT the file.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=${1:-$here/tidy.js}
out=${OUT:-$here/$(basename "$source" .js).wasm}
wit=${WIT:-$here/../../wit}

command -v npm >/dev/null || { echo "error: there is no npm" >&2; exit 1; }
if ! cmp -s "$here/package-lock.json" "$here/node_modules/made-from"; then
    npm ci --prefix "$here" --no-audit --no-fund --ignore-scripts --silent
    cp "$here/package-lock.json" "$here/node_modules/made-from"
fi
mkdir -p "$(dirname "$out")"
# WASI stays in: it grants a plugin nothing but clocks and random numbers, and its
# standard error is how the log learns of what no `catch` can.
node "$here/node_modules/componentize-qjs/bin/componentize-qjs" --wit "$wit" --world span-processor \
    --sync --module-root "$(dirname "$source")" --js "$source" --output "$out" >/dev/null
echo "$out"
