# syntax=docker/dockerfile:1
# Three images from one file; `docker compose build` makes those that are asked for.
#
#   docker build --target hub            -t roomwire/hub .
#   docker build --target gateway-worker -t roomwire/gateway-worker .
#   docker build --target demo           -t roomwire/demo .      (discord-sim and dev-issuer; never in production)

# --- The console: files that the hub embeds -------------------------------------------------
FROM node:20-bookworm-slim AS console
WORKDIR /src/web
# The packages alone first: they change seldom, and stay in the layer cache until they do.
COPY web/package.json web/package-lock.json ./
COPY web/sdk/package.json web/sdk/build.mjs sdk/
COPY web/console/package.json console/
RUN npm ci --no-audit --no-fund
COPY web/ ./
RUN npm run build

# --- The binaries ---------------------------------------------------------------------------
FROM rust:1.95.0-bookworm AS binaries
# The image's own toolchain is the one that rust-toolchain.toml names; what that file asks for
# besides (clippy, rustfmt) is not needed here and need not be downloaded.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
COPY --from=console /src/web/console/dist web/console/dist
# The cache mounts keep the registry and the target folder between builds; the binaries are copied
# out, since a mount is not part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
        -p hub -p gateway-worker -p discord-sim -p dev-issuer --bins \
    && mkdir /out \
    && cp target/release/hub target/release/gateway-worker target/release/discord-sim target/release/dev-issuer /out/

# --- What all images stand on ---------------------------------------------------------------
FROM debian:bookworm-slim AS runtime
# The certificates by which Discord and the token issuer are known.
COPY --from=binaries /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A health check without another tool in the image: bash (which Debian has anyway) speaks TCP.
# `healthy 3100` succeeds when GET /healthz on that port of this container answers 200.
COPY --chmod=755 <<'SCRIPT' /usr/local/bin/healthy
#!/bin/bash
exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
printf 'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
IFS= read -r -t 3 status <&3 || exit 1
[[ $status == "HTTP/1.1 200 "* ]]
SCRIPT
# A user of its own, without a home, a shell or a name that means something elsewhere.
RUN groupadd --gid 10001 roomwire \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin roomwire
USER 10001:10001
ENV LOG_FORMAT=json

# --- The hub --------------------------------------------------------------------------------
FROM runtime AS hub
COPY --from=binaries /out/hub /usr/local/bin/hub
# A new volume takes the owner of the folder that it covers.
USER root
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data
USER 10001:10001
ENV STORE_URL=sqlite:///data/hub.db
VOLUME /data
EXPOSE 3000 3100
# Alive, not ready: a hub whose token issuer is away must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["healthy", "3100"]
ENTRYPOINT ["hub"]

# --- The worker -----------------------------------------------------------------------------
FROM runtime AS gateway-worker
COPY --from=binaries /out/gateway-worker /usr/local/bin/gateway-worker
EXPOSE 3001
# Alive, not ready: each restart may cost one of the day's identifies.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["healthy", "3001"]
ENTRYPOINT ["gateway-worker"]

# --- The demo's Discord and token issuer ----------------------------------------------------
FROM runtime AS demo
USER root
# The issuer listens on loopback alone. In a container nobody outside could ask it for a token, so
# the demo forwards one port to it; see docker-compose.yml.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends socat \
    && rm -rf /var/lib/apt/lists/*
COPY --from=binaries /out/discord-sim /out/dev-issuer /usr/local/bin/
USER 10001:10001
EXPOSE 3900
CMD ["discord-sim"]
