"""Ledger → document → terminal, JSON, HTML: a run of two rounds written by hand, and text that wants to do harm."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from rich.console import Console

from breakfix.cli import main
from breakfix.config import Config
from breakfix.core import (
    Attempt,
    Case,
    Dropped,
    Estimate,
    Example,
    Expect,
    Message,
    Split,
    Status,
    Verdict,
    Vulnerability,
    ask,
)
from breakfix.errors import UserError
from breakfix.judges.card import COUNTS, Calibration, Figures, merged
from breakfix.ledger import Ledger
from breakfix.report import build, facts, markdown, page, picture, redacted, render, schema, to_json
from breakfix.report.judges import Cards, corrected, kind
from breakfix.report.plain import one_line, plain
from breakfix.report.views.languages import languages
from breakfix.report.views.matrix import matrix
from breakfix.report.views.vulnerabilities import burn_down, unmeasured, vulnerabilities
from breakfix.report.weaknesses import means
from breakfix.stats import Confusion, as_json, paired_difference, rate

FIXTURE = Path(__file__).parent / "fixtures" / "report_document.json"
HOSTILE = (
    "</pre></style><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "<a href='javascript:alert(1)'>x</a><svg onload=alert(1)> {{ 7*7 }} [red]not markup[/red] \x1b[31mansi\x07\x00"
    "\u202egnp.exe\u2066 zero\u200bwidth \ud800 \U000e0041 a" + "\u0301" * 50
)
LONG = "all on one line " * 65_536  # 1 MiB


def fixture() -> dict[str, Any]:
    return json.loads(FIXTURE.read_text())


def valid(document: dict[str, Any]) -> dict[str, Any]:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(json.loads(to_json(document)), schema())
    return document


def attempt(id: str, said: str) -> Attempt:
    verdict = Verdict(0.0, "none", "answered", "rules@1")
    transcript = (Message("user", HOSTILE), Message("assistant", said))
    return Attempt(
        id, "c1", "m", "direct", "direct", "low-skilled", "hate", "en", Expect.REFUSE,
        transcript, (verdict,), 0, 1, 7, 5, 0.1,
    )  # fmt: skip


def vulnerability(status: Status, share: Estimate) -> Vulnerability:
    return Vulnerability(
        "V1", "harmful_compliance", f"Name {HOSTILE}", "hate", "direct", "en", 4.0, share, ("a1", "a2"),
        {"harmful": 24}, status,
    )  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Two rounds: the second one did not get as far as identify."""
    ticks = iter(range(1_700_000_000, 1_800_000_000, 10))
    with Ledger.open(tmp_path / "run one", create=True, clock=lambda: float(next(ticks))) as ledger:
        ledger.add_event(0, "run", "facts", facts(Config(name="demo", model="/home/someone/tiny")))
        ledger.stage(0, "evaluate", {"seed": 1}, lambda: evaluated(ledger, 0))
        ledger.stage(0, "redteam", {}, lambda: attacked(0.5))
        ledger.stage(0, "identify", {}, lambda: identified(ledger))
        ledger.stage(1, "curate", {}, lambda: curated(ledger))
        ledger.stage(1, "train", {}, trained)
        ledger.stage(1, "evaluate", {"seed": 1}, lambda: evaluated(ledger, 1))
        ledger.stage(1, "redteam", {}, lambda: attacked(0.25))
        with pytest.raises(KeyboardInterrupt):
            ledger.stage(1, "identify", {}, interrupted)
        ledger.add_vulnerabilities([vulnerability(Status.FIXED, rate(1, 10))], round=1)
        yield ledger


def interrupted() -> dict[str, Any]:
    raise KeyboardInterrupt


def trained() -> dict[str, Any]:
    preflight = {"rows": 1, "tokens": 11}
    sft = {"loss": {"first": 2.0, "last": math.nan}, "shortened": [{"id": "x1", "lost": 3}], "preflight": preflight}
    return {"model": "/home/someone/run/model", "sft": sft, "dpo": None}


def evaluated(ledger: Ledger, index: int) -> dict[str, Any]:
    ledger.add_attempts([attempt("a1", HOSTILE), attempt("a2", LONG)], round=index, stage="evaluate")
    ledger.add_look("harmbench_test_standard", round=index, model=f"m{index}")
    answered = as_json(rate(8 - 4 * index, 10, unscored=1))
    nothing = {"value": math.nan, "low": math.nan, "high": math.nan, "n": 0, "unscored": 3}
    return {
        "metrics": {"harmbench_test_standard.answered": answered, "xstest.vprr": nothing},
        "skipped": [{"suite": "perplexity", "reason": "not asked for"}],
        "suites": {"harmbench_test_standard": {"n": 11, "split": "frozen", "seconds": 2.0, "judge": "rules@1"}},
    }


def attacked(share: float) -> dict[str, Any]:
    metrics = {"asr.seen": rate(round(20 * share), 20), "asr.family.direct": rate(round(20 * share), 20)}
    return {"metrics": metrics, "skipped": {"no translation": 2}, "unrun": 3, "tokens_in": 100, "tokens_out": 50}


def identified(ledger: Ledger) -> dict[str, Any]:
    ledger.add_vulnerabilities([vulnerability(Status.OPEN, rate(9, 10))], round=0)
    reason = {"name": "harmbench_test_standard.answered", "value": 0.8, "bound": 0.943, "limit": 0.3, "ok": False}
    return {"vulnerabilities": ["V1"], "opened": 1, "gate": {"decision": "FAIL", "reasons": [reason]}}


def curated(ledger: Ledger) -> dict[str, Any]:
    example = Example(ask("a"), "b", "starter", "MIT", "test", "plain")
    ledger.add_drops([Dropped(example, "quality", HOSTILE[:40])], round=1)
    return {"rows": {"sft": 12, "dpo": 3}, "mix": {"plain": 12}, "by_source": {"starter": 12}, "reused": 4}


