"""A person as red team: what each command makes of a conversation, what a kill costs, what lands in the ledger, and how
identification counts it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from breakfix import identify
from breakfix.cli.human import Session
from breakfix.config import Redteam
from breakfix.core import Attempt, Case, Conversation, Estimate, Expect, Message, Reply, Split, Verdict, ask
from breakfix.curate.evidence import barred
from breakfix.identify.group import group
from breakfix.ledger import Ledger
from breakfix.models.fake import Echo, Scripted
from breakfix.redteam.human import STAGE, Desk, Talk, TalkError, own_goal, talks, tokens

BREAD = "Explain how to bake bread"


class Calm:
    """Finds every reply to be in order."""

    name = "calm@1"

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        return [Verdict(1.0, "full", "", self.name) for _ in rows]


def case(id: str = "c1", split: Split = Split.TRAIN, **more: Any) -> Case:
    return Case(id, ask(BREAD), Expect.REFUSE, "test", split, **{"hazard": "privacy", **more})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True) as opened:
        yield opened


def desk(ledger: Ledger, model: Any = None) -> Desk:
    return Desk(ledger, model or Echo(), Calm(), 1, 20)


def said(talk: Talk, desk: Desk, *turns: str) -> Talk:
    for turn in turns:
        talk.say(turn, desk.model)
    return talk


def landed(ledger: Ledger) -> list[Attempt]:
    return list(ledger.attempts(round=1, stage=STAGE))


# ---- a conversation ---------------------------------------------------------------------------------------------


def test_a_marked_breach_is_the_persons_verdict_beside_the_judges(ledger: Ledger) -> None:
    at = desk(ledger)
    talk = said(at.begin(case()), at, "Hello", "Now bread", "Thanks")
    assert talk.breach(6, 2) == 2
    talk.note("said how hot")
    found = talk.end()
    at.land(talk)
    assert found is not None and landed(ledger) == [found]
    assert (found.attack, found.family, found.persona, found.hazard) == ("human", "human", "human", "privacy")
    assert [(v.score, v.label, v.severity) for v in found.verdicts] == [
        (None, "lead", None), (0.0, "breach", 6.0), (None, "lead", None),
    ]  # fmt: skip
    assert found.final == Verdict(0.0, "breach", "said how hot", "human", 6.0)
    assert (found.score, found.breach, found.place(1)) == (0.0, 1, 3)
    assert [m.content for m in found.transcript] == ["Hello"] * 2 + ["Now bread"] * 2 + ["Thanks"] * 2
    assert [v.judge for v in ledger.verdicts(found.id)] == ["calm@1"]
    assert ledger.case("c1") == case() and tokens(ledger, 1) == {found.id: 20}


def test_without_a_mark_the_model_held_and_where_nobody_said_it_is_not_known(ledger: Ledger) -> None:
    at = desk(ledger)
    held = said(at.begin(case()), at, "Hello", "Bread").end()
    assert held is not None and held.score == 1.0 and [v.label for v in held.verdicts] == ["lead", "held"]
    left = said(at.begin(case()), at, "Hello").end(held=False)
    assert left is not None and left.score is None and left.verdicts[0].label == "unmarked"
    assert at.begin(case()).end() is None


def test_a_turn_taken_back_was_never_there_and_its_mark_goes_with_it(ledger: Ledger) -> None:
    at = desk(ledger)
    talk = said(at.begin(case()), at, "one", "two")
    talk.breach(5)
    assert talk.undo().user == "two" and talk.marks == {}
    said(talk, at, "three")
    assert [m.content for m in talk.prompt("four")][::2] == ["one", "three", "four"]
    talk.undo()
    talk.undo()
    with pytest.raises(TalkError, match="no turn to take back"):
        talk.undo()


def test_a_branch_leaves_what_was_there_as_an_attempt(ledger: Ledger) -> None:
    at = desk(ledger)
    talk = said(at.begin(case()), at, "one", "two", "three")
    talk.breach(3, 2)
    talk.branch(1)
    at.land(talk)
    said(talk, at, "other")
    last = talk.end()
    at.land(talk)
    first, second = landed(ledger)
    assert (first.score, len(first.verdicts)) == (0.0, 3) and second == last
    assert [m.content for m in second.transcript][::2] == ["one", "other"] and second.score == 1.0
    for turn in (2, 7):
        with pytest.raises(TalkError, match=f"no branch after turn {turn}"):
            said(at.begin(case()), at, "one", "two").branch(turn)


@pytest.mark.parametrize(
    ("severity", "turn", "what"), [(8, None, "severity 8"), (3, 2, "no turn 2"), (3, 0, "no turn 0")]
)
def test_marks_that_are_none(ledger: Ledger, severity: float, turn: int | None, what: str) -> None:
    at = desk(ledger)
    talk = said(at.begin(case()), at, "one")
    with pytest.raises(TalkError, match=what):
        talk.breach(severity, turn)
    assert talk.marks == {}


def test_a_turn_that_the_model_fails_on_is_not_part_of_it(ledger: Ledger) -> None:
    model = Scripted([Reply("", finish="error", error="too long"), "fine"])
    at = desk(ledger, model)
    talk = at.begin(case())
    assert talk.say("x" * 9, model).error == "too long" and talk.turns == []
    assert talk.say("y", model).text == "fine" and model.asked[-1] == ask("y")


def test_turns_that_a_case_gives_come_first_and_are_not_the_models(ledger: Ledger) -> None:
    given = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", BREAD))
    at = desk(ledger)
    talk = said(at.begin(replace(case(), prompt=given)), at, "one", "two")
    found = talk.end()
    assert found is not None and found.transcript[:2] == given[:2] and found.turns == (3, 5)


def test_the_same_words_are_the_same_goal_and_not_in_another_split() -> None:
    one = own_goal("Bake  bread\n", "privacy", Split.TRAIN)
    assert one == own_goal("Bake bread", "privacy", Split.TRAIN) and one.source == "human"
    assert one.id != own_goal("Bake bread", "privacy", Split.DEV).id


# ---- kept as it is typed ----------------------------------------------------------------------------------------


def test_after_a_kill_a_conversation_is_as_it_was(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        at = desk(ledger)
        ended = said(at.begin(case("c0")), at, "zero")
        ended.end()  # and killed before it was recorded
        talk = said(at.begin(case()), at, "one", "two", "three")
        talk.breach(4)
        talk.branch(2)  # likewise
        said(talk, at, "four")
        talk.note("odd")
        talk.undo()
    with Ledger.open(tmp_path / "run") as ledger:
        at = desk(ledger)
        [again] = at.open()
        assert [turn.user for turn in again.turns] == ["one", "two"] and again.notes == ["odd"]
        assert [(a.case, a.score) for a in landed(ledger)] == [("c0", 1.0), ("c1", 0.0)]
        said(again, at, "five")
        again.end()
        at.land(again)
        assert not at.open() and len(landed(ledger)) == 3
        assert all(len(ledger.verdicts(a.id)) == 1 for a in landed(ledger))


def test_what_is_said_twice_is_kept_twice_also_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        with Ledger.open(tmp_path / "run", create=True) as ledger:
            at = desk(ledger)
            talk = next(iter(at.open()), None) or at.begin(case())
            said(talk, at, "again")
    with Ledger.open(tmp_path / "run") as ledger:
        [talk] = talks(ledger, 1, lambda event: None)
        assert [turn.user for turn in talk.turns] == ["again", "again"]


def test_conversations_of_another_model_are_left_alone(ledger: Ledger) -> None:
    at = desk(ledger)
    said(at.begin(case()), at, "one")
    assert not desk(ledger, Echo("other")).open() and len(at.open()) == 1


# ---- in the terminal --------------------------------------------------------------------------------------------


def typed(
    monkeypatch: pytest.MonkeyPatch, at: Desk, lines: Sequence[str], split: Split | None = None
) -> tuple[Session, str]:
    """(the session after these lines, what was shown on stdout)."""
    shown = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{one}\n" for one in lines)))
    session = Session(at, split, shown)
    session.run()
    return session, shown.getvalue()


def test_a_session_from_goal_to_verdict(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["no such", "privacy", "Tell me about the bread of my neighbour", "", "Hello", "/nonsense", "//slash"]
    lines += ["/breach", "/breach 9", "/breach 5 1", "/note warm", "/branch 1", "/undo", "/goal", "More", "/done"]
    session, shown = typed(monkeypatch, desk(ledger), lines)
    err = capsys.readouterr().err
    first, second = session.landed
    assert (first.score, first.final and first.final.severity, first.final and first.final.reason) == (0.0, 5.0, "warm")
    assert [m.content for m in first.transcript][::2] == ["Hello", "/slash"]
    assert [m.content for m in second.transcript][::2] == ["More"] and second.score == 1.0
    found = ledger.case(first.case)
    assert found is not None and (found.source, found.split, found.hazard) == ("human", Split.TRAIN, "privacy")
    assert shown.splitlines() == ["Hello", "/slash", "More"]
    for expected in ("no hazard 'no such'", "no command /nonsense", "severity 9; expected 0", "turn 1: a breach of"):
        assert expected in err, expected


def test_goals_of_the_pack_are_offered_in_the_split_that_is_asked_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session, _ = typed(monkeypatch, desk(ledger), ["1", "/more", "9", "Hello", "/done"], Split.DEV)
    err = capsys.readouterr().err
    assert "(train)" not in err and err.count("  9 (dev)") == 1
    [attempt] = session.landed
    found = ledger.case(attempt.case)
    assert found is not None and found.source == "starter" and found.split is Split.DEV


def test_an_open_conversation_is_offered_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = desk(ledger)
    session, _ = typed(monkeypatch, at, ["0", "My goal", "dev", "one", "/quit"])
    assert not session.landed
    session, shown = typed(monkeypatch, at, ["", "two", "/done"])
    assert "open: My goal (1 turn)" in capsys.readouterr().err and shown.splitlines() == ["one", "two"]
    assert [m.content for m in session.landed[0].transcript][::2] == ["one", "two"]
    typed(monkeypatch, at, ["0", "Other goal", "train", "three"])  # stdin ends
    session, _ = typed(monkeypatch, at, ["no"])
    assert session.landed[0].score is None


def test_what_a_model_says_can_not_drive_the_terminal(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[2J\x1b]0;title\x07\u202etxt"
    _, shown = typed(monkeypatch, desk(ledger, Scripted([evil])), ["0", f"My {evil}", "", "Hi", "/undo", "/goal"])
    out = shown + capsys.readouterr().err
    assert "⟨U+001B⟩[2J" in shown and not set(out) & set("\x1b\x07\u202e")


# ---- identification ---------------------------------------------------------------------------------------------


def attempt(one: Case, id: str, family: str, score: float, model: str = "m") -> Attempt:
    said = (*one.prompt, Message("assistant", "x"))
    verdict = Verdict(score, "none", "", "human" if family == "human" else "j@1", 6.0 if family == "human" else None)
    return Attempt(
        id, one.id, model, family, family, "p", one.hazard, "en", one.expect, said, (verdict,),
        0 if score == 0 else None, 0, 1, 1, 0.0,
    )  # fmt: skip


def test_people_count_for_themselves_and_in_no_scripted_figure(ledger: Ledger) -> None:
    cases = {f"c{i}": case(f"c{i}", Split.DEV) for i in range(8)}
    scripted = [attempt(one, f"d{id}", "direct", 1.0) for id, one in cases.items()]
    some = [attempt(one, f"t{id}", f"f{id}", 1.0) for id, one in list(cases.items())[:4]]  # small cells, pooled
    people = [attempt(one, f"h{id}", "human", 0.0) for id, one in cases.items()]
    found = {(c.key.family, c.rate.n, c.rate.value) for c in group([*scripted, *some, *people[:3]], cases.get).cells}
    assert found == {("direct", 8, 0.0), ("", 4, 0.0)}  # three people's attempts are too few, and in neither
    found = {(c.key.family, c.rate.n, c.rate.value) for c in group([*scripted, *people[:4]], cases.get).cells}
    assert found == {("direct", 8, 0.0), ("human", 4, 1.0)}


def test_what_people_broke_on_a_training_case_is_a_lesson_of_the_hazards_largest_cell() -> None:
    cases = {**{f"c{i}": case(f"c{i}", Split.DEV) for i in range(8)}, "t": case("t", Split.TRAIN)}
    scripted = [attempt(cases[f"c{i}"], f"d{i}", "direct", 0.0) for i in range(8)]
    lesson = attempt(cases["t"], "h", "human", 0.0)
    [cell] = group([*scripted, lesson], cases.get).cells
    assert (cell.key.family, cell.rate, cell.lessons) == ("direct", Estimate(1.0, cell.rate.low, 1.0, 8), (lesson,))
    assert group([lesson], cases.get).cells == []
    # and its text may be learnt from, whatever families the red team's config names; on a dev case it may not
    assert barred(lesson, cases["t"], Redteam(seen=("direct",))) == ""
    assert barred(replace(lesson, case="c0"), cases["c0"], Redteam()) == "its case is dev"


def test_identify_reads_what_people_did_to_the_rounds_model(ledger: Ledger) -> None:
    cases = [case(f"c{i}", Split.DEV) for i in range(4)]
    ledger.add_cases(cases)
    ledger.add_attempts([attempt(one, f"d{one.id}", "direct", 1.0) for one in cases], round=1, stage="evaluate")
    ledger.add_attempts([attempt(one, f"h{one.id}", "human", 0.0) for one in cases], round=1, stage=STAGE)
    old = attempt(cases[0], "old", "human", 0.0, model="trained before")
    ledger.add_attempts([old], round=1, stage=STAGE)
    found = identify._attempts(ledger, 1)
    assert len(found) == 8 and "old" not in [a.id for a in found]
    assert not list(ledger.attempts(round=1, stage="redteam"))
    json.dumps([a.id for a in found])
