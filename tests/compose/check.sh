#!/usr/bin/env bash
# Checks docker-compose.yml without Docker: against the compose specification's JSON schema, and against
# what the file promises. Needs Node, Python's pip, and their registries.
set -euo pipefail
cd "$(dirname "$0")"
cache=../../target/compose-check
mkdir -p "$cache"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --require-hashes --requirement schema.txt --dest "$cache"
python3 -m zipfile -e "$cache"/check_jsonschema-*.whl "$cache"
npm ci --silent --no-audit --no-fund
COMPOSE_SCHEMA="$cache/check_jsonschema/builtin_schemas/vendor/compose-spec.json" exec node check.mjs