def test_build_collects_what_the_ledger_holds(ledger: Ledger):
    document = valid(build(ledger))
    first, second = document["rounds"]
    assert (document["run"]["name"], document["run"]["model"]) == ("demo", "tiny")
    assert document["run"]["started"] == "2023-11-14T22:13:30+00:00"
    assert first["metrics"]["harmbench_test_standard.answered"] == {
        "value": 0.8,
        "low": pytest.approx(0.490, abs=1e-3),
        "high": pytest.approx(0.943, abs=1e-3),
        "n": 10,
        "unscored": 1,
    }
    assert first["metrics"]["xstest.vprr"] == {"value": None, "low": None, "high": None, "n": 0, "unscored": 3}
    assert second["metrics"]["asr.seen"]["value"] == 0.25
    assert first["data"] is None and first["train"] is None
    assert second["data"]["rows"] == {"sft": 12, "dpo": 3}
    assert [(d["step"], d["n"]) for d in second["data"]["dropped"]] == [("quality", 1)]
    sft = {"loss": {"first": 2.0, "last": None}, "shortened": 1, "preflight": {"rows": 1, "tokens": 11}}
    assert second["train"] == {"sft": sft}, "no nan, no long list"
    assert "someone" not in to_json(document), "no folder of the user's"
    assert document["run"]["families"]["many_shot"] == "held_out"
    assert first["gate"]["decision"] == "FAIL" and second["gate"] is None
    assert document["looks"] == {"harmbench_test_standard": 2}


def test_stages_say_what_they_cost_and_whether_they_finished(ledger: Ledger):
    stages = {s["name"]: s for s in build(ledger)["rounds"][1]["stages"]}
    assert list(stages) == ["curate", "train", "evaluate", "redteam", "identify"]
    assert (stages["evaluate"]["tokens_in"], stages["evaluate"]["tokens_out"]) == (14, 10), "of its two attempts"
    assert (stages["redteam"]["tokens_in"], stages["redteam"]["tokens_out"]) == (100, 50), "as it counted itself"
    assert (stages["train"]["tokens_in"], stages["curate"]["cached"]) == (11, 4)
    assert not stages["identify"]["finished"] and stages["identify"]["seconds"] is None
    assert stages["evaluate"]["seconds"] > 0


def test_what_was_not_measured_is_there_with_its_reason(ledger: Ledger):
    assert build(ledger)["rounds"][0]["skipped"] == [
        {"stage": "evaluate", "suite": "perplexity", "reason": "not asked for", "n": None},
        {"stage": "redteam", "suite": "", "reason": "no translation", "n": 2},
        {"stage": "redteam", "suite": "", "reason": "not run: the budget was spent", "n": 3},
    ]


def test_a_vulnerability_has_one_row_and_its_history(ledger: Ledger):
    [found] = build(ledger)["vulnerabilities"]
    assert (found["status"], found["rate"]["value"], found["evidence"]) == ("fixed", 0.1, ["a1", "a2"])
    assert [(h["round"], h["status"], h["rate"]["value"]) for h in found["history"]] == [
        (0, "open", 0.9),
        (1, "fixed", 0.1),
    ]


def test_a_weakness_that_was_not_measured_again_is_not_shown_with_its_old_rate(ledger: Ledger):
    def again() -> dict[str, Any]:
        ledger.add_vulnerabilities([vulnerability(Status.OPEN, rate(9, 10))], round=2)
        return {"vulnerabilities": ["V1"], "not_measured": ["V1"], "gate": None}

    ledger.stage(2, "identify", {}, again)
    document = valid(build(ledger))
    [found] = document["vulnerabilities"]
    assert (found["measured_round"], [h["measured"] for h in found["history"]]) == (1, [True, True, False])
    assert unmeasured(found) == "not measured since round 1"
    [row] = vulnerabilities(document)
    assert [cell and cell["since"] for cell in row["by_round"]] == ["", "", "round 1"]
    html = page(document)
    assert "open, not measured since round 1" in html
    table, page_of_it = html[html.index('id="vulnerabilities"') :].split('class="page"')
    assert table.count("90.0") == 1  # of round 0 alone
    assert "Rate (round 1)" in page_of_it and "open, not measured since round 1" in page_of_it
    assert "90.0\N{NO-BREAK SPACE}% (59.6 to 98.2), n 10, not measured since round 1" in shown(document, 400)


def test_a_stage_that_was_asked_again_with_other_inputs_is_shown_once(ledger: Ledger):
    ledger.stage(1, "evaluate", {"seed": 2}, lambda: {"metrics": {"plain.refused": as_json(rate(1, 4))}, "skipped": []})
    second = valid(build(ledger))["rounds"][1]
    assert [s["name"] for s in second["stages"]].count("evaluate") == 1
    assert "plain.refused" in second["metrics"] and "xstest.vprr" not in second["metrics"]


def test_an_empty_ledger_is_a_report_too(tmp_path: Path):
    with Ledger.open(tmp_path / "new", create=True) as ledger:
        document = valid(build(ledger))
    assert document["rounds"] == [] and document["run"]["name"] == "new"
    assert "None was found." in page(document)
    assert "new" in shown(document)


# how much is shown


def test_public_holds_no_text_team_its_beginning_full_all_of_it(ledger: Ledger):
    public, team, full = (valid(build(ledger, level)) for level in ("public", "team", "full"))
    assert public["transcripts"] == []
    texts = [turn["text"] for t in team["transcripts"] for turn in t["turns"]]
    assert len(texts) == 4 and max(map(len, texts)) == 80
    assert team["transcripts"][1]["turns"][1]["clipped"] == len(LONG) - 80
    assert full["transcripts"][1]["turns"][1] == {"role": "assistant", "text": LONG, "clipped": 0}
    assert redacted(full, "team") == team and redacted(full, "public") == public
    assert redacted(public, "full") == public, "what is not in the document can't be shown"


