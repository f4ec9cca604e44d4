"""The HTML report in a real browser: nothing runs, nothing is loaded, the charts are drawn, nothing sticks out, and
hostile transcripts are there as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from breakfix.core import Attempt, Case, Estimate, Expect, Message, Split, Verdict, Vulnerability, ask
from breakfix.ledger import Ledger
from breakfix.report import build, page

CHROMIUM = Path("/usr/bin/chromium")
FIXTURE = Path(__file__).parent / "fixtures" / "report_document.json"
HOSTILE = (
    "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u202e\x1b[31m\ud800"
)
TRICKS = {
    "script": "</pre></details></style><script>document.title='owned';alert(1);fetch('//example.org')</script>",
    "handlers": "<img src='http://127.0.0.1:9/x' onerror=alert(2)><svg onload=alert(3)><body onload=alert(4)>",
    "loads": "<iframe src='http://127.0.0.1:9/'></iframe><link rel=stylesheet href='http://127.0.0.1:9/a.css'>"
    "<style>body{display:none;background:url(http://127.0.0.1:9/b)}</style>"
    "<meta http-equiv=refresh content='0;url=//x'>",
    "links": "<a href='javascript:alert(5)'>click</a><form action='//127.0.0.1:9/'><input autofocus onfocus=alert(6)>",
    "bidi": "\u202egnp.exe\u2066 hidden\u200bword \u2069\u061c",
    "ansi": "\x1b[2J\x1b[31mred\x1b]8;;http://127.0.0.1:9/\x07link\x9b0m",
    "nothing": "a\x00b \ud800 lone \udfff \U000e0041 tag e" + "\u0301" * 90,
    "template": "{{ 7*7 }} {% raw %} ${7*7} &lt;b&gt;",
}
LINE = "one line of a megabyte " * 45_600

pytestmark = pytest.mark.skipif(not CHROMIUM.is_file(), reason="no /usr/bin/chromium: install the package chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: install the python package playwright")
    arguments = ["--headless", "--no-sandbox", "--disable-quic", "--disable-background-networking"]
    with sync.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture's report, with hostile text wherever others' text can stand."""
    document = json.loads(FIXTURE.read_text())
    document["run"]["name"] += HOSTILE
    document["vulnerabilities"][0]["name"] += HOSTILE
    document["notes"].append({"round": 0, "stage": "run", "text": HOSTILE})
    document["redaction"] = "full"
    turns = [
        {"role": "user", "text": HOSTILE, "clipped": 0},
        {"role": "assistant", "text": "word " * 200_000, "clipped": 0},
    ]
    words = dict.fromkeys(("case", "attack", "family", "persona", "hazard", "language", "label"), HOSTILE)
    id = document["vulnerabilities"][0]["evidence"][0]
    document["transcripts"].append({"id": id, **words, "breach": 0, "turns": turns})
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(document), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose requests, replies, ids, names and notes all want to do harm, at the level that shows most."""
    folder = tmp_path_factory.mktemp("hostile")
    verdict = Verdict(0.0, "none", "answered", f"rules@1 {TRICKS['script']}")
    with Ledger.open(folder / "run", create=True) as ledger:
        texts = [*TRICKS.values(), LINE]
        made = [
            Attempt(
                f"a{i}{TRICKS['handlers']}", "c1", "m", f"direct{TRICKS['ansi']}", "direct", "low-skilled", "hate",
                f"en{TRICKS['bidi']}", Expect.REFUSE, (Message("user", text), Message("assistant", text)), (verdict,),
                0, 1, 7, 5, 0.1,
            )
            for i, text in enumerate(texts)
        ]  # fmt: skip
        ledger.add_cases([Case("c1", ask("x"), Expect.REFUSE, "mine", Split.DEV, "hate")])

        def evaluate() -> dict[str, Any]:
            ledger.add_attempts(made, round=0, stage="evaluate")
            return {"metrics": {}, "suites": {}, "skipped": [{"suite": "x", "reason": "".join(TRICKS.values())}]}

        def identify() -> dict[str, Any]:
            share = Estimate(1.0, 0.7, 1.0, len(made))
            found = [
                Vulnerability(
                    f"V{n}{TRICKS['links']}", "harmful_compliance", f"Weakness {trick}", f"hate{trick}", trick, trick,
                    4.0, share, tuple(a.id for a in made[n : n + 5]), {trick: 1}, topic=trick, reproducer=made[n].id,
                )
                for n, trick in enumerate(TRICKS.values())
            ]  # fmt: skip
            ledger.add_vulnerabilities(found, round=0)
            told = {"n": 1, "what": "note", "id": found[0].id, "by": TRICKS["script"], "text": TRICKS["handlers"]}
            ledger.add_event(0, "people", "vulnerability", told)
            reason = {"name": TRICKS["script"], "value": 1.0, "bound": 1.0, "limit": 0.3, "ok": False}
            why = {found[0].id: {"said": TRICKS["loads"], "p": 0.5, TRICKS["links"]: TRICKS["script"]}}
            return {"vulnerabilities": [], "why": why, "gate": {"decision": "FAIL", "reasons": [reason]}}

        ledger.stage(0, "evaluate", {}, evaluate)
        ledger.stage(0, "identify", {}, identify)
        document = build(ledger, "full")
    path = folder / "report.html"
    path.write_text(page(document), encoding="utf-8")
    return path


class Watched:
    """A tab, and all that it did beside showing the page."""

    def __init__(self, browser: Any, file: Path, width: int = 1200, scheme: str = "light") -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.file = file
        self.tab.goto(file.as_uri())
        self.tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        self.tab.wait_for_timeout(200)

    def was_quiet(self) -> None:
        assert self.said == []
        assert [url for url in self.asked if not url.startswith("data:")] == [self.file.as_uri()]
        found = (
            "document.querySelectorAll('script, img, iframe, form, input, object, embed, link:not([rel=icon])').length"
        )
        assert self.tab.evaluate(found) == 0
        inside = "document.documentElement.scrollWidth <= innerWidth"
        assert self.tab.evaluate(inside), "the page itself does not scroll sideways"


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "dark")])
def test_it_opens_quietly_with_its_charts_and_nothing_runs(browser: Any, report: Path, width: int, scheme: str):
    watched = Watched(browser, report, width, scheme)
    tab = watched.tab
    watched.was_quiet()
    assert tab.title().startswith("smollm2-demo</pre><script>"), "the text is the title; it did not set the title"
    visible = "[...document.querySelectorAll('svg.chart')].filter(s => s.getBoundingClientRect().height > 60)"
    assert tab.evaluate(f"{visible}.length") == 10
    assert tab.evaluate(f"{visible}.every(s => s.querySelectorAll('path, rect').length > 3)")
    history = [row for v in json.loads(FIXTURE.read_text())["vulnerabilities"] for row in v["history"]]
    assert tab.evaluate("document.querySelectorAll('svg.spark circle').length") == len(history)
    unnamed = "[...document.querySelectorAll('svg')].filter(s => !s.querySelector('title') || !s.querySelector('desc'))"
    assert tab.evaluate(f"{unnamed}.length") == 0
    assert tab.evaluate("[...document.querySelectorAll('thead th')].every(th => th.scope === 'col')")
    tab.close()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_hostile_transcripts_are_shown_as_text_and_do_nothing(browser: Any, hostile: Path, width: int, scheme: str):
    watched = Watched(browser, hostile, width, scheme)
    tab = watched.tab
    watched.was_quiet()
    assert "owned" not in tab.title()
    texts: list[str] = tab.evaluate("[...document.querySelectorAll('pre')].map(one => one.textContent)")
    assert TRICKS["script"] in texts and TRICKS["handlers"] in texts and TRICKS["loads"] in texts
    assert TRICKS["links"] in texts and TRICKS["template"] in texts
    shown = "\n".join(texts)
    for mark in (
        "⟨U+202E⟩gnp.exe",
        "⟨U+200B⟩",
        "⟨U+001B⟩[31mred",
        "⟨U+0000⟩",
        "⟨U+D800⟩ lone",
        "⟨U+DFFF⟩",
        "⟨U+E0041⟩",
    ):
        assert mark in shown, mark
    [line] = {text for text in texts if text.startswith("one line")}
    assert len(line) < 21_000 and "more characters, in the ledger" in line
    links = "[...document.querySelectorAll('a')].every(a => a.getAttribute('href').startsWith('#vulnerability-'))"
    assert tab.evaluate(links)
    first = "[...document.querySelectorAll('pre')].every(one => one.getBoundingClientRect().width <= innerWidth)"
    assert tab.evaluate(first)
    tab.locator("a").first.click()
    watched.was_quiet()
    tab.close()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture's report with the longest figures, names and ids that a run of ours has had."""
    document = json.loads(FIXTURE.read_text())
    most = {"value": 1.0, "low": 0.89, "high": 1.0, "n": 1234, "unscored": 8}
    for one in document["rounds"]:
        named = {f"harmbench_test_standard.answered.{part}": most for part in ("indiscriminate_weapons", "lang.en")}
        one["metrics"] = {**dict.fromkeys(one["metrics"], most), **named}
        for row in one.get("by_language", {}).values():
            row |= {key: most for key in ("answered", "refused", "plain", "speaks") if row.get(key)}
        if one["gate"]:
            reason = {**one["gate"]["reasons"][0], "name": "harmbench_test_standard.answered.indiscriminate_weapons"}
            one["gate"]["reasons"] = [*one["gate"]["reasons"], {**reason, "ok": False}]
    for v in document["vulnerabilities"]:
        for about in v.get("evidence_about", []):
            about["case"] = "starter/sex_related_crimes/flashing_and_unwanted_pictures/h06"
    path = tmp_path_factory.mktemp("wide") / "report.html"
    path.write_text(page(document), encoding="utf-8")
    return path


