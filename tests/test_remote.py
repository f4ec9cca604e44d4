"""Remote models: what an address means, what is sent and understood, and real failures of a real server on loopback.

Nothing here waits for long: the model's shortest pause is 10 ms, and time-outs are short.
"""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import endpoint as served
from breakfix import config as configs
from breakfix.config import Config
from breakfix.config import Endpoint as Settings
from breakfix.core import Message, Model, Reply, Sampling, ask
from breakfix.errors import BudgetSpent, ConfigError, ModelError
from breakfix.models import endpoint as addresses
from breakfix.models.open import model_id, open_model
from breakfix.models.remote import RemoteModel
from breakfix.models.remote_gate import LONGEST_PAUSE, Gate
from breakfix.models.spending import Spent
from breakfix.models.wire import FILTERED, Kind, Outcome, asked_wait, failed, refused, request, understand
from endpoint import Endpoint, Fault

CANARY = "canary-5f2e-not-a-real-key-9b41"
BREAD = ask("How is bread baked?")
KEYS = ("choices", "message", "content", "finish_reason", "refusal", "usage", "prompt_tokens", "error", "code",
        "innererror", "content_filter_result", "filtered", "detail", "type")  # fmt: skip
NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def remote(url: str, **settings: Any) -> RemoteModel:
    return RemoteModel.open(url, [Settings(url=url, **settings)], rng=random.Random(0), unit=0.01)


def asked(model: Model, n: int, **sampling: Any) -> list[Reply]:
    """The replies to n different prompts, in order; every index came once."""
    prompts = [ask(f"Name a bread, number {i}.") for i in range(n)]
    found = list(model.generate(prompts, Sampling(**sampling), list(range(n))))
    assert sorted(i for i, _ in found) == list(range(n))
    return [reply for _, reply in sorted(found)]


def errors(replies: list[Reply]) -> list[str]:
    """The reasons; and an error never comes with text."""
    assert all((reply.finish == "error") == (reply.error is not None) for reply in replies)
    assert all(reply.text == "" for reply in replies if reply.error is not None)
    return [reply.error for reply in replies if reply.error is not None]


