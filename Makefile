# fogmetrics. Needs Python 3.11 or later with venv, make, and a network for the first install.
#
#   make run      set everything up and run the daemon in the foreground
#   make test     set everything up and run the tests: units, documentation, one daemon from end to end
#   make real     the tests that start other projects' programs: Prometheus, HAProxy, Envoy … as far as they are installed
#   make promises every promise of docs/reliability.md under attack, for some seconds each
#   make mutants  each of these attacks on programs with a fault, which it must find
#   make demo     make run, with stand-ins for Betanet and a HAProxy under light traffic
#   make smoke    URL=http://localhost:9200: check a running daemon
#   make siege    the attacks of make promises for an hour and a half; ONLY="death fuzz" for some
#   make loadtest SECONDS=120: the daemon at rest, scraped and besieged, against its budgets; LONG=1 for half an hour
#   make bench    side by side with the peers that are installed, into docs/performance.md; ONLY="append scrape" for some
#   make lint     ruff and mypy          make clean    remove rings, snapshots, environment, logs

VENV := .venv
BIN := $(VENV)/bin
URL ?= http://localhost:9200
SECONDS ?= 120
LONG ?=
ONLY ?=
PYTEST ?= $(BIN)/python -m pytest
PYTEST_ARGS ?=

# The first interpreter that is new enough and can make an environment.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo "$$p"; break; fi; done)

# A worker for each processor. The tests of a file run in one worker where they share a daemon, which is started once.
BY_FILE := -n auto --dist loadfile
ONE_BY_ONE := -n auto --dist worksteal

# The demo has a directory, a configuration and a namespace of its own, whatever names those of the daemon.
DEMO := env -u FOGMETRICS_CONFIG -u FOGMETRICS_NAMESPACE

.PHONY: run demo test real promises mutants siege smoke loadtest bench lint clean

run: $(BIN)/.run
	@exec $(BIN)/python -m fogmetrics run .

demo: $(BIN)/.run
	@exec $(BIN)/python -m tests.stand_ins.demo

test: $(BIN)/.test
	$(PYTEST) $(BY_FILE) $(PYTEST_ARGS)

real: $(BIN)/.real
	$(PYTEST) $(BY_FILE) -m real $(PYTEST_ARGS)

promises: $(BIN)/.test
	$(PYTEST) $(ONE_BY_ONE) -m promise $(PYTEST_ARGS)

mutants: $(BIN)/.test
	$(PYTEST) $(ONE_BY_ONE) -m mutant $(PYTEST_ARGS)

siege: $(BIN)/.test
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,fuzz]' \
		|| echo "fogmetrics: no atheris for this machine; the check fuzz says so in its counts"
	@$(BIN)/python -m tests.siege --long --write $(ONLY)

smoke: $(BIN)/.test
	@$(BIN)/python -m tests.end_to_end.smoke $(URL)

loadtest: $(BIN)/.test
	@$(BIN)/python -m benchmarks.loadtest $(if $(LONG),--long,--seconds $(SECONDS))

bench: $(BIN)/.bench
	@$(BIN)/python -m benchmarks --write $(ONLY)

lint: $(BIN)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	@if [ -x $(BIN)/python ]; then { $(BIN)/python -m fogmetrics clean . || [ $$? = 1 ]; } && \
		{ [ ! -e run/demo/fogmetrics.toml ] || $(DEMO) $(BIN)/python -m fogmetrics clean run/demo || [ $$? = 1 ]; }; else \
		echo "fogmetrics: no $(VENV), so rings in /dev/shm, if any, are left"; fi
	rm -rf $(VENV) run build *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "fogmetrics: no Python 3.11 or later with venv was found; install it (Debian: apt-get install python3" \
		"python3-venv), or name one: make run PYTHON=/path/to/python3" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)

# What is installed: the daemon alone to run it, more to test it.
$(BIN)/.run: EXTRAS := [daemon]
$(BIN)/.test: EXTRAS := [test]
$(BIN)/.real: EXTRAS := [test,proxies,libraries]
$(BIN)/.bench: EXTRAS := [test,bench]
$(BIN)/.lint: EXTRAS := [test,lint]
$(BIN)/.%: pyproject.toml | $(BIN)/python
	@echo "fogmetrics: installing into $(VENV), once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRAS)'
	@touch $@
