#!/bin/sh
# Builds the example plugin in every other language than Rust whose toolchain is
# here, and the defective one of tests/guests/fails, for the tests and benchmarks:
#
#     .ci/languages.sh [python | javascript | go]...
#
# They are put into target/guests/languages. What is as it was is not built again.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p "${CARGO_TARGET_DIR:-target}"
built=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/guests/languages
fails=$root/tests/guests/fails

skip() {
    echo "SKIPPED: $language: $1, so examples/$language-plugin is neither built nor tested" >&2
    # Where everything is installed on purpose, nothing is left out.
    [ "${CI:-}" != true ] || exit 1
}

# Of all that a module is made from: the folder less what is made there, and wit/.
sum_of() {
    find "examples/$language-plugin" "$fails" wit -type f -not -path '*/.build/*' -not -path '*/node_modules/*' \
        -not -path '*/__pycache__/*' -not -path '*/vespid_plugin_*/*' -not -name wit_exports.go -not -name '*.wasm' -not -name '*.md' |
        sort | xargs cksum
}

build() {
    language=$1
    folder=$built/$language
    mkdir -p "$folder"
    sum_of >"$folder/sum"
    if cmp -s "$folder/sum" "$folder/made-from"; then
        # The tests compare the times.
        touch "$folder/tidy.wasm" "$folder/fails.wasm"
        return
    fi
    echo "languages: building examples/$language-plugin"
    rm -f "$folder/made-from"
    "build_$language"
    mv "$folder/sum" "$folder/made-from"
}

# A plugin of one's own beside what the example gives it: modules are found beside
# the one that imports them.
beside() {
    mkdir -p "$folder/source"
    cp "$fails/$1" "examples/$language-plugin/$2" "$folder/source/"
    OUT=$folder/fails.wasm "examples/$language-plugin/build.sh" "$folder/source/$1"
}

build_python() {
    OUT=$folder/tidy.wasm examples/python-plugin/build.sh
    beside fails.py guard.py
}

build_javascript() {
    OUT=$folder/tidy.wasm examples/javascript-plugin/build.sh
    beside fails.js guard.js
}

build_go() {
    OUT=$folder/tidy.wasm examples/go-plugin/build.sh
    tidy=$root/examples/go-plugin/tidy
    printf '{"Replace": {"%s": "%s", "%s": ""}}' "$tidy/tidy.go" "$fails/fails.go" "$tidy/settings.go" \
        >"$folder/overlay.json"
    OUT=$folder/fails.wasm GOFLAGS="${GOFLAGS:-} -overlay=$folder/overlay.json" examples/go-plugin/build.sh
}

for language in ${*:-python javascript go}; do
    case $language in
        python)
            if python3 -c 'import ensurepip, venv' 2>/dev/null; then
                build python
            else
                skip "componentize-py needs python3 with venv (Debian: python3-venv)"
            fi
            ;;
        javascript)
            if command -v node >/dev/null && command -v npm >/dev/null; then
                build javascript
            else
                skip "there is no node with npm"
            fi
            ;;
        go)
            if command -v go >/dev/null; then
                build go
            else
                skip "there is no go"
            fi
            ;;
        *)
            echo "error: \`$language\` is none of python, javascript, go" >&2
            exit 1
            ;;
    esac
done
