# Everything one does with this repository. `make help` lists it.
#
# scripts/prepare.sh stands before every command that compiles: it makes sure of a compiler, libclang and a
# RocksDB built once for this machine, and keeps what cargo builds in a cache outside the clone.

SHELL := /bin/bash
PREPARE := scripts/prepare.sh
FUZZ_SECONDS ?= 60
TORTURE_ROUNDS ?= 50

.DEFAULT_GOAL := help
.PHONY: help run demo build where test torture interop lint format-check bench fuzz clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  CARGO_TARGET_DIR, ROCKSDB_LIB_DIR and LIBCLANG_PATH are respected if set."

run: ## build the relay for speed and start it on its defaults
	$(PREPARE) cargo run --release -- serve

demo: ## build the relay for speed and watch it do what it is for
	$(PREPARE) cargo run --release -- demo

build: ## build the relay for speed
	$(PREPARE) cargo build --release

where: ## print the folder into which `make build` puts the binary
	@$(PREPARE) --only-paths sh -c 'echo "$$CARGO_TARGET_DIR/release"'

test: ## build and pass every test
	$(PREPARE) cargo test

torture: ## kill a relay, and two of a cluster's three in turn, TORTURE_ROUNDS (50) times and miss no blob; TORTURE_SEED repeats
	TORTURE_ROUNDS=$(TORTURE_ROUNDS) $(PREPARE) cargo test --test it mailbox_torture -- --nocapture --test-threads 1

interop: tests/interop/node_modules/.package-lock.json ## have js-libp2p dial through a cluster; needs Node 20 or newer, and npm
	$(PREPARE) sh -c 'cargo build && exec node tests/interop/main.js "$$CARGO_TARGET_DIR/debug/waystation"'

# npm writes this file last.
tests/interop/node_modules/.package-lock.json: tests/interop/package-lock.json
	cd tests/interop && npm ci && touch node_modules/.package-lock.json

format-check: ## check that the code is formatted
	cargo fmt --check

lint: format-check ## check formatting, and that the compiler and clippy have nothing to say
	$(PREPARE) cargo clippy --all-targets -- -D warnings

bench: ## measure the relay against the bare work
	$(PREPARE) cargo bench

fuzz: ## fuzz every parser with libFuzzer for FUZZ_SECONDS (60) each
	$(PREPARE) scripts/fuzz.sh $(FUZZ_SECONDS)

clean: ## delete what cargo built; RocksDB and tools stay in the cache
	$(PREPARE) --only-paths cargo clean