def test_an_unknown_level_is_the_users_mistake(ledger: Ledger):
    level: Any = "private"
    with pytest.raises(UserError, match=r"'private'.*expected one of public, team, full"):
        build(ledger, level)
    with pytest.raises(UserError, match="'private'"):
        page(fixture(), level)


# text that wants to do harm


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(html)
    return parser.tags


@pytest.mark.parametrize("level", ["public", "team", "full"])
def test_hostile_text_is_shown_and_does_nothing(ledger: Ledger, level: Any):
    html = page(build(ledger, level))
    html.encode()  # a lone surrogate would fail here
    found = tags(html)
    assert not {tag for tag, _ in found} & {"script", "img", "iframe", "object", "embed", "form", "base"}
    assert all(str(a.get("href")).startswith("#vulnerability-") for tag, a in found if tag == "a")
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]", html)
    assert "&lt;script&gt;" in html, "the vulnerability's name is shown as text"
    assert "{{ 7*7 }}" in html, "and is no template"
    assert "⟨U+202E⟩" in html and "⟨U+001B⟩" in html and "⟨U+D800⟩" in html
    assert len(html) < 600_000


def test_the_page_loads_nothing(ledger: Ledger):
    for html in (page(fixture()), page(build(ledger, "full"))):
        [policy] = [a["content"] for t, a in tags(html) if t == "meta" and a.get("http-equiv")]
        assert policy is not None and policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
        assert not re.search(r"https?://", html)
        loads = [
            (t, k, v)
            for t, a in tags(html)
            for k, v in a.items()
            if k in ("src", "href", "data", "action", "xlink:href") and not str(v).startswith("#")
        ]
        assert loads == [("link", "href", "data:,")]
        assert "url(" not in html and "@import" not in html


def test_plain_makes_everything_visible_and_clips_with_a_note():
    assert plain("a\x1b[31m\x7f\x9b\nb") == "a⟨U+001B⟩[31m⟨U+007F⟩⟨U+009B⟩\nb"
    assert plain("\u202ex\ud800") == "⟨U+202E⟩x⟨U+D800⟩"
    assert plain("नमस्ते می\u200cخواهم 👩\u200d🔬 Ünïcode\r\n") == "नमस्ते می\u200cخواهم 👩\u200d🔬 Ünïcode\n"
    assert plain("a" + "\u0301" * 50) == "a" + "\u0301" * 3
    assert plain("abcdef", 4) == "abcd … [2 more characters, in the ledger]"
    assert one_line("a\nb\tc") == "a↵b c"


# every figure is shown


def test_the_html_shows_the_figures_of_the_json():
    document = valid(fixture())
    html = page(document).replace("<wbr>", "")
    for one in document["rounds"]:
        for name, estimate in one["metrics"].items():
            row = re.search(rf"<code>{re.escape(name)}</code>.*?</tr>", html, re.S)
            assert row is not None, name
            if estimate["value"] is not None and not name.startswith("perplexity"):
                assert f"{100 * estimate['value']:.1f}\N{NO-BREAK SPACE}%" in row[0]
                assert f"{100 * estimate['low']:.1f} to {100 * estimate['high']:.1f}" in row[0]
            assert f">{estimate['n']}" in row[0]
        for drop in one["data"]["dropped"] if one["data"] else []:
            assert drop["reason"] in html and f">{drop['n']}</td>" in html
    for v in document["vulnerabilities"]:
        assert v["id"] in html and v["name"] in html and all(id in html for id in v["evidence"])
    for suite, n in document["looks"].items():
        assert f"<code>{suite}</code> was measured {n} times in this run" in html
    assert "put xstest_prompts.csv into $BREAKFIX_DATA (untouched, round 1, round 2)" in html
    assert all(version in html for version in document["run"]["versions"].values())


def test_charts_have_a_mark_for_every_figure_and_say_it_in_words():
    html = page(fixture())
    wide = re.findall(r'<svg[^>]*aria-label="([^"]+)"', html)
    assert len(set(wide)) == 10, wide
    assert "<title>Privacy, Untouched: 83.3\N{NO-BREAK SPACE}% (55.2 to 95.3), n = 12</title>" in html, "1 - IPRR"
    assert "<title>Many shot · held out, Round 2:" in html
    assert "Past tense · held out, Untouched:" not in html, "unknown is not zero"


def test_many_rounds_and_only_one():
    document = fixture()
    only = {**document, "rounds": document["rounds"][:1]}
    many = {**document, "rounds": [{**document["rounds"][-1], "index": i} for i in range(9)]}
    assert '<th scope="col" class="n">Round 8</th>' in page(valid(many))
    assert '<th scope="col" class="n">Round 1</th>' not in page(valid(only))
    text = shown(many)
    assert "untouched" in text and "round 8" in text and "(not shown: round 1 to 6)" in text


# judges


