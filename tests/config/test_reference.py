"""The pages for man and the JSON Schema: they are the commands' and the configuration's, whole and up to date."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from haulapi.faults import Exit
from hauld.cli import main
from hauld.config import find, known_keys, load
from hauld.reference import manpages, schema
from hauld.reference.sample import topics
from support.configs import write_config

REPOSITORY = Path(__file__).parents[2]
SAMPLE = (REPOSITORY / "config" / "haul.toml").read_text()
SCHEMA = schema.document(SAMPLE)
KEPT = {
    "docs/man/hauld.8": (["hauld.reference.manpages", "hauld"], manpages.hauld()),
    "docs/man/haul.toml.5": (["hauld.reference.manpages", "haul.toml"], manpages.haul_toml(SAMPLE)),
    "config/haul.schema.json": (["hauld.reference.schema"], schema.text(SAMPLE)),
}
PAGES = pytest.mark.parametrize("page", [REPOSITORY / name for name in KEPT if "/man/" in name], ids=lambda page: page.name)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_is_what_is_made(name):
    command, made = KEPT[name]
    assert (REPOSITORY / name).read_text() == made, f"python -m {' '.join(command)} < config/haul.toml > {name}"


@pytest.mark.parametrize("name", KEPT)
def test_the_programs_write_it(name):
    command, made = KEPT[name]
    done = subprocess.run([sys.executable, "-m", *command], input=SAMPLE, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (made, "")


# --- the pages -----------------------------------------------------------------------------------------------------


@PAGES
@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_warn_of(page):
    read = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")


@PAGES
@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_has_nothing_to_complain_of(page):
    read = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
    assert (read.returncode, read.stdout) == (0, "")


def every_command(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from every_command(command)
        else:
            yield command


@pytest.mark.parametrize("command", [*every_command(main)], ids=lambda each: str(each.name))
def test_every_command_and_option_is_in_its_page(command):
    section = re.search(rf"^\.SS (?:\w+ )?{command.name}\n(.*?)(?=^\.S)", manpages.hauld(), re.MULTILINE | re.DOTALL)[1]
    for option in [name for each in command.params if isinstance(each, click.Option) for name in each.opts]:
        assert option.replace("-", r"\-") in section
    assert not re.search("BOOLEAN|RANGE", section), "a flag has no value, and a number is N"
    assert "For example:" in section


def test_every_key_is_in_the_page_of_the_configuration():
    shown = set()
    for heading, section in re.findall(
        r"^\.SH \[([^\n]+)\]\n(.*?)(?=^\.SH)", manpages.haul_toml(SAMPLE), re.MULTILINE | re.DOTALL
    ):
        table = heading.replace("NAME", "*")
        shown |= {f"{table}.{key}" for key in re.findall(r"^\\fB(\w+)\\fR = ", section, re.MULTILINE)}
    # what is in keyring = { } is told with it
    assert shown - {"accounts.*.keyring", "accounts.*.mirror"} == {
        key for key in known_keys() if not key.startswith("accounts.*.keyring.")
    }


def test_the_page_tells_what_the_daemon_can_end_with():
    own = {Exit.UNREACHABLE, Exit.SIGN_IN_REFUSED, Exit.PARTLY_FAILED}  # haulctl's own
    assert set(manpages.EXITS) == set(Exit) - own


def test_the_files_of_the_page_are_those_that_hauld_looks_for(tmp_path):
    told = " ".join(manpages.FILES)
    service = {"STATE_DIRECTORY": "/var/lib/haul", "RUNTIME_DIRECTORY": "/run/haul"}
    own = {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/1000"}
    for environment in (service, own):
        config = load(write_config(tmp_path, ""), environment)
        for path in (find(None, environment, uid=1000), config.daemon.state, config.store.path, config.daemon.socket):
            shown = str(path).replace("/home/me", "~").replace("/run/user/1000", "$XDG_RUNTIME_DIR")
            assert shown in told


def test_nothing_in_a_page_is_taken_for_a_request():
    page = manpages.haul_toml('#[daemon]\n\n# .so it is\n#state = "x"\n')
    assert "\n\\&.so it is\n" in page


# --- the schema ----------------------------------------------------------------------------------------------------


def account() -> dict[str, Any]:
    found: dict[str, Any] = SCHEMA["properties"]["accounts"]["additionalProperties"]
    return found


def test_the_schema_has_every_key_and_no_other():
    tables = {name: table for name, table in SCHEMA["properties"].items() if name != "accounts"}
    properties = account()["properties"]
    tables |= {"accounts.*": account(), "accounts.*.schedule": properties["schedule"]}
    for name in ("keyring", "mirror"):
        tables[f"accounts.*.{name}"] = next(each for each in properties[name]["anyOf"] if each.get("type") == "object")
    shown = {f"{name}.{key}" for name, table in tables.items() for key in table["properties"]}
    assert shown - {f"accounts.*.{name}" for name in ("keyring", "mirror", "schedule")} == set(known_keys())
    assert all(table["additionalProperties"] is False for table in (SCHEMA, *tables.values()))


def test_what_the_sample_shows_fits_the_schema():
    for topic in topics(SAMPLE):
        for key in topic.keys:
            if key.name in manpages.ALONE:
                continue
            *names, last = f"{topic.table}.{key.name}".split(".")
            table = SCHEMA
            for name in names:
                table = table["additionalProperties"] if name == "*" else table["properties"][name]
                table = table["anyOf"][-1] if "anyOf" in table else table
            told, value = table["properties"][last], json.loads(key.written)
            assert told.get("default", value) == value
            assert value in told.get("enum", [value])
            if isinstance(value, str):
                assert re.search(told.get("pattern", ""), value)


DURATIONS = ("90s", "15m", "1h30m", "1d", "0.5s", "s", "1m1h", "1.5h", "15 m")
SIZES = ("25MB", "1.5GiB", "16 MiB", "16  MiB", "512 b", "1k", "none", "x", "")


@pytest.mark.parametrize("form", schema.PATTERNS, ids=lambda form: form.words)
def test_an_editor_and_hauld_agree_on_durations_and_sizes(form):
    for written in DURATIONS + SIZES:
        try:
            form.value(written)
            accepted = True
        except ValueError:
            accepted = False
        assert bool(re.search(schema.PATTERNS[form], written)) == accepted, written


def test_patterns_are_written_as_editors_read_them():
    # JavaScript knows neither \A nor \Z
    assert not re.search(r"\\\\[AZ]", schema.text(SAMPLE))


def test_an_account_needs_a_host_a_user_and_with_tokens_their_command(tmp_path):
    assert set(account()["required"]) == {"host", "user"}
    assert set(account()["if"]["properties"]["auth"]["enum"]) == {"xoauth2", "oauthbearer"}
    assert account()["then"] == {"required": ["token_command"]}
