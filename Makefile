# One name per task, the same here and in continuous integration. `make help` lists them.
#
# `make demo` and `make test` do everything from a fresh clone. They need Rust (rustup), Python 3.11 or later with
# pip, and for the tests Node.js 20 or later; the rest is installed into .venv, target, build and node_modules.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.ONESHELL:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
unexport VIRTUAL_ENV PYTHONPATH

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
PY := .venv/bin/python
CORE := python/umbel/_core.abi3.so
CORE_SOURCES := Cargo.toml Cargo.lock rust-toolchain.toml $(shell find src -name '*.rs')
PYTHON_PLACES := python examples tests benches clients

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

.PHONY: demo
demo: build  ## a live demonstration in the browser, until Ctrl-C
	@$(PY) -m umbel demo

STAGES := lint test-rust build test-python test-browser bench-short
BESIDE := test-interop test-js test-ops test-conformance test-fuzz

# Some things are done beside the stages, because those leave a processor idle. What tests of other people's programs
# need is installed from the start, which waits for the network. The core is linked on one processor, which takes most of its build;
# `build` waits for it. The fuzz targets and the floor program of the benchmarks are built at the lowest priority while tests wait for
# sockets and clocks; their stages wait for what is missing, and report its errors. Tests with programs of others are run while
# browsers and benchmarks wait, and what they say is shown at the end.
.PHONY: test
test: .venv/.ready  ## everything that must pass before a change is merged
	@mkdir -p build
	: > build/skipped
	: > build/beside.table
	$(MAKE) install-ahead > build/install.log 2>&1 & install=$$!
	$(MAKE) build > build/core.log 2>&1 & core=$$!
	trap 'kill $$(jobs -p) 2> /dev/null || :' EXIT
	table=
	for stage in $(STAGES); do
	  printf '\n== %s\n' "$$stage"
	  start=$$SECONDS
	  if [ "$$stage" = test-browser ]; then
	    wait "$$install" || :
	    $(MAKE) test-beside > build/beside.log 2>&1 & beside=$$!
	  fi
	  if [ "$$stage" = build ]; then
	    wait "$$core" || { cat build/core.log; printf '\nFAILED: make build\n'; exit 1; }
	    nice -n 19 $(MAKE) fuzz-build bench-build > build/ahead.log 2>&1 &
	  else
	    $(MAKE) "$$stage" || { printf '\nFAILED: make %s\n' "$$stage"; exit 1; }
	  fi
	  table+=$$(printf '%5d s  %s' $$((SECONDS - start)) "$$stage")$$'\n'
	done
	wait "$$beside" || { cat build/beside.log; exit 1; }
	cat build/beside.log
	printf '\n%s' "$$table"
	cat build/beside.table build/skipped
	printf '%d stages passed, 0 failed, %d skipped, in %d s\n' \
	  $$(($(words $(STAGES) $(BESIDE)) - $$(wc -l < build/skipped))) "$$(wc -l < build/skipped)" "$$SECONDS"

.PHONY: test-beside
test-beside:
	@for stage in $(BESIDE); do
	  printf '\n== %s\n' "$$stage"
	  start=$$SECONDS
	  $(MAKE) "$$stage" || { printf '\nFAILED: make %s\n' "$$stage"; exit 1; }
	  printf '%5d s  %s, beside\n' $$((SECONDS - start)) "$$stage" >> build/beside.table
	done

.PHONY: build
build: $(CORE)  ## the core, optimised, and the package in .venv

.PHONY: wheel
wheel: .venv/.ready  ## a wheel in dist/ for CPython 3.11 and later
	@.venv/bin/maturin build --release --locked --strip --out dist

.PHONY: bench
bench: build  ## every benchmark against its goal: half an hour on two idle cores
	@$(PY) benches/run.py --setup
	$(PY) benches/run.py

.PHONY: bench-short
bench-short: build  ## one benchmark of each kind, tiny: does it still work?
	@$(PY) benches/run.py --short
	$(PY) benches/compare.py --short

.PHONY: bench-compare
TURNS ?= 5
bench-compare: .venv/.ready  ## this checkout against the one at BASE=, in turn: half an hour; TURNS= and ROWS= for less
	@[ -n '$(BASE)' ] || { echo 'name the other checkout: make bench-compare BASE=../other'; exit 2; }
	$(PY) benches/compare.py --base $(BASE) --turns $(TURNS) $(ROWS)

.PHONY: promise
promise: build  ## what Umbel promises, measured on this machine: three minutes on two idle cores
	$(PY) benches/promise.py

