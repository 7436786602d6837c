# Everything a developer or a technician types. `make` alone lists it.
# The Python in use: `make setup PYTHON=python3.12` takes another one than the system's.
PYTHON ?= python3
# The Debian of the bench's guest: 12, 13, or 12-arm64.
RELEASE ?= 12
# A rig of your own instead of the guest: docs/rig.md.
RIG ?=
# Some of the numbered tests only. Without: those that have passed as a whole (docs/bench.md).
PASSED := tests/hil/test_[1-9]_*.py tests/hil/test_10_power.py tests/hil/test_11_pi.py
TESTS ?= $(PASSED)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-offline broker test check ci format-check lint types imports test-system deb crash-states simulate clock-histories offline bench-image hil hil-other hil-long bench bundle sticker wiring format clean fuzz mutate coverage

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.done ## make .venv with every dependency and the amibox command in it

# Only needs doing again when the dependencies change.
.venv/.done: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here. Do this, then try again:"; \
	  echo "  sudo apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "AmiBox needs Python 3.11, 3.12 or 3.13; $(PYTHON) is `$(PYTHON) -V 2>&1`."; \
	  echo "Debian 12 and 13 and Raspberry Pi OS of their age have one:"; \
	  echo "  sudo apt install python3 python3-venv"; \
	  echo "Another one that you have: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) can't make virtual environments yet. Do this, then try again:"; \
	  echo "  sudo apt install python3-venv"; exit 1; }
	@echo "Setting up .venv: about a minute the first time, some 60 MB to fetch."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[cloud,sim,bench,dev]'
	@touch $@
	@echo "Done: $(BIN)/amibox --help"

demo: setup ## play one whole rental with a simulated car; no network, no root
	$(BIN)/amibox demo

demo-offline: setup ## a week of a car without network, in seconds
	$(BIN)/amibox demo-offline

broker: setup ## run mosquitto as it is shipped, with certificates; DIR=build/broker PORT=8883 VEHICLE=hede-1 HOST=
	$(BIN)/python -m sim.local_broker $(or $(DIR),build/broker) --port $(or $(PORT),8883) \
	  --vehicle "$(or $(VEHICLE),hede-1)" $(addprefix --host ,$(HOST))

test: setup ## every test that needs no root; of further programs strace alone (apt)
	$(BIN)/pytest -n auto --dist loadfile -m "not system and not hil"

check: format-check lint types imports test ## what must be green before a commit

ci: check test-system hil hil-other ## check, and every other set of tests

format-check: setup
	$(BIN)/ruff format --check

lint: setup ## ruff
	$(BIN)/ruff check

types: setup ## mypy, strict
	$(BIN)/mypy

imports: setup ## who may import whom
	$(BIN)/lint-imports

