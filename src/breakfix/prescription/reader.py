"""YAML nodes → a prescription. Every complaint names file and line, what is there, and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from yaml.constructor import SafeConstructor

from breakfix.config import Config
from breakfix.core import Status, Vulnerability, canonical
from breakfix.errors import DataError
from breakfix.prescription.entries import ANY, WORDS, Entry, Prescription, frames, languages, limits

_TOP = ("written", "round", "vulnerabilities", "replay", "fixed", "people")
_ENTRY = ("id", "name", "why", *WORDS, "languages", "wrappers")
_AGAIN = ("id", "name", "rows")
Nodes = dict[str, yaml.Node]


class Reader:
    """`merged`: id → what it was merged into; `own`: what the ledger prescribes."""

    def __init__(
        self,
        file: Path,
        standing: Sequence[Vulnerability],
        merged: Mapping[str, str],
        config: Config,
        own: Prescription,
    ) -> None:
        self.file, self.merged, self.config, self.own = file, merged, config, own
        self.open = {v.id: v for v in standing if v.status is not Status.FIXED}
        self.fixed = {v.id: v for v in standing if v.status is Status.FIXED}
        self.frames = frames(config)

    def prescription(self, node: yaml.Node) -> Prescription:
        """Raises DataError."""
        top, own = self._keys(node, _TOP, "the file"), self.own
        if "round" in top and (round := self._whole(top["round"], "round")) != own.round:
            learns = f"round {own.round + 1} learns by the prescription of round {own.round}"
            raise self._wrong(top["round"], f"round is {round}; expected {own.round}, for {learns}")
        if "vulnerabilities" not in top:
            raise self._wrong(node, "vulnerabilities is missing; expected a list of entries, [] for none")
        nodes = self._items(top["vulnerabilities"], "vulnerabilities")
        entries = [self._entry(one) for one in nodes]
        self._once(nodes, [entry.id for entry in entries])
        for word, most in limits(self.config, own).items():
            total = sum(entry.rows.get(word, 0) for entry in entries)
            if total > most:
                budget = "what a round has (curate), or what the ledger prescribes if that is more"
                raise self._wrong(
                    top["vulnerabilities"], f"{total} {word} rows in all; expected {most} at most: {budget}"
                )
        replay = self._share(top["replay"]) if "replay" in top else own.replay
        again = self._items(top["fixed"], "fixed") if "fixed" in top else []
        rows = [self._again(one) for one in again]
        self._once(again, [id for id, _ in rows])
        return Prescription(own.round, tuple(entries), replay, dict(rows))

    def _entry(self, node: yaml.Node) -> Entry:
        keys = self._keys(node, _ENTRY, "an entry of vulnerabilities")
        v = self._known(keys, node, self.open)
        rows = {word: self._whole(keys[word], f"{v.id}, {word}") for word in WORDS if word in keys}
        for word in ("plain",) if v.hazard else ("harmful", "twins"):
            if rows.get(word):
                takes = "harmful or twins, for it has a hazard" if v.hazard else "plain, for it has no hazard"
                raise self._wrong(keys[word], f"{v.id}, {word}: there are no such rows for it; expected {takes}")
        spoken = self._words(keys["languages"], f"{v.id}, languages") if "languages" in keys else languages(v)
        wrappers = self._wrappers(keys["wrappers"], f"{v.id}, wrappers") if "wrappers" in keys else ()
        return Entry(v.id, {word: n for word, n in rows.items() if n}, spoken, wrappers, _line(node))

    def _wrappers(self, node: yaml.Node, what: str) -> tuple[str, ...]:
        if isinstance(node, yaml.ScalarNode) and node.value == ANY:
            return ()
        known = f"{ANY}, or a list of some of {', '.join(self.frames)}"
        names = self._words(node, what, known)
        if not names:
            raise self._wrong(node, f"{what}: expected {known}, found an empty list")
        for name in names:
            if canonical(name) in self.config.redteam.held_out:
                out = f"{name!r} is held out (redteam.held_out): it is only ever measured"
                raise self._wrong(node, f"{what}: {out}; expected {known}")
            if name not in self.frames:
                raise self._wrong(node, f"{what}: {name!r} is not known; {_near(name, self.frames, known)}")
        return names

    def _again(self, node: yaml.Node) -> tuple[str, int]:
        keys = self._keys(node, _AGAIN, "an entry of fixed")
        v = self._known(keys, node, self.fixed)
        return v.id, self._whole(keys["rows"], f"{v.id}, rows") if "rows" in keys else 0

    def _known(self, keys: Nodes, node: yaml.Node, among: Mapping[str, Vulnerability]) -> Vulnerability:
        if "id" not in keys:
            raise self._wrong(node, "id is missing; expected a vulnerability's, such as V1")
        id, is_open = str(_scalar(keys["id"])), among is self.open
        if id in among:
            return among[id]
        what = f"{id!r} is no vulnerability that is {'open' if is_open else 'fixed'}"
        if id in self.merged:
            raise self._wrong(keys["id"], f"{what}: it was merged into {self.merged[id]}; take it out")
        if id in self.open or id in self.fixed:
            raise self._wrong(keys["id"], f"{what}; it belongs under {'fixed' if is_open else 'vulnerabilities'}")
        there = f"expected one of {', '.join(list(among)[:12])}" if among else "there is none; take it out"
        raise self._wrong(keys["id"], f"{what}; {_near(id, among, there)}")

    def _keys(self, node: yaml.Node, known: Sequence[str], what: str) -> Nodes:
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, f"{what}: expected keys and values ({', '.join(known)}), found {_found(node)}")
        found: Nodes = {}
        for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            if name not in known:
                near = _near(name, known, f"known here: {', '.join(known)}")
                raise self._wrong(key, f"unknown key {_found(key)}; {near}")
            if name in found:
                raise self._wrong(key, f"{name!r} is there twice; take one out")
            found[name] = value
        return found

    def _items(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._wrong(node, f"{what}: expected a list of entries ([] for none), found {_found(node)}")
        return list(cast("list[yaml.Node]", node.value))

    def _words(self, node: yaml.Node, what: str, expected: str = "a list such as [en]; [] is any") -> tuple[str, ...]:
        named = cast("list[yaml.Node]", node.value) if isinstance(node, yaml.SequenceNode) else None
        if named is None or not all(isinstance(one, yaml.ScalarNode) and one.value for one in named):
            raise self._wrong(node, f"{what}: expected {expected}, found {_found(node)}")
        return tuple(dict.fromkeys(str(one.value) for one in named))  # as it stands there: no is Norwegian

    def _whole(self, node: yaml.Node, what: str) -> int:
        value = _scalar(node)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(node, f"{what}: expected a whole number from 0 on, found {_found(node)}")
        return value

    def _share(self, node: yaml.Node) -> float:
        value = _scalar(node)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
            raise self._wrong(node, f"replay: expected a share from 0 to below 1, found {_found(node)}")
        return float(value)

    def _once(self, nodes: Sequence[yaml.Node], ids: Sequence[str]) -> None:
        for i, id in enumerate(ids):
            if id in ids[:i]:
                raise self._wrong(nodes[i], f"{id} is there twice; take one out")

    def _wrong(self, node: yaml.Node, what: str) -> DataError:
        return DataError(f"{self.file}:{_line(node)}: {what}")


def _line(node: yaml.Node) -> int:
    mark: Any = node.start_mark
    return mark.line + 1


def _scalar(node: yaml.Node) -> Any:
    """As YAML reads it; None for what is no single value, or can't be read."""
    try:
        made: Any = SafeConstructor()
        return made.construct_object(node) if isinstance(node, yaml.ScalarNode) else None
    except (yaml.YAMLError, ValueError):
        return None


def _found(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "keys and values"
    if isinstance(node, yaml.SequenceNode):
        return "a list" if node.value else "an empty list"
    text = str(node.value)
    return ("nothing" if not text else repr(text)) if len(text) <= 60 else f"{text[:59]!r}…"


def _near(word: str, known: Collection[str], otherwise: str) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise
