"""A remote model's name is its address: http://host:8000/v1#NAME. What that means, and with what it is asked.

The endpoint speaks OpenAI's chat completions: vLLM, Azure OpenAI, Ollama, llama.cpp's server, `transformers serve`. An
address without a path gets the usual one (/v1). Of Azure the resource is enough: https://NAME.openai.azure.com#MODEL,
with `api_version` for its older, deployment-wise paths.

Keys come from the environment alone. An address that holds one is refused, without saying it again. The key of
OPENAI_API_KEY goes out over https, or within this machine; elsewhere only the key that the config names for the
address is sent.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

from breakfix.config import Endpoint
from breakfix.core import digest
from breakfix.errors import ConfigError

LEAST_SECRET = 8  # characters
USUAL_KEY = "OPENAI_API_KEY"
RESERVED = ("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stream", "n")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """`base`: scheme, host, port where it is not the usual one, path; what requests are sent below. `model`: its name
    there, "" in an address that only says where models are."""

    base: str
    model: str

    @property
    def host(self) -> str:
        return urlsplit(self.base).hostname or ""

    @property
    def local(self) -> bool:
        """On this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"{self.base}#{self.model}" if self.model else self.base


def is_remote(name: str) -> bool:
    """Is this model's name an address?"""
    return re.match(r"https?:", name, re.IGNORECASE) is not None


def address(url: str, what: str = "model") -> Address:
    """The address of one model. `what`: the setting that names it. Raises ConfigError in one line, without secrets."""
    found = _address(url, what)
    if not found.model:
        raise ConfigError(f"{what}: {found} names no model; expected an address such as {found}#NAME")
    return found if urlsplit(found.base).path else Address(found.base + _usual_path(found), found.model)


def settings(where: Address, endpoints: Sequence[Endpoint] = ()) -> Endpoint:
    """The settings of the longest `url` that the address begins with; else the defaults. Raises ConfigError."""
    fits: list[tuple[int, Endpoint]] = []
    for i, one in enumerate(endpoints):
        start = _address(one.url, f"endpoints[{i}].url")
        if start.model not in ("", where.model):
            continue
        if where.base == start.base or where.base.startswith(start.base + "/"):
            fits.append((len(str(start)), one))
    return max(fits, key=lambda fit: fit[0])[1] if fits else Endpoint(url=where.base)


def identity(where: Address, endpoint: Endpoint) -> str:
    """Who answers, for the ledger: endpoint and name, and what the config adds to every request. Never a secret.

    Nobody can tell from here whether the server still has the same weights under that name.
    """
    return f"remote:{where}" + (f"+{digest(dict(endpoint.body))[:8]}" if endpoint.body else "")


def chat_url(where: Address, endpoint: Endpoint) -> str:
    """Where chat requests are sent."""
    if endpoint.api_version is None:
        return f"{where.base}/chat/completions"
    deployment = quote(where.model, safe="")
    base = where.base if "/deployments/" in where.base else f"{_azure(where)}/openai/deployments/{deployment}"
    return f"{base}/chat/completions?api-version={quote(endpoint.api_version)}"


class Secrets:
    """The values of an endpoint's key and headers. They are in no attribute that is shown, and in no error."""

    __slots__ = ("_headers", "_values")

    def __init__(self, where: Address, endpoint: Endpoint) -> None:
        """Raises ConfigError where the environment lacks a variable that the config names, or has no use of it.

        The environment is not held in a local variable here: a traceback may be printed with those.
        """
        check_environment(where, endpoint)
        given = {name: os.environ[variable].strip() for name, variable in endpoint.headers.items()}
        variable = key_variable(where, endpoint)
        values = list(given.values())
        if variable is not None:
            key = os.environ[variable].strip()
            values.append(key)
            azure = endpoint.api_version is not None or where.host.endswith(".azure.com")
            if endpoint.auth == "api-key" or (endpoint.auth == "auto" and azure):
                given["api-key"] = key
            else:
                given["Authorization"] = f"Bearer {key}"
        self._headers, self._values = given, sorted(values, key=len, reverse=True)

    def headers(self) -> dict[str, str]:
        return dict(self._headers)

    def scrub(self, text: str) -> str:
        """The text without the values: a server may say back what it was sent. Under 8 characters a value is no secret
        (the keys that local servers ignore, such as "none"), and a word of replies."""
        for value in self._values:
            if len(value) >= LEAST_SECRET:
                text = text.replace(value, "[secret]")
        return text

    def __repr__(self) -> str:
        return "Secrets(…)"


