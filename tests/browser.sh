#!/usr/bin/env bash
# The browser test: starts the demo, quiet or not as the test wants it, and drives Chromium through it.
set -euo pipefail
cd "$(dirname "$0")/.."
log="$(mktemp "${TMPDIR:-/tmp}/roomwire-browser.XXXXXX")"
tests/demo.sh >"$log" 2>&1 &
demo=$!
trap 'kill -TERM "$demo" 2>/dev/null || true; wait "$demo" 2>/dev/null || true; rm -f "$log"' EXIT
# The demo's own word counts: on these ports another demo may answer.
for _ in $(seq 600); do
    if grep -q 'Roomwire is running' "$log"; then ready=1; break; fi
    if ! kill -0 "$demo" 2>/dev/null; then break; fi
    sleep 0.1
done
if [ -z "${ready:-}" ]; then
    echo "the demo did not start:" >&2
    cat "$log" >&2
    exit 1
fi
npm --prefix web run --silent e2e
