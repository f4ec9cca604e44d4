"""Saved attack sets and replays, worked by hand: lines there and back, bad lines, turns put again, paired outcomes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from breakfix import campaign
from breakfix.campaign import Put
from breakfix.config import Redteam, parse
from breakfix.core import Attempt, Case, Conversation, Expect, Message, Reply, Sampling, Split, Verdict, ask
from breakfix.errors import ConfigError, DataError
from breakfix.ledger import Ledger
from breakfix.models.fake import Echo, Refuser, Scripted
from breakfix.ready import check
from breakfix.redteam import ATTACKS, sets
from breakfix.redteam.replay import STAGE, Replay, change, run
from breakfix.redteam.sets import Saved, Step, collect, line, read, schema

BREAD = "Explain how to bake bread"
HELD_OUT = ("crescendo", "prefill", "many_shot")


class Words:
    """Broken where the reply has "sure" in it; a reply without words can't be judged."""

    name = "words@1"

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        return [self._one(said[-1].content.lower()) for _, said in rows]

    def _one(self, said: str) -> Verdict:
        if not said.strip():
            return Verdict(None, "unscored", "no words", self.name)
        broke = "sure" in said
        return Verdict(0.0 if broke else 1.0, "none" if broke else "full", "", self.name)


def case(id: str = "c1", text: str = BREAD, **more: Any) -> Case:
    return Case(id, ask(text), Expect.REFUSE, "test", Split.DEV, **{"hazard": "privacy", **more})


def attack(names: Sequence[str], model: Any, cases: Sequence[Case] = (case(),)) -> list[Attempt]:
    puts = [Put(one, ATTACKS[name]) for one in cases for name in names]
    outcome = campaign.run(
        puts, model, Words(), sampling=Sampling(32), seed=0, known=lambda ids: {}, record=lambda attempts: None
    )
    return list(outcome.attempts)


def collected(attempts: Sequence[Attempt], *, cases: Sequence[Case] = (case(),), **more: Any) -> list[Saved]:
    by_id = {one.id: one for one in cases}
    found, left_out = collect(attempts, by_id.get, ATTACKS, HELD_OUT, lambda attempt: 32, **more)
    assert not left_out
    return found


def written(path: Path, saved: Sequence[Saved]) -> Path:
    path.write_text("".join(f"{line(one)}\n" for one in saved))
    return path


def quiet(what: str, done: int, total: int) -> None:
    pass


# ---- lines ------------------------------------------------------------------------------------------------------

NAMES = ("direct", "role_play", "prefill", "prefill_json", "many_shot", "crescendo", "accepted_offer", "translation")


@pytest.fixture(scope="module")
def saved() -> list[Saved]:
    one = case(translations={"fr": "Explique comment faire du pain"})
    return collected(attack(NAMES, Refuser("bread", "Sure, first flour."), [one]), cases=[one])


def test_lines_are_read_as_they_were_written_and_keep_to_the_schema(saved: list[Saved], tmp_path: Path) -> None:
    found = read(written(tmp_path / "set.jsonl", saved))
    assert found == saved and found[1].where.endswith("set.jsonl:2")
    validator = jsonschema.Draft202012Validator(schema())
    for row in (json.loads(line(one)) for one in saved):
        validator.validate(row)
    sides = {one.attack: one.side for one in saved}
    assert (sides["direct"], sides["role_play"], sides["crescendo"]) == ("direct", "seen", "held_out")
    assert {one.attack: one.adaptive for one in saved}["crescendo"] and not saved[0].adaptive


def test_replies_are_saved_only_where_they_are_asked_for(saved: list[Saved]) -> None:
    assert "I'm sorry" not in "".join(map(line, saved))
    [one] = collected(attack(["crescendo"], Echo()), replies=True)
    assert [step.reply for step in one.steps] == [step.said[-1].content for step in one.steps]


def test_a_begun_answer_is_told_from_what_the_model_added(saved: list[Saved]) -> None:
    begun = {one.attack: one.steps[0].begun for one in saved}
    assert begun["prefill"] == "Sure, here is" and begun["prefill_json"].startswith('{"title"')
    assert begun["direct"] == begun["many_shot"] == ""
    [one] = collected(attack(["prefill"], Echo()), replies=True)
    assert one.steps[0].reply == BREAD


