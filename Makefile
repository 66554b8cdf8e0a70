# The commands of a checkout. README.md says what they are for; each sets up what it needs.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export CARGO_TERM_PROGRESS_WHEN ?= auto

.PHONY: help demo test bench chaos oracles first-use audit console build clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: console ## the whole system against the simulated Discord, at http://127.0.0.1:3000 (DEMO_QUIET=1: nobody moves; WEB_ORIGIN: your own page's origin)
	cargo build --workspace --bins
	@exec tests/demo.sh

test: ## every test: Rust, TypeScript, browser
	@exec tests/run.sh

bench: console ## the performance table, beside the kernel's floor
	cargo build --release --workspace --bins
	@ulimit -n "$$(ulimit -Hn)" && exec target/release/load

chaos: console ## seeded faults over the real processes (SEED, RUNS, MINUTES)
	@exec tests/chaos.sh

oracles: ## other people's Discord libraries against the simulator (installed now)
	cargo build -p discord-sim --bins
	@exec tests/oracles/run.sh

first-use: ## a front-end developer's path through README.md in a fresh clone, timed (FIRST_USE_TARGET: a cargo folder to reuse)
	@exec node tests/first-use/run.mjs

audit: web/node_modules/.package-lock.json ## licences, bans, sources, unused dependencies, the compose file (builds its tools on the first run)
	@exec tests/audit.sh

console: web/node_modules/.package-lock.json ## the console, as the hub embeds it
	npm --prefix web run --silent build

build: console ## release binaries, with the console inside
	cargo build --release --workspace --bins

web/node_modules/.package-lock.json: web/package-lock.json
	npm --prefix web ci --no-audit --no-fund
	@touch $@

clean: ## what was built
	cargo clean
	rm -rf web/node_modules web/*/dist
