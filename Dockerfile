# syntax=docker/dockerfile:1
# One static binary, certificate authorities and time zones; no shell, no package manager, nobody to be root.
# docs/container.md says how to run it.

ARG RUST=1.95
FROM rust:${RUST}-alpine AS build
# hadolint ignore=DL3018
RUN apk add --no-cache build-base ca-certificates linux-headers tzdata
# Before the sources, so that a change there does not build it anew.
ARG CYCLONEDX=0.5.9
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install --locked --version "${CYCLONEDX}" cargo-cyclonedx
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin tagwarden \
    && install -D -m 0755 target/release/tagwarden /out/usr/local/bin/tagwarden
# The bill of materials of the binary, where scanners of images find it. With SOURCE_DATE_EPOCH it is the same each time.
ARG SOURCE_DATE_EPOCH
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo cyclonedx --format json --spec-version 1.5 --override-filename tagwarden.cdx \
    && install -D -m 0644 tagwarden.cdx.json /out/usr/share/doc/tagwarden/tagwarden.cdx.json
# All that the last stage will have, and the proof that the binary needs no more: no interpreter, so no libraries. Builders
# that are not Docker may not call `chroot`.
RUN install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt \
    && install -d /out/etc/tagwarden /out/usr/share /out/var/lib \
    && cp -R /usr/share/zoneinfo /out/usr/share/zoneinfo \
    && install -d -m 1777 /out/tmp \
    && install -d -m 0700 /state/tagwarden \
    && /out/usr/local/bin/tagwarden --version \
    && readelf --program-headers /out/usr/local/bin/tagwarden >/tmp/headers \
    && ! grep INTERP /tmp/headers

FROM scratch
# `packaging/image` gives the values of a commit.
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Tagwarden" \
      org.opencontainers.image.description="Retention and cleanup daemon for container image tags" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build /out/ /
# As a folder in another one it keeps its mode: builders differ in that of the folder they copy.
COPY --from=build --chown=65532:65532 /state/ /var/lib/
# Who it was, in the audit record.
ENV USER=tagwarden
USER 65532:65532
WORKDIR /var/lib/tagwarden
VOLUME ["/var/lib/tagwarden"]
HEALTHCHECK --interval=30s --timeout=6s --start-period=30s --retries=3 CMD ["/usr/local/bin/tagwarden", "health"]
ENTRYPOINT ["/usr/local/bin/tagwarden"]
CMD ["serve"]