# The desk's reader has no wheel: pip builds it.
.venv/.desk: .venv/.done
	@command -v swig >/dev/null || { \
	  echo "PC/SC's Python library is built here. Do this, then try again:"; \
	  echo "  sudo apt install gcc python3-dev swig pkg-config libpcsclite-dev"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[desk]'
	@touch $@

test-system: setup .venv/.desk ## the tests that need mosquitto, dbus-daemon, strace, pcscd, sshd, and pip's index
	$(BIN)/pytest -m system

deb: setup ## the box's Debian package in dist/; RELEASE=12 or 13, ARCH=arm64 or amd64
	$(BIN)/python -m deb --release $(RELEASE) --arch $(or $(ARCH),arm64)

crash-states: setup ## power cuts at every write of the store, a long run that adds up; STATES=100000 SEED=1
	$(BIN)/python -m sim crash-states --states $(or $(STATES),100000) --seed $(or $(SEED),1)

simulate: setup ## whole towns on virtual time, with faults; SEEDS=20000 goes on and adds up; SHORT=1 one car, hours
	$(BIN)/python -m sim simulate --seeds $(or $(SEEDS),200) $(if $(SHORT),--short) --totals build/simulate/$(if $(SHORT),short,totals).json

offline: setup ## a month without network, 100,000 events on the disk, then drained (minutes); DAYS=30 EVENTS=100000
	$(BIN)/python -m sim offline --days $(or $(DAYS),30) --events $(or $(EVENTS),100000)

clock-histories: setup ## lies from the sky, lost clocks, people at the edges of their right; HISTORIES=1000000 adds up
	$(BIN)/python -m sim clock-histories --histories $(or $(HISTORIES),20000) --totals build/clock-histories/totals.json

# Not part of setup: the fuzzers are for long runs alone.
.venv/.fuzz: .venv/.done
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

fuzz: setup .venv/.fuzz ## every door for bytes, a long run that adds up; DOOR=nmea SECONDS=60 (a door)
	$(BIN)/python -m sim fuzz $(or $(DOOR),all) --seconds $(or $(SECONDS),60)

# Some more packages, which nothing else needs.
.venv/.mutation: .venv/.done
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[mutation]'
	@touch $@

mutate: setup .venv/.mutation ## change the deciding code a little, thousands of times: who notices? FILES="hw/interlock.py"
	$(BIN)/python -m tests.mutants $(FILES)

coverage: setup ## how much of the code the tests reach, branch by branch
	$(BIN)/python -m tests.reached

bench-image: setup ## build the disk of the bench's guest; RELEASE=12, 13 or 12-arm64; wants root
	$(BIN)/python -m sim.bench image --release $(RELEASE)

hil: setup ## the numbered tests in a guest (RELEASE=12, 13, 12-arm64), or on wires (RIG=FILE)
	$(if $(RIG),,$(BIN)/python -m sim.bench image --release $(RELEASE))
	RELEASE=$(RELEASE) RIG=$(RIG) $(BIN)/pytest -m hil --durations=0 -v $(TESTS)
	$(if $(filter $(PASSED),$(TESTS)),@echo "Not among them yet: 13 package; 14 updates; 15 fitting; 16 read-only root. Run them by make hil TESTS=FILE")

# The faults and power cuts of 8 and 10 take most of the time, and hang least on the release.
hil-other: setup ## tests 1 to 6 and 9 on Debian 13 as well, if what guests are made of has changed lately
	@$(BIN)/python -m sim.bench due --release 13; code=$$?; \
	echo "All of them on Debian 13: make hil RELEASE=13"; \
	if [ $$code -eq 0 ]; then exec $(MAKE) --no-print-directory hil RELEASE=13 TESTS="tests/hil/test_[1-69]_*.py"; \
	elif [ $$code -eq 3 ]; then true; \
	else exit $$code; fi

hil-long: setup ## fifty power cuts, and as many during updates (hours); CUTS=50 SEED=time RELEASE=12
	$(BIN)/python -m sim.bench image --release $(RELEASE)
	RELEASE=$(RELEASE) CUTS=$(or $(CUTS),50) $(BIN)/pytest -m hil --durations=0 -v tests/hil/test_10_power.py tests/hil/test_14_update.py

bundle: setup ## the box's software as a signed update; VERSION=1.2.3 KEY=update.pem
	@test -n "$(VERSION)" -a -n "$(KEY)" || { echo 'Which version, signed with which key? make bundle VERSION=1.2.3 KEY=update.pem'; exit 2; }
	@mkdir -p build
	$(BIN)/amibox-cloud update make $(VERSION) --key $(KEY) --out build/amibox-$(VERSION).bundle

sticker: setup ## the sheet for the windscreen; PHONE="02 99 00 00 00"
	@test -n "$(PHONE)" || { echo 'Whom shall people call? make sticker PHONE="02 99 00 00 00"'; exit 2; }
	$(BIN)/python -m hw.sticker --phone "$(PHONE)" --out build/sticker.svg

wiring: setup ## draw hw/wiring.svg and the table of pins from hw/wiring.toml
	$(BIN)/python -m hw.wiring

bench: setup ## how fast the box opens by card and by phone, against the bare floor; ROUNDS=40
	$(BIN)/python -m tests.speed_card; cards=$$?; $(BIN)/python -m tests.speed_phone && exit $$cards

format: setup ## format, and mend what ruff can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## remove .venv and everything else that was made here
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage mutants
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
