"""An OpenAI-compatible chat endpoint on loopback: a real HTTP server, around a function or a real (tiny) model.

    with Endpoint(lambda asked: f"You said {last(asked)}") as endpoint:
        RemoteModel.open(endpoint.url)                        # http://127.0.0.1:PORT/v1#tiny
    with Endpoint(serving(hf_model)) as endpoint: ...         # a `core.Model` answers, one request at a time

What goes wrong is scripted by `faults`: (number of the chat request from 0, its body) → a `Fault`, or None for none.

    Endpoint(answer, faults=lambda n, body: UNAUTHORISED)     # always
    Endpoint(answer, faults=first(2, BROKEN))                 # the first two requests, then all is well
    Endpoint(answer, faults=first(1, busy(retry_after="1")))
    Endpoint(answer, dies_after=5)                            # shut down in the middle of the sixth request

`requests` has every chat request, in order, with its headers; `most` is how many were under way at once.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from breakfix.core import Message, Model, Reply, Role, Sampling

Asked = dict[str, Any]  # the request's JSON: model, messages, max_tokens, temperature, seed ...
# gives the text of a reply; or a `Reply` with its tokens; or the whole JSON of the answer, such as `body(...)`
Answer = Callable[[Asked], str | Reply | dict[str, Any]]
ANSWERED = "You have asked, and I have answered."


@dataclass(frozen=True)
class Fault:
    """What is sent in place of an answer. `wait`: seconds before it, `drip`: between its bytes; `cut`: bytes after
    which the connection is broken off (0: without a word). With `then` the request is answered as if all were well,
    after `wait`."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    wait: float = 0.0
    drip: float = 0.0
    cut: int | None = None
    then: bool = False


Faults = Callable[[int, Asked], Fault | None]


def said(status: int, message: str, code: str | None = None, **headers: str) -> Fault:
    """An error in OpenAI's format. Headers: Retry_After="1"."""
    body = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    return Fault(status, json.dumps(body).encode(), {k.replace("_", "-"): v for k, v in headers.items()})


def busy(retry_after: str | None = None) -> Fault:
    return said(
        429, "Too many requests.", "rate_limit_exceeded", **({"Retry_After": retry_after} if retry_after else {})
    )


def slow(seconds: float) -> Fault:
    """The right answer, too late."""
    return Fault(wait=seconds, then=True)


