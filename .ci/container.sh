#!/bin/sh
# Builds the container image and runs its tests, on a machine that has no Docker
# and reaches no container registry: buildah runs the Dockerfile's own steps in
# an empty image that sees this machine's compiler and toolchain, read-only.
#
# What it lacks it installs by apt-get; where that cannot be, it says that it
# skips. Everything it keeps is under target/container: a second run is quick.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
work=$target/container
image=localhost/vespid:ci

skip() {
    echo "SKIPPED: the container image is neither built nor tested: $1" >&2
    exit 0
}

[ "$(uname -s)" = Linux ] || skip "this is not Linux"
[ "$(id -u)" = 0 ] || skip "building without Docker needs root; 'docker build .' builds it too"
missing=
for tool in buildah podman runc; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
command -v musl-gcc >/dev/null || missing="$missing musl-tools"
[ -f /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || skip "there is no apt-get to install$missing"
    echo "container: installing$missing"
    # shellcheck disable=SC2086 # one word a package
    { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$target/container-apt.log" 2>&1 \
        || skip "apt-get could not install$missing (see $target/container-apt.log)"
fi
musl=$(uname -m)-unknown-linux-musl
rustup target list --installed | grep -q "^$musl$" || rustup target add "$musl"

# The builder: nothing but links to where the mounts below will be.
mkdir -p "$work/tmp" "$work/run"
rm -rf "$work/builder"
mkdir -p "$work/builder/etc/ssl/certs" "$work/builder/tmp" "$work/builder/var/tmp"
for folder in bin lib lib64 sbin; do
    ln -s "usr/$folder" "$work/builder/$folder"
done
cp /etc/passwd /etc/group /etc/ld.so.cache "$work/builder/etc/"
cp -r /etc/alternatives "$work/builder/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$work/builder/etc/ssl/certs/"

storage="--storage-driver vfs --root $work/storage --runroot $work/run"
# buildah keeps the caches of RUN steps in TMPDIR.
build() {
    command=$1
    shift
    # shellcheck disable=SC2086 # several words
    TMPDIR=$work/tmp buildah $storage "$command" "$@"
}
builder=$(build from scratch)
build copy --quiet "$builder" "$work/builder" / >/dev/null
build config --env PATH=/rust/bin:/usr/bin:/bin "$builder"
build commit --quiet --rm "$builder" localhost/vespid-builder >/dev/null

echo "container: building $image"
build bud --quiet --isolation chroot --build-arg BUILDER=localhost/vespid-builder --pull-never \
    --volume /usr:/usr:ro --volume "$(rustc --print sysroot):/rust:ro" \
    --tag "$image" . >"$work/build.log" 2>&1 \
    || { tail -n 40 "$work/build.log" >&2; exit 1; }

# What earlier runs left has no name any more.
build rmi --prune >/dev/null 2>&1 || true

echo "container: testing $image"
VESPID_CONTAINERS="podman $storage --runtime runc" VESPID_IMAGE=$image \
    cargo test --locked --package vespid --test vespid_tests -- --nocapture clients::container
