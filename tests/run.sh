#!/usr/bin/env bash
# Every test of the project. Ends with `N passed, N failed, N skipped`, and non-zero if anything failed.
set -uo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8
output="$(mktemp "${TMPDIR:-/tmp}/roomwire-tests.XXXXXX")"
trap 'rm -f "$output"' EXIT
checks=0 broken=0

# One step: printed, timed, kept for the count. What is no test runner counts as one check.
step() { # kind (check|tests), title, command …
    local kind="$1" title="$2" begun=$SECONDS status
    shift 2
    printf '\n== %s\n' "$title"
    "$@" 2>&1 | tee -a "$output"
    status=${PIPESTATUS[0]}
    printf -- '-- %s: %s (%d s)\n' "$title" "$([ "$status" = 0 ] && echo ok || echo FAILED)" $((SECONDS - begun))
    if [ "$status" != 0 ]; then
        broken=$((broken + 1))
        failed_steps+=("$title")
    elif [ "$kind" = check ]; then
        checks=$((checks + 1))
    fi
}
failed_steps=()

need() { # command, what to do about it
    command -v "$1" >/dev/null || { echo "make test needs $1: $2" >&2; exit 1; }
}
need cargo "https://rustup.rs"
need node "Node 20 or newer"
need npm "it comes with Node"
if ! command -v "${CHROMIUM:-chromium}" >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing chromium for the browser tests"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null || {
            echo "apt-get could not install chromium; install it, or name one with CHROMIUM" >&2
            exit 1
        }
    else
        echo "make test needs Chromium: install the package chromium, or name one with CHROMIUM" >&2
        exit 1
    fi
fi

tests/tools.sh || exit 1

step check "packages of the web part" npm --prefix web ci --no-audit --no-fund
step check "TypeScript: types and lint" npm --prefix web run check
step check "the console builds" npm --prefix web run build
step check "Rust: formatting" cargo fmt --all --check
step check "Rust: clippy, warnings denied" cargo clippy --workspace --all-targets -- -D warnings
step check "Rust: clippy with faults" cargo clippy -p model -p hub -p gateway-worker --features model/faults,hub/faults --all-targets -- -D warnings
step check "programs" cargo build --workspace --bins
step check "documents: tables of settings" node docs/settings.mjs --check
step check "documents: tables of metrics" docs/metrics.sh
step tests "documents: links and paths" node tests/documents.mjs
step tests "banned words and names" node tests/words.mjs
step tests "the compose file" tests/compose/check.sh
step tests "Rust" cargo test --workspace --no-fail-fast
step check "the model builds without axum and twilight" tests/model/pure.sh
step tests "every interleaving of the chain" cargo test -p model --features faults
step tests "TypeScript" npm --prefix web test
step tests "the SDK as a package" node tests/package/check.mjs
step tests "simulator against discord-api-types" node tests/oracles/types/check.mjs
step tests "browser" tests/browser.sh

# cargo: `test result: ok. 3 passed; 1 failed; 2 ignored`; vitest: `Tests  1 failed | 12 passed | 1 skipped (14)`;
# our own and Playwright's: lines `3 passed`, `1 failed, …`; and `SKIPPED: …` for what had to be left out.
read -r passed failed skipped < <(
    sed -E 's/\x1b\[[0-9;]*m//g' "$output" | awk '
        function count(line, word,   at) { return match(line, "[0-9]+ " word) ? substr(line, RSTART, RLENGTH) + 0 : 0 }
        /^test result:/ || /^ *Tests +[0-9]/ || /^ *[0-9]+ passed/ || /^ *[0-9]+ failed/ || /^ *[0-9]+ skipped/ {
            passed += count($0, "passed"); failed += count($0, "failed")
            skipped += count($0, "skipped") + count($0, "ignored")
        }
        /^SKIPPED:/ { skipped++ }
        END { print passed + 0, failed + 0, skipped + 0 }'
)
if grep -q '^SKIPPED:' "$output"; then
    printf '\nLeft out:\n'
    grep '^SKIPPED:' "$output" | sort -u | sed 's/^SKIPPED: */  /'
    # A test that skipped itself was counted as passed by its runner.
    passed=$((passed - $(grep -c '^SKIPPED:' "$output")))
fi
# A step that broke without a failed test (it did not compile, a check found something) is a failure too.
if [ "$broken" -gt 0 ] && [ "$failed" = 0 ]; then failed=$broken; fi
if [ "$broken" -gt 0 ]; then
    printf '\nFailed:\n'
    printf '  %s\n' "${failed_steps[@]}"
fi
printf '\n%d passed, %d failed, %d skipped\n' $((passed + checks)) "$failed" "$skipped"
[ "$broken" = 0 ] && [ "$failed" = 0 ]