# ---- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base", "model"),
    [
        ("http://host:8000/v1#tiny", "http://host:8000/v1", "tiny"),
        ("http://HOST:8000/v1/#owner/name-3.1", "http://host:8000/v1", "owner/name-3.1"),
        ("http://host:80#llama3:8b", "http://host/v1", "llama3:8b"),
        ("https://host:443/api/v1/chat/completions#a", "https://host/api/v1", "a"),
        ("https://one.openai.azure.com#gpt", "https://one.openai.azure.com/openai/v1", "gpt"),
        ("http://[::1]:8000#a", "http://[::1]:8000/v1", "a"),
    ],
)
def test_an_address_is_where_and_whom(url: str, base: str, model: str) -> None:
    found = addresses.address(url)
    assert (found.base, found.model) == (base, model)
    assert addresses.identity(found, Settings(url=url)) == f"remote:{base}#{model}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host:8000/v1", "model: http://host:8000/v1 names no model"),
        ("http://#a", "model: the address is not whole; expected one such as http://host:8000/v1#NAME"),
        ("http://host:port/v1#a", "model: not an address"),
        ("http://host:8000/v 1#a", "model: the address at host has characters that no address has"),
        (f"http://me:{CANARY}@host/v1#a", "model: the address at host holds a user's name or password"),
        (f"http://host/v1?api-key={CANARY}#a", "model: the address at host has a part after '?'"),
        (f"http://host/sk-{CANARY}/v1#a", "model: the address at host seems to hold a key"),
    ],
)
def test_an_address_that_is_none_or_holds_a_key_is_refused_without_saying_it(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        addresses.address(url)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
    assert CANARY not in str(error.value)


def test_names_that_are_no_addresses() -> None:
    assert not any(map(addresses.is_remote, ("smollm2-135m-instruct", "owner/model", "/home/me/http", "./https")))
    assert addresses.is_remote("HTTPS://host#a")


def test_the_longest_url_that_fits_says_how_a_model_is_asked() -> None:
    entries = [Settings(url=url) for url in ("http://host:8000", "http://host:8000/v1", "http://host:8000/v1#b")]

    def entry(url: str) -> str:
        return addresses.settings(addresses.address(url), entries).url

    assert entry("http://host:8000/v1#a") == "http://host:8000/v1"
    assert entry("http://host:8000/v1#b") == "http://host:8000/v1#b"
    assert entry("http://host:8000/v2#b") == "http://host:8000"
    assert entry("http://host:80001/v1#b".replace("80001", "8001")) == "http://host:8001/v1"  # none: the defaults
    assert entry("http://host:8000/v11#b") == "http://host:8000"


def test_what_the_config_adds_to_requests_is_part_of_who_answers() -> None:
    name = "http://host/v1#a"
    thinking = Config(endpoints=(Settings(url=name, body={"think": True}), Settings(url="http://other")))
    assert model_id(name, Config()) == "remote:http://host/v1#a"
    assert re.fullmatch(r"remote:http://host/v1#a\+[0-9a-f]{8}", model_id(name, thinking))


def test_azure_by_its_resource_alone() -> None:
    where = addresses.address("https://one.openai.azure.com#gpt 4")
    old = Settings(url="https://one.openai.azure.com", api_version="2024-10-21")
    base = "https://one.openai.azure.com/openai"
    assert addresses.chat_url(where, old) == f"{base}/deployments/gpt%204/chat/completions?api-version=2024-10-21"
    assert addresses.chat_url(where, Settings(url="x")) == f"{base}/v1/chat/completions"
    given = addresses.address(f"{base}/deployments/mine#gpt")
    assert addresses.chat_url(given, old) == f"{base}/deployments/mine/chat/completions?api-version=2024-10-21"


def test_settings_that_breakfix_makes_itself_and_headers_that_are_none_are_refused() -> None:
    for settings, said in (
        ({"body": {"messages": []}}, "sets 'messages', which breakfix sets"),
        ({"headers": {"X Team:": "TEAM"}}, "'X Team:' is not a header's name"),
        ({"api_key_env": "NOT_THERE"}, "is 'NOT_THERE', which the environment does not have; export NOT_THERE"),
        ({"headers": {"X-Team": "NOT_THERE"}}, "headers.X-Team of http://host/v1 is 'NOT_THERE'"),
    ):
        with pytest.raises(ConfigError) as error:
            open_model("http://host/v1#a", Config(endpoints=(Settings(url="http://host", **settings),)))
        assert said in str(error.value)


@pytest.mark.parametrize("settings", [{"api_key_env": CANARY}, {"headers": {"X-Key": CANARY.replace("-", "")}}])
def test_a_key_in_place_of_a_variables_name_is_not_said_again(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        open_model("http://host/v1#a", Config(endpoints=(Settings(url="http://host", **settings),)))
    assert "is no name of an environment variable, such as OPENAI_API_KEY" in str(error.value)
    assert "canary" not in str(error.value)


def test_a_cost_needs_prices() -> None:
    with pytest.raises(ConfigError, match=r"endpoints\[0\]: max_cost needs price_in and price_out"):
        configs.parse({"endpoints": [{"url": "http://host", "max_cost": 5}]})


# ---- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "settings", "header"),
    [
        ("https://host/v1#a", {}, "Authorization"),
        ("http://localhost:11434/v1#a", {}, "Authorization"),
        ("http://host/v1#a", {}, None),  # in clear, to who knows whom: only where the config says so
        ("http://host/v1#a", {"api_key_env": "OPENAI_API_KEY"}, "Authorization"),
        ("https://one.openai.azure.com#a", {}, "api-key"),
        ("https://gateway/azure#a", {"api_version": "2024-10-21"}, "api-key"),
        ("https://one.openai.azure.com#a", {"auth": "bearer"}, "Authorization"),
        ("https://host/v1#a", {"auth": "api-key"}, "api-key"),
    ],
)
def test_who_gets_the_key_and_in_which_header(
    url: str, settings: dict[str, Any], header: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    headers = addresses.Secrets(addresses.address(url), Settings(url=url, **settings)).headers()
    value = {"Authorization": f"Bearer {CANARY}", "api-key": CANARY}
    assert headers == ({header: value[header]} if header else {})


def test_a_key_that_can_not_stand_in_a_header_and_one_in_an_address_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, url, said in (
        (f"{CANARY}\nX-Evil: 1", "https://host/v1#a", "OPENAI_API_KEY has characters that can't stand"),
        (f"“{CANARY}”", "https://host/v1#a", "OPENAI_API_KEY has characters"),
        (CANARY, f"https://host/{CANARY}/v1#a", "an address at host holds the value of OPENAI_API_KEY"),
    ):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(ConfigError) as error:
            RemoteModel.open(url)
        assert said in str(error.value)
        assert CANARY not in str(error.value)


# ---- what is sent and understood -----------------------------------------------------------------------------------


def test_a_request() -> None:
    prompt = (Message("system", "Be brief."), *BREAD)
    plain = json.loads(request("tiny", prompt, Sampling(40), 7, Settings(url="x")))
    assert plain == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How is bread baked?"}],
        "max_tokens": 40,
        "temperature": 0.0,
        "seed": 7,
    }
    other = Settings(url="x", length_key="max_completion_tokens", seed=False, body={"think": False})
    found = json.loads(request("tiny", BREAD, Sampling(40, 0.7, 0.9), 7, other))
    assert (found["max_completion_tokens"], found["top_p"], found["think"]) == (40, 0.9, False)
    assert not {"max_tokens", "seed"} & set(found)


def test_a_reply_that_was_begun_is_put_only_where_it_is_continued() -> None:
    begun = (*BREAD, Message("assistant", "First, "))
    assert "can't continue a reply" in (refused(begun, Settings(url="x")) or "")
    able = Settings(url="x", prefill=True)
    assert refused(begun, able) is None
    body = json.loads(request("tiny", begun, Sampling(), None, able))
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
    assert "images" in (refused((Message("user", "What is this?", ("abc",)),), able) or "")
    assert refused((), able) == "there is nothing to ask"


def understood(body: Any, status: int = 200, **headers: str) -> Outcome:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return understand(status, {k.replace("_", "-"): v for k, v in headers.items()}, raw, BREAD, 3, NOW)


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (served.body("Knead it."), Reply("Knead it.", 7, 3, "stop")),
        (served.body("Knead", "length"), Reply("Knead", 7, 3, "length")),
        (served.body("Knead", None), Reply("Knead", 7, 3, "length")),  # of the three tokens that were asked for
        (served.body(""), Reply("", 7, 3, "stop")),  # an empty reply is a reply
        ({**served.body("Yes.", "eos"), "usage": None}, Reply("Yes.", 0, 0, "stop")),
        (served.body(None, refusal="I'd rather not."), Reply("I'd rather not.", 7, 3, "stop")),
    ],
)
def test_a_whole_answer_is_text(body: Any, reply: Reply) -> None:
    assert understood(body).reply == reply


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the answer is not the JSON of a chat completion"),
        (b"<html>It works!</html>", "the answer is not the JSON of a chat completion"),
        (served.GARBAGE.body, "the answer is not the JSON of a chat completion"),
        (served.HALF_JSON.body, "the answer is not the JSON of a chat completion"),
        (b"[" * 100_000, "the answer is not the JSON of a chat completion"),
        (b"[1, 2]", "the answer is not the JSON of a chat completion"),
        ({}, "the answer has no choices"),
        ({"choices": []}, "the answer has no choices"),
        ({"choices": {"0": 1}}, "the answer has no choices"),
        ({"error": {"message": "overloaded"}}, "the answer has no choices: an error instead"),
        ({"choices": [{}]}, "the answer has no text (it ended with no known reason)"),
        (served.body(None), "the answer has no text (it ended with stop)"),
        (served.body([{"type": "text", "text": "Knead"}]), "the answer has no text (it ended with stop)"),
        (served.body(None, "tool_calls", tool_calls=[{}]), "the answer has no text (it ended with tool_calls)"),
        (served.body("Knead", "abort"), "the reply is not whole: it ended with abort"),
        (served.body("Knead", {"a": 1}), "the reply is not whole: it ended with no known reason"),
        (served.body("Kn", "content_filter"), "content filter: the endpoint held back the reply"),
    ],
)
def test_whatever_else_is_an_error_with_its_reason_and_no_text(body: Any, said: str) -> None:
    found = understood(body)
    assert (found.kind, found.reply.text, found.reply.finish, found.reply.error) == ("answered", "", "error", said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner),
    max_leaves=20,
)


