# Needs make and Python 3.11 or newer, nothing else. Another Python: make book PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
INSTALLED := $(VENV)/installed

# The tools of the environment come first, for make's own commands and for what they start.
export PATH := $(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help book pdf test screenshots venv clean
.DEFAULT_GOAL := help

help:
	@echo "make book         install what is missing, run chapter 5.4 at its smallest scale, build the book"
	@echo "make pdf          print the built book with Chromium into _build/wiring-evolution.pdf"
	@echo "make test         install what is missing, run every test"
	@echo "make screenshots  open every page in Chromium and keep pictures in _build/screenshots/"
	@echo "make venv         only create the empty environment .venv"
	@echo "make clean        remove what was built; the environment and the recorded results stay"

venv: $(VENV)/bin/python

$(VENV)/bin/python:
	@command -v "$(PYTHON)" > /dev/null || { \
	    echo "There is no '$(PYTHON)' here: install Python 3.11 or newer, or name yours: make book PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "'$(PYTHON)' is older than Python 3.11: install a newer one, or name it: make book PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2> /dev/null || { \
	    echo "'$(PYTHON)' has no venv module: install it (on Debian and Ubuntu the package python3-venv), then run make again."; exit 1; }
	@echo "==> Creating the environment $(VENV)"
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "The environment could not be created: see the message above."; exit 1; }

$(INSTALLED): requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "==> Installing requirements.txt (the first time several minutes, mostly PyTorch)"
	@python -m pip install --requirement requirements.txt || { \
	    echo "The installation did not finish: see the message above, then run make again."; exit 1; }
	@touch $@

book: $(INSTALLED)
	@echo "==> Running book/05_bilevel.ipynb at scale tiny with papermill"
	@mkdir -p _build
	@papermill book/05_bilevel.ipynb _build/05_bilevel.tiny.ipynb -p scale tiny --log-output --no-progress-bar || { \
	    echo "==> The chapter failed: see the message above."; exit 1; }
	@echo "==> Building the book: every notebook runs and reads the recorded results"
	@NAS_RESULTS=read jupyter-book build book -W -n --keep-going || { \
	    echo "==> The book was not built: see the message above."; exit 1; }
	@echo "==> Done. Open _build/html/index.html in a browser."

pdf: $(INSTALLED)
	@echo "==> Printing the built book with Chromium"
	@python book/_extensions/book_pdf.py || { echo "==> The book was not printed: see the message above."; exit 1; }
	@echo "==> Done: _build/wiring-evolution.pdf"

test: $(INSTALLED)
	@echo "==> Running the tests"
	@# Tests wait for browsers and for processes of their own, so more of them run at once than there are cores.
	@OMP_NUM_THREADS=1 python -m pytest -n $$(python -c "import os; print(os.cpu_count() + 2)") --dist loadgroup --no-loadscope-reorder || { echo "==> Some tests failed: see above."; exit 1; }
	@echo "==> All tests passed."

screenshots: $(INSTALLED)
	@echo "==> Opening every page in Chromium, wide and narrow, light and dark"
	@SCREENSHOTS=1 python -m pytest tests/test_browser.py || { echo "==> Some pages are at fault: see above."; exit 1; }
	@echo "==> Done. The pictures are in _build/screenshots/."

clean:
	@echo "==> Removing _build"
	@rm -rf _build
