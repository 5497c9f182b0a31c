"""The daemon starts fast: what its configuration does not ask for, it does not load."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import hauld
from support.unmeasured import unmeasured

UNUSED = {"hauld.stores.eml", "hauld.demo", "keyring", "rich", "pymap", "email", "importlib.metadata", "unittest", "xml"}


def test_starting_loads_nothing_that_is_not_asked_for() -> None:
    # what measures coverage loads much by itself
    environment = unmeasured()
    script = "import sys, hauld.cli, hauld.app, hauld.logs, hauld.secrets; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment).stdout
    assert not UNUSED & set(printed.split())


def test_the_version_that_is_told_is_the_packages() -> None:
    assert hauld.__version__ == version("hauld")