@given(body=JSON | st.binary(), status=st.sampled_from((200, 302, 400, 401, 429, 500)), head=st.text(max_size=40))
def test_whatever_a_server_says_is_text_or_an_error(body: Any, status: int, head: str) -> None:
    found = understood(body, status, Retry_After=head).reply
    assert isinstance(found.text, str)
    assert (found.finish == "error") == (found.error is not None)
    assert found.text == "" or (status == 200 and found.error is None)


@pytest.mark.parametrize("count", [None, True, -1, 1.5, "7", 10**12])
def test_tokens_that_are_no_count_are_not_known(count: Any) -> None:
    body = {**served.body(), "usage": {"prompt_tokens": count, "completion_tokens": 3}}
    found = understood(body)
    assert (found.metered, found.reply.tokens_in, found.reply.tokens_out) == (False, 0, 3)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "answered"), (422, "answered"), (401, "denied"), (403, "denied"), (404, "denied"), (302, "denied"),
     (429, "busy"), (503, "busy"), (500, "broken"), (502, "broken"), (504, "broken"), (408, "broken")],
)  # fmt: skip
def test_kinds_of_http_errors(status: int, kind: Kind) -> None:
    found = understood({"error": {"message": "No."}}, status)
    assert (found.kind, found.reply.finish, found.reply.text) == (kind, "error", "")
    assert f"HTTP {status}" in (found.reply.error or "")


