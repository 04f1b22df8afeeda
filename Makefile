# `make demo` and `make test` each do all of the set-up, in .venv, and then the job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two idle OpenMP threads that spin slow PyTorch several-fold on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test lint docs clean

demo: $(VENV)/.installed
	$(BIN)/likely demo

test: $(VENV)/.tested
	$(BIN)/pytest $(ARGS)

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The book, in docs/_build/html; examples are run again where they or their pictures have changed.
docs: $(VENV)/.documented
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

# torch comes first and by its exact version: the newest one brings gigabytes for graphics cards.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "setting up $(VENV), once; this takes a few minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep ^torch== constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

$(VENV)/.documented: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) demo.png docs/_build docs/gallery docs/reference docs/statements.md
