# The image of the operator: the static program and CA certificates, nothing else.
#
#   docker build .                                  builds the program inside, with the public image of Rust
#   release/image.sh                                builds it outside, for tests and releases, and needs no other image
#
# Nothing in the build depends on its time or its folder, so that a commit can be built again and compared: docs/image.md.

ARG RUST_VERSION=1.95.0
ARG CARGO_AUDITABLE_VERSION=0.7.7

FROM scratch AS settings
ARG VERSION=0.1.0
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="opsadmin-operator" \
      org.opencontainers.image.description="API accounts for the OpsAdmin API, declared in YAML and kept in sync" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
ENV PATH=/usr/local/bin
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/opsadmin"]

# The context is the folder that release/root.sh has filled.
FROM settings AS prebuilt
COPY . /

FROM rust:${RUST_VERSION}-bookworm AS builder
# The version of musl-tools follows from the release of Debian.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
ARG CARGO_AUDITABLE_VERSION
RUN rustup target add "$(uname -m)-unknown-linux-musl" && \
    cargo install --locked "cargo-auditable@${CARGO_AUDITABLE_VERSION}"
WORKDIR /src
COPY . .
RUN release/root.sh /image

FROM settings
COPY --from=builder /image /