.PHONY: conformance
conformance: build  ## all 517 cases of the Autobahn|Testsuite, a few minutes
	@$(PY) tests/conformance/run.py --server "python examples/echo.py --port {port}"

.PHONY: fuzz
FUZZ_SECONDS ?= 60
fuzz: fuzz-build  ## every fuzz target for FUZZ_SECONDS (60); what it finds stays in tests/fuzz/artifacts
	@one() {
	  name=$$(basename "$$1" .rs)
	  mkdir -p $(TARGET)/fuzz/found/"$$name" tests/fuzz/artifacts
	  log=$(TARGET)/fuzz/"$$name".log
	  $(TARGET)/fuzz/$(HOST)/release/"$$name" -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 \
	    -artifact_prefix=tests/fuzz/artifacts/"$$name"- $(TARGET)/fuzz/found/"$$name" \
	    tests/fuzz/corpus/"$$name" > "$$log" 2>&1 || { echo "fuzz $$name"; tail -n 40 "$$log"; exit 255; }
	  echo "fuzz $$name: $$(tail -n 1 "$$log")"
	}
	export -f one
	# As many at a time as there are processors. Status 255 lets xargs start no more.
	printf '%s\n' tests/fuzz/fuzz_targets/*.rs | xargs -n 1 -P "$$(getconf _NPROCESSORS_ONLN)" bash -c 'one "$$0"'

.PHONY: fuzz-build
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
fuzz-build:
	@# What cargo-fuzz asks of the compiler when no sanitizer is wanted: any toolchain can do it.
	export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions"
	# The target is named so that the flags are not for build scripts.
	cargo build --quiet --release --locked --manifest-path tests/fuzz/Cargo.toml --target-dir $(TARGET)/fuzz --target $(HOST)

.PHONY: soak
SOAK_SECONDS ?= 600
soak: build clients/js/node_modules/.package-lock.json  ## mixed traffic with random faults for SOAK_SECONDS (600), cuts for half as long, 1,000 cuts of event streams and of the JavaScript client, states on cut networks, readers asleep, ten minutes behind nginx: what is lost?
	@SOAK_SECONDS=$(SOAK_SECONDS) $(PY) -m pytest --quiet --capture=tee-sys tests/python/test_soak.py
	ASLEEP_SECONDS=60 $(PY) -m pytest --quiet --capture=tee-sys --timeout 300 tests/python/test_asleep.py
	(cd clients/js && ASLEEP_SECONDS=60 PYTHON=$(abspath $(PY)) node --test test/asleep.test.mjs)
	(cd clients/js && CHAOS_CUTS=1000 PYTHON=$(abspath $(PY)) node --test test/chaos.test.mjs)
	CHAOS_CLIENTS=16 CHAOS_CUTS=300 CHAOS_SECONDS=60 $(PY) -m pytest --quiet --capture=tee-sys tests/python/test_client_shared_chaos.py
	(cd clients/js && STATE_CUTS=500 PYTHON=$(abspath $(PY)) node --test test/states_chaos.test.mjs)
	STREAM_CUTS=1000 $(PY) -m pytest --quiet -k cut tests/python/test_stream_cuts.py \
		tests/python/test_session_stream_cuts.py tests/browser/test_streams.py
	NGINX_TIMEOUT=60 NGINX_TIMES=10 $(PY) -m pytest --quiet --timeout 700 --numprocesses 4 tests/interop/test_nginx.py
	export CHAOS_CLIENTS=200 CHAOS_CHANNELS=20 CHAOS_SECONDS=$$(($(SOAK_SECONDS) / 2))
	$(PY) -m pytest --quiet --capture=tee-sys tests/python/test_chaos.py

.PHONY: lint
lint: .venv/.ready  ## formatting and linters; `make fmt` puts formatting right
	@cargo fmt --check
	cargo fmt --check --manifest-path benches/floor/Cargo.toml
	.venv/bin/ruff format --check --quiet $(PYTHON_PLACES)
	.venv/bin/ruff check --quiet $(PYTHON_PLACES)
	# Of the smaller feature sets the library alone: tests and benchmarks are looked at once, with everything.
	cargo clippy --locked --quiet --lib --no-default-features -- -D warnings
	cargo clippy --locked --quiet --lib -- -D warnings
	PYO3_PYTHON=$(abspath $(PY)) cargo clippy --locked --quiet --all-targets --features python -- -D warnings
	cargo clippy --locked --quiet --all-targets --manifest-path benches/floor/Cargo.toml --target-dir $(TARGET) -- -D warnings

.PHONY: fmt
fmt: .venv/.ready  ## format all sources
	@cargo fmt
	cargo fmt --manifest-path benches/floor/Cargo.toml
	.venv/bin/ruff check --quiet --fix-only $(PYTHON_PLACES)
	.venv/bin/ruff format --quiet $(PYTHON_PLACES)

.PHONY: clean
clean:  ## remove all that was built or installed here
	@rm -rf .venv target build dist $(CORE) tests/*/node_modules clients/js/node_modules clients/js/types tests/browser/output tests/conformance/reports
	find python tests benches examples -name __pycache__ -prune -exec rm -rf {} +

