#!/bin/sh
# Builds the plugin to tidy.wasm. Beside Go it takes cargo, for the two steps that
# Go has no tool for: componentize/ makes Go bindings of the interface, and a
# component of Go's module.
#
# WIT names the interface's folder, where it is not ../../wit; OUT the file.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/tidy.wasm}
wit=$(cd "${WIT:-$here/../../wit}" && pwd)
work=$here/.build

for tool in go cargo; do
    command -v $tool >/dev/null || { echo "error: there is no $tool" >&2; exit 1; }
done
# The native target, whatever an environment made for plugins says.
host=$(rustc -vV | sed -n 's/^host: //p')
CARGO_TARGET_DIR=$work cargo build --quiet --locked --target "$host" --manifest-path "$here/componentize/Cargo.toml"
componentize=$work/$host/debug/componentize

mkdir -p "$(dirname "$out")"
"$componentize" bindings "$wit" span-processor "$here"
# The runtime's module reads a symbol of Go's own runtime, hence -checklinkname=0.
GOOS=wasip1 GOARCH=wasm go build -C "$here" -trimpath -buildmode=c-shared \
    -ldflags='-s -w -checklinkname=0' -o "$work/module.wasm" .
"$componentize" component "$wit" span-processor "$work/module.wasm" "$out"
echo "$out"