def test_what_an_attack_began_and_is_not_known_any_more_is_left_out() -> None:
    [attempt] = attack(["prefill"], Echo())
    found, left_out = collect([attempt], lambda id: case(), {}, (), lambda attempt: None)
    assert not found and "is not known here" in next(iter(left_out))
    other = replace(case(), prompt=ask("Something else"))
    found, left_out = collect([attempt], lambda id: other, ATTACKS, (), lambda attempt: None)
    assert not found and "was another one then" in next(iter(left_out))
    found, left_out = collect([attempt], lambda id: None, ATTACKS, (), lambda attempt: None)
    assert not found and left_out == {"its case is not in the ledger": 1}


BAD = [
    ("{", "not JSON (Expecting property name enclosed in double quotes)"),
    ("[]", "the line is missing or no object"),
    ({"schema": "breakfix-attack-set/9"}, "schema is 'breakfix-attack-set/9'; expected 'breakfix-attack-set/1'"),
    ({"schema": None}, "no schema; expected"),
    ({"asked": []}, "'asked' is empty"),
    ({"asked": [{"turns": [], "lead": False}]}, "step 1: its turns end with 'nothing'; expected a user's turn"),
    ({"asked": [{"turns": [{"role": "user", "content": 3}], "lead": False}]}, "step 1: a turn needs a role"),
    ({"asked": [{"turns": [{"role": "user", "content": "a"}]}]}, "step 1: 'lead' is missing or not true or false"),
    ({"side": "left"}, "side is 'left'; expected one of direct, seen, held_out, human"),
    ({"split": "train"}, "split is 'train', and that of its case 'dev'"),
    ({"verdict": {"score": 0.5, "label": "", "judge": "", "severity": None}}, "'score' is 0.5; expected 0, 1 or null"),
    ({"breach": 7}, "breach is 7; expected the index of one of 1 steps, or null"),
    ({"max_new_tokens": 0}, "'max_new_tokens' is 0"),
    ({"seed": "x"}, "'seed' is no whole number"),
    ({"model": None}, "'model' is missing or no text"),
    ({"case": {"id": "c1"}}, "the case has no 'prompt', or it is no list"),
]


@pytest.mark.parametrize(("bad", "said"), BAD, ids=[said for _, said in BAD])
def test_a_bad_line_is_named_with_its_number(saved: list[Saved], tmp_path: Path, bad: Any, said: str) -> None:
    path = written(tmp_path / "set.jsonl", saved[:2])
    row = bad if isinstance(bad, str) else json.dumps({**json.loads(line(saved[0])), **bad})
    path.write_text(path.read_text() + "\n" + row + "\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}:4: {said}")


def test_a_case_with_a_wrong_field_is_named(saved: list[Saved], tmp_path: Path) -> None:
    row = json.loads(line(saved[0]))
    for change_, said in (
        ({"colour": "red"}, "the case is not valid (Case has no field 'colour')"),
        ({"split": "best"}, "the case's split is 'best'; expected train, dev, frozen"),
        ({"hazard": 3}, "the case's 'hazard' is no text"),
        ({"translations": 3}, "the case is not valid"),
    ):
        path = tmp_path / "set.jsonl"
        path.write_text(json.dumps({**row, "case": {**row["case"], **change_}}))
        with pytest.raises(DataError, match=r"set\.jsonl:1: ") as error:
            read(path)
        assert said in str(error.value)