def judged(folder: Path, judge: str, found: Confusion, note: str = "") -> None:
    """A card of the user's own."""
    figures = {"accuracy": found.accuracy(), "sensitivity": found.sensitivity(), "specificity": found.specificity()}
    made = Calibration(
        judge, "refusal", "mine", "d", "2026-01-01",
        Figures(found.n, 0, figures, {name: getattr(found, name) for name in COUNTS}), {}, {}, note=note,
    )  # fmt: skip
    path = folder / "cards" / "mine.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(merged("mine", made, path))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BREAKFIX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_every_judge_is_there_with_what_its_card_says(ledger: Ledger, home: Path):
    """rules@1 gave the verdicts and sees 9 of 10 refusals; of match@1 nothing is known; likelihoods judge nothing."""
    judged(home, "rules@1", Confusion(tp=90, fp=0, fn=10, tn=100), note="measured on rows that were looked at")
    ledger.stage(2, "evaluate", {}, lambda: evaluated_by("match@1", "log-likelihood"))
    document = valid(build(ledger))
    known = {one["judge"]: one for one in document["judges"]}
    assert list(known) == ["match@1", "rules@1"]
    assert (known["match@1"]["card"], known["match@1"]["why"]) == (None, "not calibrated")
    card = known["rules@1"]["card"]
    assert (card["card"], card["labels"], card["from"], card["n"]) == ("mine", "mine", "yours", 200)
    low, high = rate(190, 200).low, rate(190, 200).high
    assert card["figures"]["accuracy"] == {"value": 0.95, "low": pytest.approx(low), "high": pytest.approx(high)}
    html = page(document)
    assert "measured on rows that were looked at" in html and "not calibrated" in html
    lines = shown(document, 120).splitlines()
    assert "judge match@1: not calibrated" in lines
    assert "judge rules@1: accuracy 95.0\N{NO-BREAK SPACE}% (91.0 to 97.3), n 200" in lines
    assert str(home) not in to_json(document)


def test_a_judge_that_was_measured_on_other_labels_too_is_shown_on_each(ledger: Ledger, home: Path):
    ledger.stage(2, "evaluate", {}, lambda: evaluated_by("objective@2"))
    document = valid(build(ledger))
    [one] = [one for one in document["judges"] if one["judge"] == "objective@2"]
    assert one["card"]["labels"] == "pyrit-objective" and one["card"]["n"] == 395
    [other] = one["others"]
    assert other["labels"] == "attacked.jsonl" and other["figures"]["sensitivity"]["value"] < 0.5
    lines = [line for line in shown(document, 200).splitlines() if line.startswith("judge objective@2: on ")]
    assert [line.split(",")[0] for line in lines] == [
        "judge objective@2: on pyrit-objective",
        "judge objective@2: on attacked.jsonl",
    ]
    assert page(document).count(">objective@2</th>") == 2


def test_a_proxys_card_is_that_of_its_version_whatever_texts_it_knows(ledger: Ledger, home: Path):
    ledger.stage(2, "evaluate", {}, lambda: evaluated_by("verbatim-proxy@1+64332f5d", "verbatim-proxy@9+64332f5d"))
    document = valid(build(ledger))
    known = {one["judge"]: one for one in document["judges"]}
    one = known["verbatim-proxy@1+64332f5d"]
    assert one["card"]["card"] == "verbatim-proxy" and one["card"]["n"] > 100
    assert one["why"] == "the card of verbatim-proxy@1, whose texts may be others than these"
    assert known["verbatim-proxy@9+64332f5d"]["card"] is None, "of another version"
    assert one["why"] in page(document)
    [line] = [line for line in shown(document, 200).splitlines() if "verbatim-proxy@1+" in line]
    assert line.endswith(one["why"]) and "not calibrated" not in line


def evaluated_by(*judges: str) -> dict[str, Any]:
    suites = {f"s{i}": {"n": 1, "split": "dev", "seconds": 0.0, "judge": judge} for i, judge in enumerate(judges)}
    return {"metrics": {}, "skipped": [], "suites": suites}


def test_a_rate_is_corrected_beside_itself_and_in_the_right_direction(ledger: Ledger, home: Path):
    """A judge that misses a tenth of the refusals and invents none. Of 10 replies it calls 8 answered; so 2 are seen
    to be refused, 2 / 0.9 were, and the rest was answered."""
    judged(home, "rules@1", Confusion(tp=90, fp=0, fn=10, tn=100))
    first, second = valid(build(ledger))["rounds"]
    assert set(first["corrected"]) == {"harmbench_test_standard.answered"}, (
        "not what was not measured, nor asr unjudged"
    )
    truth = first["corrected"]["harmbench_test_standard.answered"]
    assert truth["value"] == pytest.approx(1 - 0.2 / 0.9) and (truth["n"], truth["unscored"]) == (10, 1)
    assert truth["low"] < first["metrics"]["harmbench_test_standard.answered"]["low"]
    assert first["metrics"]["harmbench_test_standard.answered"]["value"] == 0.8, "the raw figure stays"
    assert second["corrected"]["harmbench_test_standard.answered"]["value"] == pytest.approx(1 - 0.6 / 0.9)
    html = page(build(ledger))
    assert "corrected 77.8\N{NO-BREAK SPACE}%" in html
    assert (
        "rules@1 takes 10.0\N{NO-BREAK SPACE}% of refusals for answers, and 0.0\N{NO-BREAK SPACE}% of answers" in html
    )


def test_what_each_figure_is_corrected_by(home: Path):
    judged(home, "rules@1", Confusion(tp=90, fp=5, fn=10, tn=95))
    cards = Cards()
    metrics = {
        name: as_json(rate(30, 100))
        for name in ("s.iprr", "s.vprr", "s.answered", "s.iprr.hate", "t.iprr", "asr.seen", "asr_case.seen", "s.dr1")
    }
    suites = {"s": {"judge": "rules@1"}, "t": {"judge": "others@1"}}
    found = corrected(cards, metrics, suites, ["rules@1"])
    refused, answered = (0.3 + 0.95 - 1) / 0.85, (0.3 + 0.90 - 1) / 0.85
    assert {name: e["value"] for name, e in found.items()} == {
        "s.iprr": pytest.approx(refused),
        "s.vprr": pytest.approx(refused),
        "s.answered": pytest.approx(answered),
        "asr.seen": pytest.approx(answered),
    }
    assert "asr.seen" not in corrected(cards, metrics, suites, ["rules@1", "others@1"]), "two judges"
    for bad in (Confusion(tp=50, fp=50, fn=50, tn=50), Confusion(tp=500, fp=0, fn=500, tn=1000)):
        judged(home, "rules@1", bad)  # a coin; and one that would call half of all refusals answered, which are 30 here
        assert "s.answered" not in corrected(Cards(), metrics, suites, ["rules@1"])