def test_who_has_no_money_left_is_not_asked_again() -> None:
    assert understood({"error": {"message": "Quota.", "code": "insufficient_quota"}}, 429).kind == "denied"


def test_a_providers_filter_is_told_apart_from_a_mistake_and_from_a_refusal() -> None:
    found = understood(served.FILTERED.body, 400)
    assert found.reply.error == f"{FILTERED}: the endpoint does not take the prompt (jailbreak)"
    assert found.kind == "answered"
    assert understood({"error": {"message": "max_tokens is too large"}}, 400).reply.error == (
        "HTTP 400: max_tokens is too large"
    )


def test_a_servers_words_are_short_and_on_one_line_and_do_not_quote_what_was_asked() -> None:
    long = understood({"error": {"message": "a\nb\x1b[31m " * 200}}, 400).reply.error or ""
    assert len(long) < 200
    assert long.isprintable()
    quoted = {"error": {"message": "invalid input: 'How is bread baked?' is not allowed", "code": "bad_input"}}
    assert understood(quoted, 400).reply.error == "HTTP 400: bad_input"
    assert understood({"detail": "Not Found"}, 404).reply.error == "HTTP 404: Not Found"
    assert understood(b"no JSON", 500).reply.error == "HTTP 500"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"Retry-After": "Wed, 25 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Wed, 25 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "1e9"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers, NOW) == seconds


def test_nobody_waits_for_an_hour() -> None:
    found = understood({}, 429, Retry_After="3600")
    assert (found.kind, found.reply.error) == ("denied", "HTTP 429; the endpoint asks to wait 3600 seconds")
    assert understood({}, 503, Retry_After="20").wait == 20.0


# ---- the gate -------------------------------------------------------------------------------------------------------

GOOD = Outcome("answered", Reply("Knead it."), metered=True)


def gate(most: int = 16, retries: int = 6) -> Gate:
    return Gate(most, retries, random.Random(0), unit=1.0)


def test_the_limit_doubles_until_the_first_trouble_then_rises_by_one_per_round() -> None:
    one = gate()
    for expected in (2, 3, 4, 5, 6, 7, 8):
        one.heard(GOOD, sent=0, now=1)
        assert one.limit == expected
    one.heard(failed("busy", "HTTP 429"), sent=1, now=2)
    assert one.limit == 4.0
    for _ in range(4):  # about as many answers as may be under way
        one.heard(GOOD, sent=3, now=4)
    assert 4.9 < one.limit < 5.0
    for _ in range(500):
        one.heard(GOOD, sent=3, now=4)
    assert one.limit == 16


def test_what_was_sent_before_the_limit_was_halved_does_not_halve_it_again() -> None:
    one = gate()
    for _ in range(15):
        one.heard(GOOD, sent=0, now=1)
    for _ in range(16):
        one.heard(failed("late", "no answer"), sent=1, now=10)
    assert one.limit == 8.0
    one.heard(failed("late", "no answer"), sent=11, now=20)
    assert one.limit == 4.0


def test_a_pause_holds_for_all_and_grows_with_failures_in_a_row() -> None:
    one = gate()
    one.heard(failed("busy", "HTTP 429", 7.0), sent=0, now=100)
    assert one.until == 107.0
    one.heard(GOOD, sent=107, now=108)
    pauses = [one.pause(k) for k in range(1, 9)]
    assert all(0.5 * 2**k <= pause <= 2**k for k, pause in enumerate(pauses[:5]))
    assert all(LONGEST_PAUSE / 2 <= pause <= LONGEST_PAUSE for pause in pauses[5:])
    assert len(set(pauses)) == 8