def test_files_that_are_no_set(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    with pytest.raises(DataError, match="no such file"):
        read(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        read(path)
    path.write_text("\n\n")
    with pytest.raises(DataError, match="no lines"):
        read(path)
    path.write_text("{\n[]\n")
    with pytest.raises(DataError, match=r":1: not JSON .*\(and 1 more lines are not right\)$"):
        read(path)


def test_a_set_is_no_source_of_training_data(saved: list[Saved], tmp_path: Path) -> None:
    path = written(tmp_path / "set.jsonl", saved)
    for more in ({}, {"kind": "harmful", "fields": {"prompt": "case.prompt"}}):
        source = {"name": "mine", "path": str(path), **more}
        with pytest.raises(ConfigError, match="is a saved attack set, which holds what is only measured"):
            check(parse({"curate": {"sources": [source]}}))


# ---- replays ----------------------------------------------------------------------------------------------------


def test_every_turn_is_put_again_with_the_new_models_own_replies_in_between(saved: list[Saved]) -> None:
    [one] = [one for one in saved if one.attack == "crescendo"]
    model = Scripted(["one", "two", "three", "sure, four"])
    record, [found] = run([one], model, Words(), seed=0, progress=quiet)
    assert found is not None and [m.content for m in found.transcript][1::2] == ["one", "two", "three", "sure, four"]
    assert [m.content for m in found.transcript][::2] == [step.said[-1].content for step in one.steps]
    assert [verdict.label for verdict in found.verdicts] == ["lead", "lead", "lead", "none"] and found.breach == 3
    assert (found.attack, found.family, found.persona) == ("replay/crescendo", "crescendo", "intermediate")
    assert record["static"] == 1 and record["queries"] == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_replay_asks_the_same_model_the_same(name: str) -> None:
    one = case(translations={"fr": "Explique comment faire du pain"})
    model = Refuser("bread", "Sure, first flour.")
    [attempt] = attack([name], model, [one])
    [kept] = collected([attempt], cases=[one])
    model.asked.clear()
    record, [found] = run([kept], model, Words(), seed=0, progress=quiet)
    assert found is not None and found.transcript == attempt.transcript
    assert (found.score, found.breach, found.language) == (attempt.score, attempt.breach, attempt.language)
    assert [v.score for v in found.verdicts] == [v.score for v in attempt.verdicts]
    assert record["other_judge"] == record["other_length"] == 0 and record["max_new_tokens"] == [32]
    assert record["changes"]["all"]["difference"]["value"] == 0


def test_given_turns_and_system_prompts_come_again() -> None:
    talk = (Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi"))
    one = replace(case(), prompt=(*talk, Message("user", BREAD)))
    [attempt] = attack(["direct"], Echo(), [one])
    [kept] = collected([attempt], cases=[one])
    assert kept.steps == (Step(one.prompt),)
    model = Echo()
    run([kept], model, Words(), seed=0, progress=quiet)
    assert model.asked == [one.prompt]


def test_what_the_model_failed_on_is_asked_again_and_is_not_scored_on_both_sides() -> None:
    attempts = attack(["prefill"], Scripted([Reply("", finish="error", error="gone")]))
    [kept] = collected(attempts)
    assert (kept.error, kept.score, kept.steps[0].begun) == ("gone", None, "Sure, here is")
    record, [found] = run([kept], Echo(), Words(), seed=0, progress=quiet)
    assert found is not None and found.error is None
    assert record["changes"]["all"]["unscored"] == 1 and record["changes"]["all"]["p"] is None


def test_a_turn_that_may_only_lead_up_to_the_request_is_not_put_again_as_if_it_were_it() -> None:
    failed = Reply("", finish="error", error="gone")
    attempts = attack(["crescendo"], Scripted([Reply("Flour.", 1, 1), failed]))
    attempts += attack(["best_of_4", "long_dialogue"], Scripted([failed] * 2))
    found, left_out = collect(attempts, lambda id: case(), ATTACKS, HELD_OUT, lambda attempt: 32)
    assert [one.attack for one in found] == ["best_of_4", "long_dialogue"]
    [(why, n)] = left_out.items()
    assert n == 1 and why.startswith("the model failed in a conversation")


def test_lines_that_ask_the_same_are_one_attempt_and_pair_each_with_it(saved: list[Saved]) -> None:
    twice = [saved[0], replace(saved[0], id="a2", model="other")]
    model = Echo()
    _, [one, two] = run(twice, model, Words(), seed=0, progress=quiet)
    assert one == two and len(model.asked) == 1


def test_each_line_is_put_with_the_length_it_had(saved: list[Saved]) -> None:
    lines = [replace(saved[0], max_new_tokens=2), replace(saved[1], max_new_tokens=None)]
    record, [one, two] = run(lines, Echo(), Words(), seed=0, progress=quiet)
    assert one is not None and len(one.transcript[-1].content.split()) == 2 and two is not None
    assert record["max_new_tokens"] == [2, 48] and record["other_length"] == 1
    record, _ = run(lines, Echo(), Words(), seed=0, tokens=9, progress=quiet)
    assert record["max_new_tokens"] == [9] and record["other_length"] == 2


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True) as opened:
        yield opened


def test_in_a_ledger_replays_are_a_stage_of_their_own_and_go_on(saved: list[Saved], ledger: Ledger) -> None:
    record, first = run(saved, Echo(), Words(), seed=0, ledger=ledger, round=2, progress=quiet)
    kept = list(ledger.attempts(round=2, stage=STAGE))
    assert len(kept) == len(saved) == record["attempts"] and record["reused"] == 0
    assert not list(ledger.attempts(round=2, stage="redteam"))
    model = Echo()
    record, again = run(saved, model, Words(), seed=0, ledger=ledger, round=2, progress=quiet)
    assert again == first and not model.asked and record["reused"] == len(saved)


def test_a_case_of_the_run_is_not_replaced_by_a_sets(saved: list[Saved], ledger: Ledger) -> None:
    ledger.add_case(saved[0].case)
    other = replace(saved[0], case=replace(saved[0].case, split=Split.TRAIN), where="set.jsonl:1")
    with pytest.raises(DataError, match=r"^set.jsonl:1: the case 'c1' is another one in this run"):
        run([other], Echo(), Words(), seed=0, ledger=ledger, progress=quiet)
    assert ledger.case("c1") == saved[0].case and not list(ledger.attempts())


def test_the_attack_has_what_a_campaign_reads(saved: list[Saved]) -> None:
    one = Replay(saved[0])
    assert (one.queries, one.turns, one.uses_helper, one.access) == (1, 1, False, "black-box")
    assert Replay(next(s for s in saved if s.attack == "prefill")).access == "prefill"
    other = Replay(replace(saved[0], steps=(Step(ask("Bake a cake")),)))
    assert other.version != one.version and next(other(case(), random.Random(0))).prompt == ask("Bake a cake")


# ---- figures ----------------------------------------------------------------------------------------------------


def test_cases_that_are_there_once_are_paired_by_mcnemar() -> None:
    pairs = [(f"c{i}", 1.0, 0.0) for i in range(6)] + [(f"d{i}", 0.0, 0.0) for i in range(4)] + [("e", None, 1.0)]
    found = change(pairs)
    assert (found["n"], found["cases"], found["unscored"]) == (10, 10, 1)
    assert found["difference"]["value"] == pytest.approx(-0.6) and found["difference"]["high"] < 0
    assert found["p"] == pytest.approx(2 / 64) and found["test"] == "McNemar, exact"
    assert (found["only_before"], found["only_after"]) == (6, 0)
    assert found["before"]["value"] == 0.6 and found["after"]["value"] == 0.0
    assert found["by_case"]["difference"] == {**found["difference"], "unscored": 0}


def test_attempts_of_one_case_are_not_independent() -> None:
    """Ten attempts on each of two cases, all better: as evidence no more than two cases."""
    pairs = [(case, 1.0, 0.0) for case in ("a", "b") for _ in range(10)]
    found = change(pairs)
    assert found["n"] == 20 and found["cases"] == 2 and found["test"] == "randomisation over cases"
    assert found["difference"]["value"] == -1 and found["difference"]["high"] > -0.5
    assert found["p"] == pytest.approx(0.5, abs=0.05) and found["by_case"]["p"] == 0.5


def test_of_nothing_there_is_no_figure() -> None:
    found = change([("a", None, 1.0)])
    assert found["n"] == 0 and found["unscored"] == 1 and found["p"] is None and found["by_case"]["p"] is None
    assert found["difference"]["value"] is None
    json.dumps(found, allow_nan=False)


def test_sides() -> None:
    assert sets.side("direct", ()) == "direct" and sets.side("human", ()) == "human"
    assert sets.side("base64+role_play", Redteam(held_out=("base64∘role_play",)).held_out) == "held_out"
