"""How an extra of breakfix is installed, by where breakfix came from."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

import pytest

from breakfix.plugins import extra

CLONE: dict[str, Any] = {"url": "file:///home/me/break%20fix", "dir_info": {"editable": True}}
FOLDER: dict[str, Any] = {"url": "file:///src/breakfix", "dir_info": {}}
COMMIT: dict[str, Any] = {"url": "https://example.org/b.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}}


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (CLONE, "pip install -e '/home/me/break fix[garak]'"),
        (FOLDER, "pip install '/src/breakfix[garak]'"),
        (COMMIT, "pip install 'breakfix[garak] @ git+https://example.org/b.git@abc123'"),
        (None, "pip install 'breakfix[garak]'"),
    ],
)
def test_an_extra_comes_from_where_breakfix_came(
    origin: dict[str, Any] | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if origin is None else json.dumps(origin)

    def installed(name: str) -> Installed:
        assert name == "breakfix"
        return Installed()

    monkeypatch.setattr(importlib.metadata, "distribution", installed)
    assert extra("garak") == command


def test_of_a_breakfix_that_was_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert extra("garak") == "pip install 'breakfix[garak]'"
