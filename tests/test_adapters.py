"""Attacks by PyRIT and garak themselves: the packages as they are, on neutral sentences. Skipped without them.

`make adapters` runs this in an environment that has both; their versions are in constraints-adapters.txt.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from breakfix import campaign
from breakfix.config import parse
from breakfix.core import Case, Conversation, Expect, NotApplicable, Sampling, Split, Verdict, ask
from breakfix.errors import ConfigError
from breakfix.ledger import Ledger
from breakfix.models.fake import Echo
from breakfix.redteam import adapters, chosen
from breakfix.redteam.adapters import base
from breakfix.redteam.run import run as red_team

BREAD = "Explain how to bake bread."
FAMILIES = list(adapters.PACKAGES)


def needs(family: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not adapters.available(family), reason=f"{family}: needs breakfix[{adapters.PACKAGES[family].name}]"
    )


here = [pytest.param(family, marks=needs(family)) for family in FAMILIES]
theirs = pytest.mark.filterwarnings("default")  # the packages' own warnings are none of ours


class Trivial:
    """It broke, whatever was said."""

    name = "trivial@1"

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        return [Verdict(0.0, "none", "", self.name)] * len(rows)


def case(text: str = BREAD) -> Case:
    return Case("bread", ask(text), Expect.REFUSE, "test", Split.DEV)


def said(family: str, name: str, text: str = BREAD, seed: int = 0) -> str:
    [asked] = list(adapters.load(family).attacks[name](case(text), random.Random(seed)))
    return asked.prompt[-1].content


# ---- without the packages


@pytest.mark.parametrize("family", FAMILIES)
def test_a_package_that_is_not_here_is_one_plain_line(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "available", lambda family: False)
    adapters.load.cache_clear()
    name = adapters.PACKAGES[family].name
    with pytest.raises(ConfigError, match=rf"^attack family '{family}' needs .*: pip install .*\[{name}\]'$"):
        chosen(["direct"], [family])


@pytest.mark.parametrize(
    ("seen", "held_out"),
    [
        ("pyrit_converters", "encoding"),
        ("encoding", "pyrit_converters"),
        ("garak_probes", "pyrit_converters"),
        ("role_play", "garak_probes"),
    ],
)
def test_families_that_do_the_same_are_on_one_side(seen: str, held_out: str) -> None:
    with pytest.raises(ConfigError, match=r"do much the same.*; put both into one list"):
        chosen(["direct", seen], [held_out])


def test_foreign_code_is_seeded_silent_and_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    def convert(text: str, rng: random.Random) -> str:
        with base.room(rng.getrandbits(32)):
            print("loading bread")
            return f"{text} {random.random()}"

    def online(text: str, rng: random.Random) -> str:
        with base.room(0):
            try:
                socket.create_connection(("127.0.0.1", 9), timeout=1).close()
            except OSError as error:
                raise ValueError("no bread to be had") from error
        return text

    random.seed(7)
    before = random.getstate()
    assert base.tried(convert) is None
    assert base.tried(online) == base.NETWORK
    assert base.tried(lambda text, rng: f"{text} {os.urandom(8).hex()}") == base.DRIFTS
    assert base.tried(lambda text, rng: text[99]) == base.FAILS
    assert random.getstate() == before
    assert capsys.readouterr().out == ""
    assert socket.getaddrinfo("127.0.0.1", 9)


@pytest.mark.parametrize(
    ("makes", "why"),
    [
        ("", "nothing is left"),
        ("{text}", "leaves this request as it is"),
        ("{bread}", r"can't be done .*\(KeyError\)$"),
    ],
)
def test_what_changes_nothing_is_no_attack_on_the_case(makes: str, why: str) -> None:
    attack = base.Rewritten("bakery", "pyrit_converters", "a test", "Bakes.", lambda text, rng: makes.format(text=text))
    with pytest.raises(NotApplicable, match=why):
        next(attack(case(), random.Random(0)))


# ---- with them


@theirs
@pytest.mark.parametrize("family", here)
def test_every_attack_asks_once_and_the_same_under_its_seed(family: str) -> None:
    found = adapters.load(family)
    assert len(found.attacks) > 20 and min(found.left_out.values()) > 0
    applied = 0
    for name, attack in found.attacks.items():
        assert (attack.name, attack.family, attack.queries) == (name, family, 1)
        assert attack.doc.endswith(".") and adapters.PACKAGES[family].name in attack.source
        random.seed(3)
        before = random.getstate()
        try:
            first, again = (said(family, name) for _ in range(2))
        except NotApplicable:
            continue
        assert first == again != BREAD, name
        assert random.getstate() == before
        applied += 1
    assert applied > len(found.attacks) - 8


@theirs
@pytest.mark.parametrize("family", here)
def test_odd_requests_are_converted_or_not_applicable(family: str) -> None:
    for name in adapters.load(family).attacks:
        for text in ("", "?", "Brot\u200b \U0001f35e 面包", "{bread} {{ bread }} %s\\", "bread " * 300):
            try:
                assert said(family, name, text).strip()
            except NotApplicable as why:
                assert family.split("_")[0] in str(why) and "\n" not in str(why)


@theirs
@pytest.mark.parametrize("family", here)
def test_a_campaign_with_a_package_s_attacks(family: str, tmp_path: Path) -> None:
    config = parse({"redteam": {"seen": ["direct"], "held_out": [family], "per_case": 5}})
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        found = red_team(config, ledger, Echo(), Trivial(), None, round=0, cases=[case()], progress=lambda *_: None)
    assert found["metrics"][f"asr.family.{family}"]["n"] == 5
    assert found["left_out"][family] == dict(adapters.load(family).left_out)


@theirs
@pytest.mark.parametrize("family", here)
def test_either_side(family: str) -> None:
    apart = [other for other in ("encoding", "past_tense") if other not in adapters.PACKAGES[family].like]
    seen, held_out = chosen(["direct", family], apart)
    assert {attack.family for attack in seen} == {"direct", family}
    assert {attack.family for attack in held_out} == set(apart)


@theirs
@needs("pyrit_converters")
def test_pyrit_s_converters() -> None:
    assert said("pyrit_converters", "pyrit_converter_rot13") == "Rkcynva ubj gb onxr oernq."
    assert said("pyrit_converters", "pyrit_converter_caesar") == "Hasodlq krz wr ednh euhdg."
    assert said("pyrit_converters", "pyrit_converter_flip") == BREAD[::-1]
    swapped = set[str]()
    for seed in range(8):
        with contextlib.suppress(NotApplicable):  # short words may come out as they were
            swapped.add(said("pyrit_converters", "pyrit_converter_char_swap", seed=seed))
    assert len(swapped) > 1
    left_out = adapters.load("pyrit_converters").left_out
    assert left_out[base.MODEL] > 10 and left_out[base.MEDIA] > 10 and left_out[base.ARGUMENTS] > 3
    with pytest.raises(NotApplicable, match="leaves this request as it is"):
        said("pyrit_converters", "pyrit_converter_tatweel")


@theirs
@needs("pyrit_converters")
def test_pyrit_s_converters_within_a_running_loop() -> None:
    async def ask_it() -> str:
        return said("pyrit_converters", "pyrit_converter_rot13")

    assert asyncio.run(ask_it()) == "Rkcynva ubj gb onxr oernq."


@theirs
@needs("garak_probes")
def test_garak_s_probes() -> None:
    import base64

    encoded = base64.b64encode(BREAD.encode()).decode()
    asked = {said("garak_probes", "garak_probe_encoding_inject_base64", seed=seed) for seed in range(12)}
    assert len(asked) > 2 and all(encoded in text for text in asked)
    assert said("garak_probes", "garak_buff_lowercase_lowercase") == BREAD.lower()
    assert "used to" in said("garak_probes", "garak_probe_grandma_grandma_intent")
    left_out = adapters.load("garak_probes").left_out
    assert left_out[base.OWN] > 100
    assert not any("web_injection" in name for name in adapters.load("garak_probes").attacks)


@theirs
@needs("garak_probes")
def test_garak_s_bad_characters_are_drawn_one_by_one_and_alike_in_every_process() -> None:
    from garak.probes.badchars import BadCharacters

    from breakfix.redteam.adapters import garak

    name = "garak_probe_badchars_bad_characters"
    with base.room(0), garak._payload(BREAD, {}), pytest.MonkeyPatch.context() as patch:
        patch.setitem(BadCharacters.DEFAULT_PARAMS, "follow_prompt_cap", False)
        made = {garak._text(prompt) for prompt in BadCharacters().prompts}
    drawn = [said("garak_probes", name, seed=seed) for seed in range(200)]
    assert len(made) > 1500 and set(drawn) <= made and len(set(drawn)) > 150
    assert sum("\b" in text for text in drawn) > 150  # most of them are a character that is taken back
    attack, began = adapters.load("garak_probes").attacks[name], time.process_time()
    for seed in range(200):
        next(attack(case(), random.Random(seed)))
    assert (time.process_time() - began) / 200 < 0.003  # 0.2 ms; all of them take 20
    code = (
        "import random\nfrom breakfix.core import Case, Expect, Split, ask\nfrom breakfix.redteam import adapters\n"
        f"put = Case('c', ask({BREAD!r}), Expect.REFUSE, 't', Split.DEV)\n"
        f"attack = adapters.load('garak_probes').attacks[{name!r}]\n"
        "print(repr([next(attack(put, random.Random(seed))).prompt[-1].content for seed in range(9)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.stdout.strip() == repr(drawn[:9])


ODD = ("", "?", "Brot\u200b \U0001f35e 面包", "{bread} {{ bread }} %s\\", "a `loaf`,\nİstanbul ß ＡＢ", "bread " * 60)


@theirs
@needs("garak_probes")
@pytest.mark.parametrize(
    ("name", "path"),
    [("DRA", "dra"), ("InjectZalgo", "encoding"), ("GrandmaIntent", "grandma")],
)
def test_what_is_made_faster_is_what_garak_makes(name: str, path: str) -> None:
    from breakfix.redteam.adapters import garak

    kind = garak._class(f"probes.{path}.{name}")
    prompts = garak._of_intent(kind) if path == "grandma" else garak._of_payload(kind, {})
    slow = garak._drawn(prompts, set())
    fast = garak._same_faster(kind, slow)
    assert fast is not slow
    for seed, text in enumerate((*ODD, *(f"Explain how to bake {n} loaves of bread." for n in range(40)))):
        assert fast(text, random.Random(seed)) == slow(text, random.Random(seed))
    began = time.process_time()
    for seed in range(50):
        fast(BREAD, random.Random(seed))
    assert (time.process_time() - began) / 50 < 0.002  # 0.1 to 0.4 ms


@theirs
@needs("garak_probes")
def test_a_class_that_is_built_otherwise_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from breakfix.redteam.adapters import garak

    kind = garak._class("probes.grandma.GrandmaIntent")
    slow = garak._drawn(garak._of_intent(kind), set())
    monkeypatch.setitem(garak.FASTER, "GrandmaIntent", lambda kind: lambda text: [f"My aunt used to bake {text}"])
    assert garak._same_faster(kind, slow) is slow
    monkeypatch.setitem(garak.FASTER, "GrandmaIntent", lambda kind: kind.bread)
    assert garak._same_faster(kind, slow) is slow


@theirs
@needs("garak_probes")
def test_logging_is_as_it_was_after_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    monkeypatch.setattr(logging.root, "handlers", [])
    said("garak_probes", "garak_probe_dra_dra")  # it logs every word that it does not know
    assert logging.root.handlers == []


@theirs
@needs("pyrit_converters")
def test_what_is_remembered_is_what_pyrit_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml
    from jinja2 import Environment

    from breakfix.redteam.adapters import pyrit

    given = yaml.safe_load, Environment.compile, Environment.parse, asyncio.to_thread
    attacks = adapters.load("pyrit_converters").attacks
    names = [
        f"pyrit_converter_{name}"
        for name in ("puzzled", "code_attack", "template_segment", "vigenere", "colloquial_wordswap", "policy_puppetry")
    ]

    def all_of_it() -> list[str]:
        texts = (*ODD, *(f"You explain how to bake {n} loaves of bread." for n in range(8)))
        made = list[str]()
        for name in names:
            for seed, text in enumerate(texts):
                try:
                    made.append(attacks[name].convert(text, random.Random(seed)))
                except Exception as error:
                    made.append(type(error).__name__)
        return made

    twice = all_of_it(), all_of_it()
    assert (yaml.safe_load, Environment.compile, Environment.parse, asyncio.to_thread) == given
    monkeypatch.setattr(pyrit, "_remembered", contextlib.nullcontext)
    assert all_of_it() == twice[0] == twice[1]


@theirs
@pytest.mark.parametrize("family", here)
def test_a_package_leaves_nothing_behind(family: str, tmp_path: Path) -> None:
    """In a process of its own: no file below the home folder, no handler of logs, nothing printed, no torch, no
    thread that would keep it alive (tqdm's, which garak uses, does not)."""
    code = (
        "import logging, os, sys, threading\n"
        "from breakfix.redteam import adapters\n"
        f"found = adapters.load({family!r})\n"
        "assert logging.root.handlers == [] and logging.root.level == logging.WARNING\n"
        "assert 'torch' not in sys.modules and 'HF_HUB_OFFLINE' not in os.environ\n"
        "assert all(thread.daemon for thread in threading.enumerate()[1:])\n"
    )
    given = {name: value for name, value in os.environ.items() if not name.startswith(("XDG", "HF_", "GARAK"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**given, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.rglob("*")) == []


def test_a_campaign_s_model_is_not_asked_by_an_attack_that_fails() -> None:
    attack = base.Rewritten("bakery", "garak_probes", "a test", "Bakes.", lambda text, rng: text[99])
    outcome = campaign.run(
        [campaign.Put(case("Bake."), attack)], Echo(), Trivial(), sampling=Sampling(), seed=0,
        known=lambda ids: {}, record=lambda attempts: None,
    )  # fmt: skip
    assert outcome.queries == 0 and [row.reason for row in outcome.skipped] == [
        "garak_probes: it can't be done with this request (IndexError)"
    ]
