# make demo     install into .venv and watch haul import a mailbox of its own
# make test     everything a change must pass: lint, types, tests, coverage
# make crash    kill hauld, fail its disk and cut its power wherever it changes anything (a quarter of an hour)
# make fuzz     a million responses of hostile servers, and 100,000 calls of hostile clients
# make bench    speed and memory, next to mbsync (apt-get install isync): some 18 minutes; BENCH=import for one scenario
# make lint     ruff and mypy alone
# make clean    remove all that make has made
# make install  for the whole machine, below PREFIX=/usr/local; see docs/administration.md
# make uninstall  remove what that has put there, and leave configuration, state and mail
# make deb      a Debian package of it in dist, for this machine's Debian and its Python
# make deb-test  install, upgrade, remove and purge that package under a systemd of its own (as root)
#
# Needs a Debian 12 or its like with make and python3-venv; touches nothing outside this directory, but for `make install`, and
# for `make test` as root, which installs dovecot-imapd, gcc, systemd-container, libpam-systemd and dbus.

SHELL := /bin/bash
PYTHON ?= python3
BENCH ?= --all

# Where `make install` puts things. DESTDIR stands before each path and is in none of the files, for those who make packages.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
PROGRAMS := $(PREFIX)/lib/haul
MAN := $(PREFIX)/share/man
DOC := $(PREFIX)/share/doc/haul
COMPLETIONS := \
	$(PREFIX)/share/bash-completion/completions/haulctl \
	$(PREFIX)/share/zsh/site-functions/_haulctl \
	$(PREFIX)/share/fish/vendor_completions.d/haulctl.fish
# a Python that has haul, and so can tell what a shell may complete
HAUL_PYTHON ?= $(DESTDIR)$(PROGRAMS)/bin/python

# as a variable, because it then holds for what builds the package, too
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test crash fuzz bench lint dovecot compiler systemd clean
.PHONY: install install-programs install-data install-completions uninstall deb deb-test
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# make /make /p' Makefile

demo: .venv/demo.stamp
	@.venv/bin/hauld demo

test: lint dovecot compiler systemd
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
	.venv/bin/python tests/fuzz/crowd.py --count 100000 --unhurried

bench: .venv/test.stamp dovecot
	.venv/bin/python tests/bench/run.py $(BENCH)

dovecot:
	@tests/support/provide-dovecot

compiler:
	@tests/support/provide-compiler

systemd:
	@tests/support/provide-systemd

clean:
	rm -rf .venv build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

install: install-programs install-data install-completions
	@echo 'Installed. Next, as root: systemd-sysusers && systemd-tmpfiles --create haul.conf && systemctl daemon-reload'
	@echo 'and systemctl enable --now hauld.socket hauld'

# What is installed is for everybody to read and for nobody to write, whatever the umask of whoever installs it.
PUT := umask 022;

