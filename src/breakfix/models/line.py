"""One connection to an endpoint, for one request at a time: bytes there, an HTTP answer or a failure in plain words
back. Whatever goes wrong in the HTTP library ends here: its exceptions hold headers, and so the key, in their frames.

Redirects are not followed. Proxies are taken from the environment, as everywhere, but not within this machine.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from breakfix import __version__
from breakfix.models.endpoint import Secrets
from breakfix.models.wire import Kind

LARGEST = 4 * 2**20  # bytes of an answer
CONNECTING = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    kind: Kind
    why: str


class Line:
    """`timeout`: seconds for a whole answer. `deadline`: when what is under way must be there (monotonic seconds)."""

    def __init__(self, secrets: Secrets, timeout: float, tls: ssl.SSLContext, *, local: bool) -> None:
        self.timeout, self.deadline = timeout, float("inf")
        self._secrets, self._tls, self._local = secrets, tls, local
        self._client: httpx2.Client | None = None
        self._socket: socket.socket | None = None
        self._cut = False

    def ask(self, url: str, body: bytes | None = None) -> Answer | Failure:
        """POST a JSON body, or GET. Never raises."""
        self.deadline = time.monotonic() + self.timeout
        try:
            return self._ask(url, body)
        except httpx2.TimeoutException:
            failure = Failure("late", f"no answer within {self.timeout:g} seconds")
        except httpx2.TransportError as error:
            failure = self._lost(error)
        except Exception as error:  # of the library, or of what it was sent; it is said by its name alone
            failure = Failure("answered", f"the answer can't be read ({type(error).__name__})")
        finally:
            self.deadline = float("inf")
        return failure

    def _ask(self, url: str, body: bytes | None) -> Answer | Failure:
        with self._opened().stream(
            "GET" if body is None else "POST",
            url,
            content=body,
            headers={**({"Content-Type": "application/json"} if body is not None else {}), **self._secrets.headers()},
            extensions={"trace": self._trace},
        ) as response:
            parts, size = list[bytes](), 0
            for part in response.iter_bytes():
                size += len(part)
                if size > LARGEST:
                    return Failure("answered", f"the answer is longer than {LARGEST} bytes")
                if time.monotonic() > self.deadline:
                    return Failure("late", f"the answer was not whole within {self.timeout:g} seconds")
                parts.append(part)
            return Answer(response.status_code, dict(response.headers), b"".join(parts))

    def _opened(self) -> httpx2.Client:
        if self._client is None:
            # its debug log shows headers: not ours, but a server's, which may repeat the key
            logging.getLogger("httpcore2").setLevel(logging.INFO)
            self._client = httpx2.Client(
                verify=self._tls,
                trust_env=not self._local,
                follow_redirects=False,
                timeout=httpx2.Timeout(self.timeout, connect=min(self.timeout, CONNECTING)),
                limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1),
                headers={"User-Agent": f"breakfix/{__version__}"},
            )
        return self._client

    def _lost(self, error: httpx2.TransportError) -> Failure:
        if self._cut:
            return Failure("late", f"the answer was not whole within {self.timeout:g} seconds")
        said = self._secrets.scrub(" ".join(str(error).split()))[:120]
        if "refused" in said.lower():
            return Failure("away", "connection refused")
        if isinstance(error, httpx2.ConnectError):
            return Failure("away", f"it can't be reached ({said})")
        return Failure("away", f"the connection broke ({said or type(error).__name__})")

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Keeps the socket of a new connection, so that `cut` can wake whoever waits on it."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._cut:  # while it was connecting
                self._shut()

    def cut(self) -> None:
        """End what is under way, from another thread."""
        self._cut = True
        self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """After a cut, and once nobody can cut any more: the next request has a connection of its own."""
        if self._cut:
            self.close()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = self._socket = None
        self._cut = False


def tls_context(base: str) -> ssl.SSLContext:
    """One for all lines of an endpoint, since it takes a while to load the certificates; of plain http an empty one."""
    return httpx2.create_ssl_context() if base.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
