# The ways in. Everything that is more than one command lives in `build/setup` and `cargo xtask`.
# On a fresh Debian machine with Rust, Node.js and Python, each of these does all its own set-up.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo test check check-full

# Tools that build/setup put into this checkout come first.
export PATH := $(CURDIR)/.build/tools/bin:$(CURDIR)/.build/cargo/bin:$(CURDIR)/.build/node/node_modules/.bin:$(PATH)

# What else to pass to `holdfast demo`: make demo ARGS=--keep
ARGS ?=

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what is missing: system packages, test tools, Node.js (build does it too)
	@echo "== set-up"
	@build/setup

build: setup ## holdfast, holdfast-engine, holdfast-bench, the bench model and the suites' clients
	@echo "== holdfast (the first build takes some minutes)"
	@cargo build --release
	@cargo xtask build-engine
	@if [ -x models/bench/build ]; then echo "== bench model"; models/bench/build; fi
	@if [ -x conformance/run ]; then echo "== clients of the suites"; conformance/run --install; fi

demo: build ## build, then run the main job before your eyes (ARGS=--keep leaves it running)
	@target/release/holdfast demo $(ARGS)

test: build ## build, then every check, unit test, engine test and short suite, and the counts
	@cargo xtask test

check: ## format, lints, house rules, unit tests: before each commit, without the C++ engine
	@cargo xtask check

check-full: build ## test, then dependency checks and the long suites: before an issue is called done
	@build/setup --full
	@cargo xtask deps
	@cargo xtask test --long
