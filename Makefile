# make demo     install into .venv and watch haul import a mailbox of its own
# make test     everything a change must pass: lint, types, tests, coverage
# make crash    kill hauld, fail its disk and cut its power wherever it changes anything (a quarter of an hour)
# make fuzz     a million responses of hostile servers, and 100,000 calls of hostile clients
# make bench    speed and memory, next to mbsync (apt-get install isync): some 18 minutes; BENCH=import for one scenario
# make lint     ruff and mypy alone
# make clean    remove all that make has made
#
# Needs a Debian 12 or its like with make and python3-venv; touches nothing outside this directory, but for `make test`
# as root, which installs dovecot-imapd and gcc.

SHELL := /bin/bash
PYTHON ?= python3
BENCH ?= --all

# as a variable, because it then holds for what builds the package, too
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test crash fuzz bench lint dovecot compiler clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# make /make /p' Makefile

demo: .venv/demo.stamp
	@.venv/bin/hauld demo

test: lint dovecot compiler
	.venv/bin/pytest -q -n 2 --dist worksteal --cov --cov-report=term

lint: .venv/test.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

crash: .venv/test.stamp dovecot compiler
	cd tests && ../.venv/bin/python -m crash.campaign

fuzz: .venv/test.stamp
	.venv/bin/python tests/fuzz/parser.py --count 1000000
	.venv/bin/python tests/fuzz/door.py --count 100000

bench: .venv/test.stamp dovecot
	.venv/bin/python tests/bench/run.py $(BENCH)

dovecot:
	@tests/support/provide-dovecot

compiler:
	@tests/support/provide-compiler

clean:
	rm -rf .venv build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml constraints.txt | .venv/bin/python
	.venv/bin/pip install --quiet --use-pep517 --editable '.[demo]'
	@touch $@

.venv/test.stamp: pyproject.toml constraints.txt .venv/demo.stamp
	.venv/bin/pip install --quiet --use-pep517 --editable '.[demo,test]'
	@touch $@
