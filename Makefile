# Every target sets itself up: Python >= 3.11 and make are all it needs.
#
#   make test                     the tests, with coverage
#   make test ARGS="-k stream"    a part of them (any pytest arguments; coverage is then left out)
#   make check PYTHON=python3.13  with a Python of your choice (after `make clean`)

VENV := .venv
PY := $(VENV)/bin/python
ARGS :=

# What the surroundings set must not leak into the virtual environments.
unexport PYTHONHOME PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export LITELLM_LOCAL_MODEL_COST_MAP := True
# Node comes as a wheel with pyright[nodejs]: the same on every machine.
export PYRIGHT_PYTHON_GLOBAL_NODE := off
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

COMPAT := 1.95 newest 1.109.1

# An index that hardly answers must not hold up the rest.
LIMIT := $(if $(shell command -v timeout),timeout 200)

.PHONY: help test e2e demo check docs compat $(COMPAT:%=compat-%) bench-quick clean
.NOTPARALLEL:

help:
	@sed -n '/^[a-z-]*:.*##/s/:.*##/\t/p' Makefile

test: $(VENV)/.test ## the tests, warnings as errors, 100 % branch coverage
	$(PY) -m pytest $(if $(ARGS),$(ARGS),--cov --cov-report=term)

# What cannot be installed is skipped by its tests, which say why.
e2e: $(VENV)/.e2e .venv-e2e-phoenix/.ready ## a real Phoenix and a real Prometheus read what the router sends
	$(PY) -m pytest tests/e2e $(ARGS)

demo: $(VENV)/.core ## fake providers on loopback, twelve telling calls, their traces
	@$(VENV)/bin/traced-router demo $(ARGS)

check: $(VENV)/.dev ## lint, format and types, all strict
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pyright

docs: $(VENV)/.docs ## the site, in site/, warnings as errors
	$(PY) -m sphinx --fail-on-warning --keep-going --nitpicky --quiet docs site

# The simulation's tests stay out: it stands for one litellm, the newest.
compat: $(COMPAT:%=compat-%) ## the tests on litellm 1.95, the newest that resolves, and 1.109.1

$(COMPAT:%=compat-%): compat-%: .venv-compat-%/.ready
	@.venv-compat-$*/bin/python -c 'from importlib.metadata import version as v; print("litellm", v("litellm"), "opentelemetry", v("opentelemetry-sdk"))'
	.venv-compat-$*/bin/python -m pytest --ignore tests/benchmarks $(ARGS)

bench-quick: $(VENV)/.bench ## every benchmark, small
	@set -e; for script in benchmarks/[a-z]*.py; do echo "--- $$script"; $(PY) "$$script" --quick; done

clean: ## forget every environment, cache and build
	rm -rf .venv .venv-compat-* .venv-e2e* .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* site dist build benchmarks/results

# --- environments ----------------------------------------------------------------------------

# $(call venv,DIRECTORY): make a virtual environment with the first Python that will do.
# pip 25.1 is the first that reads dependency groups.
define venv
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
	    echo "setting up $(1) with $$("$$python" --version): a minute or two, once"; \
	    "$$python" -m venv --clear $(1) && $(1)/bin/python -m pip install -q --upgrade 'pip>=25.1'; \
	    exit; \
	  fi; \
	done; \
	echo 'no Python 3.11 to 3.14 with the venv module found (Debian: apt-get install python3-venv); name one with PYTHON=…' >&2; \
	exit 1
endef

$(VENV)/.made:
	$(call venv,$(VENV))
	@touch $@

$(VENV)/.core: pyproject.toml | $(VENV)/.made
	@$(PY) -m pip install -q -e '.[otlp]'
	@touch $@

$(VENV)/.dev $(VENV)/.test $(VENV)/.docs $(VENV)/.bench: $(VENV)/.%: pyproject.toml | $(VENV)/.made
	@$(PY) -m pip install -q -e '.[otlp]' --group $*
	@touch $@

$(VENV)/.e2e: $(VENV)/.test
	@$(PY) -m pip install -q --group e2e && touch $@ || echo 'no Prometheus exporter: going on without'

# Phoenix asks for much, so it has an environment of its own. Its tests read why it is not there.
.venv-e2e-phoenix/.ready: pyproject.toml
	$(call venv,$(@D))
	@$(LIMIT) $(@D)/bin/python -m pip install -q --prefer-binary --group phoenix 2>$(@D)/why.txt && touch $@ \
	  || echo 'no Phoenix: going on without'

# The oldest of every range that pyproject.toml names.
.venv-compat-1.95/.ready: pyproject.toml
	$(call venv,$(@D))
	@$(@D)/bin/python -m pip install -q -e . --group test 'litellm==1.95.*' \
	  'opentelemetry-api==1.30.*' 'opentelemetry-sdk==1.30.*' 'pydantic-settings==2.4.*' 'tenacity==9.0.*'
	@touch $@

.venv-compat-newest/.ready: pyproject.toml
	$(call venv,$(@D))
	@$(@D)/bin/python -m pip install -q -e . --group test
	@touch $@

# litellm 1.109.1 asks for a certifi that not every index has, and pip cannot override a requirement:
# so it replaces the litellm that resolved, and then its requirements follow, without that one.
.venv-compat-1.109.1/.ready: pyproject.toml
	$(call venv,$(@D))
	@$(@D)/bin/python -m pip install -q -e . --group test
	@$(@D)/bin/python -m pip install -q --no-deps 'litellm==1.109.1'
	@$(@D)/bin/python -c 'from importlib.metadata import requires; print(*(r for r in requires("litellm") if not r.startswith("certifi") and "extra ==" not in r), sep="\n")' > $(@D)/requirements.txt
	@$(@D)/bin/python -m pip install -q -r $(@D)/requirements.txt
	@touch $@
