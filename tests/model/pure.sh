#!/usr/bin/env bash
# The model drives the pure parts alone: neither a web framework nor a Discord library is below it.
set -euo pipefail
cd "$(dirname "$0")/../.."
tree="$(cargo tree --locked -p model -e normal --features faults)"
if grep -E 'axum|twilight|rust-embed' <<<"$tree"; then
    echo "The model depends on these: see the features of launch and of gateway-worker." >&2
    exit 1
fi
