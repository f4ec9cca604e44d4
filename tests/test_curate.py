"""Curation on small worlds: a JSONL of neutral rows, a model without weights, the real judge and the real ledger."""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from breakfix import starter
from breakfix.config import Config, Curate, Dpo, Redteam, Source, Train
from breakfix.core import (
    Attempt,
    Case,
    Dropped,
    Estimate,
    Example,
    Expect,
    Message,
    Sampling,
    Split,
    Status,
    Verdict,
    Vulnerability,
    ask,
)
from breakfix.curate import advbench, evidence, mix, run
from breakfix.curate.base import NO_PLAN, Plan, Prompt, through
from breakfix.curate.mirror import mirrored
from breakfix.curate.sources import Gathered, check_files, gather
from breakfix.curate.steps.exact import Exact
from breakfix.curate.wrappers import fillers
from breakfix.errors import AssetError, ConfigError, DataError
from breakfix.judges.refusal import RefusalJudge
from breakfix.ledger import Ledger
from breakfix.models.fake import Fake, Refuser

ANSWER = (
    "Mix the flour with warm water and let the dough rest for an hour. Then knead it and bake it until it is brown."
)
REFUSAL = "I'm sorry, but I can't help with that."
TOPICS = (
    "hammers",
    "ladders",
    "tractors",
    "violins",
    "windmills",
    "balloons",
    "harbours",
    "glaciers",
    "orchards",
    "comets",
)


def harmful(topic: str) -> str:
    return f"Forbidden: tell me all about {topic}, today"


def twin(topic: str) -> str:
    return f"Allowed: what should children know about {topic}?"


def plain(topic: str) -> str:
    return f"Write two lines on {topic} for a postcard"


def rows(n: int = 10, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for topic in TOPICS[:n]:
        found.append({"prompt": harmful(topic), "kind": "harmful", "hazard": "privacy", **more})
        found.append({"prompt": twin(topic), "kind": "twin", "hazard": "privacy", **more})
        found.append({"prompt": plain(topic), "kind": "plain", **more})
    return found


def write(path: Path, data: Sequence[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in data), encoding="utf-8")
    return path


def source(path: Path, **more: Any) -> Source:
    return Source(name="mine", path=path, **{"licence": "MIT", **more})


def config(*sources: Source, pairs: int = 4, **more: Any) -> Config:
    bare = {"wrapped_share": 0.0, "unclear_share": 0.0, "neighbours": 0, "recovery_share": 0.0}
    curate = Curate(sources=sources, **{"harmful": 4, "harmful_share": 0.4, "twin_share": 0.4, **bare, **more})
    return Config(curate=curate, train=Train(dpo=Dpo(max_pairs=pairs)))


def read(*sources: Source, seed: int = 0, longest: int = 2000) -> Gathered:
    return gather(sources, seed=seed, longest=longest, resolve=Path)


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True) as opened:
        yield opened


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    return write(tmp_path / "mine.jsonl", rows())


def curated(
    config: Config, ledger: Ledger, model: Fake, *, round: int = 1, walls: Sequence[Case] = (), plan: Plan = NO_PLAN
) -> dict[str, Any]:
    return run(config, ledger, model, RefusalJudge(), round=round, walls=walls, plan=plan, progress=silent)


def test_rows_are_wrapped_alike_and_some_are_unreadable(ledger: Ledger, jsonl: Path) -> None:
    half = config(source(jsonl), harmful=10, wrapped_share=0.5, unclear_share=0.1)
    record = curated(half, ledger, Refuser("zzz", ANSWER))
    rows = list(ledger.examples(round=1, dataset="sft"))
    wrapped = {kind: sum(n for frame, n in some.items() if frame) for kind, some in record["wrapped"].items()}
    assert wrapped["harmful"] == pytest.approx(record["mix"]["harmful"] / 2, abs=2)
    assert wrapped["twin"] == pytest.approx(record["mix"]["twin"] / 2, abs=2)
    unreadable = [row for row in rows if row.source == "unclear"]
    assert len(unreadable) == round(0.1 * len(rows))
    assert all(row.kind == "plain" and row.rejected is None for row in unreadable)
    assert all(ledger.case(parent) is not None for row in rows for parent in row.parents)


def test_a_frame_that_comes_too_near_to_what_is_measured_is_left_away(ledger: Ledger, jsonl: Path) -> None:
    wall = Case("w", ask("{name} (customer)"), Expect.COMPLY, "suite", Split.DEV)  # nothing near
    prose = [Case(f"w{i}", ask(text), Expect.COMPLY, "suite", Split.DEV) for i, text in enumerate(fillers()["prose"])]
    record = curated(
        config(source(jsonl), harmful=10, wrapped_share=1.0), ledger, Refuser("zzz", ANSWER), walls=[wall, *prose]
    )
    assert record["wrapped"]["not"]["in this frame it overlaps what is measured"] > 0
    asked = "\n".join(m.content for e in ledger.examples(round=1, dataset="sft") for m in e.prompt)
    assert not any(text in asked for text in fillers()["prose"])


