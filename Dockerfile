# syntax=docker/dockerfile:1
# All programs in one small image. `docker build -t riskfleet .`

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bins \
 && mkdir /programs \
 && cp target/release/riskfleet target/release/riskfleet-ingest target/release/riskfleet-worker target/release/riskfleet-console target/release/riskfleet-load /programs/

FROM debian:bookworm-slim
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
