# syntax=docker/dockerfile:1
# All programs in one small image. `docker build -t riskfleet .`

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
# The caches stay with the builder. `locked`: two builds at once would spoil each other's.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --release --locked \
      --bin riskfleet --bin riskfleet-ingest --bin riskfleet-worker --bin riskfleet-console \
 && install -D -t /programs target/release/riskfleet target/release/riskfleet-ingest \
      target/release/riskfleet-worker target/release/riskfleet-console

# The same Debian, for its C library; the certificates of authorities are in the programs.
FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="riskfleet" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin riskfleet \
 && install -d -o 10001 -g 10001 /var/lib/riskfleet
COPY --from=build /programs/ /usr/local/bin/
COPY LICENSE /usr/share/doc/riskfleet/LICENSE
USER 10001:10001
# In a container the outside of the network namespace is the border, and a proxy in front does TLS.
ENV RISKFLEET_HTTP_ADDR=0.0.0.0:8080 RISKFLEET_BEHIND_PROXY=true RISKFLEET_LOG_FORMAT=json
EXPOSE 8080
STOPSIGNAL SIGTERM
CMD ["riskfleet", "--help"]
