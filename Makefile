# Every target sets up what it needs; nothing has to be installed first but Python 3.11 with venv, and make.

PYTHON ?= python3
VENV := .venv/bin
RUN := $(VENV)/python

# Not "?=": bash keeps a variable of this name (the age of the shell), which must not become the length of the demo.
SECONDS := 60

# Of `make world`: whole factories, each two hours and more.
SEEDS := 1000
unexport SECONDS

# Of `make test`: one worker a core, at most four; ARGS="-n 0" runs everything in one process (needed for --pdb).
WORKERS := -n auto --maxprocesses 4 --dist loadgroup

# Of `make lab`, whose campaigns mostly wait.
CAMPAIGNS := -n 3 --dist worksteal

# Of `make fuzz`.
RUNS := 200000
TARGETS :=

# An upgrade of the locks is asked for: make lock UPGRADE=1
UPGRADE :=
PIP_COMPILE := $(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	$(if $(UPGRADE),--upgrade) --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help demo test world scenarios planted sweep outage week fuzz sbom real lab bench check format docs lock clean runtime development programs

help: ## what can be done here
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: runtime ## a simulated factory of 26 meters, the agent, a broker and the platform for SECONDS=60
	@$(VENV)/metering-sim demo --seconds $(SECONDS)

test: development programs ## the whole test suite (ARGS="..." goes to pytest)
	@$(RUN) -m pytest $(WORKERS) $(ARGS)

world: development ## SEEDS=1000 whole factories in virtual time, every fault there is
	@$(VENV)/metering-sim world --seeds $(SEEDS)

scenarios: development ## the schedules of faults that have a name, each in SEEDS=1000 short worlds
	@$(VENV)/metering-sim world --scenario all --seeds $(SEEDS)

sweep: development ## one half hour cut off at every operation of its disk, in every way (ARGS="--every 10")
	@$(RUN) -m simulators.world.sweep $(ARGS)

outage: development ## 30 days without a platform: 100 meters, 1 minute, 20 MB (ARGS="--days 7 --meters 26 --budget 16")
	@$(RUN) -m tests.service.outage $(ARGS)

week: development ## 7 days of ordinary work: does memory or journal grow (ARGS="--days 2 --meters 26")
	@$(RUN) -m tests.service.longrun $(ARGS)

planted: development ## bugs planted into the agent: after how many seeds the simulated world finds each
	@$(RUN) -m tests.world.planted

fuzz: development ## RUNS=200000 inputs at every parser, guided by coverage (TARGETS="rtu site" for some)
	@$(RUN) -m tests.fuzz.campaign --runs $(RUNS) $(TARGETS)

sbom: development ## what an installation consists of, as CycloneDX in dist/sbom.cdx.json
	@$(RUN) -m tests.support.sbom

real: development programs ## the long campaign: real processes, real faults (5 minutes)
	@$(RUN) -m pytest tests/real -m real --timeout 900 $(ARGS)

lab: development programs ## the fault lab: kills, power cuts, failing disks, clocks, cables (as root, 30 minutes)
	@$(RUN) -m pytest tests/lab -m lab $(CAMPAIGNS) $(ARGS)

bench: development programs ## every figure of the bus, against the physical limit and other programs (ARGS="rtu --quick")
	@$(RUN) -m tests.bench $(ARGS)

check: development ## style, types, layers
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy --strict agent simulators tests
	$(VENV)/lint-imports --no-logo

format: development ## put the style right where a machine can
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: development ## write the reference pages in config/ and the table of faults from the code
	@$(RUN) -m tests.support.reference
	@$(RUN) -m tests.support.faults

lock: development ## choose and hash the exact versions again after a change of pyproject.toml (UPGRADE=1: the newest)
	@$(RUN) -m uv --version >/dev/null 2>&1 || $(RUN) -m pip install --quiet "uv>=0.13,<0.14"
	$(PIP_COMPILE) --all-extras pyproject.toml -o config/locks/development.txt
	$(PIP_COMPILE) --constraint config/locks/development.txt --no-annotate pyproject.toml -o config/locks/runtime.txt

clean: ## remove the environment and everything that was made
	rm -rf .venv .venv.lock dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find agent simulators tests -type d -name __pycache__ -prune -exec rm -rf {} +

runtime development:
	@$(PYTHON) -I tests/support/environment.py $@

programs: development
	@$(RUN) -m tests.support.programs