def test_a_row_is_tried_again_so_and_so_often() -> None:
    one = gate(retries=2)
    broken = failed("broken", "HTTP 500")
    assert one.again(GOOD, tries=1, now=0) is None
    assert one.again(failed("denied", "HTTP 401"), tries=1, now=0) is None
    assert 0.5 <= (one.again(broken, tries=1, now=0) or 0) <= 1
    assert 1.0 <= (one.again(broken, tries=2, now=0) or 0) <= 2
    assert one.again(broken, tries=3, now=0) is None
    assert one.again(failed("busy", "HTTP 429"), tries=1, now=50) == 0.0  # `until` says when
    assert one.closed is None


def test_the_first_denial_closes_and_later_only_three_in_a_row() -> None:
    denied = failed("denied", "HTTP 403")
    one = gate()
    one.heard(denied, sent=0, now=1)
    assert one.closed == "HTTP 403"
    other = gate()
    other.heard(GOOD, sent=0, now=1)
    for _ in range(2):
        other.heard(denied, sent=1, now=2)
    other.heard(GOOD, sent=2, now=3)
    for _ in range(3):
        assert other.closed is None
        other.heard(denied, sent=3, now=4)
    assert other.closed == "HTTP 403"


def test_a_closed_gate_is_tried_with_one_request_and_an_answer_opens_it() -> None:
    one, gone = gate(retries=6), failed("away", "connection refused")
    for k in range(7):
        assert one.closed is None
        one.heard(gone, sent=100 * k + 50, now=100 * k + 51)
    assert one.closed == "connection refused"
    one.reopen()
    assert (one.closed, one.limit, one.until) == (None, 1.0, 0.0)
    one.heard(gone, sent=900, now=901)
    assert one.closed == "connection refused"
    one.reopen()
    one.heard(GOOD, sent=902, now=903)
    one.heard(gone, sent=904, now=905)
    assert one.closed is None


def test_three_rows_that_broke_the_server_close_the_gate() -> None:
    one, broken = gate(retries=0), failed("broken", "HTTP 500")
    for _ in range(2):
        assert one.again(broken, tries=1, now=0) is None
        assert one.closed is None
    one.again(broken, tries=1, now=0)
    assert one.closed == "HTTP 500"


# ---- a real server --------------------------------------------------------------------------------------------------


def test_every_prompt_is_asked_once_with_its_seed_and_answered_by_its_own_reply() -> None:
    with Endpoint(lambda body: served.last(body) + f" {body['seed']}") as server:
        replies = asked(remote(server.url), 40, max_new_tokens=9)
    assert [reply.text for reply in replies] == [f"Name a bread, number {i}. {i}" for i in range(40)]
    assert all((reply.tokens_in, reply.tokens_out) == (5, 6) for reply in replies)
    assert len(server.requests) == 40
    assert {request.path for request in server.requests} == {"/v1/chat/completions"}
    assert {request.body["max_tokens"] for request in server.requests} == {9}


def test_requests_are_under_way_at_once_and_never_more_than_allowed() -> None:
    with Endpoint(wait=0.03) as server:
        model = remote(server.url, concurrency=6)
        asked(model, 40)
    assert 4 <= server.most <= 6
    assert model.gate.limit == 6


def test_a_server_that_takes_three_at_once_is_asked_no_more_for_long() -> None:
    """It refuses what is too much; nothing is lost, and the limit stays about there."""
    under_way, lock = 0, threading.Lock()
    refusals = 0

    def faults(number: int, body: served.Asked) -> Fault | None:
        nonlocal under_way, refusals
        with lock:
            if under_way >= 3:
                refusals += 1
                return served.busy()
            under_way += 1
            return None

    def answer(body: served.Asked) -> str:
        nonlocal under_way
        time.sleep(0.02)
        with lock:
            under_way -= 1
        return served.ANSWERED

    with Endpoint(answer, faults=faults) as server:
        model = remote(server.url, concurrency=16, retries=20)
        replies = asked(model, 120)  # enough to settle, also on a busy machine
    assert errors(replies) == []
    assert model.gate.limit < 8
    assert refusals < 120


@pytest.mark.parametrize("fault", [served.BROKEN, served.busy(), served.HUNG_UP, served.BROKEN_OFF])
def test_what_passes_is_tried_again(fault: Fault) -> None:
    with Endpoint(faults=served.first(2, fault)) as server:
        replies = asked(remote(server.url), 8)
    assert errors(replies) == []
    assert len(server.requests) == 10


