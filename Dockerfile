# One static program in an empty image. The entry point takes the Collector's
# flags; without any it runs the config of examples/container.
#
#   docker build -t vespid .
#   docker run --rm -p 4317:4317 -p 4318:4318 -p 13133:13133 vespid
#
# Give it your own config, and plugins beside it, by a volume at /etc/vespid.
# Compiled plugins are kept between starts where VESPID_CACHE_DIR names a volume
# that the program's user owns; without one each start compiles them, which costs
# up to a second of CPU time for each.
ARG BUILDER=rust:1.95-bookworm
FROM ${BUILDER} AS build

# musl-gcc compiles the C parts of ring and of the allocator. A builder that has
# it, and Rust's target, needs no network for these steps.
RUN command -v musl-gcc >/dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends ca-certificates musl-tools; }
RUN for target in "$(uname -m)-unknown-linux-musl" wasm32-wasip2; do \
        test -d "$(rustc --print target-libdir --target "$target")" || rustup target add "$target" || exit 1; \
    done

WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY wit wit
COPY plugin-sdk/rust plugin-sdk/rust
COPY plugins plugins
COPY examples/quickstart/collector.yaml examples/quickstart/collector.yaml
COPY host host
# What cargo fetched and built stays in the builder's cache for the next time.
RUN --mount=type=cache,target=/cache \
    export CARGO_HOME=/cache/cargo CARGO_TARGET_DIR=/cache/target TARGET="$(uname -m)-unknown-linux-musl" \
    && cargo build --locked --release --package vespid --bin vespid --target "$TARGET" \
    && cp "/cache/target/$TARGET/release/vespid" /vespid

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /vespid /vespid
COPY examples/container/collector.yaml /etc/vespid/config.yaml
USER 10001:10001
# OTLP over gRPC and over HTTP, the collector's metrics, health checks.
EXPOSE 4317 4318 8888 13133
ENTRYPOINT ["/vespid"]
CMD ["--config=/etc/vespid/config.yaml"]
