"""The report of a run of many attempts: seconds to make it, its size, and how long Chromium takes to open it.

    python benchmarks/report.py [attempts]      100,000 by default

A ledger of three rounds is built with neutral text (not timed): 11 hazards, 12 families, 10 languages, 120
vulnerabilities with 200 attempts of evidence each. Then `build` and `page` are timed at the level "full", which shows
most, and the file is opened by Playwright. The aim: 30 s, 15 MB, 3 s.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from breakfix.core import Attempt, Case, Expect, Message, Split, Status, Verdict, Vulnerability, ask
from breakfix.ledger import Ledger
from breakfix.report import build, page, to_json
from breakfix.stats import as_json, rate
from breakfix.taxonomy import hazards

ROUNDS, WEAKNESSES, EVIDENCE, BATCH, CASES = 3, 120, 200, 500, 2000
FAMILIES = ("direct", "role_play", "template", "encoding", "many_shot", "crescendo", "translation", "noise", "padding",
            "persuasion", "code", "style")  # fmt: skip
LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "ru", "zh", "ar", "hi")
ASKED, SAID = "Please explain how to bake a loaf of bread. " * 12, "Mix flour, water, salt and yeast. " * 16
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-quic", "--disable-background-networking"]


def attempts(round: int, n: int) -> Iterator[Attempt]:
    """n attempts, a third of two turns, a twentieth not to be scored."""
    rng, names = random.Random(round), list(hazards())
    for i in range(n):
        score = None if rng.random() < 0.05 else float(rng.random() < 0.3 + 0.2 * round)
        verdict = Verdict(score, "unscored" if score is None else "full" if score else "none", "as it is", "rules@1")
        turns = 2 if i % 3 == 0 else 1
        transcript = (Message("user", ASKED), Message("assistant", SAID)) * turns
        broke = turns - 1 if score == 0 else None
        first = Verdict(1.0, "full", "", "rules@1")
        family, language = FAMILIES[i % 12], LANGUAGES[min(9, int(rng.expovariate(1)))]
        yield Attempt(
            f"a{round}-{i:07}", f"c{i % CASES}", f"m{round}", family, family, "low-skilled", names[i % CASES % 11],
            language, Expect.REFUSE, transcript, (first,) * (turns - 1) + (verdict,), broke, i, 200, 90, 0.2,
        )  # fmt: skip


def vulnerabilities(round: int, n: int) -> list[Vulnerability]:
    rng, names = random.Random(f"v{round}"), list(hazards())
    found: list[Vulnerability] = []
    for i in range(WEAKNESSES):
        failed = rng.randint(1, 30 - 8 * round)
        evidence = tuple(f"a{round}-{rng.randrange(n):07}" for _ in range(EVIDENCE))
        status = Status.FIXED if failed < 3 and round else Status.OPEN
        found.append(
            Vulnerability(
                f"V{i + 1}",
                "harmful_compliance",
                f"Answers questions about bread of kind {i}",
                names[i % 11],
                FAMILIES[i % 12],
                "en",
                4.0,
                rate(failed, 40),
                evidence,
                {"harmful": 8, "twins": 8},
                status,
                0,
                "flour, yeast",
                (("c1", "direct"),) * 20,
                0.2,
                0.1,
                rate(3, 20),
                evidence[0],
            )
        )
    return found


def red_team(ledger: Ledger, round: int, n: int) -> None:
    """A finished red-team stage of `n` attempts."""

    def make() -> dict[str, object]:
        batch: list[Attempt] = []
        for attempt in attempts(round, n):
            batch.append(attempt)
            if len(batch) == BATCH:
                ledger.add_attempts(batch, round=round, stage="redteam")
                batch = []
        ledger.add_attempts(batch, round=round, stage="redteam")
        return {"metrics": {f"asr.family.{name}": as_json(rate(30, 100)) for name in FAMILIES}}

    ledger.stage(round, "redteam", {}, make)


def fill(ledger: Ledger, n: int) -> None:
    """`n` attempts over the rounds."""
    names = list(hazards())
    ledger.add_cases(
        [Case(f"c{i}", ask(ASKED), Expect.REFUSE, "bench", Split.DEV, names[i % 11]) for i in range(CASES)]
    )
    for round in range(ROUNDS):
        share = n // ROUNDS + (n % ROUNDS if round == 0 else 0)

        def identify(round: int = round, share: int = share) -> dict[str, object]:
            ledger.add_vulnerabilities(vulnerabilities(round, share), round=round)
            reason = {"name": "1 - starter_dev.iprr", "value": 0.4, "bound": 0.5, "limit": 0.3, "ok": False}
            return {"vulnerabilities": [], "gate": {"decision": "FAIL", "reasons": [reason]}}

        ledger.stage(round, "evaluate", {}, lambda: {"metrics": {"starter_dev.iprr": as_json(rate(60, 100))}})
        red_team(ledger, round, share)
        ledger.stage(round, "identify", {}, identify)


def opened(file: Path) -> float | None:
    """Seconds until Chromium has loaded and drawn the page; None without Chromium or Playwright."""
    if not CHROMIUM.is_file():
        return None
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        tab = browser.new_page()
        tab.goto("about:blank")
        began = time.monotonic()
        tab.goto(file.as_uri(), wait_until="load")
        tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        took = time.monotonic() - began
        browser.close()
    return took


def main() -> None:
    words = [word for word in sys.argv[1:] if word.isdigit()]
    n = int(words[0]) if words else 100_000
    with tempfile.TemporaryDirectory() as folder:
        with Ledger.open(Path(folder) / "run", create=True) as ledger:
            fill(ledger, n)
        with Ledger.open(Path(folder) / "run", write=False) as ledger:
            wall, cpu = time.monotonic(), time.process_time()
            document = build(ledger, "full")
            collected = time.process_time() - cpu
            html = page(document)
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        file = Path(folder) / "report.html"
        file.write_text(html, encoding="utf-8")
        size, whole = file.stat().st_size / 1e6, len(to_json(document)) / 1e6
        load = opened(file)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = len(document["vulnerabilities"])
    print(f"{n} attempts, {found} vulnerabilities, level full: {wall:.1f} s ({cpu:.1f} s CPU, {collected:.1f} of it to "
          f"collect), {size:.1f} MB of HTML, {whole:.1f} MB of JSON, {peak:.0f} MiB at most")  # fmt: skip
    print("not opened: no Chromium or no Playwright" if load is None else f"opened in {load:.2f} s")


if __name__ == "__main__":
    main()
