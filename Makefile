# make lab    set up and open the lab          make test   set up and run every test, notebooks included
# Needs Python 3.11 or newer. Takes uv where it is installed, venv and pip where not; both install the same hashes.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Named after the Python that the environment is made from: `make PYTHON=...` with another one sets up again.
READY  := $(VENV)/.ready-$(shell "$(PYTHON)" -c "import sys, zlib; print(zlib.crc32(repr((sys.base_prefix, sys.version_info[:2])).encode()))" 2>/dev/null)
# One more than there are cores: tests wait for servers, browsers and other programs.
JOBS   ?= $(shell "$(PYTHON)" -c "import os; print((os.cpu_count() or 1) + 1)" 2>/dev/null)
ROOM   ?= .venv-classroom
SITE   ?= .venv-site
# What records the packets while notebooks are tested: tap or live.
ENGINE ?= tap

# uv trusts what the system trusts, as pip does: some networks have an authority of their own. Older uv, newer uv.
export UV_NATIVE_TLS := 1
export UV_SYSTEM_CERTS := 1

.PHONY: site tab test-memory catalogue fuzz grading help setup lab test test-code test-notebooks check bench peers classroom notebooks lock clean

help:
	@sed -n '1,2p' Makefile
	@echo "also: make check (ruff, mypy) · make bench (ratios) · make peers (every mail program) · make classroom (thirty learners) · make grading (nbgrader) · make fuzz · make notebooks (re-execute) · make tab (the lessons in Node, as in a browser tab) · make site (a page with the lessons in the tab) · make lock · make clean"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "labkit needs Python 3.11 or newer. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "Setting up in $(VENV): this once, a minute or two."
	@[ -e $@ ] || [ ! -e $(VENV)/pyvenv.cfg ] || rm -rf $(VENV)
	@python=$$("$(PYTHON)" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))'); \
	if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python "$$python" $(VENV) || exit 2; \
	  install="uv pip install --quiet --python $(BIN)/python"; \
	else \
	  "$$python" -m venv $(VENV) || { echo "Python's venv module is missing: install it (Debian: python3-venv) or install uv."; exit 2; }; \
	  install="$(BIN)/python -m pip install -qq"; \
	fi; \
	$$install --require-hashes -r requirements.lock || \
	  { echo "The packages could not be installed, for the reason above. The first setup needs a network; the lab itself does not."; exit 2; }; \
	$$install --no-deps --no-build-isolation -e .
	@touch $@

lab: setup
	@echo "The command line is $(BIN)/labkit, for instance: $(BIN)/labkit compare"
	$(BIN)/labkit lab $(ARGS)

# Tests and notebooks, every cell executed and each output compared, images included. Where the kernel's packets can be
# recorded, the notebooks before with those. The last run says what was skipped. CI runs test-memory, too.
NBVAL  := -p tests.notebooks.plugin --nbval --nbval-current-env --nbval-cell-timeout 60

test: setup
	@for engine in $$($(BIN)/python -m tests.notebooks.engines); do $(MAKE) --no-print-directory test-notebooks ENGINE=$$engine || exit 1; done
	$(BIN)/python -m pytest tests notebooks -q -n $(JOBS) $(NBVAL)

test-code: setup
	$(BIN)/python -m pytest tests -q -n $(JOBS) -p no:nbval

test-notebooks: setup
	LABKIT_CAPTURE=$(ENGINE) $(BIN)/python -m pytest notebooks -q -n $(JOBS) --dist loadfile $(NBVAL)

# Servers, mail program, attacks, lessons and notebooks once more over the network in memory, which a browser tab has.
test-memory: setup
	LABKIT_NETWORK=memory $(BIN)/python -m pytest tests/mail/test_client.py tests/mail/test_pop3.py tests/attack tests/lessons tests/test_provider.py \
	  tests/trust/test_starttls.py notebooks -q -n $(JOBS) $(NBVAL)

# The lessons' cells as a browser tab runs them, in Node, against what is committed. Needs npm.
tab: setup
	PYTHONPATH=.ci $(BIN)/python -m tests.browser.tab $(ARGS)

# A static site, with the lessons in the reader's own tab: _site/. Needs npm. What builds it is in an environment of its own.
site: setup $(SITE)/bin/jupyter
	PYTHONPATH=.ci $(BIN)/python -m website.build $(SITE)/bin/jupyter _site

$(SITE)/bin/jupyter: .ci/website/tools.txt
	if command -v uv >/dev/null 2>&1; then uv venv --quiet --allow-existing --python $(BIN)/python $(SITE) && \
	  uv pip install --quiet --python $(SITE)/bin/python --require-hashes -r .ci/website/tools.txt; \
	  else $(BIN)/python -m venv $(SITE) && $(SITE)/bin/python -m pip install --quiet --require-hashes -r .ci/website/tools.txt; fi
	@touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m tests.benchmarks

# Every mail program that is installed here against every policy; writes tests/peers/MATRIX.md.
peers: setup
	$(BIN)/python -m tests.peers.matrix

# Thirty learners in JupyterHub run one lesson at the same moment. Needs npm; JupyterHub is in an environment of its own.
classroom: $(ROOM)/bin/configurable-http-proxy
	PATH="$(abspath $(ROOM))/bin:$$PATH" $(ROOM)/bin/python -m tests.classroom $(ARGS)

$(ROOM)/bin/configurable-http-proxy:
	$(MAKE) setup VENV=$(ROOM)
	if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(ROOM)/bin/python 'jupyterhub>=5.4.5,<7'; \
	  else $(ROOM)/bin/python -m pip install --quiet 'jupyterhub>=5.4.5,<7'; fi
	npm install --silent --global --prefix $(ROOM) configurable-http-proxy@5

# nbgrader releases every lesson, takes two learners' work in, and marks it. In an environment of its own.
grading: $(ROOM)/bin/nbgrader
	PATH="$(abspath $(ROOM))/bin:$$PATH" LABKIT_CAPTURE=tap $(ROOM)/bin/python -m tests.classroom.grading

$(ROOM)/bin/nbgrader:
	$(MAKE) setup VENV=$(ROOM)
	if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(ROOM)/bin/python 'nbgrader>=0.9.5,<0.10'; \
	  else $(ROOM)/bin/python -m pip install --quiet 'nbgrader>=0.9.5,<0.10'; fi

notebooks: setup
	$(BIN)/python -m tests.notebooks.execute

fuzz: setup
	$(BIN)/python -m tests.fuzz $(ARGS)

# The sentences to translate, from which msginit or Poedit begins labkit/locale/<language>/LC_MESSAGES/labkit.po.
catalogue: setup
	$(BIN)/pybabel -q extract -F pyproject.toml -k N_ -k n_:1,2 --no-location -o labkit.pot labkit

lock:
	printf 'hatchling\neditables\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --no-annotate --extra test pyproject.toml - -o requirements.lock
	uv pip compile --quiet --python-version 3.14 --python-platform wasm32-pyodide2025 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate .ci/website/packages.in -o .ci/website/packages.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  .ci/website/tools.in -o .ci/website/tools.txt

clean:
	rm -rf $(VENV) $(ROOM) .pytest_cache .mypy_cache .ruff_cache .hypothesis