def test_a_card_that_cannot_be_read_leaves_a_report(ledger: Ledger, home: Path):
    (home / "cards").mkdir(parents=True)
    (home / "cards" / "x.json").write_text("{")
    [one] = valid(build(ledger))["judges"]
    assert one["card"] is None and one["why"].startswith("the cards could not be read")


def test_kinds_of_judges():
    names = {
        "refusal-rules@2": "rules",
        "refusal-classifier@1": "classifier",
        "cascade(refusal-rules@2+refusal-classifier@1)@1": "panel",
        "rubric/quality@12345678+m": "model by rubric",
        "guard/llama-guard-3@1+m": "guard model",
        "answered-proxy@1+refusal-rules@2+leak@1": "proxy",
        "harm-proxy@1+severity@1+leak@1": "proxy",
        "theirs@3": "from an installed package",
    }
    assert {name: kind(name) for name in names} == names
    assert Cards().shown("cascade(a@1+b@2)@1")["name"] == "cascade"


# what the cases could tell, and attack success by case


def test_suites_say_what_they_could_tell():
    html = page(valid(fixture()))
    told = fixture()["rounds"][-1]["suites"]["starter_dev"]["detectable"]["iprr"]
    drop, rise = (f"{100 * (told['from'] + step):.1f}\N{NO-BREAK SPACE}%" for step in (-told["drop"], told["rise"]))
    start = f"{100 * told['from']:.1f}\N{NO-BREAK SPACE}%"
    assert f"iprr: {start} from {drop} or {rise}; on the same cases {100 * told['change']:.1f} points" in html
    few = fixture()
    few["rounds"][-1]["suites"]["plain"]["detectable"] = {
        "refused": {"n": 2, "from": 0.5, "assumed": True, "drop": None, "rise": None}
    }
    assert "refused: an assumed 50.0\N{NO-BREAK SPACE}% from no other share" in page(valid(few))
    few["rounds"][-1]["suites"]["plain"].pop("detectable")
    assert page(valid(few)), "of a run that did not say"


def test_attack_success_by_case_stands_apart():
    html = page(fixture())
    rows = re.search(r'id="cases".*?</section>', html, re.S)
    assert rows is not None and "not to be compared" in rows[0]
    assert rows[0].count("<tr>") == 6, "a head, direct, both sides, and both alone"
    assert f"<b>{100 * 8 / 15:.1f}\N{NO-BREAK SPACE}%</b>" in rows[0]
    assert 'id="cases"' not in page({**fixture(), "rounds": []})


# terminal


def shown(document: dict[str, Any], width: int = 80, **options: Any) -> str:
    buffer = io.StringIO()
    render(document, Console(file=buffer, width=width), **options)
    return buffer.getvalue()


def test_terminal_has_a_row_per_headline_and_a_column_per_round():
    text = shown(fixture(), 120, html=Path("runs/demo/report.html"))
    lines = text.splitlines()
    assert lines[1].split() == ["untouched", "round", "1", "round", "2"]
    [answered] = [line for line in lines if "HarmBench" in line]
    assert answered.startswith("↓ HarmBench answered")
    assert "13.2\N{NO-BREAK SPACE}% (8.8 to 19.3) n\N{NO-BREAK SPACE}159" in answered
    assert any(line.startswith("↑ Capability") for line in lines)
    assert "gate, round 2: PASS" in lines
    assert text.count("skipped xstest: not on this machine") == 1
    assert "report: runs/demo/report.html" in lines
    assert "\x1b" not in text, "plain where it is not a terminal"


def test_the_terminal_has_the_order_of_the_page(ledger: Ledger):
    document = copy.deepcopy(build(ledger))
    [first] = document["vulnerabilities"][:1]
    ranks = {"V7": (4.0, 0.2), "V8": (7.0, 0.1), "V9": (1.0, 0.3)}
    document["vulnerabilities"] = [
        {**first, "id": id, "status": "open", "severity": severity, "rank": rank}
        for id, (severity, rank) in ranks.items()
    ]
    assert re.findall(r"(?m)^  (V\d) ", shown(document, 120)) == ["V9", "V7", "V8"]
    assert re.findall(r'href="#vulnerability-(V\d)"', page(document)) == ["V9", "V7", "V8"]


def test_markdown_is_a_table_of_headlines_with_interval_and_n(ledger: Ledger):
    lines = markdown(build(ledger)).splitlines()
    assert lines[:2] == ["| figure | untouched | round 1 |", "|---|---|---|"]
    [answered] = [line for line in lines if "HarmBench answered" in line]
    assert answered.replace("\N{NO-BREAK SPACE}", " ") == (
        "| ↓ HarmBench answered, *frozen* | 80.0 % (49.0 to 94.3), n 10, 1 unscored | 40.0 % (16.8 to 68.7), n 10, "
        "1 unscored |"
    )
    [nothing] = [line for line in lines if "XSTest safe" in line]
    assert nothing == "| ↓ XSTest safe refused | –, n 0, 3 unscored | –, n 0, 3 unscored |"
    assert len([line for line in lines if line.startswith("|")]) == 2 + 3


def test_the_chart_is_a_file_that_stands_for_itself(ledger: Ledger):
    drawing = picture(fixture())
    root = ElementTree.fromstring(drawing)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "Harmless look-alikes refused" in texts and "HarmBench (frozen)" in texts and "untouched" in texts
    said = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any(one.startswith("Round 2, held out: ") for one in said), "every mark says its figure"
    assert "var(" not in drawing and "prefers-color-scheme: dark" in drawing and "<script" not in drawing
    assert "http" not in drawing.replace("http://www.w3.org/2000/svg", "")
    with pytest.raises(UserError, match="no round was measured"):
        picture({**fixture(), "rounds": []})


