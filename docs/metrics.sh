#!/usr/bin/env bash
# Whether docs/operations.md and the programs' tables of metrics name the same metrics, and whether every
# metric that the code records is in its table, which gives it a # HELP line.
set -euo pipefail
cd "$(dirname "$0")/.."
tables=(hub/src/metrics.rs gateway-worker/src/metrics.rs)
names() { grep -ohE '"(hub|worker)_[a-z0-9_]+"' "$@" | tr -d '"' | sort -u; }

differ() { # what, one list, the other
    if [ "$2" != "$3" ]; then
        echo "$1 differ:" >&2
        diff <(printf '%s\n' "$2") <(printf '%s\n' "$3") >&2
        exit 1
    fi
}

table="$( (names "${tables[@]}"; names launch/src hub/src/ops.rs -r | grep '_build_info$') | sort -u)"
page="$(sed -n '/^## Metrics/,/^## /p' docs/operations.md | grep -E '^\| `(hub|worker)_' | cut -d'|' -f2 | grep -oE '(hub|worker)_[a-z0-9_]+' | sort -u)"
differ "Metrics of the programs (<) and of docs/operations.md (>)" "$table" "$page"

# What a macro of the crate `metrics` records by a literal name, or a function of ours in its stead.
recorded="$(find hub/src gateway-worker/src -name '*.rs' ! -path hub/src/metrics.rs ! -path gateway-worker/src/metrics.rs -exec cat {} + |
    tr -d '\n' | grep -oE '(counter!|gauge!|histogram!|set|count)\( *"(hub|worker)_[a-z0-9_]+"' | grep -oE '(hub|worker)_[a-z0-9_]+' | sort -u)"
unknown="$(comm -23 <(printf '%s\n' "$recorded") <(printf '%s\n' "$table"))"
if [ -n "$unknown" ]; then
    echo "Recorded, and in no table (hub/src/metrics.rs, gateway-worker/src/metrics.rs):" >&2
    echo "$unknown" >&2
    exit 1
fi
echo "docs/operations.md names all $(wc -l <<<"$table") metrics."
