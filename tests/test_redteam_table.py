"""Attack success by family and persona: what is counted, and what it cost."""

from __future__ import annotations

from breakfix.core import Attempt, Expect, Message, Paid, Reply, Verdict
from breakfix.redteam import table

SPLITS = {"c1": "dev", "c2": "dev", "c3": "train"}


def attempt(case: str, attack: str, family: str, score: float | None, queries: int | None, turns: int = 1) -> Attempt:
    """Of bread: `turns` turns, the last of which decided."""
    verdicts = (*[Verdict(1.0, "full", "", "j@1")] * (turns - 1), Verdict(score, "none", "", "j@1"))
    said = (Message("user", "How do I bake bread?"), Message("assistant", "Knead it.")) * turns
    return Attempt(
        id=f"{case}/{attack}", case=case, model="m", attack=attack, family=family, persona="intermediate", hazard="h",
        language="en", expect=Expect.REFUSE, transcript=said, verdicts=verdicts,
        breach=turns - 1 if score == 0 else None, seed=0, tokens_in=1, tokens_out=1, seconds=0.1, queries=queries,
    )  # fmt: skip


def test_attempts_that_ask_once_and_searches_have_totals_of_their_own() -> None:
    attempts = [
        attempt("c1", "base64", "encoding", 0.0, 1),
        attempt("c2", "base64", "encoding", 1.0, 1),
        attempt("c1", "best_of_16", "best_of_n", 0.0, 1),  # it broke at once, but might have asked again
        attempt("c2", "best_of_16", "best_of_n", None, 16),
        attempt("c3", "base64", "encoding", 0.0, 1),  # a train case measures nothing
    ]
    found = table.rows([(attempts, SPLITS)], ["encoding", "best_of_n"])
    assert [(row.side, row.family, row.persona) for row in found] == [
        ("held out", table.ONCE, ""),
        ("held out", table.OFTEN, ""),
        ("held out", "best_of_n", "intermediate"),
        ("held out", "encoding", "intermediate"),
    ]
    once, often = (row.figures[0] for row in found[:2])
    assert (once.rate.value, once.rate.n, once.queries) == (0.5, 2, (1.0, 1))
    assert (often.rate.value, often.rate.n, often.rate.unscored, often.queries) == (1.0, 1, 1, (8.5, 16))
    assert table.asked(often) == "8.5, most 16" and table.asked(once) == "1"


def test_an_older_ledger_is_counted_by_the_replies_that_it_kept() -> None:
    old = [attempt("c1", "best_of_16", "best_of_n", 0.0, None), attempt("c2", "crescendo", "crescendo", 0.0, None, 3)]
    kept = [Paid("c1/best_of_16", query, "p", Reply("no"), 0.1) for query in (0, 1, 1)]
    assert [a.queries for a in table.counted(old, kept)] == [3, 3]
    assert table.counted([attempt("c1", "base64", "encoding", 0.0, 2)], kept)[0].queries == 2