# An environment of its own, so that what haul needs changes nothing else on the machine, with the two programs linked from
# it. pip fetches that, unless told to take it from a directory of wheels: PIP_NO_INDEX=1 PIP_FIND_LINKS=DIRECTORY.
install-programs:
	rm -rf '$(DESTDIR)$(PROGRAMS)'
	$(PUT) $(PYTHON) -m venv '$(DESTDIR)$(PROGRAMS)'
	$(PUT) '$(DESTDIR)$(PROGRAMS)/bin/python' -m pip install --quiet --no-compile .
	rm -f '$(DESTDIR)$(PROGRAMS)'/bin/[Aa]ctivate*
	$(PUT) sed -i '1s|^#!$(DESTDIR)|#!|' $$(grep -lI '^#!' '$(DESTDIR)$(PROGRAMS)'/bin/*)
	$(PUT) sed -i '/^command = /d' '$(DESTDIR)$(PROGRAMS)/pyvenv.cfg'
	$(PUT) '$(DESTDIR)$(PROGRAMS)/bin/python' -m compileall -q -s '$(DESTDIR)' '$(DESTDIR)$(PROGRAMS)/lib'
	install -d '$(DESTDIR)$(PREFIX)/bin'
	ln -sf ../lib/haul/bin/hauld ../lib/haul/bin/haulctl '$(DESTDIR)$(PREFIX)/bin'

# A configuration that is there already stays as it is.
SAMPLE := $(DESTDIR)$(SYSCONFDIR)/haul/haul.toml
WITH_PREFIX := sed 's|=/usr/bin/haul|=$(PREFIX)/bin/haul|'
install-data:
	install -d '$(DESTDIR)$(PREFIX)'/lib/systemd/{system,user} '$(DESTDIR)$(SYSCONFDIR)/haul'
	$(PUT) $(WITH_PREFIX) systemd/hauld.service > '$(DESTDIR)$(PREFIX)/lib/systemd/system/hauld.service'
	$(PUT) $(WITH_PREFIX) systemd/hauld-user.service > '$(DESTDIR)$(PREFIX)/lib/systemd/user/hauld.service'
	install -m 644 systemd/hauld.socket '$(DESTDIR)$(PREFIX)/lib/systemd/system/hauld.socket'
	install -m 644 systemd/hauld-user.socket '$(DESTDIR)$(PREFIX)/lib/systemd/user/hauld.socket'
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/lib/sysusers.d' systemd/sysusers.d/haul.conf
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d' systemd/tmpfiles.d/haul.conf
	install -D -m 644 -t '$(DESTDIR)$(MAN)/man1' docs/man/haulctl.1
	install -D -m 644 -t '$(DESTDIR)$(MAN)/man5' docs/man/haul.toml.5
	install -D -m 644 -t '$(DESTDIR)$(MAN)/man8' docs/man/hauld.8
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/haul' config/haul.schema.json docs/api/openrpc.json
	install -D -m 644 -t '$(DESTDIR)$(DOC)' README.md CHANGELOG.md LICENSE
	install -D -m 644 -t '$(DESTDIR)$(DOC)/examples' config/haul.toml
	install -D -m 644 -t '$(DESTDIR)$(DOC)/examples/accounts.d' config/accounts.d/*.toml
	test -e '$(SAMPLE)' || install -m 644 config/haul.toml '$(SAMPLE)'

HAULCTL := '$(HAUL_PYTHON)' -c 'from haulctl.cli import main; main()'
install-completions:
	install -d $(foreach file,$(COMPLETIONS),'$(DESTDIR)$(dir $(file))')
	$(PUT) $(HAULCTL) completion bash > '$(DESTDIR)$(word 1,$(COMPLETIONS))'
	$(PUT) $(HAULCTL) completion zsh > '$(DESTDIR)$(word 2,$(COMPLETIONS))'
	$(PUT) $(HAULCTL) completion fish > '$(DESTDIR)$(word 3,$(COMPLETIONS))'

# Directories go only where they are haul's own.
uninstall:
	rm -f '$(DESTDIR)$(PREFIX)'/bin/{hauld,haulctl}
	rm -f '$(DESTDIR)$(PREFIX)'/lib/systemd/{system,user}/hauld.{service,socket}
	rm -f '$(DESTDIR)$(PREFIX)'/lib/{sysusers.d,tmpfiles.d}/haul.conf
	rm -f '$(DESTDIR)$(MAN)'/{man1/haulctl.1,man5/haul.toml.5,man8/hauld.8}
	rm -f $(foreach file,$(COMPLETIONS),'$(DESTDIR)$(file)')
	rm -rf '$(DESTDIR)$(PROGRAMS)' '$(DESTDIR)$(PREFIX)/share/haul' '$(DESTDIR)$(DOC)'
	@echo 'Left as they are: $(SYSCONFDIR)/haul, /var/lib/haul, the user haul, and a hauld that still runs.'

# Everything that is installed, as one package. What its environment is made of comes from where `make install` takes it.
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
deb:
	rm -rf build/deb
	$(MAKE) --no-print-directory install-programs install-data install-completions \
		DESTDIR='$(CURDIR)/build/deb' PREFIX=/usr SYSCONFDIR=/etc PYTHON=/usr/bin/python3
	packaging/debian/build build/deb '$(VERSION)' dist

# Two versions of it, because an upgrade needs another.
deb-test: .venv/test.stamp dovecot systemd deb
	packaging/debian/build build/deb '$(VERSION)+next' dist
	HAUL_PACKAGE='$(VERSION)' .venv/bin/pytest -q -n 0 tests/systemd/test_package.py

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml constraints.txt | .venv/bin/python
	.venv/bin/pip install --quiet --use-pep517 --editable '.[demo]'
	@touch $@

.venv/test.stamp: pyproject.toml constraints.txt .venv/demo.stamp
	.venv/bin/pip install --quiet --use-pep517 --editable '.[demo,test]'
	@touch $@
