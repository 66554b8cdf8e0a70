#!/usr/bin/env bash
# Runs the whole system against the simulated Discord, on loopback, until Ctrl-C.
#
# WEB_ORIGIN   origins of your own pages (with commas between), which the hub and the issuer allow beside the demo's own
# DEMO_QUIET   1: nobody moves by themselves
# DEMO_BIN     where the programs are; default: cargo's folder
set -euo pipefail
cd "$(dirname "$0")/.."
bin="${DEMO_BIN:-${CARGO_TARGET_DIR:-target}/debug}"
own_pages="${WEB_ORIGIN:-}"
logs="$(mktemp -d "${TMPDIR:-/tmp}/roomwire-demo.XXXXXX")"
pids=()

finish() {
    trap - EXIT INT TERM
    # Ours alone, by their ids; the worker first, so that it can say goodbye to the others.
    for ((index = ${#pids[@]} - 1; index >= 0; index--)); do kill -TERM "${pids[index]}" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$logs"
}
trap finish EXIT
trap 'exit 0' INT TERM

start() { # name, then its settings
    local name="$1"
    shift
    env "$@" "$bin/$name" 2>"$logs/$name.log" &
    pids+=($!)
}

answers() { # url, name
    for _ in $(seq 300); do
        if curl --silent --fail --max-time 2 --output /dev/null "$1"; then return 0; fi
        if ! kill -0 "${pids[-1]}" 2>/dev/null; then break; fi
        sleep 0.1
    done
    printf 'The demo cannot start: %s does not answer at %s. Its log:\n\n' "$2" "$1" >&2
    # The issuer has another name for it.
    tail -n 20 "$logs/$2.log" | sed 's/ISSUER_ORIGINS/WEB_ORIGIN/' >&2
    exit 1
}

# Commas, spaces or both between them; the hub checks each one.
own_pages="$(tr -s ', \t\n' ',' <<<"$own_pages" | sed 's/^,//; s/,$//')"

for port in 3000 3001 3100 3900 3901; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        echo "The demo needs port $port, and something listens there already (another demo?)." >&2
        exit 1
    fi
done
command -v curl >/dev/null || { echo "The demo needs curl." >&2; exit 1; }
# Only for this demo: everything listens on loopback, and nobody outside can sign with it.
secret="whsec_$(head -c 32 /dev/urandom | base64 | tr -d '\n')"

start discord-sim SIM_LISTEN=127.0.0.1:3900 SIM_QUIET="${DEMO_QUIET:-0}" \
    SIM_INTERACTIONS_URL=http://127.0.0.1:3000/interactions
answers http://127.0.0.1:3900/_sim/state discord-sim
public_key="$(curl --silent http://127.0.0.1:3900/_sim/state | sed -E 's/.*"publicKey":"([0-9a-f]+)".*/\1/')"

start dev-issuer ISSUER_LISTEN=127.0.0.1:3901 ${own_pages:+ISSUER_ORIGINS="$own_pages"}
answers http://127.0.0.1:3901/.well-known/jwks.json dev-issuer

# Each demo has a new simulated Discord, so the hub's store is new too.
start hub STORE_URL="sqlite://$logs/hub.db" HUB_LISTEN=127.0.0.1:3000 INTERNAL_LISTEN=127.0.0.1:3100 HUB_SECRET="$secret" \
    JWT_ISSUER=http://127.0.0.1:3901 JWT_AUDIENCE=roomwire \
    JWT_PUBLIC_JWK_URL=http://127.0.0.1:3901/.well-known/jwks.json \
    WEB_ORIGIN="http://127.0.0.1:3000,http://localhost:3000${own_pages:+,$own_pages}" PRIMARY_GUILD_ID=100000000000000001 \
    DISCORD_BOT_TOKEN=sim-token DISCORD_PUBLIC_KEY="$public_key" DISCORD_API_URL=http://127.0.0.1:3900 \
    DISCORD_CDN_URL=http://127.0.0.1:3900 CONSOLE_ISSUER_URL=http://127.0.0.1:3901
answers http://127.0.0.1:3100/readyz hub

start gateway-worker WORKER_LISTEN=127.0.0.1:3001 HUB_SECRET="$secret" PRIMARY_GUILD_ID=100000000000000001 \
    DISCORD_BOT_TOKEN=sim-token HUB_ENDPOINT=http://127.0.0.1:3100/api/internal/events \
    DISCORD_API_URL=http://127.0.0.1:3900 DISCORD_CDN_URL=http://127.0.0.1:3900
answers http://127.0.0.1:3001/readyz gateway-worker

if [ -n "$own_pages" ]; then
    own_page="Pages of ${own_pages//,/, } may connect"
else
    own_page="Your own page: start the demo as  WEB_ORIGIN=http://localhost:5173 make demo  (with your page's origin)"
fi
cat <<EOT

  Roomwire is running against a simulated Discord.

    http://127.0.0.1:3000                  the console: sign in as anybody, watch, open and end rooms
    http://127.0.0.1:3900/_sim/state       what is true in Discord

  Make somebody join a room:

    curl -X POST http://127.0.0.1:3900/_sim/voice -H 'content-type: application/json' \\
      -d '{"guildId":"100000000000000001","userId":"200000000000000001","channelId":"100000000000000011"}'

  $own_page:

    hub    http://127.0.0.1:3000                     the SDK's \`url\`
    token  http://127.0.0.1:3901/token?sub=ada       answered as text, for any \`sub\`: the SDK's \`getToken\`

  README.md, "In your own React app", has the five lines; examples/ has whole pages.

  Logs are in $logs. Ctrl-C ends everything.

EOT

# Whichever ends first ends the demo: half a demo is none.
wait -n "${pids[@]}" || true
echo "One of the programs ended; the others are stopped. The last lines of each log:" >&2
tail -n 5 "$logs"/*.log >&2
exit 1