# ---- the stages of `make test` that have no line in the list above

.PHONY: test-rust test-python test-interop test-js test-ops test-conformance test-browser test-fuzz

# With all features, which have every test; lint compiles the library with fewer. Benchmarks are run as tests, once each: the same profile, so
# nothing is built twice.
test-rust: .venv/.ready
	@export PYO3_PYTHON=$(abspath $(PY))
	cargo test --locked --quiet --features python --all-targets
	cargo test --locked --quiet --manifest-path benches/floor/Cargo.toml --target-dir $(TARGET)

# Types and the stub are checked by tests/python/test_typing.py. Most tests wait for sockets and clocks, so more run at a time
# than there are processors: a third of the time.
test-python: build
	@$(PY) -m pytest --quiet --benchmark-disable --numprocesses 4 --dist worksteal tests/python $(wildcard benches/test_*.py)

test-interop: build
	@$(PY) -m pytest --quiet tests/interop

# The JavaScript client, against a server of this checkout.
test-js: build clients/js/node_modules/.package-lock.json
	@cd clients/js
	PYTHON=$(abspath $(PY)) node --test --test-timeout=120000 test/*.test.mjs

clients/js/node_modules/.package-lock.json: clients/js/package-lock.json
	@cd clients/js
	npm ci --silent --no-audit --no-fund
	touch node_modules/.package-lock.json

# The alert rules and the dashboard. They are read by a real Prometheus where there is one: nothing is installed for it.
test-ops: build
	@mkdir -p build
	$(PY) -m pytest --quiet tests/ops
	{ command -v prometheus && command -v promtool; } > /dev/null || \
	  echo 'SKIPPED: ops, the part with a real Prometheus: the package prometheus is not installed' | tee -a build/skipped

# Status 2: the suite, which is Python 2 code, can't be had here.
test-conformance: build
	@$(PY) tests/conformance/run.py --core --server "python examples/echo.py --port {port}" || {
	  [ $$? = 2 ] && echo 'SKIPPED: conformance: no Python 2.7 for the Autobahn|Testsuite' | tee -a build/skipped; }

test-browser: build
	@if missing=$$($(PY) tests/browser/chromium.py 2>&1); then
	  $(PY) -m pytest --quiet --numprocesses 2 --dist worksteal tests/browser
	else
	  echo "SKIPPED: browser: $${missing##*$$'\n'}" | tee -a build/skipped
	fi

test-fuzz:
	@$(MAKE) fuzz FUZZ_SECONDS=3

# ---- what the above need

# What is missing afterwards is the business of the stages that need it.
.PHONY: install-ahead
install-ahead: .venv/.ready
	@nice -n 19 $(PY) tests/browser/chromium.py || :
	nice -n 19 $(PY) tests/conformance/run.py --install || :

.PHONY: bench-build
bench-build: .venv/.ready
	@$(PY) benches/run.py --build

# The first Python that is new enough; PYTHON= names another.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $$name && break; done)

.venv/.ready: pyproject.toml rust-toolchain.toml
	@command -v cargo > /dev/null || { echo 'Rust is missing: install it as https://rustup.rs says, then try again'; exit 1; }
	[ -n '$(PYTHON)' ] || { echo 'Python 3.11 or later is missing: install it, or name it with PYTHON='; exit 1; }
	# Installs the toolchain that rust-toolchain.toml names, with rustfmt and clippy.
	! command -v rustup > /dev/null || rustup show active-toolchain > /dev/null || rustup toolchain install
	echo 'Installing the tools into .venv'
	[ -x $(PY) ] || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(PY) -m pip install --quiet --group dev
	touch $@

$(CORE): .venv/.ready $(CORE_SOURCES)
	@echo 'Compiling the core, which takes some minutes the first time'
	VIRTUAL_ENV=$(abspath .venv) PIP_QUIET=1 .venv/bin/maturin develop --release --locked --quiet
	touch $@
