#!/usr/bin/env bash
# Whether docs/operations.md names every metric of the programs, and no other.
set -euo pipefail
cd "$(dirname "$0")/.."
code="$(grep -rhoE '"(hub|worker)_[a-z0-9_]+"' hub/src gateway-worker/src --include='*.rs' | tr -d '"' | sort -u |
    grep -E '_(total|seconds|connections|unauthenticated|keys|skipped|open|live|acknowledged|guilds|debt|events|bytes|used|remaining|entries|jobs|failing|histories|guilds_silent|not_served|read)$')"
page="$(grep -E '^\| `(hub|worker)_' docs/operations.md | cut -d'|' -f2 | grep -oE '(hub|worker)_[a-z0-9_]+' | sort -u)"
if [ "$code" != "$page" ]; then
    echo "docs/operations.md: metrics of the code (<) and of the page (>) differ:" >&2
    diff <(printf '%s\n' "$code") <(printf '%s\n' "$page") >&2
    exit 1
fi
echo "docs/operations.md names all $(wc -l <<<"$code") metrics."