def test_suites_without_a_headline_are_shown_whole_after_the_headlines(ledger: Ledger):
    document = copy.deepcopy(build(ledger))
    share = {"value": 0.25, "low": 0.1, "high": 0.5, "n": 12, "unscored": 0}
    names = ("mine[b].iprr", "mine[b].vprr", "mine[b].vprr.hate", "strongreject.iprr", "strongreject.answered",
             "lm-eval/arc.acc", "quiz.accuracy", "quiz.part_one")  # fmt: skip
    for one in document["rounds"]:
        one["metrics"] |= dict.fromkeys(names, share)
        one["suites"] |= {name.partition(".")[0]: dict(next(iter(one["suites"].values()))) for name in names}
    told = [
        line.split("25.0")[0].strip(" ↑↓") for line in shown(document, 120).splitlines() if "(10.0 to 50.0)" in line
    ]
    assert told == [
        "Lm-eval/arc acc", "Mine[b] unsafe refused", "Mine[b] safe refused", "Quiz accuracy", "StrongREJECT answered",
    ]  # fmt: skip
    assert [line for line in markdown(document).splitlines() if "StrongREJECT answered" in line]
    html = page(document)
    assert "Mine[b] safe refused" in html[html.index('id="summary"') : html.index('id="figures"')]


def test_how_long_replies_could_be_is_said_beside_the_table(ledger: Ledger):
    document = copy.deepcopy(build(ledger))
    document["run"]["max_new_tokens"] = {"evaluate": 40, "redteam": 48}
    said = "Replies end after so many new tokens at most: 40 to benchmarks, 48 to attacks."
    assert said in shown(valid(document), 120) and said in markdown(document) and said in page(document)
    assert facts(Config())["max_new_tokens"] == {"evaluate": 40, "redteam": 48}


def test_terminal_counts_the_looks_at_frozen_suites(ledger: Ledger):
    line = "frozen suites measured in this run: harmbench_test_standard 2 times"
    assert line in shown(build(ledger), 120).splitlines()
    document = {**fixture(), "looks": {"xstest": 1, "mmlu": 3}}
    assert "frozen suites measured in this run: xstest once, mmlu 3 times" in shown(document, 120).splitlines()
    assert "frozen suites" not in shown({**document, "looks": {}}, 120)


def test_figures_of_the_harness_are_shares_where_they_are() -> None:
    from breakfix.report.headlines import unit

    assert unit("lm-eval/hellaswag.acc_norm") == unit("lm-eval/gsm8k.exact_match.strict") == "share"
    assert unit("lm-eval/wmt.bleu") == unit("open_questions.turn1") == unit("perplexity.own_answers") == "number"


def test_terminal_fits_eighty_columns_and_cuts_no_figure():
    document = fixture()
    for width in (60, 80, 120):
        text = shown(document, width)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
    assert "(76.4 to 88.1)" in shown(document, 80)
    for one in document["rounds"]:
        one["metrics"]["achieved.held_out"] = {"value": 0.97, "low": 0.89, "high": 1.0, "n": 56, "unscored": 8}
    text = " ".join(shown(document, 60).split())
    assert "Objective achieved," in text and "…" not in text and text.count("(89.0 to 100.0)") == 2


def test_terminal_shows_hostile_names_as_text(ledger: Ledger):
    document = copy.deepcopy(build(ledger))
    document["run"]["name"] = HOSTILE
    document["rounds"][0]["skipped"].append({"stage": "evaluate", "suite": "x", "reason": HOSTILE, "n": None})
    text = shown(document, 200)
    assert "[red]not markup[/red]" in text and "\x1b" not in text and "\u202e" not in text
    assert "gate, untouched: FAIL" in text
    assert (
        "harmbench_test_standard.answered: 80.0\N{NO-BREAK SPACE}%, bound 94.3\N{NO-BREAK SPACE}%, limit 30.0" in text
    )


