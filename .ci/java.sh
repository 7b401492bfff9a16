#!/bin/sh
# Fetches OpenTelemetry's agent for Java, for the tests, into $VESPID_TEST_CACHE,
# by default target/test-servers.
set -eu
cd "$(dirname "$0")/.."
cache=${VESPID_TEST_CACHE:-${CARGO_TARGET_DIR:-$PWD/target}/test-servers}
version=2.33.0

if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
    echo "SKIPPED: there is no java with mvn, so the Java agent's tests are skipped" >&2
    exit 0
fi
if [ "$(cat "$cache/java/version" 2>/dev/null)" = "$version" ]; then
    echo "java: $cache/java is there"
    exit 0
fi
mkdir -p "$cache/java"
# From a folder without a pom, so that nothing but the artifact is asked for.
(cd "$cache/java" && mvn -q -B dependency:copy -Dmdep.stripVersion=true -DoutputDirectory=. \
    "-Dartifact=io.opentelemetry.javaagent:opentelemetry-javaagent:$version")
echo "$version" >"$cache/java/version"
echo "java: $cache/java"
