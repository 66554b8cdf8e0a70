#!/bin/sh
# Independent Discord libraries against the simulated Discord: discord.js and discord.py.
#
# They are installed here, at run time, into target/oracles; other versions can be asked for with
# DISCORD_JS and DISCORD_PY. Needs Node >= 20, Python >= 3.9 with venv, npm's and pip's registries.
# Ends non-zero on any failure; the last line is `N passed, N failed`.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
home="${CARGO_TARGET_DIR:-$root/target}/oracles"
mkdir -p "$home/js"

[ -f "$home/js/package.json" ] || echo '{"private":true,"type":"module"}' > "$home/js/package.json"
npm install --prefix "$home/js" --no-audit --no-fund --silent --no-save "discord.js@${DISCORD_JS:-14.28.1}"

[ -x "$home/venv/bin/python" ] || python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet --disable-pip-version-check "discord.py==${DISCORD_PY:-2.7.1}"

# A program finds its modules beside itself.
cp "$here/discord_js.mjs" "$home/js/discord_js.mjs"
exec node "$here/libraries.mjs" \
    "discord.js" "node $home/js/discord_js.mjs" \
    "discord.py" "$home/venv/bin/python $here/discord_py.py"