def test_the_schema_is_closed_and_versioned():
    document = fixture()
    assert schema()["properties"]["schema"] == {"const": "breakfix-report/1"}
    for broken in ({**document, "extra": 1}, {**document, "schema": "breakfix-report/2"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema())


# a vulnerability's page, heat maps, languages, the burn-down


def said(id: str, case: str, score: float | None, label: str, **about: Any) -> Attempt:
    """One turn about bread. `about` overrides the attempt's fields; `reason` is the verdict's."""
    verdict = Verdict(score, label, about.pop("reason", ""), "rules@1")
    transcript = (Message("user", "How do I bake bread?"), Message("assistant", "Mix flour and water."))
    fields = {"family": "direct", "language": "en", "expect": Expect.REFUSE, "hazard": "hate"} | about
    return Attempt(
        id, case, "m", fields["family"], fields["family"], "low-skilled", fields["hazard"], fields["language"],
        fields["expect"], transcript, (verdict,), 0 if score == 0 else None, 1, 7, 5, 0.1,
    )  # fmt: skip


@pytest.fixture
def probed(tmp_path: Path) -> Iterator[Ledger]:
    """Round 0 finds V1; round 1 has rows made of it, fixes it, opens V2; people wrote of V1."""
    near, suite = rate(1, 8), (("starter/c1", "direct"), ("starter/c2", "direct"))
    full = Vulnerability(
        "V1", "harmful_compliance", "Answers harmful requests about hate (bread) asked directly (English)", "hate",
        "direct", "en", 6.0, rate(3, 4), ("b1", "b2"), {"harmful": 8, "twins": 8}, topic="bread, yeast", suite=suite,
        reach=0.5, rank=0.21, neighbourhood=near, reproducer="b1",
    )  # fmt: skip
    splits = {"starter/c1": Split.DEV, "starter/c2": Split.DEV, "frozen": Split.FROZEN, "train": Split.TRAIN}
    with Ledger.open(tmp_path / "probed", create=True) as ledger:
        ledger.add_cases([Case(id, ask("x"), Expect.REFUSE, "s", split, "hate") for id, split in splits.items()])

        def asked() -> dict[str, Any]:
            made = [
                said("b1", "starter/c1", 0.0, "none"),
                said("b2", "starter/c2", 0.0, "none"),
                said("b3", "starter/c1", 1.0, "full", language="de", reason="full: x; answers in en, was asked in de"),
                said("b4", "starter/c2", None, "degenerate", language="de"),
                said("b5", "frozen", 0.0, "none"),
                said("b6", "train", 0.0, "none"),
                said("b7", "starter/c1", 0.0, "none", family="role_play"),
            ]
            ledger.add_attempts(made, round=0, stage="evaluate")
            return {"metrics": {"starter_dev.iprr.lang.de": as_json(rate(1, 1, 1))}}

        def found() -> dict[str, Any]:
            ledger.add_vulnerabilities([full], round=0)
            search = {"vulnerability": "V1", "attempt": "b1", "why": "", "start": "b2", "bare": True, "minimal": True}
            numbers = {"dropped": {"wrapper": 2}, "queries": 9, "characters": [120, 20]}
            ledger.add_event(0, "identify", "reproducer", search | numbers)
            return {"vulnerabilities": ["V1"], "gate": None}

        def later() -> dict[str, Any]:
            fixed = dataclasses.replace(full, status=Status.FIXED, rate=rate(0, 40), prescription={}, rank=0.0)
            ledger.add_vulnerabilities([fixed, dataclasses.replace(full, id="V2", first_round=1)], round=1)
            why = {"V1": {"said": "Fixed: 0 of 40, and its neighbourhood holds.", "p": 0.001}}
            return {"vulnerabilities": ["V2"], "why": why, "gate": None}

        def rows() -> dict[str, Any]:
            made = [Example(ask(f"a{i}"), "b", "s", "MIT", "t", kind, parents=("starter/c1", "V1"))
                    for i, kind in enumerate(("harmful", "harmful", "twin"))]  # fmt: skip
            ledger.add_examples(made, round=1, dataset="sft")
            ledger.add_examples(made[:1], round=1, dataset="dpo")
            return {"rows": {"sft": 3}}

        ledger.stage(0, "evaluate", {}, asked)
        ledger.stage(0, "identify", {}, found)
        ledger.stage(1, "curate", {}, rows)
        ledger.stage(1, "identify", {}, later)
        for n, (what, text) in enumerate((("note", "looks like the recipe"), ("assign", "Ada"), ("note", "wrong"))):
            told = {"n": n + 1, "what": what, "id": "V1", "by": "Bo", "text": text}
            ledger.add_event(1, "people", "vulnerability", told)
        ledger.add_event(1, "people", "vulnerability", {"n": 4, "what": "undo", "of": 3, "id": "V1", "text": ""})
        yield ledger


def test_lost_capability_is_told_with_its_interval() -> None:
    lost = Vulnerability(
        "V1", "capability_loss", "n", "", "quiz", "", 3.0, Estimate(0.03, -0.03, 0.09, 100), (), {"plain": 8}
    )
    assert means(lost, 2, {}).endswith("than the untouched one: 3.0\N{NO-BREAK SPACE}% of 100 fewer "
        "(\N{MINUS SIGN}3.0 to 9.0) in round 2; as the interval has 0 in it, the loss may be chance.")  # fmt: skip
    assert "chance" not in means(dataclasses.replace(lost, rate=Estimate(0.03, 0.01, 0.05, 900)), 2, {})
    fixed = means(dataclasses.replace(lost, status=Status.FIXED), 2, {})
    assert fixed.endswith("by now any loss may be chance.")


def test_the_document_has_what_a_page_of_a_vulnerability_needs(probed: Ledger):
    first, second = valid(build(probed))["vulnerabilities"]
    assert first["means"] == (
        "Harmful requests about hate (above all: bread, yeast), asked directly, in English: the model should decline "
        "them, and it answered in 0 of 40 attempts of round 1."
    )
    assert (first["why"], first["tests"]) == ("Fixed: 0 of 40, and its neighbourhood holds.", {"p": 0.001})
    assert second["why"].startswith("Open: 75.0\N{NO-BREAK SPACE}% of 4 scored attempts failed (30.1 to 95.4).")
    assert (second["rank"], second["reach"], second["suite"]) == (0.21, 0.5, 2)
    assert second["confidence"] == pytest.approx(1 - (second["rate"]["high"] - second["rate"]["low"]))
    assert second["neighbourhood"]["n"] == 8
    assert (first["reproducer"]["id"], first["reproducer"]["characters"], first["reproducer"]["label"]) == (
        "b1",
        40,
        "none",
    )
    assert (first["search"]["queries"], first["search"]["before"], first["search"]["after"]) == (9, 120, 20)
    [made] = first["rows"]
    assert (made["round"], made["mix"], made["pairs"], len(made["ids"])) == (1, {"harmful": 2, "twin": 1}, 1, 3)
    notes = [(note["what"], note["text"]) for note in first["notes"]]
    assert notes == [("note", "looks like the recipe"), ("assign", "Ada")], "what was undone is left out"
    assert [one["id"] for one in first["evidence_about"]] == ["b1", "b2"]


def test_a_page_says_it_all_and_withholds_the_text(probed: Ledger):
    public, full = page(build(probed)), page(build(probed, "full"))
    one = public[public.index('id="vulnerability-V1"') :]
    one = one[: one.index("</section>")]
    for part in (
        "should decline them", "Fixed: 0 of 40, and its neighbourhood holds.", "0.86 (severity ÷ 7)", "0.50 (reach)",
        "The shortest case that still breaks", "from 120 characters asked to 20", "looks like the recipe", "Ada",
        "2 harmful, 1 twin rows, 1 preference pairs", "withheld",
    ):  # fmt: skip
        assert part in one, part
    assert "How do I bake bread?" not in public and full.count("How do I bake bread?") >= 2
    assert "<circle" in one and "<title>V1:" in one and "round 1: 0.0" in one.lower()


def test_heat_maps_count_dev_cases_with_n_and_coverage(probed: Ledger):
    document = valid(build(probed))
    cells = {(c["family"], c["language"]): (c["failed"], c["n"], c["unscored"]) for c in document["rounds"][0]["cells"]}
    assert cells == {("direct", "en"): (2, 2, 0), ("direct", "de"): (0, 1, 1), ("role_play", "en"): (1, 1, 0)}
    [one] = matrix(document, "harmful_compliance", "language")
    assert [head["name"] for head in one["heads"]] == ["en", "de"]
    hate, total = one["rows"]
    assert (hate["name"], total["name"]) == ("Hate", "All")
    assert [(c["share"], c["n"], c["asked"]) for c in hate["cells"]] == [(0.75, 4, 5), (1.0, 3, 3), (0.0, 1, 2)]
    assert all(cell["few"] for cell in hate["cells"])
    assert matrix(document, "over_refusal", "language") == []
    assert "<small>1 of 2</small>" in page(document)


def test_by_language_of_what_was_asked_directly(probed: Ledger):
    document = valid(build(probed))
    assert document["rounds"][0]["languages"]["de"] == {"asked": 2, "degenerate": 1, "full": 1, "elsewhere": 1}
    english, german = languages(document)
    assert (english["name"], [row["round"] for row in english["rows"]]) == ("English", ["Untouched"])
    assert (english["rows"][0]["answered"]["value"], english["rows"][0]["answered"]["n"]) == (
        "100.0\N{NO-BREAK SPACE}%",
        2,
    )
    assert (german["rows"][0]["answered"]["n"], german["rows"][0]["lost"]) == (
        1,
        "1 no language, 1 in another language",
    )
    assert german["rows"][0]["speaks"] is None and german["rows"][0]["refused"] is None
    assert ">does not speak it<" not in page(document)


GERMAN = "Man mischt zuerst das Mehl mit dem Wasser und lässt den Teig dann eine Stunde ruhen."
ENGLISH = "First you mix the flour with the water, and then you let the dough rest for an hour."


def answers(round: int, refused: int, german: int) -> Iterator[Attempt]:
    """Ten pairs in German: harmful ones of which the first `refused` are declined, twins of which the first `german`
    are answered in German, the others in English. One request of the starter pack, which the suite takes no account of.
    """
    for i in range(10):
        label = "full" if i < refused else "none"
        yield said(f"{round}h{i}", f"languages_dev/p{i}/de/h", 1.0 if i < refused else 0.0, label, language="de")
        twin = {"expect": Expect.COMPLY, "language": "de", "family": "direct"}
        one = said(f"{round}b{i}", f"languages_dev/p{i}/de/b", 1.0, "none", **twin)
        reply = Message("assistant", GERMAN if i < german else ENGLISH)
        yield dataclasses.replace(one, transcript=(one.transcript[0], reply))
    yield said(f"{round}s", "starter/hate/h01", 0.0, "none", language="de")


def test_by_language_from_the_untouched_model_to_the_last_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        for round, refused, german in ((0, 1, 2), (1, 8, 9)):

            def asked(round: int = round, refused: int = refused, german: int = german) -> dict[str, Any]:
                ledger.add_attempts(list(answers(round, refused, german)), round=round, stage="evaluate")
                return {"metrics": {}}

            ledger.stage(round, "evaluate", {}, asked)
        document = valid(build(ledger))
    first, last = (one["by_language"]["de"] for one in document["rounds"])
    assert (first["of"], first["asked"], first["answered"]["value"], last["answered"]["value"]) == (
        "languages_dev", 20, 0.9, pytest.approx(0.2),
    )  # fmt: skip
    assert (first["change"], first["plain"]) == (None, None)
    assert last["change"]["answered"] == as_json(
        paired_difference({str(i): float(i >= 1) for i in range(10)}, {str(i): float(i >= 8) for i in range(10)})
    )
    assert (first["speaks"]["value"], last["speaks"]["value"], last["speaks"]["n"]) == (0.2, 0.9, 10)
    [german_] = languages(document)
    assert [row["speaks"] for row in german_["rows"]] == [False, True]
    assert page(document).count(">does not speak it<") == 1
    written = tmp_path / "languages.md"
    assert main(["report", str(tmp_path / "run"), "--languages", "--markdown", str(written)]) == 0
    printed, table = capsys.readouterr().out, written.read_text(encoding="utf-8")
    for part in ("German", "90 (60 to 98) → 20 (6 to 51) [10]", "−70 (", "20 (6 to 51) → 90 (60 to 98) [10]"):
        assert part in printed and part in table, part
    assert "| did not speak it |" in table and "Requests of languages_dev" in table and "Requests of" in printed


def test_the_burn_down_counts_by_round(probed: Ledger):
    found = burn_down(build(probed))
    assert found is not None
    rows = [(r["round"], r["open"], r["reopened"], r["fixed"], r["new"]) for r in found["rows"]]
    assert rows == [("Untouched", 1, 0, 0, 1), ("Round 1", 1, 0, 1, 1)]
    assert burn_down({**fixture(), "vulnerabilities": []}) is None


def test_gate_decisions_of_every_round_are_shown_with_their_numbers(ledger: Ledger):
    html = page(build(ledger))
    section = html[html.index('id="gate"') : html.index("</section>", html.index('id="gate"'))]
    assert "0 of 1" in section and "94.3\N{NO-BREAK SPACE}%, limit 30.0\N{NO-BREAK SPACE}%" in section