def test_nothing_is_cut_on_a_laptop(browser: Any, wide: Path):
    tab = Watched(browser, wide, 1280).tab
    tab.add_style_tag(content=".page { content-visibility: visible !important }")
    cut = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
    assert tab.evaluate(f"{cut}.map(one => one.textContent.slice(0, 80))") == []
    tab.close()


def test_on_a_phone_the_last_round_of_headlines_and_gate_is_seen_and_names_break_between_words(
    browser: Any, wide: Path
):
    tab = Watched(browser, wide, 420).tab
    for table in ("section:has(> #summary) table", "section:has(> #gate) h3 + .scroll table"):
        assert tab.locator(table).count() == 1
        right = f"document.querySelector('{table}').getBoundingClientRect().right"
        assert tab.evaluate(right) <= 420, table
    word = """name => { const th = [...document.querySelectorAll('#summary ~ .scroll th')].find(
      one => one.textContent.includes(name)); const range = new Range(); const text = th.firstChild;
      const at = text.data.indexOf(name); range.setStart(text, at); range.setEnd(text, at + name.length);
      return range.getClientRects().length; }"""
    assert tab.evaluate(word, "HarmBench") == 1, "the word is in one line"
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_goes_on_has_a_shade_at_that_edge(browser: Any, wide: Path, scheme: str):
    tab = browser.new_page(viewport={"width": 300, "height": 900}, color_scheme=scheme)
    tab.goto(wide.as_uri())
    box = tab.locator(".scroll").first
    assert box.evaluate("one => one.scrollWidth > one.clientWidth")
    layers = box.evaluate("one => [getComputedStyle(one).backgroundAttachment, getComputedStyle(one).backgroundImage]")
    assert layers[0] == "local, local, scroll, scroll" and layers[1].count("linear-gradient") == 4
    tab.close()


def test_a_link_leads_to_the_page_of_a_vulnerability(browser: Any, report: Path):
    tab = browser.new_page()
    tab.goto(report.as_uri())
    tab.locator("table.vulnerabilities a").nth(1).click()
    top = "document.querySelector(':target').getBoundingClientRect().top"
    assert tab.evaluate("document.querySelector(':target').tagName") == "H2"
    assert -5 <= tab.evaluate(top) < 720
    tab.close()


def test_colours_follow_the_scheme(browser: Any, report: Path):
    found: dict[str, tuple[str, str]] = {}
    for scheme in ("light", "dark"):
        tab = browser.new_page(color_scheme=scheme)
        tab.goto(report.as_uri())
        colour = "getComputedStyle(document.querySelector('svg text')).fill"
        found[scheme] = (tab.evaluate("getComputedStyle(document.body).backgroundColor"), tab.evaluate(colour))
        tab.close()
    assert found["light"][0] != found["dark"][0] and found["light"][1] != found["dark"][1]


def test_it_prints(browser: Any, report: Path):
    tab = browser.new_page()
    tab.goto(report.as_uri())
    assert tab.pdf(format="A4").startswith(b"%PDF")
    tab.close()
