# make demo   the whole recipe on the mini corpus, on the CPU
# make check  lint and the quick tests
# make test   lint and all tests
# All targets install into .venv first where that is still to be done.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin
# pip 26.3 and newer refuse ci_sdr, which ESPnet requires, for an optional dependency of it that is given by URL. Until
# ESPnet requires it no more, or a release of it after 0.0.2 names none by URL.
PIP_VERSION := 25.3
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off
# The versions that are tested together, for the Python that is used.
CONSTRAINTS = constraints/py$(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
DEMO := egs2/mini_librimix/tse_gen1
# Further options of the demo's recipe: make demo DEMO_ARGS="--stage 8"
DEMO_ARGS ?=
PYTEST_ARGS ?=
# Containers often forbid it, and every one of the many short processes would compile the package anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help install demo check test test-newest lint docs constraints clean
.DEFAULT_GOAL := install

help:
	@echo "make            install into $(VENV) (PYTHON=$(PYTHON))"
	@echo "make demo       run the whole recipe on the mini corpus; ends with the result table (DEMO_ARGS=...)"
	@echo "make check      lint, then the quick tests: a minute and a half on two cores (PYTEST_ARGS=...)"
	@echo "make test       lint, then all tests (PYTEST_ARGS=...)"
	@echo "make test-newest  the checks with the newest of everything, in .venv-newest; says which package breaks them"
	@echo "make lint       ruff, mypy and shellcheck"
	@echo "make docs       the documentation as a site, in site/"
	@echo "make constraints  write the versions that are tested together anew (CONSTRAINTS_ARGS=--upgrade)"
	@echo "make clean      remove $(VENV) and what the demo made"

install: $(STAMP)

$(STAMP): setup.py $(wildcard constraints/*.txt)
	@$(PYTHON) .ci/check_machine.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "pip==$(PIP_VERSION)"
	@echo "Installing ESPnet and PyTorch: several minutes and about 7 GB."
	$(PIP) -c $(CONSTRAINTS) --build-constraint constraints/build.txt -e ".[all,test,docs]"
	@$(PIP) --no-deps -r constraints/dac.txt || \
		echo "make: descript-audio-codec cannot be installed: codec 'dac' is missing, and its tests are skipped"
	@touch $@

demo: $(STAMP)
	$(DEMO)/run.sh --python "$(CURDIR)/$(BIN)/python" $(DEMO_ARGS)
	@$(BIN)/python .ci/show_demo.py $(DEMO)/exp

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@cd egs2/TEMPLATE/tse_gen1 && "$(CURDIR)/$(BIN)/shellcheck" -x *.sh utils/*.sh
	@cd egs2/TEMPLATE/codec1 && "$(CURDIR)/$(BIN)/shellcheck" -x codec.sh
	@for recipe in egs2/[a-z]*/tse_gen1 egs2/[a-z]*/codec1; do (cd $$recipe && "$(CURDIR)/$(BIN)/shellcheck" -x -e SC2034 $$(find . -name '*.sh' -type f)) || exit 1; done

# Two processes, whole files each, in the order of collection: the recipe's own test is the longest and comes first.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: lint
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test: lint
	$(PYTEST) $(PYTEST_ARGS)

test-newest:
	$(PYTHON) .ci/newest.py --pip "$(PIP_VERSION)"

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

constraints:
	PYTHON="$(PYTHON)" constraints/compile.sh $(CONSTRAINTS_ARGS)

clean:
	rm -rf $(VENV) $(VENV)-newest build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf $(addprefix $(DEMO)/,data downloads dump exp)
