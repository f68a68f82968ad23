# adlake: every command that a developer or CI needs. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# Outside the checkout, so that clones share what is built. One profile for everything: DataFusion is built once.
export CARGO_TARGET_DIR ?= $(or $(ADLAKE_CACHE),$(HOME)/.cache/adlake)/target
CARGO := $(if $(shell command -v mold 2>/dev/null),mold -run cargo,cargo)
ADLAKE := $(CARGO_TARGET_DIR)/release/adlake

.PHONY: help tools build demo test soak seeds fuzz check audit bench

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

tools: ## says what the build needs and is not there
	@missing=""; \
	command -v cargo >/dev/null || missing="$$missing Rust(rustup.rs)"; \
	for tool in cc c++ make perl cmake; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	  echo "to build adlake, install:$$missing (Debian: apt-get install build-essential perl cmake)" >&2; exit 1; \
	fi

build: tools ## the program, at $CARGO_TARGET_DIR/release/adlake
	$(CARGO) build --release --locked -p adlake-cli

demo: build ## the whole system in one process on synthetic traffic; Ctrl-C stops it; DEMO=... are its options
	$(ADLAKE) demo $(DEMO)

test: build ## everything, with the real Kafka, a real S3 API server and real readers of Delta
	tests/setup/setup.sh
	$(CARGO) test --release --locked --workspace --lib --bins --tests -- --show-output
	ADLAKE_BIN=$(ADLAKE) tests/infra/run.sh deploy image prometheus lag bi catalog elk restore airflow terraform

fuzz: tools ## fuzzes the decoders, the readers of files and the writer of Parquet, guided by coverage; SECONDS=60 each
	for target in json json_bids csv avro files_json files_csv files_avro tables; do fuzz/fuzz.sh $$target $(or $(SECONDS),60); done

# Longer, and another every time; a run is repeated with the seed that it printed.
soak: export ADLAKE_TEST_SEED ?= $(shell date +%s)
soak: export ADLAKE_TEST_KILLS ?= 500
soak: export ADLAKE_TEST_BATCH_KILLS ?= 40
soak: export ADLAKE_TEST_SERVER_KILLS ?= 60
soak: export ADLAKE_TEST_BESIDE_EVENTS ?= 1000000
soak: export ADLAKE_TEST_FAULT_SECONDS ?= 600
soak: export ADLAKE_TEST_SWEEP_SECONDS ?= 300
soak: export ADLAKE_TEST_MET ?= 4
soak: export ADLAKE_TEST_FREEZES ?= 20
soak: export ADLAKE_TEST_CHANGES ?= 100
soak: export ADLAKE_TEST_HISTORIES ?= 200
soak: build ## the proofs at length: 500 kills, 10 minutes of a failing store, 200 histories; ADLAKE_TEST_SEED repeats one
	tests/setup/setup.sh
	$(CARGO) test --release --locked -p adlake-tests --test it -- faults:: merge::random merge::memory --nocapture

# The tests that print a seed; another for each round.
seeds: build ## every randomised end-to-end test with SEEDS=20 new seeds, one after another
	tests/setup/setup.sh
	for round in $$(seq $(or $(SEEDS),20)); do \
	  echo "round $$round"; \
	  $(CARGO) test --release --locked -p adlake-tests --test it -- --show-output \
	    faults:: merge:: kafka_transactions:: deadletters:: whole_way:: || exit 1; \
	done

check: tools ## formatting, lints, docs, dependency rules, licences, the built dashboard, Terraform without servers
	cargo fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps --document-private-items --quiet
	tests/setup/setup.sh deny dashboard infra
	tests/setup/dependency-rules.sh
	tests/infra/run.sh static
	serving/dashboard/check.sh

# Not part of `check`: the database of known problems is fetched from GitHub, and it changes without a change here.
audit: ## whether dependencies have known security problems; needs access to github.com
	tests/setup/setup.sh deny
	"$(or $(ADLAKE_CACHE),$(HOME)/.cache/adlake)/deny/bin/cargo-deny" --locked check advisories

# `make bench BENCH="csv --events 1000000 --runs 1"` measures some of it, or less of it.
bench: build ## the figures of docs/performance.md
	tests/setup/setup.sh kafka venv spark bi
	$(CARGO) run --release --locked -p adlake-tests --bin bench -- $(BENCH)
	if [ -z "$(BENCH)" ]; then \
	  ADLAKE_CONFLICTS_SECONDS=60 ADLAKE_CONFLICTS_RATE=20000 \
	    $(CARGO) test --release --locked -p adlake-tests --test it -- two_workers_seldom --nocapture; \
	fi
