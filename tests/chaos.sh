#!/usr/bin/env bash
# Seeded faults over the real processes. SEED, RUNS and MINUTES choose; further arguments go to the
# program: tests/chaos.sh --list, --fault F3, --plant drop --fault none --seconds 5, --client 'python3 client.py'
set -euo pipefail
cd "$(dirname "$0")/.."

# Clocks that jump (F29) need libfaketime.
if ! ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing faketime for the clocks that jump"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends faketime; } >/dev/null ||
        echo "apt-get could not install faketime; F29 is left out"
fi

# The plain programs first, then those with fail points: what is older is not used.
cargo build --quiet -p hub -p gateway-worker -p discord-sim -p dev-issuer -p chaos --bins
cargo build --quiet -p hub -p gateway-worker --features hub/faults,gateway-worker/faults \
    --bin hub-with-faults --bin gateway-worker-with-faults
ulimit -n "$(ulimit -Hn)"
exec target/debug/chaos "$@"
