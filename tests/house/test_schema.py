"""The OpenRPC document: it is the contract's, whole, and what it links to is in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from haulapi import API_VERSION
from haulapi.calls import CALLS
from haulapi.faults import FAULTS
from haulapi.schema import document, text

KEPT = Path(__file__).resolve().parents[2] / "docs" / "api" / "openrpc.json"
DOCUMENT = document()


def links(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from links(each)


def method(name: str) -> dict[str, Any]:
    return next(each for each in DOCUMENT["methods"] if each["name"] == name)


def test_the_document_that_is_kept_is_the_one_that_is_made():
    assert KEPT.read_text("utf-8") == text(), "python -m haulapi.schema > docs/api/openrpc.json"


def test_the_program_writes_the_document():
    done = subprocess.run([sys.executable, "-m", "haulapi.schema"], capture_output=True, check=True, timeout=20)
    assert json.loads(done.stdout) == DOCUMENT


def test_it_is_of_the_contract_that_the_daemon_speaks():
    assert DOCUMENT["openrpc"].startswith("1.3.")
    assert DOCUMENT["info"]["version"] == API_VERSION
    assert [each["name"] for each in DOCUMENT["methods"]] == list(CALLS)
    assert {each["code"] for each in DOCUMENT["components"]["errors"].values()} == {fault.code for fault in FAULTS.values()}


def test_every_link_leads_to_something_in_it():
    for link in links(DOCUMENT):
        place: Any = DOCUMENT
        for name in link.removeprefix("#/").split("/"):
            place = place[name]
        assert place


@pytest.mark.parametrize("name", CALLS)
def test_a_method_has_its_parameters_by_name_and_the_required_ones_first(name: str):
    described = method(name)
    assert [each["name"] for each in described["params"]] == sorted(
        CALLS[name].params.__struct_encode_fields__,
        key=lambda field: field not in DOCUMENT["components"]["schemas"][CALLS[name].params.__name__]["required"],
    )
    required = [each["required"] for each in described["params"]]
    assert required == sorted(required, reverse=True)
    assert described["summary"] == CALLS[name].help


def test_a_call_with_two_kinds_of_result_says_both():
    assert {link.rpartition("/")[2] for link in links(method("jobs.create")["result"])} == {"Job", "Preview"}


def test_parameters_that_nobody_knows_are_refused_and_results_may_grow():
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["CreateParams"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["Job"]
    assert "from" in schemas["Strategy"]["properties"]


def test_it_says_what_comes_without_being_asked_for_again():
    assert [each["name"] for each in DOCUMENT["x-notifications"]] == ["event"]
    assert re.search("x-notifications", DOCUMENT["info"]["description"])
