"""Lines and their answers: envelopes, parameters, errors in words, batches."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from haulapi import API_VERSION
from haulapi.calls import CALLS
from haulapi.faults import FAULTS
from haulapi.frames import MAX_BATCH, MAX_LINE
from hauld.clock import SystemClock
from hauld.engine.events import EventLog
from hauld.errors import Fatal, HaulError, ItemRejected, NeedsAttention, Refused, StaleCursor, Throttled, Transient
from hauld.rpc.dispatch import Dispatcher, error_object
from hauld.rpc.follow import Follower
from hauld.rpc.routes import Route, routes
from support.door import Answers, item


class StoppedClock(SystemClock):
    """It is noon on the last day of January."""

    def now_ms(self) -> int:
        return 1_769_860_800_000


def all_routes(answers: Answers) -> dict[str, Route]:
    """Those that all connections share, and those that each has for itself: here nobody listens."""
    clock = StoppedClock()
    events = EventLog(answers.told, clock)  # type: ignore[arg-type]
    follower = Follower(events, clock, nobody, lambda: None)
    return {**routes(answers, events), **follower.routes}


async def nobody(_line: bytes) -> bool:
    return False


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def dispatcher(answers: Answers) -> Dispatcher:
    return Dispatcher(all_routes(answers), StoppedClock())


def request(method: str, params: Any = None, /, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "id": 1} | ({} if params is None else {"params": params}) | more


async def ask(dispatcher: Dispatcher, message: Any) -> Any:
    answer = await dispatcher.reply(message)
    return None if answer is None else json.loads(answer)


async def test_every_method_of_the_contract_has_a_route() -> None:
    assert set(all_routes(Answers())) == set(CALLS)


async def test_a_request_is_answered_with_its_id_and_result(dispatcher: Dispatcher) -> None:
    answer = await ask(dispatcher, request("jobs.get", {"job": "k3x9"}, id="seven"))
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == "seven"
    assert answer["result"]["id"] == "job_k3x9q2m4v8zt"
    assert "error" not in answer


async def test_parameters_may_be_left_out_where_there_is_a_default(dispatcher: Dispatcher, answers: Answers) -> None:
    await ask(dispatcher, request("jobs.list"))
    (_, params) = answers.asked[0]
    assert (params.limit, params.status) == (100, None)


@pytest.mark.parametrize(
    ("message", "identity"),
    [
        pytest.param({"method": "jobs.list", "id": 1}, 1, id="no version"),
        pytest.param(request("jobs.list", jsonrpc="1.0"), 1, id="another version"),
        pytest.param(request("jobs.list", jsonrpc=2.0), 1, id="a number as version"),
        pytest.param({"jsonrpc": "2.0", "id": 1}, 1, id="no method"),
        pytest.param({"jsonrpc": "2.0"}, None, id="no method and no id"),
        pytest.param(request("jobs.list", method=7), 1, id="a number as method"),
        pytest.param(request("jobs.list", id=1.5), None, id="a fraction as id"),
        pytest.param(request("jobs.list", id=True), None, id="a truth as id"),
        pytest.param(request("jobs.list", id=[1]), None, id="a list as id"),
        pytest.param(request("jobs.list", id={"a": 1}), None, id="an object as id"),
        pytest.param(request("jobs.list", id=2**80), None, id="an id of more than 64 bits"),
        pytest.param(request("jobs.list", id="x" * 201), None, id="an id that is too long to repeat"),
        pytest.param(7, None, id="a number"),
        pytest.param("jobs.list", None, id="a string"),
        pytest.param(None, None, id="null"),
    ],
)
async def test_C2_what_is_no_request_is_refused(dispatcher: Dispatcher, message: Any, identity: Any) -> None:
    answer = await ask(dispatcher, message)
    assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32600, "invalid_request")
    assert answer["id"] == identity


@pytest.mark.parametrize("method", ["jobs.lst", "job.list", "jobs.lists"])
async def test_C2_an_unknown_method_is_refused_with_the_nearest_that_is_known(dispatcher: Dispatcher, method: str) -> None:
    answer = await ask(dispatcher, request(method))
    assert answer["error"]["code"] == -32601
    assert method in answer["error"]["message"]
    assert "jobs.list" in answer["error"]["data"]["hint"]


@pytest.mark.parametrize(
    "method", ["", "rpc.discover", "__init__", "_asked", "daemon_status", "x" * 100_000, "jobs.list\x1b[31m"]
)
async def test_C2_no_method_but_those_of_the_contract_can_be_reached(dispatcher: Dispatcher, method: str) -> None:
    answer = await ask(dispatcher, request(method))
    assert answer["error"]["code"] == -32601
    assert len(answer["error"]["message"]) < 300


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        pytest.param("jobs.get", None, "job", id="one is missing"),
        pytest.param("jobs.get", {}, "job", id="still missing"),
        pytest.param("jobs.get", {"job": 7}, "job", id="a number for a string"),
        pytest.param("jobs.list", {"limit": "7"}, "limit", id="a string for a number"),
        pytest.param("jobs.list", {"limit": 7.5}, "limit", id="a fraction for a number"),
        pytest.param("jobs.create", {"account": "work", "live": 1}, "live", id="a number for a truth"),
        pytest.param(
            "jobs.create", {"account": "work", "strategy": {"folders": "INBOX"}}, "strategy.folders", id="deep inside"
        ),
        pytest.param("jobs.list", {"statsu": "failed"}, "statsu", id="a misspelt name"),
        pytest.param("jobs.list", ["failed"], "object", id="parameters by position"),
        pytest.param("jobs.list", "failed", "object", id="a string"),
        pytest.param("daemon.status", {"verbose": True}, "verbose", id="one where none is taken"),
    ],
)
async def test_C2_parameters_of_the_wrong_type_are_refused_with_path_and_reason(
    dispatcher: Dispatcher, answers: Answers, method: str, params: Any, words: str
) -> None:
    answer = await ask(dispatcher, request(method, params))
    assert (answer["error"]["code"], answer["error"]["data"]["kind"], answer["id"]) == (-32602, "invalid_params", 1)
    assert words in answer["error"]["message"]
    assert answers.asked == []


async def test_C7_a_notification_is_done_and_not_answered(dispatcher: Dispatcher, answers: Answers) -> None:
    assert await ask(dispatcher, {"jsonrpc": "2.0", "method": "jobs.sync", "params": {"job": "k3x9"}}) is None
    assert [method for method, _ in answers.asked] == ["jobs.sync"]


@pytest.mark.parametrize(
    ("method", "params"), [("jobs.sync", {"job": "nope"}), ("no.such", {}), ("jobs.sync", {"jobb": 1}), ("jobs.list", {})]
)
async def test_C7_a_notification_that_fails_is_not_answered_either(
    dispatcher: Dispatcher, answers: Answers, method: str, params: Any
) -> None:
    def explode(method: str) -> None:
        if method == "jobs.list":
            raise RuntimeError("a bug")

    answers.before_answer = explode
    assert await ask(dispatcher, {"jsonrpc": "2.0", "method": method, "params": params}) is None


async def test_a_batch_is_answered_as_a_batch_without_its_notifications(dispatcher: Dispatcher) -> None:
    answer = await ask(
        dispatcher,
        [request("jobs.list", id=1), {"jsonrpc": "2.0", "method": "jobs.list"}, request("no.such", id=2), 7],
    )
    assert [(each["id"], "error" in each) for each in answer] == [(1, False), (2, True), (None, True)]


async def test_C7_an_empty_batch_and_one_that_is_too_long_are_refused_whole(dispatcher: Dispatcher, answers: Answers) -> None:
    for batch in ([], [request("jobs.list")] * (MAX_BATCH + 1), [1] * 10_000):
        answer = await ask(dispatcher, batch)
        assert answer["error"]["code"] == -32600
        assert str(MAX_BATCH) in answer["error"]["message"]
    assert answers.asked == []
    assert len(await ask(dispatcher, [request("jobs.list")] * MAX_BATCH)) == MAX_BATCH


async def test_C7_a_batch_of_notifications_is_silent(dispatcher: Dispatcher, answers: Answers) -> None:
    assert await ask(dispatcher, [{"jsonrpc": "2.0", "method": "jobs.list"}] * 3) is None
    assert len(answers.asked) == 3


async def test_a_reply_that_no_line_can_hold_is_an_error_that_says_what_to_do(dispatcher: Dispatcher, answers: Answers) -> None:
    answers.items = [item(n, folder="x" * 5_000) for n in range(300)]
    answer = await ask(dispatcher, request("items.list", {"job": "k3x9", "limit": 1000}))
    assert answer["id"] == 1
    assert answer["error"]["data"]["kind"] == "failed"
    assert "limit" in answer["error"]["data"]["hint"]


async def test_replies_that_together_no_line_can_hold_give_way_to_errors_and_the_small_ones_stay(
    dispatcher: Dispatcher, answers: Answers
) -> None:
    answers.items = [item(n, folder="x" * 5_000) for n in range(100)]
    batch = [request("items.list", {"job": "k3x9"}, id=n) for n in range(50)] + [
        request("jobs.get", {"job": "k3x9"}, id="last")
    ]
    line = await dispatcher.reply(batch)
    assert line is not None
    assert len(line) <= MAX_LINE
    answer = json.loads(line)
    assert [each["id"] for each in answer] == [*range(50), "last"]
    assert answer[-1]["result"]["id"] == "job_k3x9q2m4v8zt"
    assert {each["error"]["data"]["kind"] for each in answer[:-1]} == {"failed"}


async def test_C13_a_bug_is_told_in_words_and_logged_with_its_traceback(
    dispatcher: Dispatcher, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(_method: str) -> None:
        raise RuntimeError("the canary is hunter2")

    answers.before_answer = explode
    with caplog.at_level(logging.ERROR, "hauld.rpc"):
        line = await dispatcher.reply(request("jobs.list", id=9))
    assert line is not None
    answer = json.loads(line)
    assert (answer["id"], answer["error"]["code"], answer["error"]["data"]["kind"]) == (9, -32603, "internal")
    assert b"hunter2" not in line
    assert b"Traceback" not in line
    assert "jobs.list" in caplog.text
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Refused("not_found", "There is no job x."), "not_found"),
        (Refused("wrong_state", "It runs."), "wrong_state"),
        (NeedsAttention("sign-in", "Refused."), "sign_in_refused"),
        (NeedsAttention("configuration", "No command."), "configuration"),
        (NeedsAttention("tls", "Wrong certificate."), "failed"),
        (Transient("network", "Gone."), "try_again"),
        (Throttled("Patience.", wait=60), "try_again"),
        (StaleCursor("Another epoch."), "failed"),
        (ItemRejected("folder", "Unreadable."), "failed"),
        (Fatal("disk", "No state.", exit_code=1), "failed"),
    ],
)
def test_each_error_of_the_daemon_has_its_word_on_the_wire(error: HaulError, kind: str) -> None:
    told = error_object(error, StoppedClock())
    assert (told.data.kind, told.code, told.message) == (kind, FAULTS[kind].code, error.message)


def test_hint_candidates_and_the_time_of_the_next_try_are_told() -> None:
    ambiguous = error_object(Refused("ambiguous", "Which?", hint="Say more.", candidates=["job_a1", "job_a2"]), StoppedClock())
    assert (ambiguous.data.hint, ambiguous.data.candidates) == ("Say more.", ["job_a1", "job_a2"])
    throttled = error_object(Throttled("Patience.", wait=90), StoppedClock())
    assert throttled.data.retry_at == "2026-01-31T12:01:30.000Z"
    assert error_object(Transient("network", "Gone."), StoppedClock()).data.retry_at is None


async def test_hello_gives_versions(dispatcher: Dispatcher) -> None:
    answer = await ask(dispatcher, request("daemon.hello", {"version": API_VERSION, "client": "a test"}))
    assert answer["result"]["name"] == "hauld"
    assert answer["result"]["api"] == API_VERSION
    assert (await ask(dispatcher, request("daemon.hello")))["result"] == answer["result"]


@pytest.mark.parametrize("version", ["2.0", "0.9", "10.0", "", "x" * 1000])
async def test_C14_hello_refuses_another_major_version_in_words(dispatcher: Dispatcher, version: str) -> None:
    answer = await ask(dispatcher, request("daemon.hello", {"version": version, "client": "haulctl"}))
    assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32009, "version")
    assert API_VERSION in answer["error"]["message"]
    assert "same release" in answer["error"]["data"]["hint"]


async def test_C14_hello_accepts_another_minor_version(dispatcher: Dispatcher) -> None:
    answer = await ask(dispatcher, request("daemon.hello", {"version": API_VERSION.partition(".")[0] + ".99"}))
    assert "result" in answer