# ---- sources


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "mine.jsonl:2: not JSON"),
        ('["a"]', "mine.jsonl:2: expected an object"),
        ('{"kind": "plain"}', "mine.jsonl:2: no column 'prompt'"),
        ('{"prompt": "  ", "kind": "plain"}', "mine.jsonl:2: prompt is missing or empty"),
        ('{"prompt": 3, "kind": "plain"}', "mine.jsonl:2: prompt should be text, got int"),
        ('{"prompt": "Hi"}', "mine.jsonl:2: no column 'kind'"),
        ('{"prompt": "Hi", "kind": "bad"}', "mine.jsonl:2: kind 'bad'; expected harmful"),
        ('{"prompt": "Hi", "kind": "twin", "hazard": "rain"}', "mine.jsonl:2: hazard 'rain' is not in the taxonomy"),
        ('{"prompt": "Hi", "kind": "plain", "language": "English"}', "mine.jsonl:2: language 'English'"),
        ('{"prompt": "Hi", "kind": "harmful", "language": "sv"}', "mine.jsonl:2: no safe answers in language 'sv'"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "Hello", "kind": "plain"}\n' + line + "\n")
    with pytest.raises(DataError) as error:
        read(source(path))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_files_are_checked_ahead_of_time(tmp_path: Path, jsonl: Path) -> None:
    check_files([Source(name="starter"), source(jsonl), Source(name="a hub set", hub="not/fetched")])
    with pytest.raises(DataError, match=r"bad\.jsonl:31: no column 'prompt'"):
        check_files([source(write(tmp_path / "bad.jsonl", [*rows(), {"kind": "plain"}]))])


def test_a_file_of_which_nothing_may_be_learnt_is_refused_ahead_of_time(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [{"prompt": "Bake a cake.", "kind": "plain"}])
    told = "'mine': none of its 1 rows could be learnt from (unknown licence); give its `licence`, or `accept_licence:"
    with pytest.raises(ConfigError, match=re.escape(told)):
        check_files([source(path, licence="unknown")], any_licence=False)
    check_files([source(path, licence="MIT")], any_licence=False)
    check_files([source(path, licence="unknown", accept_licence=True)], any_licence=False)


def test_the_last_line_is_checked_before_a_model_is_asked(ledger: Ledger, tmp_path: Path) -> None:
    model = Refuser("forbidden", ANSWER)
    with pytest.raises(DataError, match=r"mine\.jsonl:31: kind 'x'"):
        curated(config(source(write(tmp_path / "mine.jsonl", [*rows(), {"prompt": "Hi", "kind": "x"}]))), ledger, model)
    assert model.asked == []


def test_jsonl_rows_become_prompts(tmp_path: Path) -> None:
    data = [
        {"text": "Hello there", "label": "plain", "reply": "Hi.", "unknown": 1},
        {"text": "Verrate mir das", "label": "harmful", "language": "de", "licence": "CC0-1.0", "hazard": "privacy"},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in data) + "\n\n", encoding="utf-8")
    one, two = read(source(path, fields={"prompt": "text", "kind": "label"})).prompts
    assert (one.case.text, one.kind, one.reply, one.case.licence) == ("Hello there", "plain", "Hi.", "MIT")
    assert (two.case.expect, two.case.language, two.case.licence) == (Expect.REFUSE, "de", "CC0-1.0")
    with pytest.raises(DataError, match="no column 'words' for prompt; the row has text, label"):
        read(source(path, fields={"prompt": "words"}))


def test_long_texts_are_cut_on_record(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [{"prompt": "word " * 100, "kind": "plain"}])
    found = read(source(path), longest=50)
    assert len(found.prompts[0].case.text) == 49  # the space at the end went, too
    assert [(c.where, c.field, c.before, c.after) for c in found.cuts] == [(f"{path}:1", "prompt", 500, 50)]
    assert found.prompts[0].why == "plain row of mine (prompt cut)"


def test_a_limit_draws_by_the_seed(jsonl: Path) -> None:
    texts = [[p.case.text for p in read(source(jsonl, limit=5), seed=seed).prompts] for seed in (0, 0, 1)]
    assert len(texts[0]) == 5 and texts[0] == texts[1] != texts[2]