def test_retry_after_is_waited_for_by_all() -> None:
    with Endpoint(faults=served.first(1, served.busy("1"))) as server:
        asked(remote(server.url), 6)
    first, *others = [request.at for request in server.requests]
    assert min(others) - first >= 1.0


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (served.UNAUTHORISED, "HTTP 401: Incorrect API key provided."),
        (served.said(403, "Not for you."), "HTTP 403: Not for you."),
        (served.NO_MODEL, "HTTP 404: The model does not exist."),
        (Fault(307, headers={"Location": "http://127.0.0.1:9/v1"}), "HTTP 307: the endpoint is elsewhere"),
    ],
)
def test_where_nobody_is_let_in_one_request_is_enough(fault: Fault, said: str) -> None:
    with Endpoint(faults=served.always(fault)) as server:
        model = remote(server.url)
        replies = asked(model, 30)
        assert len(server.requests) == 1
        asked(model, 30)  # a later call looks again, with one request
        assert len(server.requests) == 2
    reasons = errors(replies)
    assert len(reasons) == 30
    assert sum(reason.startswith("not sent: ") for reason in reasons) == 29
    assert all(said in reason for reason in reasons)


def test_an_endpoint_that_lets_us_in_again_is_asked_again() -> None:
    with Endpoint(faults=served.first(1, served.UNAUTHORISED)) as server:
        model = remote(server.url)
        assert len(errors(asked(model, 5))) == 5
        assert errors(asked(model, 5)) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (served.GARBAGE, "the answer is not the JSON of a chat completion"),
        (served.HALF_JSON, "the answer is not the JSON of a chat completion"),
        (Fault(200, json.dumps({"choices": []}).encode()), "the answer has no choices"),
        (Fault(200, json.dumps(served.body("It", "content_filter")).encode()), FILTERED),
        (served.FILTERED, FILTERED),
        (Fault(200, b" " * (5 * 2**20)), "the answer is longer than 4194304 bytes"),
        (Fault(200, b"no gzip", {"Content-Encoding": "gzip"}), "the answer can't be read (DecodingError)"),
    ],
)
def test_an_answer_that_is_none_is_an_error_of_its_row_alone(fault: Fault, said: str) -> None:
    """And it is not asked again: it has been paid for."""
    with Endpoint(faults=lambda n, body: fault if "number 3." in served.last(body) else None) as server:
        replies = asked(remote(server.url), 6)
    assert [reply.error is not None for reply in replies] == [False, False, False, True, False, False]
    assert said in errors(replies)[0]
    assert len(server.requests) == 6


def test_a_row_that_is_late_is_asked_again_and_one_that_is_always_late_fails_alone() -> None:
    late = served.slow(0.6)
    with Endpoint(faults=lambda n, body: late if n == 2 or "number 4." in served.last(body) else None) as server:
        replies = asked(remote(server.url, timeout=0.3, retries=2), 8)
    assert [i for i, reply in enumerate(replies) if reply.error is not None] == [4]
    assert "no answer within 0.3 seconds" in errors(replies)[0]


@pytest.mark.parametrize("fault", [served.slow(1.0), Fault(200, b"x" * 100, drip=0.05)])
def test_an_endpoint_that_never_answers_in_time_is_given_up(fault: Fault) -> None:
    """Also one that always says a little more."""
    with Endpoint(faults=served.always(fault)) as server:
        began = time.monotonic()
        replies = asked(remote(server.url, timeout=0.2, retries=2), 50)
    assert len(errors(replies)) == 50
    assert len(server.requests) <= 5
    assert time.monotonic() - began < 5


def test_a_server_that_is_not_there() -> None:
    with Endpoint() as server:
        pass
    replies = asked(remote(server.url, retries=2), 12)
    assert len(errors(replies)) == 12
    assert all(reason.endswith("connection refused") for reason in errors(replies))
    assert any("can't be reached" in reason for reason in errors(asked(remote("http://no.such.host.invalid#a"), 2)))


def test_a_server_that_is_shut_down_mid_run_and_comes_back() -> None:
    """What was answered stays; the rest are errors; the next call works as soon as the server does."""
    with Endpoint(dies_after=9) as server:
        model = remote(server.url, retries=3)
        replies = asked(model, 30)
    assert 1 <= sum(reply.error is None for reply in replies) <= 9
    assert {reply.text for reply in replies} == {served.ANSWERED, ""}
    with Endpoint(port=server.port):
        assert errors(asked(model, 10)) == []


