PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
POLICIES := random max-power nearest-ap strongest-ap full-ap decoupled most-informative most-informative-search \
	modified-bb-paper modified-bb local-search branch-and-bound ddpg-paper ddpg grpo hetgnn-paper hetgnn hetgnn-exact

.PHONY: setup compare test lint browser warmup docs

# A venv is ready once its stamp is newer than what defines it.
setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	touch $@

compare: setup warmup
	$(BIN)/cfisac compare --M 30 --K 6 --drops 20 --policies $(POLICIES) --out runs/compare

# The site, into build/site; a warning is an error, and so is a link within it that leads nowhere.
docs: setup warmup
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/site
	$(BIN)/sphinx-build -W --keep-going -q -b linkcheck docs build/linkcheck

test: lint browser warmup
	$(BIN)/pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every processor at it, instead of one; where machine code can't be kept, each process compiles what it needs.
warmup: setup
	-$(BIN)/cfisac warmup

# The tests of the report page need a Chromium: without one, Debian's is installed, or Playwright's for users other than root.
browser: setup
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "make browser: no Chromium here, which the tests of the report page need: installing Debian's with apt-get"; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; \
	else \
	  echo "make browser: no Chromium here, which the tests of the report page need: installing Playwright's"; \
	  $(BIN)/playwright install chromium; \
	fi
