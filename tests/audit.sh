#!/usr/bin/env bash
# Licences, bans and sources of the dependencies (deny.toml has the rules and their reasons), and
# dependencies that nothing uses. The tools are built into target/tools on the first run.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="$PWD/target/tools"
for tool in cargo-deny cargo-machete; do
    [ -x "$tools/bin/$tool" ] || cargo install --locked --quiet --root "$tools" "$tool"
done
"$tools/bin/cargo-deny" check bans licenses sources
"$tools/bin/cargo-machete"
npm --prefix web ls --all >/dev/null
# The compose file, against the compose specification: `make test` does the same.
tests/compose/check.sh
# The SDK in a Next.js project: too large a download for the tests.
node tests/package/check.mjs next
