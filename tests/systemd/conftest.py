"""Fixtures of the tests that need a real systemd. Where none can be had, they skip and say why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from systemd.machine import Machine, NoMachine, booted


@pytest.fixture(scope="session")
def whole_machine() -> Iterator[Machine]:
    """One machine for all tests of a process: it boots once."""
    try:
        with booted() as machine:
            machine.run("systemd-sysusers")
            machine.run("systemd-tmpfiles", "--create", "haul.conf")
            yield machine
    except NoMachine as reason:
        pytest.skip(str(reason))


@pytest.fixture
def machine(whole_machine: Machine) -> Machine:
    """The machine, with haul as it is after its installation."""
    whole_machine.reset()
    return whole_machine
