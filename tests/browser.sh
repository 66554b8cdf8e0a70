#!/usr/bin/env bash
# The browser test: starts the demo, quiet or not as the test wants it, and drives Chromium through it.
# The demo lets pages of another origin in as well: those of examples/, which are installed here as their users do it.
set -euo pipefail
cd "$(dirname "$0")/.."
log="$(mktemp "${TMPDIR:-/tmp}/roomwire-browser.XXXXXX")"
demo=
trap 'if [ -n "$demo" ]; then kill -TERM "$demo" 2>/dev/null || true; wait "$demo" 2>/dev/null || true; fi; rm -f "$log"' EXIT

npm --prefix examples/vite-react ci --silent --no-audit --no-fund
npm --prefix examples/vite-react run --silent build >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
venv="${CARGO_TARGET_DIR:-target}/examples/venv"
if { [ -x "$venv/bin/python" ] || python3 -m venv "$venv"; } >"$log" 2>&1 &&
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r examples/python-client/requirements.txt >>"$log" 2>&1; then
    EXAMPLE_PYTHON="$(cd "$venv" && pwd)/bin/python"
    export EXAMPLE_PYTHON
else
    echo "The Python client is not tested:" >&2
    tail -n 3 "$log" >&2
fi

OWN_PAGE_PORT="$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')"
export OWN_PAGE_PORT
WEB_ORIGIN="http://localhost:$OWN_PAGE_PORT" tests/demo.sh >"$log" 2>&1 &
demo=$!
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
npm --prefix web run --silent e2e -- "$@"