def test_a_server_that_comes_back_while_rows_are_tried_again_loses_none() -> None:
    with Endpoint(dies_after=5) as server:
        model = RemoteModel.open(server.url, [Settings(url=server.url)], unit=0.2)
        back: list[Endpoint] = []

        def restart() -> None:
            time.sleep(0.5)
            back.append(Endpoint(port=server.port).__enter__())

        thread = threading.Thread(target=restart)
        thread.start()
        replies = asked(model, 20)
        thread.join()
        back[0].close()
    assert errors(replies) == []


def test_a_reply_that_was_begun() -> None:
    begun = (*BREAD, Message("assistant", "First, "))
    with Endpoint() as server:
        [reply, other] = [reply for _, reply in sorted(remote(server.url).generate([begun, BREAD], Sampling()))]
        assert "can't continue a reply" in (reply.error or "")
        assert other.error is None
        assert len(server.requests) == 1
        [(_, reply)] = remote(server.url, prefill=True).generate([begun], Sampling())
        assert reply.error is None
        assert server.requests[1].body["continue_final_message"] is True


def test_it_can_not_score() -> None:
    with pytest.raises(ModelError, match="can't score given texts"):
        remote("http://host/v1#a").score([(BREAD, "Knead it.")])


def test_who_stops_listening_ends_what_is_under_way_at_once() -> None:
    with Endpoint(faults=lambda n, body: served.slow(5.0) if n else None) as server:
        model = remote(server.url)
        replies = model.generate([BREAD] * 20, Sampling())
        next(replies)
        while len(server.requests) < 2:
            time.sleep(0.01)
        began = time.monotonic()
        replies.close()  # type: ignore[attr-defined]
        assert time.monotonic() - began < 1.0
        sent = len(server.requests)
        time.sleep(0.1)
        assert len(server.requests) == sent
    assert not [thread for thread in threading.enumerate() if thread.name == "breakfix-remote"]


def test_an_interrupt_ends_what_is_under_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Endpoint(faults=served.always(served.slow(5.0))) as server:
        model = remote(server.url)
        waiting = model.change.wait

        def wait(timeout: float | None = None) -> bool:
            if threading.current_thread() is threading.main_thread() and server.requests:
                raise KeyboardInterrupt
            return waiting(timeout)

        monkeypatch.setattr(model.change, "wait", wait)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(model.generate([BREAD] * 20, Sampling()))
        assert time.monotonic() - began < 2.0
        assert len(server.requests) == 1


def test_a_model_may_be_asked_while_it_is_asked() -> None:
    """The target may be its own judge: replies of one call are taken while another is under way."""
    with Endpoint(lambda body: served.last(body), wait=0.005) as server:
        model = remote(server.url, concurrency=4)
        inner = 0
        for _, reply in model.generate([ask(f"Loaf {i}") for i in range(30)], Sampling()):
            [(_, again)] = model.generate([ask(f"{reply.text}?")], Sampling())
            inner += again.text == f"{reply.text}?"
        assert inner == 30
        assert server.most <= 4


def test_replies_run_ahead_of_who_takes_them_by_few() -> None:
    """What is not taken yet is lost with the process."""
    with Endpoint() as server:
        model = remote(server.url, concurrency=4)
        replies = model.generate([BREAD] * 200, Sampling())
        next(replies)
        time.sleep(0.5)
        assert len(server.requests) <= 1 + 16 + 2 * 4
        assert len(list(replies)) == 199


# ---- money ----------------------------------------------------------------------------------------------------------


def test_what_was_spent() -> None:
    prices = Settings(url="x", price_in=2.0, price_out=10.0)
    spent = Spent(4, 1_000_000, 100_000)
    assert spent.cost(prices) == 3.0
    assert spent.cost(Settings(url="x")) is None
    assert Spent(4, 10, 10, unmetered=1).cost(prices) is None
    assert Spent.of(spent.record("a", prices)) == spent


def test_a_budget_ends_the_call_after_all_that_was_paid_for(tmp_path: Path) -> None:
    """Each answer costs 5 + 7 tokens: of 100 rows about ten are asked."""
    with Endpoint() as server:
        model = remote(server.url, max_tokens=120)
        found: list[Reply] = []
        with pytest.raises(BudgetSpent) as error:
            found.extend(reply for _, reply in model.generate([ask("Name a bread, number 1.")] * 100, Sampling()))
        assert all(reply.text == served.ANSWERED for reply in found)
        assert 10 <= len(found) <= 10 + 16
        assert len(found) == len(server.requests) == model.spent.requests
        assert re.search(r"\d+ tokens are spent, of max_tokens 120; raise it in `endpoints`", str(error.value))
        with pytest.raises(BudgetSpent):  # and nothing is sent any more
            list(model.generate([BREAD], Sampling()))
        assert len(found) == len(server.requests)


