# Everything from a bare machine: `make demo`, `make test`. What CI runs is `make test`.
# PYTHON=python3.12 chooses the interpreter; DEMO="--seconds 20" goes to the demo.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -qq
WHEEL := $(VENV)/wheel
ROOMS := protocol worker client supervisor
SOURCES := pyproject.toml README.md LICENSE $(shell find $(ROOMS) -name '*.py' -o -name py.typed)

.PHONY: demo test lint format types pytest clean

demo: $(VENV)/.media
	$(VENV)/bin/changeover demo $(DEMO)

test: lint types pytest

lint: $(VENV)/.tools
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.tools
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# On the installed wheel and on the tests. Room by room: changeover itself is a namespace, which
# has no place for a py.typed.
types: $(VENV)/.tools
	$(VENV)/bin/mypy --strict $(ROOMS:%=-p changeover.%)
	$(VENV)/bin/mypy --strict tests

# -P: the wheel is tested, never the folders that lie here.
pytest: $(VENV)/.tools
	@.ci/system-packages ffmpeg gcc bubblewrap
	$(PY) -P -m pytest -q -n auto $(TESTS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis

$(VENV)/.made: .ci/find-python
	@.ci/find-python > /dev/null 2>&1 || .ci/system-packages python3 python3-venv
	rm -rf $(VENV)
	python=$$(.ci/find-python) && $$python -m venv $(VENV)
	@touch $@

# build/ would bring modules back that are gone from the sources.
$(VENV)/.wheel: $(VENV)/.made $(SOURCES)
	rm -rf build *.egg-info $(WHEEL)
	$(PIP) wheel --no-deps --wheel-dir $(WHEEL) .
	rm -rf build *.egg-info
	@touch $@

# What the package needs is looked up when pyproject.toml has changed, the package itself is
# replaced whenever a source has.
$(VENV)/.media: $(VENV)/.wheel $(VENV)/.media-deps
	$(PIP) install --no-deps --force-reinstall $(WHEEL)/*.whl
	@touch $@

$(VENV)/.tools: $(VENV)/.wheel $(VENV)/.tools-deps
	$(PIP) install --no-deps --force-reinstall $(WHEEL)/*.whl
	@touch $@

$(VENV)/.media-deps: pyproject.toml | $(VENV)/.wheel
	$(PIP) install "$$(echo $(WHEEL)/*.whl)[media]"
	@touch $@

$(VENV)/.tools-deps: pyproject.toml | $(VENV)/.wheel
	$(PIP) install "$$(echo $(WHEEL)/*.whl)[media,test]"
	@touch $@