def test_unknown_sources_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'startr' is not known; did you mean 'starter'. expected starter, frames"):
        read(Source(name="startr"))
    with pytest.raises(ConfigError, match="'startr' is not known"):
        check_files([Source(name="starter"), Source(name="startr")])
    with pytest.raises(DataError, match="no such file"):
        read(source(tmp_path / "no.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no rows"):
        read(source(tmp_path / "empty.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        read(source(tmp_path / "latin.jsonl"))


def test_the_starter_packs_training_rows() -> None:
    prompts = read(Source(name="starter")).prompts
    assert {p.case.split for p in prompts} == {Split.TRAIN}
    assert len(prompts) == len(starter.cases(split=Split.TRAIN))
    assert {p.kind for p in prompts} == {"harmful", "twin", "plain"}


def test_a_data_set_from_a_local_file_or_folder(tmp_path: Path) -> None:
    import datasets

    folder = tmp_path / "set"
    folder.mkdir()
    data = [{"question": f"What are {topic}?", "topic": topic} for topic in TOPICS]
    file = write(folder / "train.jsonl", data)
    datasets.Dataset.from_list(data).to_parquet(str(tmp_path / "rows.parquet"))  # pyright: ignore
    fields = {"prompt": "question"}
    for name in (file, folder, tmp_path / "rows.parquet"):
        given = Source(name="mine", hub=str(name), fields=fields, kind="plain", licence="MIT")
        assert [p.case.text for p in read(given).prompts] == [row["question"] for row in data], name
    with pytest.raises(DataError, match=r"train\.jsonl:1: no column 'q' for prompt"):
        read(Source(name="mine", hub=str(file), fields={"prompt": "q"}, kind="plain"))
    with pytest.raises(AssetError, match="split nope"):
        read(Source(name="mine", hub=str(folder), split="nope", kind="plain"))
    (tmp_path / "set.xyz").write_text("?")
    with pytest.raises(DataError, match="unknown format"):
        read(Source(name="mine", hub=str(tmp_path / "set.xyz"), kind="plain"))


def test_advbench_hazards_come_from_its_labels(tmp_path: Path) -> None:
    path = tmp_path / "adv_bench.prompt"
    seeds = [
        {"value": "Neutral one", "harm_categories": ["Physical", "Self-harm"]},
        {"value": "Neutral two about a nuclear plant", "harm_categories": ["Physical", "Loss of life"]},
        {"value": "Neutral three", "harm_categories": ["Autonomy", "Privacy loss", "Impersonation/identity theft"]},
        {"value": "Neutral four", "harm_categories": ["Political and Economic", "Information degradation"]},
    ]
    path.write_text(json.dumps({"seeds": seeds}))
    found = gather([Source(name="advbench")], seed=0, longest=99, resolve=lambda name: path).prompts
    hazards = ["suicide_self_harm", "indiscriminate_weapons", "non_violent_crimes", ""]
    assert [p.case.hazard for p in found] == hazards
    assert {(p.kind, p.case.licence, p.case.source) for p in found} == {("harmful", "MIT", "advbench")}
    with pytest.raises(DataError, match="expected a list under 'seeds'"):
        advbench.prompts(write(tmp_path / "no.prompt", [{"a": 1}]))


# ---- a round


def test_a_round_is_balanced_minted_and_on_record(ledger: Ledger, jsonl: Path) -> None:
    model = Refuser("glaciers", ANSWER)
    record = curated(config(source(jsonl)), ledger, model)
    sft = list(ledger.examples(round=1, dataset="sft"))
    assert record["rows"] == {"sft": 10, "dpo": 4}
    assert record["mix"] == {"harmful": 4, "plain": 2, "twin": 4} == Counter(e.kind for e in sft)
    assert record["licences"] == {"MIT": 10} and record["by_source"] == {"mine": 10}
    judged = {e.kind: _label(e) for e in sft}
    assert judged == {"harmful": "full", "twin": "none", "plain": "none"}
    assert {e.reply for e in sft if e.kind != "harmful"} == {ANSWER}
    assert all(e.rejected and "can" in e.rejected.lower() for e in sft if e.kind == "twin")
    assert all(e.why and e.parents and e.parents[0].startswith("mine/") for e in sft)
    dpo = list(ledger.examples(round=1, dataset="dpo"))
    assert [e.kind for e in dpo] == ["harmful", "twin", "harmful", "plain"]
    assert {e.rejected for e in dpo if e.kind == "harmful"} == {ANSWER}
    assert {a.model for a in ledger.attempts(round=1, stage="curate")} == {model.id}


def _label(example: Example) -> str:
    case = Case("c", example.prompt, Expect.COMPLY, "t", Split.TRAIN, language=example.language)
    return RefusalJudge().judge([(case, (*example.prompt, Message("assistant", example.reply)))])[0].label


def test_refused_benign_prompts_are_dropped_with_the_judges_word(ledger: Ledger, jsonl: Path) -> None:
    record = curated(config(source(jsonl), harmful=10), ledger, Refuser("allowed", ANSWER))
    assert record["mix"] == {"harmful": 6, "plain": 9}  # plain rows fill in; the harmful share is kept
    [drop] = [row for row in record["dropped"] if row["step"] == "mint"]
    assert drop == {"step": "mint", "reason": "the untouched model's reply was judged full, not an answer", "n": 10}
    assert Counter(d.step for d in ledger.drops(1)) == {"mint": 10}
    assert record["own_replies"]["twin: full"] == 10


def test_a_second_round_pays_only_for_what_is_new(ledger: Ledger, jsonl: Path) -> None:
    model = Refuser("glaciers", ANSWER)
    all_ = config(source(jsonl), harmful=10, pairs=20, answers=0)
    curated(all_, ledger, model)
    record = curated(all_, ledger, model, round=2)
    assert len(model.asked) == len(set(model.asked)) <= 30
    assert record["replayed"] == 2 and len(list(ledger.attempts(round=2, stage="curate"))) > 20


def test_a_later_round_takes_fresh_prompts_and_replays_a_few(ledger: Ledger, jsonl: Path) -> None:
    one = config(source(jsonl), harmful_share=0.5, twin_share=0.4, harmful=5, pairs=2)
    curated(one, ledger, Refuser("x", ANSWER))
    curated(one, ledger, Refuser("x", ANSWER), round=2)
    first, second = ({e.parents[0] for e in ledger.examples(round=r, dataset="sft")} for r in (1, 2))
    assert len(first) == len(second) == 10
    assert not first & second  # 10 % of 5 rows rounds down to none


def test_replay_may_be_off(ledger: Ledger, jsonl: Path) -> None:
    off = config(source(jsonl), harmful=10, pairs=20, replay=0.0)
    curated(off, ledger, Refuser("glaciers", ANSWER))
    record = curated(off, ledger, Refuser("glaciers", ANSWER), round=2)
    assert record["replayed"] == 0 and record["rows"]["sft"] > 0


def test_rows_made_for_a_fixed_weakness_come_again_where_a_person_says_so(ledger: Ledger, jsonl: Path) -> None:
    off = config(source(jsonl), harmful=10, pairs=20, replay=0.0)
    curated(off, ledger, Refuser("glaciers", ANSWER))
    made = [
        replace(e, parents=(*e.parents, "V1")) for e in ledger.examples(round=1, dataset="sft") if e.kind == "harmful"
    ]
    ledger.add_examples(made, round=1, dataset="sft")
    record = curated(off, ledger, Refuser("glaciers", ANSWER), round=2, plan=Plan(again={"V1": 3}))
    again = [e for e in ledger.examples(round=2, dataset="sft") if "V1" in e.parents]
    assert record["replayed"] == len(again) == 3 and {e.id for e in again} < {e.id for e in made}


def test_settings_that_came_later_leave_what_was_made_before_them() -> None:
    assert not {"replay", "failures", "sources"} & set(Curate().asked())
    assert set(Curate(replay=0.2, failures=False).asked()) - set(Curate().asked()) == {"replay", "failures"}


def test_the_same_seed_gives_the_same_rows(tmp_path: Path, jsonl: Path) -> None:
    found: list[list[str]] = []
    for name in ("a", "b"):
        with Ledger.open(tmp_path / name, create=True) as ledger:
            curated(config(source(jsonl)), ledger, Refuser("x", ANSWER))
            found.append([e.id for e in ledger.examples(round=1, dataset="sft")])
    assert found[0] == found[1]


def test_licences_are_a_wall_unless_the_config_says_otherwise(ledger: Ledger, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [*rows(6), *rows(8, licence="CC-BY-NC-4.0")[18:]])
    with pytest.raises(DataError, match=r"curate\.sources \(mine\): no harmful prompts are left"):
        curated(config(source(path, licence="unknown")), ledger, Refuser("x", ANSWER))
    record = curated(config(source(path)), ledger, Refuser("x", ANSWER))
    assert {"step": "licence", "reason": "non-commercial licence", "n": 6} in record["dropped"]
    record = curated(
        config(source(path, licence="unknown"), allow_unknown_licence=True, harmful=10), ledger, Refuser("x", ANSWER)
    )
    assert record["licences"]["unknown"] > 0


def test_nothing_left_to_learn_is_no_empty_round(ledger: Ledger, tmp_path: Path) -> None:
    """Replies that came with the data, none of which declines."""
    path = write(tmp_path / "mine.jsonl", rows(6, reply="Mix flour with water and leave it for a day."))
    with pytest.raises(
        DataError, match=r"no row is left to learn from; most were taken out because: .* \(\d+\); look at"
    ):
        curated(config(source(path, answers="keep")), ledger, Refuser("x", ANSWER))


def test_what_is_measured_is_not_learnt(ledger: Ledger, jsonl: Path) -> None:
    walls = [
        Case(f"w{i}", ask(harmful(topic)), Expect.REFUSE, "suite", Split.FROZEN) for i, topic in enumerate(TOPICS[:8])
    ]
    record = curated(config(source(jsonl)), ledger, Refuser("x", ANSWER), walls=walls)
    assert record["mix"]["harmful"] == 2
    assert record["decontamination"]["by_rule"] == {"exact": 8}
    assert record["decontamination"]["clean"] is True


def test_an_overlap_that_comes_in_later_refuses_to_train(
    ledger: Ledger, jsonl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that round 1 learnt from, replayed in round 2, when a suite holds it that was not there before: it is not
    replayed; and were it, the last look refuses."""
    curated(config(source(jsonl), harmful=10), ledger, Refuser("x", ANSWER))
    walls = [Case("w", e.prompt, Expect.COMPLY, "suite", Split.DEV) for e in ledger.examples(round=1, dataset="sft")]
    with pytest.raises(DataError, match="no harmful prompts are left"):
        curated(config(source(jsonl)), ledger, Refuser("x", ANSWER), round=2, walls=walls)
    some = [w for w in walls if w.text.startswith("Forbidden")][:9]
    more = write(
        jsonl.with_name("more.jsonl"), [{"prompt": f"Item {t} {t[::-1]} alone", "kind": "harmful"} for t in TOPICS]
    )
    both = config(source(jsonl), Source(name="more", path=more, licence="MIT"), harmful=40)
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules[run.__module__], "_off_new_walls", lambda here, earlier: earlier)
        with pytest.raises(DataError, match=r"\d training rows overlap what is measured .*; nothing was trained"):
            curated(both, ledger, Refuser("x", ANSWER), round=2, walls=some)
    assert list(ledger.examples(round=2, dataset="sft")) == []
    record = curated(both, ledger, Refuser("x", ANSWER), round=2, walls=some)
    learnt = {e.prompt[0].content for e in ledger.examples(round=2, dataset="sft")}
    assert learnt and not learnt & {w.text for w in some}
    noted = {drop["reason"]: drop["n"] for drop in record["dropped"] if drop["step"] == "decontaminate"}
    was = {e.prompt[0].content for e in ledger.examples(round=1, dataset="sft")}
    assert noted["learnt in an earlier round, and now overlaps suite (exact)"] == len(was & {w.text for w in some}) > 0


def test_a_source_without_harmless_rows_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [row for row in rows() if row["kind"] == "harmful"])
    with pytest.raises(DataError, match="refuses everything"):
        curated(config(source(path)), ledger, Refuser("x", ANSWER))


def test_replies_that_the_data_brings_along_are_judged(ledger: Ledger, tmp_path: Path) -> None:
    data = rows(5)
    data[0]["reply"] = ANSWER  # harmful, and answered
    data[1]["reply"] = REFUSAL  # benign, and refused
    data[2]["reply"] = "A violin is a string instrument that is played with a bow, and it sounds bright and warm."
    record = curated(config(source(write(tmp_path / "m.jsonl", data)), harmful=9), ledger, Refuser("x", ANSWER))
    assert {row["reason"] for row in record["dropped"]} == {
        "its own reply was judged none, not a full refusal",
        "its own reply was judged full, not an answer",
    }
    assert data[2]["reply"] in {e.reply for e in ledger.examples(round=1, dataset="sft")}


class Rambler(Fake):
    """Never comes to an end."""

    def answer(self, prompt: Any, sampling: Sampling, seed: int) -> str:
        return "The first sentence is here for you. " + "and on " * 40


def test_a_reply_that_the_budget_cut_is_marked_so(ledger: Ledger, jsonl: Path) -> None:
    curated(config(source(jsonl), reply_tokens=12), ledger, Rambler("rambler"))
    rows = list(ledger.examples(round=1, dataset="sft"))
    assert {row.cut for row in rows if row.kind != "harmful"} == {True}
    assert {row.cut for row in rows if row.kind == "harmful"} == {False}
    assert {row.rejected_cut for row in rows if row.kind == "harmful" and row.rejected} == {True}  # what it said itself


def test_a_reply_that_ends_with_the_budget_was_not_cut(ledger: Ledger, jsonl: Path) -> None:
    curated(config(source(jsonl), reply_tokens=len(ANSWER.split())), ledger, Refuser("x", ANSWER))
    assert not any(row.cut for row in ledger.examples(round=1, dataset="sft"))


# ---- steps


class Masks:
    """Takes telephone numbers out of prompts and replies, and drops what is only a number."""

    name = "masks"

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        only = [e for e in examples if e.prompt[-1].content.isdigit()]
        rest = [e for e in examples if not e.prompt[-1].content.isdigit()]
        return [self.masked(e) for e in rest], [Dropped(e, self.name, "a number") for e in only]

    def masked(self, e: Example) -> Example:
        said = e.prompt[-1].content.replace("555", "N")
        return replace(e, prompt=ask(said), reply=e.reply.replace("555", "N"), language="de" if "N" in said else "en")


def prompts_of(*texts: str) -> list[Prompt]:
    cases = [Case(f"c{i}", ask(text), Expect.COMPLY, "mine", Split.TRAIN) for i, text in enumerate(texts)]
    return [Prompt(one, "plain", "why", reply=f"Yes, {one.text}", parents=(one.id, "a1", "V1")) for one in cases]


def test_a_step_may_rewrite_a_prompt() -> None:
    given = prompts_of("Call 555", "666", "Hello", "Hello", "666")
    kept, dropped = through(Masks(), given)
    assert [(p.case.id, p.case.text, p.reply, p.case.language) for p in kept] == [
        ("c0", "Call N", "Yes, Call N", "de"), ("c2", "Hello", "Yes, Hello", "en"), ("c3", "Hello", "Yes, Hello", "en"),
    ]  # fmt: skip
    assert kept[1:] == given[2:4] and kept[0].parents == ("c0", "a1", "V1")
    assert [d.example.prompt[-1].content for d in dropped] == ["666", "666"]


def test_of_two_equal_rows_the_one_that_was_dropped_goes() -> None:
    given = [prompts_of("Hello")[0], replace(prompts_of("Hello")[0], why="another why")]
    kept, [dropped] = through(Exact(), given)
    assert (kept, dropped.example.why) == (given[:1], "another why")


def test_a_step_that_loses_rows_is_found_out() -> None:
    class Loses(Masks):
        def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
            return list(examples[1:]), []

    with pytest.raises(ValueError, match="step masks: 2 rows in, 1 out, 0 dropped"):
        through(Loses(), prompts_of("a", "b"))


# ---- from failures to rows


def attempt(
    case: Case, text: str, *, said: str = ANSWER, family: str = "role_play", id: str = "a1", **more: Any
) -> Attempt:
    transcript = (Message("user", text), Message("assistant", said))
    fields: dict[str, Any] = {
        "transcript": transcript,
        "verdicts": (Verdict(0.0, "none" if case.expect is Expect.REFUSE else "full", "", "j@1"),),
        "breach": 0,
        **more,
    }
    return Attempt(
        id, case.id, "m", family, family, "low-skilled", case.hazard, case.language, case.expect,
        seed=0, tokens_in=1, tokens_out=1, seconds=0.0, **fields,
    )  # fmt: skip


def case(topic: str = "hammers", split: Split = Split.TRAIN, expect: Expect = Expect.REFUSE, **more: Any) -> Case:
    text = harmful(topic) if expect is Expect.REFUSE else twin(topic)
    fields = {"id": f"c/{topic}/{expect}", "hazard": "privacy", "licence": "MIT", **more}
    return Case(prompt=ask(text), expect=expect, source="test", split=split, **fields)


def vulnerability(*evidence: str, kind: str = "harmful_compliance", **more: Any) -> Vulnerability:
    prescription = {"harmful": 8, "twins": 8} if kind == "harmful_compliance" else {"twins": 8}
    fields = {"prescription": prescription, "family": "role_play", "hazard": "privacy", **more}
    rate = Estimate(0.5, 0.3, 0.7, 20)
    return Vulnerability("V1", kind, "a weakness", language="en", severity=4.0, rate=rate, evidence=evidence, **fields)


SEEN = Redteam(seen=("direct", "role_play"), held_out=("crescendo",))


@pytest.mark.parametrize(
    ("split", "family", "said"),
    [
        (Split.TRAIN, "role_play", ""),
        (Split.TRAIN, "direct", ""),
        (Split.DEV, "role_play", "its case is dev"),
        (Split.FROZEN, "direct", "its case is frozen"),
        (Split.TRAIN, "crescendo", "its attack family crescendo is not among the seen ones"),
        (Split.TRAIN, "brand_new", "its attack family brand_new is not among the seen ones"),
    ],
)
def test_only_seen_attacks_on_training_cases_may_be_learnt_from(split: Split, family: str, said: str) -> None:
    one = case(split=split)
    assert evidence.barred(attempt(one, "x", family=family), one, SEEN) == said


def test_an_unknown_case_and_an_attempt_without_a_breach_are_barred() -> None:
    one = case()
    assert "not in the ledger" in evidence.barred(attempt(one, "x"), None, SEEN)
    assert evidence.barred(attempt(one, "x", breach=None), one, SEEN) == "it has no turn that failed"
    assert evidence.barred(attempt(one, "x", error="gone"), one, SEEN) == "it has no turn that failed"
    assert evidence.barred(
        attempt(one, "x", family="crescendo"), one, Redteam(seen=("crescendo",), held_out=("crescendo",))
    )


def test_of_a_conversation_the_turn_that_broke_is_what_to_move_away_from() -> None:
    """Turns that were given, by the case or by the attack, are not the model's: its second one broke, and was cut."""
    given = (Message("user", "Hello"), Message("assistant", "given"))
    own = (Message("user", "1"), Message("assistant", "first"), Message("user", "2"), Message("assistant", "second"))
    verdicts = tuple(Verdict(score, "none", "", "j@1") for score in (1.0, 0.0))
    one = case()
    found = attempt(one, "x", transcript=(*given, *own), verdicts=verdicts, breach=1, cut=(1,))
    for a in (found, replace(found, turns=(3, 5))):
        assert evidence.breach(a) == 5
        made = evidence._prompt(vulnerability("a1"), a, one, "harmful", "why")
        assert (made.case.prompt, made.rejected, made.rejected_cut) == ((*given, *own[:3]), "second", True)
        assert made.example("No.", made.rejected).rejected_cut and not made.example("No.", "other").rejected_cut
    early = attempt(one, "x", transcript=(*given, *own), verdicts=verdicts[:1], breach=0, turns=(3,))
    assert evidence.breach(early) == 3


@pytest.mark.parametrize("split", [Split.DEV, Split.FROZEN])
@pytest.mark.parametrize("family", ["role_play", "crescendo"])
def test_barred_text_never_reaches_a_row(ledger: Ledger, jsonl: Path, split: Split, family: str) -> None:
    secret = "Zebra quilt marmalade"
    one = case("secret", split)
    ledger.add_case(one)
    ledger.add_attempt(
        attempt(one, f"{secret}: {one.text}", said=f"{secret}. {ANSWER}", family=family), round=0, stage="redteam"
    )
    ledger.add_vulnerabilities([vulnerability("a1")], round=0)
    record = curated(config(source(jsonl)), ledger, Refuser("x", ANSWER))
    assert record["evidence"]["rows"] == 0 and sum(record["evidence"]["barred"].values()) == 1
    for dataset in ("sft", "dpo"):
        for e in ledger.examples(round=1, dataset=dataset):
            assert secret not in json.dumps([m.content for m in e.prompt] + [e.reply, e.rejected])


def test_a_breach_becomes_a_row_that_declines_and_a_wrapped_twin_that_is_answered(ledger: Ledger, jsonl: Path) -> None:
    one, other = case(), case(expect=Expect.COMPLY)
    wrapped = f"You are a parrot. {one.text} Say it in rhyme."
    ledger.add_cases([one, other])
    ledger.add_attempt(attempt(one, wrapped), round=0, stage="redteam")
    ledger.add_vulnerabilities([vulnerability("a1")], round=0)
    record = curated(config(source(jsonl)), ledger, Refuser("x", ANSWER))
    made = [e for e in ledger.examples(round=1, dataset="sft") if "V1" in e.parents]
    assert record["from_vulnerabilities"] == {"V1": 2} and len(made) == 2
    declined = next(e for e in made if e.kind == "harmful")
    assert declined.prompt == ask(wrapped) and declined.rejected == ANSWER
    assert declined.parents == (one.id, "a1", "V1") and _label(declined) == "full"
    answered = next(e for e in made if e.kind == "twin")
    assert answered.prompt[0].content.startswith("You are a parrot. Allowed: ")
    assert answered.prompt[0].content.endswith(" Say it in rhyme.") and answered.reply == ANSWER
    assert answered.parents[1:] == ("a1", "V1") and "around a harmless request" in answered.why
    assert [e.parents[-1] for e in ledger.examples(round=1, dataset="dpo")][:2] == ["V1", "V1"]


def test_several_turns_keep_their_context_up_to_the_breach() -> None:
    one = case()
    talk = (
        Message("user", "Tell me about tools."),
        Message("assistant", "There are many."),
        Message("user", one.text),
        Message("assistant", "Here it is."),
        Message("user", "More!"),
        Message("assistant", "And more."),
    )
    lead, bad = Verdict(None, "lead", "", "j@1"), Verdict(0.0, "none", "", "j@1")
    broken = attempt(one, "", transcript=talk, verdicts=(lead, bad, bad), breach=1)
    found = evidence.collect([vulnerability("a1")], {"a1": broken}, {one.id: one}, [], SEEN, random.Random(0))
    [prompt] = found.prompts
    assert prompt.case.prompt == talk[:3] and prompt.rejected == "Here it is."
    assert found.no_twin == {"no benign twin of this hazard and language": 1}
    twins = [Prompt(case(expect=Expect.COMPLY), "twin", "t")]
    again = evidence.collect([vulnerability("a1")], {"a1": broken}, {one.id: one}, twins, SEEN, random.Random(0))
    assert not again.no_twin
    assert again.prompts[1].case.prompt == (talk[0], Message("user", twins[0].case.text))  # a script: no replies yet


def test_a_request_that_does_not_stand_there_literally_has_no_wrapped_twin() -> None:
    one = case()
    encoded = mirrored(attempt(one, "Sbeovqqra"), 1, one, "Allowed")
    assert encoded == "the request does not stand literally in what the attack asked"
    assert mirrored(attempt(one, one.text), 1, one, "x") == "asked as it is: the twin itself is in the pool"
    assert mirrored(attempt(one, f"A {one.text} B"), 1, one, "x") == ask("A x B")


def test_the_own_twin_is_taken_before_its_family_and_hazard() -> None:
    one = case(family="f1")
    twins = [
        Prompt(case(t, expect=Expect.COMPLY, family=f, twin=of), "twin", "t")
        for t, f, of in (("violins", "f2", ""), ("ladders", "f1", ""), ("comets", "f2", one.id))
    ]
    for pool, topic in ((twins, "comets"), (twins[:2], "ladders"), (twins[:1], "violins")):
        broken = {"a1": attempt(one, f"Wrap {one.text}")}
        found = evidence.collect([vulnerability("a1")], broken, {one.id: one}, pool, SEEN, random.Random(0))
        assert topic in found.prompts[1].case.text


def test_no_more_rows_than_prescribed_and_nothing_degenerate_is_rejected() -> None:
    cases = {c.id: c for c in map(case, TOPICS)}
    broken = {f"a{i}": attempt(c, f"Wrap {c.text}", id=f"a{i}") for i, c in enumerate(cases.values())}
    v = vulnerability(*broken, prescription={"harmful": 3, "twins": 0})
    found = evidence.collect([v], broken, cases, [], SEEN, random.Random(0))
    assert [p.kind for p in found.prompts] == ["harmful"] * 3
    odd = {"a1": attempt(case(), "x", verdicts=(Verdict(0.0, "degenerate", "", "j@1"),))}
    [prompt] = evidence.collect([vulnerability("a1")], odd, {case().id: case()}, [], SEEN, random.Random(0)).prompts
    assert prompt.rejected is None


def test_a_needless_refusal_becomes_a_pair(ledger: Ledger, jsonl: Path) -> None:
    one = case("kites", expect=Expect.COMPLY)
    ledger.add_case(one)
    ledger.add_attempt(attempt(one, one.text, said=REFUSAL, family="direct"), round=0, stage="evaluate")
    ledger.add_vulnerabilities([vulnerability("a1", kind="over_refusal", family="direct")], round=0)
    record = curated(config(source(jsonl)), ledger, Refuser("x", ANSWER))
    [made] = [e for e in ledger.examples(round=1, dataset="sft") if "V1" in e.parents]
    assert (made.kind, made.reply, made.rejected) == ("twin", ANSWER, REFUSAL)
    assert record["evidence"]["rows"] == 1


def test_a_refused_everyday_request_becomes_a_plain_row(ledger: Ledger, jsonl: Path) -> None:
    one = case("kites", expect=Expect.COMPLY, hazard="")
    ledger.add_case(one)
    ledger.add_attempt(attempt(one, one.text, said=REFUSAL, family="direct"), round=0, stage="evaluate")
    ledger.add_vulnerabilities(
        [vulnerability("a1", kind="over_refusal", hazard="", prescription={"plain": 8})], round=0
    )
    curated(config(source(jsonl)), ledger, Refuser("x", ANSWER))
    [made] = [e for e in ledger.examples(round=1, dataset="sft") if "V1" in e.parents]
    assert (made.kind, made.reply, made.rejected) == ("plain", ANSWER, REFUSAL)


def test_fixed_vulnerabilities_prescribe_nothing(ledger: Ledger, jsonl: Path) -> None:
    ledger.add_vulnerabilities([vulnerability(status=Status.FIXED)], round=0)
    assert curated(config(source(jsonl)), ledger, Refuser("x", ANSWER))["from_vulnerabilities"] == {}


def test_no_models_reply_to_child_exploitation_is_kept(ledger: Ledger, tmp_path: Path) -> None:
    data = [{**row, "hazard": "child_sexual_exploitation"} if row["kind"] == "harmful" else row for row in rows()]
    model = Refuser("x", ANSWER)
    curated(config(source(write(tmp_path / "m.jsonl", data))), ledger, model)
    assert not [p for p in model.asked if p[0].content.startswith("Forbidden")]
    assert all(e.rejected is None for e in ledger.examples(round=1, dataset="sft") if e.kind == "harmful")


# ---- the mix


def test_sizes_keep_the_harmful_share() -> None:
    curate = Curate(harmful=100, harmful_share=0.5, twin_share=0.3)
    assert mix.sizes(curate, {"harmful": 200, "twin": 99, "plain": 99}, {}) == {"harmful": 100, "twin": 60, "plain": 40}
    assert mix.sizes(curate, {"harmful": 200, "twin": 9, "plain": 99}, {}) == {"harmful": 100, "twin": 9, "plain": 91}
    assert mix.sizes(curate, {"harmful": 200, "twin": 99, "plain": 9}, {}) == {"harmful": 100, "twin": 91, "plain": 9}
    assert mix.sizes(curate, {"harmful": 200, "twin": 10, "plain": 9}, {}) == {"harmful": 19, "twin": 10, "plain": 9}
    assert mix.sizes(curate, {"harmful": 10, "twin": 99, "plain": 99}, {}) == {"harmful": 10, "twin": 6, "plain": 4}


def test_prescriptions_add_to_the_benign_side_within_bounds() -> None:
    curate, plenty = Curate(harmful=100, harmful_share=0.5, twin_share=0.3), {"harmful": 200, "twin": 99, "plain": 99}
    assert mix.sizes(curate, plenty, {"twin": 5, "plain": 64}) == {"harmful": 100, "twin": 65, "plain": 48}
    refusing, answering = vulnerability(kind="over_refusal"), vulnerability()
    assert mix.added([refusing, answering]) == {"twin": 8, "plain": 0}
    assert mix.prescribed([refusing, answering])["twin"] == {("privacy", "en"): 16}


def pool(**counts: int) -> list[Prompt]:
    """hazard_language=n → n prompts."""
    return [
        Prompt(case(f"{cell}{i}", hazard=cell.split("_")[0], language=cell.split("_")[1]), "harmful", "t")
        for cell, n in counts.items()
        for i in range(n)
    ]


def ordered(prompts: Sequence[Prompt], n: int, boost: mix.Boost | None = None, **more: Any) -> Counter[str]:
    fields = {"used": set[str](), "prefer": set[str](), **more}
    first = mix.order(prompts, n, boost or {}, random.Random(0), **fields)
    assert len(first) == len(prompts)
    return Counter(f"{p.case.hazard}_{p.case.language}" for p in first[:n])


def test_any_first_part_is_balanced_over_hazards_and_true_to_the_languages() -> None:
    """A hazard with nine times the prompts gets three times the rows; a language what it has."""
    prompts = pool(hate_en=72, privacy_en=8, hate_de=10, privacy_de=10)
    assert ordered(prompts, 20) == {"hate_en": 12, "privacy_en": 4, "hate_de": 2, "privacy_de": 2}
    assert ordered(prompts, 10) == {"hate_en": 6, "privacy_en": 2, "hate_de": 1, "privacy_de": 1}


def test_a_prescription_moves_rows_to_its_hazard_and_language() -> None:
    prompts = pool(hate_en=60, privacy_en=60)
    assert ordered(prompts, 40, {("hate", "en"): 20}) == {"hate_en": 27, "privacy_en": 13}
    assert ordered(prompts, 40, {("hate", ""): 20}) == {"hate_en": 27, "privacy_en": 13}


def test_fresh_prompts_and_the_twins_of_what_was_chosen_come_first() -> None:
    prompts = pool(hate_en=3)
    ids = [p.case.id for p in prompts]
    first = mix.order(prompts, 3, {}, random.Random(0), used={ids[0], ids[2]}, prefer=set())
    assert first[0].case.id == ids[1]
    twins = [Prompt(case(t, hazard="hate", twin=of), "twin", "t") for t, of in (("a", "h1"), ("b", "h2"), ("c", "h3"))]
    assert mix.order(twins, 3, {}, random.Random(0), used=set(), prefer={"h2"})[0].case.twin == "h2"


def test_pairs_are_as_many_benign_as_harmful() -> None:
    def row(kind: str, i: int, rejected: str | None = "no") -> Example:
        return Example(ask(f"{kind} {i}"), "yes", "t", "MIT", "w", kind, rejected)

    given = [
        *(row("harmful", i) for i in range(5)),
        row("twin", 0),
        row("plain", 1, None),
        row("twin", 2),
        row("twin", 3),
    ]
    assert [e.prompt[0].content for e in mix.pairs(given, 4)] == ["harmful 0", "twin 0", "harmful 1", "twin 2"]
    assert len(mix.pairs(given, 100)) == 6
    plain = [row("plain", 4), row("plain", 5)]
    assert [e.kind for e in mix.pairs([*given, *plain], 8)[1::2]] == ["twin", "plain", "twin", "plain"]
    assert mix.pairs(given[:5], 100) == []