def body(content: Any = ANSWERED, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """A whole answer; `content` None leaves none."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {"id": "chatcmpl-0", "object": "chat.completion", "model": "tiny", "choices": [choice], "usage": usage}


UNAUTHORISED = said(401, "Incorrect API key provided.", "invalid_api_key")
NO_MODEL = said(404, "The model does not exist.", "model_not_found")
BROKEN = said(500, "Internal server error.")
GARBAGE = Fault(200, b"<html>\xff\xfe It works!</html>")
HALF_JSON = Fault(200, json.dumps(body()).encode()[:60])  # whole as HTTP goes: its length is right
BROKEN_OFF = Fault(200, json.dumps(body()).encode(), cut=60)  # and here the connection breaks
HUNG_UP = Fault(cut=0)
FILTERED = Fault(
    400,
    json.dumps(
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering the content management policy.",
                "code": "content_filter",
                "status": 400,
                "innererror": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": {
                        "hate": {"filtered": False, "severity": "safe"},
                        "jailbreak": {"filtered": True, "detected": True},
                    },
                },
            }
        }
    ).encode(),
)


def first(n: int, fault: Fault) -> Faults:
    return lambda number, body: fault if number < n else None


def always(fault: Fault) -> Faults:
    return lambda number, body: fault


def last(asked: Asked) -> str:
    """The text of the last turn."""
    return asked["messages"][-1]["content"]


def serving(model: Model) -> Answer:
    """An answer by a real model, with the request's own sampling and seed; a last assistant turn is continued."""
    lock = threading.Lock()

    def answer(asked: Asked) -> Reply:
        roles: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
        prompt = tuple(Message(roles[m["role"]], m["content"]) for m in asked["messages"])
        sampling = Sampling(asked.get("max_tokens", 16), asked.get("temperature", 1.0), asked.get("top_p", 1.0))
        with lock:
            [(_, reply)] = model.generate([prompt], sampling, [asked.get("seed", 0)])
        return reply

    return answer


@dataclass(frozen=True)
class Request:
    """A chat request as it came in. Header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: Asked
    at: float  # time.monotonic()


class Endpoint:
    """See above. With a `key`, requests without it get 401. `usage` False: answers don't say what they cost. `wait`:
    seconds that every answer takes."""

    def __init__(
        self,
        answer: Answer = lambda asked: ANSWERED,
        *,
        faults: Faults = lambda number, body: None,
        key: str | None = None,
        model: str = "tiny",
        path: str = "/v1",
        usage: bool = True,
        wait: float = 0.0,
        dies_after: int | None = None,
        port: int = 0,
    ) -> None:
        self.answer, self.faults, self.key, self.model, self.usage = answer, faults, key, model, usage
        self.wait, self.dies_after = wait, dies_after
        self.requests: list[Request] = []
        self.most = 0
        self._under_way = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", port), _Handler, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._closed = False
        self.port = self._server.server_address[1]
        self.base = f"http://127.0.0.1:{self.port}{path}"

    @property
    def url(self) -> str:
        return f"{self.base}#{self.model}"

    def __enter__(self) -> Endpoint:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Shut down at once: no connection is accepted any more, and those that are open break."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    # -- for the handler -------------------------------------------------------------------------------------------

    def came(self, request: Request) -> int:
        with self._lock:
            self.requests.append(request)
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            return len(self.requests) - 1

    def went(self) -> None:
        with self._lock:
            self._under_way -= 1

    def reply(self, request: Request) -> dict[str, Any]:
        found = self.answer(request.body)
        if isinstance(found, dict):
            return found
        if isinstance(found, str):
            words = sum(len(str(m["content"]).split()) for m in request.body["messages"])
            found = Reply(found, words, len(found.split()))
        made = body(found.text, found.finish)
        counts = {"prompt_tokens": found.tokens_in, "completion_tokens": found.tokens_out}
        return {**made, "usage": {**counts, "total_tokens": sum(counts.values())} if self.usage else None}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # who hung up is no error


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.endpoint._lock:
            self.server.endpoint._open.add(self.connection)

    def finish(self) -> None:
        with self.server.endpoint._lock:
            self.server.endpoint._open.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        endpoint = self.server.endpoint
        if not self._known():
            self._send(UNAUTHORISED)
        elif self.path.endswith("/models"):
            self._send_json({"object": "list", "data": [{"id": endpoint.model, "object": "model"}]})
        else:
            self._send(said(404, "Not found."))

    def do_POST(self) -> None:
        endpoint = self.server.endpoint
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, asked, time.monotonic())
        number = endpoint.came(request)
        try:
            if endpoint.dies_after is not None and number >= endpoint.dies_after:
                endpoint.close()
                self.close_connection = True
                return
            self._answer(request, endpoint.faults(number, asked))
        finally:
            endpoint.went()

    def _answer(self, request: Request, fault: Fault | None) -> None:
        if not self._known():
            self._send(UNAUTHORISED)
        elif "/chat/completions" not in self.path:
            self._send(said(404, "Not found."))
        elif fault is not None and not fault.then:
            time.sleep(fault.wait)
            self._send(fault)
        else:
            time.sleep(fault.wait if fault is not None else self.server.endpoint.wait)
            self._send_json(self.server.endpoint.reply(request))

    def _known(self) -> bool:
        key = self.server.endpoint.key
        return key is None or self.headers["Authorization"] == f"Bearer {key}" or self.headers["api-key"] == key

    def _send_json(self, value: Any) -> None:
        self._send(Fault(200, json.dumps(value).encode(), {"Content-Type": "application/json"}))

    def _send(self, fault: Fault) -> None:
        if fault.cut == 0:
            self.close_connection = True
            return
        self.send_response(fault.status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(fault.body)))
        self.end_headers()
        sent = fault.body[: fault.cut]
        for part in [sent[i : i + 1] for i in range(len(sent))] if fault.drip else [sent]:
            self.wfile.write(part)
            self.wfile.flush()
            time.sleep(fault.drip)
        self.close_connection = fault.cut is not None
