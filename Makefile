# Two commands on a fresh machine with Python 3.11+, git and make:  make demo   and   make test
PYTHON ?= python3
DEV := .venv
RUN := .venv-run
SOURCES := $(shell find src -name '*.py') config.example.toml pyproject.toml

.PHONY: demo test soak check smoke bench clean

demo: $(RUN)/.installed  ## the main job on the embedded emulator, with a report to look at
	$(RUN)/bin/convsync demo --folder convsync-demo

test: check smoke  ## everything CI runs
	$(DEV)/bin/python -m pytest

soak: $(DEV)/.installed  ## more seeds and more places to die than `make test` has time for
	$(DEV)/bin/python -m pytest -m soak

check: $(DEV)/.installed  ## lint, format, types
	$(DEV)/bin/ruff check src tests bench
	$(DEV)/bin/ruff format --check src tests bench
	$(DEV)/bin/mypy

smoke: $(RUN)/.installed  ## the installed package with its run-time dependencies alone
	$(RUN)/bin/convsync --help > /dev/null
	rm -rf build/smoke && mkdir -p build
	cd build && ../$(RUN)/bin/convsync demo --folder smoke > smoke.txt || (cat smoke.txt; exit 1)

bench: $(DEV)/.installed  ## rows per second and peak memory; ROWS="100000 1000000" unless said
	$(DEV)/bin/python bench/throughput.py $(ROWS)
	$(DEV)/bin/python bench/messages.py
	$(DEV)/bin/python bench/metrica.py
	$(DEV)/bin/python bench/vk.py

clean:
	rm -rf $(DEV) $(RUN) build dist convsync-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(DEV)/.installed: pyproject.toml constraints.txt
	$(call new_enough)
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(DEV)/bin/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	touch $@

# The package as users get it: built, not linked; nothing but its run-time dependencies.
$(RUN)/.installed: $(SOURCES) constraints.txt
	$(call new_enough)
	test -x $(RUN)/bin/python || $(PYTHON) -m venv $(RUN)
	$(RUN)/bin/python -m pip install --quiet --constraint constraints.txt .
	$(RUN)/bin/python -m pip install --quiet --no-deps --force-reinstall .
	touch $@

define new_enough
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
endef