def key_variable(where: Address, endpoint: Endpoint) -> str | None:
    """The environment variable with the key that goes to this address; None where none is sent."""
    if endpoint.api_key_env is not None:
        return endpoint.api_key_env
    safe = where.base.startswith("https:") or where.local
    return USUAL_KEY if safe and os.environ.get(USUAL_KEY, "").strip() else None


def check_environment(where: Address, endpoint: Endpoint) -> None:
    """Are the variables there, with values that can stand in a header, and is none of the values in the address?"""
    named = [("api_key_env", endpoint.api_key_env)] if endpoint.api_key_env is not None else []
    named += [(f"headers.{name}", variable) for name, variable in endpoint.headers.items()]
    for setting, variable in [*named, ("", key_variable(where, endpoint))]:
        if variable is None:
            continue
        if re.fullmatch(r"[A-Za-z_]\w{0,80}", variable, re.ASCII) is None or re.search(r"[a-z]\d|\d[a-z]", variable):
            raise ConfigError(
                f"endpoints: {setting} of {where.base} is no name of an environment variable, such as {USUAL_KEY}; a "
                "key itself belongs into the environment"
            )
        if not os.environ.get(variable, "").strip():
            raise ConfigError(
                f"endpoints: {setting} of {where.base} is {variable!r}, which the environment does not have; "
                f"export {variable}, or take {setting} out"
            )
        if re.fullmatch(r"[!-~](?:[ -~]*[!-~])?", os.environ[variable].strip()) is None:
            raise ConfigError(
                f"the environment's {variable} has characters that can't stand in an HTTP header; export it again, as "
                "it was given to you"
            )
        if len(os.environ[variable].strip()) > 7 and os.environ[variable].strip() in f"{where} {endpoint.url}":
            raise ConfigError(f"an address at {where.host} holds the value of {variable}; leave it to the environment")


def check(url: str, endpoints: Sequence[Endpoint], what: str = "model") -> Endpoint:
    """All that can be known to fail before anything is sent; returns the settings. Raises ConfigError."""
    where = address(url, what)
    endpoint = settings(where, endpoints)
    for name in endpoint.body:
        if name in RESERVED:
            raise ConfigError(f"endpoints: body of {where.base} sets {name!r}, which breakfix sets; take it out")
    for name in endpoint.headers:
        if re.fullmatch(r"[\w-]+", name, re.ASCII) is None:
            raise ConfigError(f"endpoints: headers of {where.base}: {name!r} is not a header's name, such as X-Team")
    check_environment(where, endpoint)
    return endpoint


def _address(url: str, what: str) -> Address:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:  # its words would repeat what was given
        raise ConfigError(f"{what}: not an address; expected one such as http://host:8000/v1#NAME") from None
    at = f"{what}: the address at {parts.hostname}" if parts.hostname else f"{what}: the address"
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ConfigError(f"{at} is not whole; expected one such as http://host:8000/v1#NAME")
    _no_secret(parts, at)
    if re.search(r"[\s\x00-\x1f\x7f\\<>\"{}|^`]", parts.netloc + parts.path) or not parts.fragment.isprintable():
        raise ConfigError(f"{at} has characters that no address has; expected one such as http://host:8000/v1#NAME")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    name = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return Address(f"{parts.scheme}://{name}{path}", parts.fragment)


def _no_secret(parts: SplitResult, at: str) -> None:
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{at} holds a user's name or password; put the key into the environment, and name the variable as "
            "api_key_env in `endpoints`"
        )
    if parts.query:
        raise ConfigError(
            f"{at} has a part after '?', which may hold a key; keys come from the environment (api_key_env in "
            "`endpoints`), and Azure's version is api_version there"
        )
    if re.search(r"\bsk-[\w-]{16,}", f"{parts.path} {parts.fragment}"):
        raise ConfigError(f"{at} seems to hold a key; put it into the environment ({USUAL_KEY}), not into the address")


def _usual_path(where: Address) -> str:
    return "/openai/v1" if where.host.endswith(".openai.azure.com") else "/v1"


def _azure(where: Address) -> str:
    """The resource alone, of an address that got the usual path."""
    return where.base.removesuffix("/v1").removesuffix("/openai")
