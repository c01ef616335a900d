# One short command each; CONTRIBUTING.md says what each costs. PYTHON is that of an environment
# with the extra `test`.
PYTHON ?= python

.PHONY: lint types unit quick test docs

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

unit:
	$(PYTHON) -m pytest -q -n logical -m "not slow" tests/settings tests/lifecycle tests/log tests/client tests/relay

quick:
	$(PYTHON) -m pytest -q -n logical -m "not slow"

test:
	$(PYTHON) -m pytest -q -n logical

docs:
	$(PYTHON) -m docs.generate
	$(PYTHON) -m pytest -q tests/docs