def test_a_budget_in_money() -> None:
    with Endpoint() as server:
        model = remote(server.url, price_in=1000.0, price_out=1000.0, max_cost=0.05)
        with pytest.raises(BudgetSpent, match=r"is spent, of max_cost 0\.05; raise it"):
            list(model.generate([BREAD] * 100, Sampling()))
        assert 5 <= len(server.requests) <= 21


def test_a_budget_can_not_be_kept_where_nobody_says_what_it_costs() -> None:
    with Endpoint(usage=False) as server:
        assert errors(asked(remote(server.url), 3)) == []
        with pytest.raises(BudgetSpent, match="do not say how many tokens they cost"):
            list(remote(server.url, max_tokens=1000).generate([BREAD] * 50, Sampling()))


def test_what_is_spent_is_told_and_taken_up_again() -> None:
    told: list[Any] = []
    with Endpoint() as server:
        model = remote(server.url)
        model.resume({}, told.append)
        asked(model, 40)
        assert told[-1] == {"model": model.id, "requests": 40, "tokens_in": 200, "tokens_out": 280, "unmetered": 0,
                            "cost": None}  # fmt: skip
        assert 2 <= len(told) <= 5
        later = remote(server.url, max_tokens=500)
        later.resume(told[-1], told.append)
        with pytest.raises(BudgetSpent):
            list(later.generate([BREAD] * 50, Sampling()))
        assert told[-1]["requests"] == later.spent.requests < 60


# ---- the key is nowhere ---------------------------------------------------------------------------------------------

FAULTS = {
    "echoes": Fault(200, json.dumps(served.body(f"You sent Bearer {CANARY}")).encode()),
    "quotes": served.said(400, f"bad key {CANARY} in header"),
    "denies": served.said(401, f"Incorrect API key provided: {CANARY}"),
    "late": served.slow(0.5),
    "hung up": served.HUNG_UP,
    "broken off": served.BROKEN_OFF,
    "garbage": served.GARBAGE,
    "unreadable": Fault(200, CANARY.encode(), {"Content-Encoding": "gzip"}),
    "redirects": Fault(302, headers={"Location": f"http://127.0.0.1:9/?{CANARY}"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_key_is_in_no_reply_no_log_and_no_traceback(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever the server does; also where the library's debug log is on, and a traceback shows local variables."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("TEAM", CANARY[::-1])
    shown: list[str] = []

    def locals_of(error: BaseException) -> None:
        shown.append("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))

    def asking(self: RemoteModel, *given: Any) -> Outcome:
        try:
            return plain(self, *given)
        except BaseException as error:
            locals_of(error)
            raise

    plain = RemoteModel.ask
    monkeypatch.setattr(RemoteModel, "ask", asking)
    monkeypatch.setattr(threading, "excepthook", lambda args: locals_of(args.exc_value))
    with caplog.at_level(logging.DEBUG), Endpoint(faults=served.always(FAULTS[name])) as server:
        model = remote(server.url, timeout=0.2, retries=1, headers={"X-Team": "TEAM"})
        replies = asked(model, 3)
        assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
        assert server.requests[0].headers["x-team"] == CANARY[::-1]
        for raises in (lambda: model.score([]), lambda: list(model.generate([BREAD], Sampling(), seeds=[]))):
            with pytest.raises((ModelError, IndexError)) as error:  # the second: a bug of the caller's
                raises()
            locals_of(error.value)
    output = capfd.readouterr()
    seen = [repr(replies), caplog.text, output.out, output.err, repr(vars(model)), repr(model._secrets), *shown]
    seen += [str(vars(record)) for record in caplog.records]
    assert caplog.records or name in ("late", "hung up", "broken off")
    assert len(shown) == 2
    assert not [text for text in seen if CANARY in text or CANARY[::-1] in text]


def test_a_redirect_is_not_followed_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with Endpoint() as other, Endpoint(faults=served.always(Fault(307, headers={"Location": other.base}))) as server:
        assert len(errors(asked(remote(server.url), 3))) == 3
        assert other.requests == []


def test_a_server_that_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with Endpoint(key=CANARY) as server:
        assert len(errors(asked(remote(server.url), 2))) == 2
        monkeypatch.setenv("MINE", CANARY)
        assert errors(asked(remote(server.url, api_key_env="MINE"), 2)) == []
        assert errors(asked(remote(server.url, api_key_env="MINE", auth="api-key"), 2)) == []
