#!/usr/bin/env bash
# Checks docker-compose.yml without Docker: against the compose specification's JSON schema, and against
# the rules in check.mjs. Needs Node and the npm registry.
set -euo pipefail
cd "$(dirname "$0")"
npm ci --silent --no-audit --no-fund
exec node check.mjs
