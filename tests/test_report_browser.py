"""The HTML report in a real browser: nothing runs, nothing is loaded, the charts are drawn, nothing sticks out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from breakfix.report import page

CHROMIUM = Path("/usr/bin/chromium")
FIXTURE = Path(__file__).parent / "fixtures" / "report_document.json"
HOSTILE = (
    "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u202e\x1b[31m\ud800"
)

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
    document["transcripts"].append({"id": "a1", **words, "breach": 0, "turns": turns})
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(document), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "dark")])
def test_it_opens_quietly_with_its_charts_and_nothing_runs(browser: Any, report: Path, width: int, scheme: str):
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(report.as_uri())
    tab.wait_for_timeout(200)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert tab.title().startswith("smollm2-demo</pre><script>"), "the text is the title; it did not set the title"
    assert tab.evaluate("document.querySelectorAll('script, img, iframe').length") == 0
    visible = "[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().height > 80)"
    assert tab.evaluate(f"{visible}.length") == 8
    assert tab.evaluate(f"{visible}.every(s => s.querySelectorAll('path, rect').length > 3)")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
        "the page itself does not scroll sideways"
    )
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
