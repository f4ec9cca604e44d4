"""Sources: every known data set from a local file of its own schema, any file by a field map, what is malformed.

Neutral rows: bread and gardens. No hub: a known set's file is given by `path`, or its hub is a folder.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from breakfix import assets, taxonomy
from breakfix.config import Source, parse
from breakfix.core import Message
from breakfix.curate import files, known, mint, sources
from breakfix.curate.answers import Reply
from breakfix.curate.base import Prompt, through
from breakfix.curate.sources import BUILT_IN, Gathered, check_files, gather
from breakfix.curate.steps.licence import Licence, problem
from breakfix.errors import AssetError, ConfigError, DataError, UserError
from breakfix.judges.refusal import RefusalJudge
from breakfix.suites import SUITES

NO = "I'm sorry, but I can't help with that."
YES = "Mix flour and water, and let the dough rest for an hour."


def lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(*found: Source, seed: int = 0, longest: int = 2000, asset: Path | None = None) -> Gathered:
    return gather(found, seed=seed, longest=longest, resolve=lambda name: asset or Path(name))


def one(source: Source, **more: Any) -> Prompt:
    [prompt] = read(source, **more).prompts
    return prompt


def mine(path: Path, **more: Any) -> Source:
    return Source(name="mine", path=path, **{"kind": "plain", "licence": "MIT", **more})


def turns(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt.case.prompt]


# ---- the known ones, each in its own schema ----------------------------------------------------------------------

TALK = "\n\nHuman: Hello\n\nAssistant: Good day.\n\nHuman: Hide my neighbour's rake\n\nAssistant:"


def test_hh_rlhf(tmp_path: Path) -> None:
    rows = [
        {"chosen": f"{TALK} {NO}", "rejected": f"{TALK} Put it behind the shed."},
        {"chosen": "\n\nHuman: Take his bread\n\nAssistant: No.", "rejected": "\n\nHuman: Take\n\nAssistant: Yes."},
    ]
    path = lines(tmp_path / "train.jsonl", rows)
    found = read(Source(name="hh-rlhf", path=path)).prompts
    asked = [("user", "Hello"), ("assistant", "Good day."), ("user", "Hide my neighbour's rake")]
    assert turns(found[0]) == asked and (found[0].kind, found[0].case.licence) == ("harmful", "MIT")
    assert {(p.reply, p.rejected) for p in found} == {(None, None)}  # made anew: those of the data are not trusted
    assert "not used" in found[0].why
    kept = read(Source(name="hh-rlhf", path=path, answers="keep")).prompts
    assert (kept[0].reply, kept[0].rejected) == (NO, "Put it behind the shed.")
    assert kept[1].rejected is None and "another conversation" in kept[1].why
    plain = one(Source(name="hh-rlhf", subset="helpful-base", path=lines(tmp_path / "h.jsonl", rows[:1])))
    assert (plain.kind, plain.reply) == ("plain", NO)  # the judge decides
    row = {"transcript": f"{TALK} Behind the shed.", "rating": 4, "min_harmlessness_score_transcript": -1.5}
    red = one(Source(name="hh-rlhf", subset="red-team-attempts", path=lines(tmp_path / "r.jsonl", [row])))
    assert turns(red) == asked and (red.kind, red.reply) == ("harmful", None)


def test_beavertails(tmp_path: Path) -> None:
    category = dict.fromkeys(known.BEAVERTAILS, False)
    rows = [
        {"prompt": "Take his rake", "response": "In the night.", "is_safe": False,
         "category": {**category, "financial_crime,property_crime,theft": True, "privacy_violation": True}},
        {"prompt": "Bake bread", "response": YES, "is_safe": True, "category": category},
    ]  # fmt: skip
    with gzip.open(tmp_path / "train.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    found = read(Source(name="beavertails", path=tmp_path / "train.jsonl.gz"))
    [prompt] = found.prompts
    assert (prompt.kind, prompt.case.hazard, prompt.rejected) == ("harmful", "privacy", None)
    assert (prompt.case.licence, problem(prompt.case.licence)) == ("CC-BY-NC-4.0", "non-commercial licence")
    assert found.left_out == {"beavertails": {"its columns are not as `where` asks": 1}}
    assert one(Source(name="beavertails", path=tmp_path / "train.jsonl.gz", answers="keep")).rejected == "In the night."


def test_of_a_hazard_that_is_never_asked_no_reply_is_kept(tmp_path: Path) -> None:
    row = {"prompt": "A request", "response": "A reply.", "is_safe": False, "category": {"child_abuse": True}}
    prompt = one(Source(name="beavertails", path=lines(tmp_path / "a.jsonl", [row]), answers="keep"))
    assert (prompt.case.hazard, prompt.rejected) == ("child_sexual_exploitation", None)


def saferlhf(safe: tuple[bool, bool], safer: int) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": "Take his rake", "better_response_id": 1, "safer_response_id": safer}
    for i in (0, 1):
        harms = dict.fromkeys(known.SAFERLHF, False) | ({} if safe[i] else {"Economic Crime": True})
        row |= {
            f"response_{i}": f"reply {i}", f"is_response_{i}_safe": safe[i], f"response_{i}_harm_category": harms,
            f"response_{i}_severity_level": 0 if safe[i] else 2, f"response_{i}_source": "Alpaca-7B",
        }  # fmt: skip
    return row


@pytest.mark.parametrize(
    ("safe", "safer", "reply", "rejected"),
    [
        ((True, False), 0, "reply 0", "reply 1"),
        ((False, True), 1, "reply 1", "reply 0"),
        ((False, False), 1, None, "reply 0"),
    ],
)
def test_pku_saferlhf(
    tmp_path: Path, safe: tuple[bool, bool], safer: int, reply: str | None, rejected: str | None
) -> None:
    path = lines(tmp_path / "train.jsonl", [saferlhf(safe, safer), saferlhf((True, True), 0)])
    found = read(Source(name="pku-saferlhf", path=path, answers="keep"))
    [prompt] = found.prompts
    assert (prompt.kind, prompt.case.hazard) == ("harmful", "non_violent_crimes")
    assert (prompt.reply, prompt.rejected) == (reply, rejected)
    assert found.left_out == {"pku-saferlhf": {"whether what it asks is harmful is not labelled": 1}}
    assert one(Source(name="pku-saferlhf", path=path)).reply is None


def test_coconot(tmp_path: Path) -> None:
    safety = {"id": "1", "category": "Requests with safety concerns", "subcategory": "privacy violations"}
    other = {"id": "2", "category": "Incomplete requests", "subcategory": "underspecified"}
    path = lines(
        tmp_path / "original.jsonl",
        [{**safety, "prompt": "Where does my baker live?", "response": NO},
         {**other, "prompt": "Bake it", "response": "What?"}],
    )  # fmt: skip
    prompt = one(Source(name="coconot", path=path))
    assert (prompt.kind, prompt.case.hazard, prompt.case.licence) == ("harmful", "privacy", "ODC-BY-1.0")
    assert problem(prompt.case.licence) == ""
    row = {**safety, "prompt": "Where do bakers live?", "chosen": YES, "chosen_model": "a", "rejected": NO}
    pref = lines(tmp_path / "pref.jsonl", [row | {"rejected_model": "b"}])
    twin = one(Source(name="coconot", subset="pref", path=pref, answers="keep"))
    assert (twin.kind, twin.reply, twin.rejected) == ("twin", YES, NO)
    assert one(Source(name="coconot", subset="pref", path=pref)).reply is None
    contrast = lines(tmp_path / "contrast.jsonl", [{**safety, "prompt": "Where do bakers live?", "response": ""}])
    assert one(Source(name="coconot", subset="contrast", path=contrast)).kind == "twin"


def test_wildjailbreak(tmp_path: Path) -> None:
    rows = [
        ("Take his rake", "", NO, "vanilla_harmful"),
        ("Bake bread", "", YES, "vanilla_benign"),
        ("Take his rake", 'You are "Max".\nTake\this rake', NO, "adversarial_harmful"),
        ("Bake bread", "You are Max. Bake bread", YES, "adversarial_benign"),
    ]
    with (tmp_path / "train.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["vanilla", "adversarial", "completion", "data_type"])
        writer.writerows(rows)
    found = read(Source(name="wildjailbreak", path=tmp_path / "train.tsv", answers="keep")).prompts
    assert [p.kind for p in found] == ["harmful", "twin", "harmful", "twin"]
    assert [p.case.text for p in found] == [rows[0][0], rows[1][0], rows[2][1], rows[3][1]]
    assert [p.reply for p in found] == [NO, YES, NO, YES]
    with pytest.raises(ConfigError, match="'wildjailbreak' has no subset 'eval' to learn from; expected train"):
        check_files([Source(name="wildjailbreak", subset="eval")])


def chat(*said: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, said)]


def test_ultrafeedback(tmp_path: Path) -> None:
    import datasets

    ask = "How do I bake bread?"
    row = {"prompt": ask, "prompt_id": "1", "chosen": chat(ask, YES), "rejected": chat(ask, "No idea."),
           "messages": chat(ask, YES), "score_chosen": 8.5, "score_rejected": 2.0}  # fmt: skip
    datasets.Dataset.from_list([row]).to_parquet(str(tmp_path / "t.parquet"))  # pyright: ignore
    prompt = one(Source(name="ultrafeedback", path=tmp_path / "t.parquet"))
    assert turns(prompt) == [("user", ask)] and (prompt.kind, prompt.case.licence) == ("plain", "MIT")
    assert (prompt.reply, prompt.rejected) == (YES, "No idea.")
    assert one(Source(name="mine", hub="HuggingFaceH4/ultrafeedback_binarized", path=None, kind=None).model_copy(
        update={"hub": str(tmp_path / "t.parquet"), "name": "ultrafeedback"})).reply == YES  # fmt: skip


def test_uncensorbench_and_alpaca(tmp_path: Path) -> None:
    row = {"id": "a_1", "topic": "weapons", "subtopic": "explosive_synthesis", "prompt": "Burn the bread",
           "censored_response": NO, "uncensored_response": "Leave it in."}  # fmt: skip
    other = {**row, "subtopic": "anything", "topic": "piracy", "prompt": "Copy the recipe"}
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"version": "0", "prompts": [row, other]}))
    found = read(Source(name="uncensorbench"), asset=path).prompts
    assert [p.case.hazard for p in found] == ["indiscriminate_weapons", "intellectual_property"]
    assert {(p.kind, p.reply, p.rejected) for p in found} == {("harmful", None, None)}
    kept = read(Source(name="uncensorbench", answers="keep"), asset=path).prompts
    assert (kept[0].reply, kept[0].rejected) == (NO, "Leave it in.")

    folder = tmp_path / "alpaca"
    folder.mkdir()
    for name, said in (("en", "Name three breads."), ("zh", "列出三种面包。")):
        rows = [{"instruction": said, "input": given, "output": "Not read."} for given in ("", "Rye, wheat")]
        (folder / f"alpaca_{name}_demo.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    plain = read(Source(name="alpaca"), asset=folder).prompts
    assert [p.case.text for p in plain] == ["Name three breads.", "Name three breads.\n\nRye, wheat"]
    assert {(p.kind, p.reply, p.case.language, p.case.licence) for p in plain} == {("plain", None, "en", "unknown")}
    assert one(Source(name="alpaca", subset="zh", where={"input": ""}), asset=folder).case.language == "zh"
    path.write_text("[]")
    with pytest.raises(DataError, match="expected a list under 'prompts', as uncensorbench has"):
        read(Source(name="uncensorbench"), asset=path)


@pytest.mark.assets
def test_the_packages_themselves_are_as_they_are_read() -> None:
    found = gather(
        [Source(name="uncensorbench"), Source(name="alpaca"), Source(name="alpaca", subset="zh")],
        seed=0, longest=2000, resolve=lambda name: assets.resolve(name).path,
    )  # fmt: skip
    assert len(found.prompts) == 150 + 999 + 1000
    assert sum(p.case.hazard == "" for p in found.prompts if p.kind == "harmful") < 15


def test_a_hub_that_can_t_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub import constants

    asked: list[str] = []

    def info(self: Any, name: str, timeout: float) -> None:
        asked.append(name)
        raise ConnectionError("nobody listens")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", info)
    told = r"owner/other \(split train\): can't be loaded: the hub can't be reached \(ConnectionError: nobody listens\)"
    with pytest.raises(AssetError, match=told):
        read(Source(name="other", hub="owner/other", kind="plain"))
    assert asked == ["owner/other"]
    assert not (constants.HF_HUB_OFFLINE or datasets.config.HF_HUB_OFFLINE), "as it was"


def test_a_known_set_by_its_hub_id_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` is asked for: the folder of a subset, the right split, no code of theirs."""
    asked: list[Any] = []

    def load(*args: Any) -> Iterator[Any]:
        asked.append(args)
        yield {"chosen": f"{TALK} {NO}", "rejected": f"{TALK} x", "vanilla": "a", "adversarial": "", "completion": "b",
               "data_type": "vanilla_benign", "prompt": "a", "is_safe": False, "response": "", "category": {},
               "subcategory": ""}  # fmt: skip

    monkeypatch.setattr(sources, "_load", load)
    for name, more in {
        "hh-rlhf": {"hub": "Anthropic/hh-rlhf", "subset": "red"},
        "a": {"hub": "anthropic/HH-rlhf", "revision": "abc"},
        "beavertails": {},
        "coconot": {"subset": "contrast"},
        "wildjailbreak": {"limit": 1},
        "other": {"hub": "owner/other", "kind": "plain", "subset": "one", "split": "dev"},
    }.items():
        if more.get("subset") == "red":
            with pytest.raises(
                ConfigError, match="has no subset 'red' to learn from; expected harmless-base, red-team"
            ):
                read(Source(name=name, **more))
        else:
            assert len(read(Source(name=name, **more)).prompts) == 1
    tabs = {"delimiter": "\t", "keep_default_na": False}
    assert asked == [
        ("anthropic/HH-rlhf", None, "train", "abc", None, {"data_dir": "harmless-base"}),
        ("PKU-Alignment/BeaverTails", None, "30k_train", None, None, {}),
        ("allenai/coconot", "contrast", "test", None, None, {}),
        ("allenai/wildjailbreak", "train", "train", None, None, tabs),
        ("owner/other", "one", "dev", None, None, {}),
    ]


@pytest.mark.parametrize("name", sorted(known.KNOWN))
def test_every_known_set_is_whole(name: str) -> None:
    about = known.KNOWN[name]
    assert about.doc and about.licence and about.subsets and bool(about.hub) != bool(about.asset)
    for shape in about.subsets.values():
        assert {*shape.values.get("hazard", {}).values()} <= {"", *taxonomy.hazards()}
        assert not shape.trusted and not shape.strict
    if about.asset:
        asset = assets.catalogue()[about.asset]
        assert asset.licence == about.licence and asset.use in ("train", "replay")
        assert {*about.files.values()} <= {file.name for file in asset.files}
    assert (Path(__file__).parents[1] / "docs" / "data-sources.md").read_text("utf-8").count(f"`{name}`")


# ---- what is measured --------------------------------------------------------------------------------------------

MEASURED = [asset for asset in assets.catalogue().values() if asset.use in ("dev", "frozen")]


@pytest.mark.parametrize("name", [asset.name for asset in MEASURED])
def test_a_package_that_is_measured_is_refused_by_name(name: str) -> None:
    use = assets.catalogue()[name].use
    with pytest.raises(ConfigError, match=rf"'{name}' is {name}, a {use} data set, which is only measured; .*take it"):
        check_files([Source(name=name)])
    with pytest.raises(ConfigError, match="which is only measured"):
        read(Source(name=name))
    assert name not in BUILT_IN


def test_a_measured_set_is_refused_by_hub_id_and_by_its_content(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'mine' is xstest, a frozen data set"):
        check_files([Source(name="mine", hub="paul/xstest", kind="plain")])
    named = lines(tmp_path / "rows.jsonl", [{"prompt": "Bake bread"}])
    with pytest.raises(ConfigError, match=r"'harmbench-test' .*; give data of your own another name"):
        check_files([Source(name="harmbench-test", path=named, kind="plain")])
    check_files([Source(name="harmbench-val", path=named, kind="plain")])  # a dev set's name is free, its content not
    asset = next(asset for asset in MEASURED if asset.name == "overrefusal")
    cached = assets.default_cache() / "assets"
    files_ = [*cached.glob(f"overrefusal-*/{asset.files[0].name}")]
    if not files_:
        pytest.skip("the package is not in the cache")
    shutil.copy(files_[0], tmp_path / asset.files[0].name)
    with pytest.raises(ConfigError, match="'mine' is overrefusal, a dev data set"):
        check_files([mine(tmp_path / asset.files[0].name, fields={"prompt": "text"})])
    renamed = tmp_path / f"of-my-own{Path(asset.files[0].name).suffix}"
    (tmp_path / asset.files[0].name).rename(renamed)
    for given in (mine(renamed, fields={"prompt": "text"}), Source(name="mine", hub=str(renamed), kind="plain")):
        with pytest.raises(ConfigError, match="'mine' is overrefusal, a dev data set"):
            check_files([given])
        with pytest.raises(ConfigError, match="'mine' is overrefusal, a dev data set"):
            read(given)


def test_no_file_is_both_measured_and_learnt_from() -> None:
    learnt = {file.sha256 for asset in assets.catalogue().values() if asset not in MEASURED for file in asset.files}
    assert not learnt & {file.sha256 for asset in MEASURED for file in asset.files}


def test_no_built_in_source_is_a_suite_that_steers_or_decides() -> None:
    assert {str(SUITES[name].split) for name in {*BUILT_IN} & {*SUITES}} <= {"train"}


# ---- any file, by a field map ------------------------------------------------------------------------------------


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    import datasets
    import pyarrow as arrow
    import pyarrow.feather as feather

    rows = [{"text": f"Bake bread {i}", "label": "ok"} for i in range(3000)]
    table = arrow.Table.from_pylist(rows)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    lines(tmp_path / "a.jsonl", rows)
    (tmp_path / "bom.ndjson").write_text("\ufeff" + text.replace("\n", "\r\n\r\n"), encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "lines.json").write_text(text)
    for name, packer in (("a.jsonl.gz", gzip), ("a.jsonl.bz2", bz2), ("a.jsonl.xz", lzma)):
        with packer.open(tmp_path / name, "wt") as file:
            file.write(text)
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "a.parquet"))  # pyright: ignore
    feather.write_feather(table, tmp_path / "a.feather")
    with arrow.OSFile(str(tmp_path / "a.arrow"), "wb") as out, arrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    fields, values = {"prompt": "text", "kind": "label"}, {"kind": {"ok": "plain"}}
    for path in sorted(tmp_path.iterdir()):
        found = read(mine(path, kind=None, fields=fields, values=values)).prompts
        assert [p.case.text for p in found] == [row["text"] for row in rows], path.name
    shutil.copy(tmp_path / "a.tsv", tmp_path / "rows.txt")
    assert len(read(mine(tmp_path / "rows.txt", format="tsv", fields={"prompt": "text"})).prompts) == 3000


def test_nested_fields_filters_and_words(tmp_path: Path) -> None:
    rows = [
        {"info": {"turns": [{"text": "Bake"}], "lang": "English"}, "unsafe": False, "split": "a", "score": 3},
        {"info": {"turns": [{"text": "Take his rake"}], "lang": "german"}, "unsafe": True, "split": "a", "score": 3,
         "harms": ["rude", "theft"]},
        {"info": {"turns": [{"text": "Sing"}], "lang": "English"}, "unsafe": False, "split": "b", "score": 3},
        {"info": {"turns": [{"text": "Hum"}], "lang": "English"}, "unsafe": False, "split": "c", "score": 1},
    ]  # fmt: skip
    raw = {
        "name": "mine",
        "path": "rows.jsonl",
        "fields": {"prompt": "info.turns.0.text", "language": "info.lang", "kind": "unsafe"},
        "where": {"split": ["a", "b"], "score": 3},
        "values": {
            "kind": {True: "harmful", False: "plain"},
            "language": {"english": "en", "German": "de"},
            "hazard": {"theft": "non_violent_crimes", "rude": "hate"},
        },
    }
    lines(tmp_path / "rows.jsonl", rows)
    [source] = parse({"curate": {"sources": [raw]}}, folder=tmp_path).curate.sources
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no column 'harms' for hazard; the row has info, unsafe"):
        read(source.model_copy(update={"fields": {**source.fields, "hazard": "harms"}}))
    rows[0]["harms"] = rows[2]["harms"] = None
    lines(tmp_path / "rows.jsonl", rows)
    found = read(source.model_copy(update={"fields": {**source.fields, "hazard": "harms"}}))
    assert [(p.case.text, p.kind, p.case.language, p.case.hazard) for p in found.prompts] == [
        ("Bake", "plain", "en", ""),
        ("Take his rake", "harmful", "de", "non_violent_crimes"),
        ("Sing", "plain", "en", ""),
    ]  # fmt: skip
    assert found.left_out["mine"].total() == 1


def test_chats(tmp_path: Path) -> None:
    share = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}, {"from": "human", "value": "Bake"}]
    rows = [
        {"chat": [{"role": "system", "content": "Be kind."}, *chat("Bake bread", YES)]},
        {"chat": [*share, {"from": "gpt", "value": YES}]},
        {"chat": share},
    ]
    path = lines(tmp_path / "rows.jsonl", rows)
    found = read(mine(path, fields={"prompt": "chat", "reply": "chat"})).prompts
    assert turns(found[0]) == [("system", "Be kind."), ("user", "Bake bread")]
    assert turns(found[1]) == turns(found[2]) == [("user", "Hi"), ("assistant", "Hello."), ("user", "Bake")]
    assert [p.reply for p in found] == [YES, YES, None]
    assert found[1].case.id == found[2].case.id != found[0].case.id


def test_a_long_conversation_loses_its_oldest_turns(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"prompt": chat("a" * 30, "b" * 30, "c" * 30)}])
    found = read(mine(path), longest=70)
    assert turns(found.prompts[0]) == [("user", "c" * 30)]  # the assistant's turn has nothing before it
    [cut] = found.cuts
    assert (cut.field, cut.before, cut.after) == ("prompt", 90, 70)
    assert one(mine(path), longest=20).case.prompt == (Message("user", "c" * 20),)


def test_own_replies_of_a_file_are_learnt_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    row = {"prompt": "Take his rake", "kind": "harmful", "reply": NO, "rejected": "In the night."}
    path = lines(tmp_path / "rows.jsonl", [row, {**row, "kind": "plain", "prompt": "Bake"}])
    kept = read(mine(path, kind=None)).prompts
    assert {(p.reply, p.rejected) for p in kept} == {(NO, "In the night.")}
    made = read(mine(path, kind=None, answers="regenerate")).prompts
    assert [(p.reply, p.rejected) for p in made] == [(None, None), (NO, "In the night.")]  # safety rows only


def test_a_sample_holds_no_more_than_its_limit(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"prompt": f"Bake bread {i}"} for i in range(2000)])
    drawn = [[p.case.text for p in read(mine(path, limit=20), seed=seed).prompts] for seed in (0, 0, 1)]
    assert len({*drawn[0]}) == 20 and drawn[0] == drawn[1] != drawn[2]
    places = [int(text.split()[-1]) for text in drawn[0]]
    assert places == sorted(places) and max(places) > 1000
    many = sources._sample((mine_of(i) for i in range(100_000)), 3, random.Random(0))
    assert len(many) == 3


def mine_of(i: int) -> Prompt:
    from breakfix.core import Case, Expect, Split, ask

    return Prompt(Case(str(i), ask("x"), Expect.COMPLY, "mine", Split.TRAIN), "plain", "why")


def test_of_a_sample_the_cuts_are_its_own(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"prompt": f"Bake {i} " + "bread " * 20} for i in range(300)])
    found = read(mine(path, limit=5), longest=40)
    assert len(found.cuts) == len(found.prompts) == 5
    wheres = [f"{path}:{1 + int(p.case.text.split()[1])}" for p in found.prompts]
    assert [cut.where for cut in found.cuts] == wheres


def test_a_reply_that_was_cut_is_learnt_without_its_end(tmp_path: Path) -> None:
    long = YES + " Then bake it." * 9
    row = {"prompt": "Bake", "kind": "harmful", "reply": NO + " Not at all." * 9, "rejected": long, "hazard": "privacy"}
    rows = [row, {**row, "kind": "plain", "reply": long, "rejected": NO}, {"prompt": "Sing", "kind": "plain"}]
    found = read(mine(lines(tmp_path / "rows.jsonl", rows), kind=None), longest=90).prompts
    assert [(p.reply_cut, p.rejected_cut) for p in found] == [(True, True), (True, False), (False, False)]
    kept = Licence(allow_unknown=False)
    assert [(p.draft.cut, p.draft.rejected_cut) for p in through(kept, found)[0]] == [
        (True, True), (True, False), (False, False),
    ]  # fmt: skip
    made, dropped = mint.harmful(found[:1], {}, RefusalJudge(), random.Random(0))
    assert [(e.cut, e.rejected_cut) for e in made] == [(True, True)] and not dropped
    said = {found[2].case.id: Reply("Tra la la, says the baker, and goes on baking bread.", False, "none", "a1")}
    made, dropped = mint.benign(found[1:], said, RefusalJudge(), random.Random(0))
    assert [(e.cut, e.rejected_cut) for e in made] == [(True, False), (False, False)] and not dropped
    anew = read(mine(tmp_path / "rows.jsonl", kind=None, answers="regenerate"), longest=90).prompts[0]
    assert (anew.draft.cut, anew.draft.rejected_cut) == (False, False)


def test_a_name_is_given_once(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"prompt": "Bake"}])
    said = "curate.sources: 'mine' is there twice; give each source a name of its own"
    for use in (check_files, lambda sources: read(*sources)):
        with pytest.raises(ConfigError, match=said):
            use([mine(path), mine(path, weight=2)])
    check_files([Source(name="alpaca"), Source(name="alpaca", subset="zh")])
    with pytest.raises(ConfigError, match=r"'alpaca' is there twice; .* with the same weight"):
        check_files([Source(name="alpaca"), Source(name="alpaca", subset="zh", weight=2)])


def test_subsets_of_one_set_are_apart_in_the_record(tmp_path: Path) -> None:
    for subset in ("en", "zh"):
        rows = [{"instruction": "Bake", "input": ""}, {"instruction": "Bake", "input": "Rye"}]
        lines(tmp_path / f"alpaca_{subset}_demo.json", rows)
    found = read(
        Source(name="alpaca", where={"input": ""}, form_balance=True),
        Source(name="alpaca", subset="zh", where={"input": ""}, form_balance=True),
        asset=tmp_path,
    )
    assert set(found.left_out) == set(found.forms) == {"alpaca", "alpaca/zh"}


def test_a_licence_may_be_accepted_for_one_source(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"prompt": "Bake"}])
    drafts = [p.draft for p in read(mine(path, licence="CC-BY-NC-4.0")).prompts]
    assert Licence(allow_unknown=False)(drafts)[0] == []
    assert Licence(allow_unknown=False, accepted=["mine"])(drafts)[0] == drafts


# ---- what is malformed -------------------------------------------------------------------------------------------


def refused(source: Source) -> str:
    with pytest.raises(UserError) as error:
        check_files([source])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "a.jsonl: no rows; give a source with at least one"),
        ("a.json", b" \n", "a.json: empty; expected an array of objects"),
        ("a.json", b'{\n"prompt": "Bake"\n}', "a.json: one object; expected an array of objects, or one object a line"),
        ("a.json", b'[{"prompt": "Bake"}', "a.json: not JSON (Expecting ',' delimiter, column 20)"),
        ("a.json", b'[{"prompt": "Bake"}, 3]', "a.json row 2: expected an object"),
        ("a.csv", b"", "a.csv: no rows;"),
        ("a.csv", b"prompt\n", "a.csv: no rows;"),
        ("a.csv", b"prompt,prompt\na,b\n", "a.csv:1: column 'prompt' is there twice"),
        ("a.csv", b"prompt,kind\nBake\n", "a.csv:2: 1 fields, but the header has 2"),
        ("a.csv", b"prompt,kind\nBake,plain,x\n", "a.csv:2: 3 fields, but the header has 2"),
        ("a.csv", b'prompt,kind\nBake,plain\n"never closed', "a.csv:3: not CSV ("),
        ("a.csv", b"prompt\nBake\ncaf\xe9\n", "a.csv: not UTF-8 (after line "),
        ("a.tsv", b"text\nBake\n", "a.tsv:2: no column 'prompt'; the row has text"),
        ("a.jsonl", b'{"prompt": "Bake"}\n\xff\xfe\x00\x01', "a.jsonl: not UTF-8 (byte 19); line 2"),
        (
            "a.jsonl",
            b"PAR1\x00\x00",
            "a.jsonl: its first bytes are those of a Parquet file, not of text; say so by `form",
        ),
        (
            "a.csv",
            b"\x1f\x8b\x08\x00",
            "a.csv: its first bytes are those of a gzip file, not of text; say so by its end",
        ),
        ("a.jsonl.gz", b"not packed", "a.jsonl.gz: can't be read (Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"prompt": "Bake"}\n' * 99, mtime=0)[:40], "a.jsonl.gz: can't be read ("),
        ("a.jsonl.xz", b"not packed", "a.jsonl.xz: can't be read ("),
        ("a.parquet", b"not at all", "a.parquet: not Parquet ("),
        ("a.parquet", b"", "a.parquet: not Parquet ("),
        ("a.arrow", b"\x00" * 64, "a.arrow: not Arrow ("),
        ("a.arrow", b"ARROW1\x00\x00nothing", "a.arrow: not Arrow ("),
        ("a.xlsx", b"?", "a.xlsx: a file of unknown format; expected .jsonl, .ndjson, .json, .csv"),
        ("a.parquet.gz", b"?", "a.parquet.gz: parquet is compressed inside; unpack the file"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert refused(mine(tmp_path / name)).startswith(f"{tmp_path}/{said}")


def test_a_line_without_an_end_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LONGEST_LINE", 1 << 20)
    (tmp_path / "a.jsonl").write_bytes(b" " * (2 << 20))
    assert refused(mine(tmp_path / "a.jsonl")) == f"{tmp_path}/a.jsonl:1: longer than 1 MiB; expected one row a line"
    assert "a folder; a source's `path` is a file (for a folder, give it as `hub`)" in refused(mine(tmp_path))
    array = json.dumps([{"prompt": "Bake bread"}] * 9)
    for begin in ("", "\ufeff \n", "\n" * 70_000):
        (tmp_path / "a.json").write_text(begin + array, encoding="utf-8")
        monkeypatch.setattr(files, "LONGEST_LINE", 100)
        assert len(read(mine(tmp_path / "a.json")).prompts) == 9
    monkeypatch.setattr(files, "LARGEST_ARRAY", 200)
    assert "a.json: one JSON document of more than 0 MiB; save it as JSON lines" in refused(mine(tmp_path / "a.json"))


def test_a_long_field_of_csv_is_read_and_one_without_an_end_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text(f"prompt\nBake {'bread ' * 50_000}\n")
    [cut] = read(mine(tmp_path / "a.csv")).cuts
    assert cut.before == 300_005
    limit = csv.field_size_limit()
    monkeypatch.setattr(files, "LONGEST_LINE", 1000)
    try:
        assert "a.csv:2: not CSV (field larger than field limit (1000))" in refused(mine(tmp_path / "a.csv"))
    finally:
        csv.field_size_limit(limit)  # the library's is one for all


@pytest.mark.parametrize(
    ("row", "more", "said"),
    [
        ({"promt": "Bake"}, {"fields": {"prompt": "promtp"}}, "no column 'promtp' for prompt; did you mean 'promt'?"),
        (
            {"a": {"text": "x"}},
            {"fields": {"prompt": "a.texd"}},
            "no column 'a.texd' for prompt; did you mean 'a.text'?",
        ),
        ({"a": 3}, {"fields": {"prompt": "a.b"}}, "no column 'a.b' for prompt; a has no columns"),
        ({"prompt": "x", "kid": 1}, {"where": {"kind": "a"}}, "no column 'kind' of `where`; did you mean 'kid'?"),
        ({"prompt": "x", "kind": "plian"}, {"kind": None}, "kind 'plian'; expected harmful, twin or plain (or set"),
        ({"prompt": "x", "kind": "ok"}, {"values": {"kind": {"good": "plain"}}}, "kind 'ok'; expected harmful, twin"),
        ({"prompt": "x", "kind": 1}, {"values": {"kind": {"0": "plain"}}}, "kind is '1', which the source's `values`"),
        ({"prompt": ["a", "b"]}, {}, "prompt should be text, or a list of role and content; got a list of str"),
        ({"prompt": [{"role": "baker", "content": "x"}]}, {}, "prompt[0] has the role 'baker'; expected user, human,"),
        ({"prompt": [{"role": "user"}]}, {}, "prompt[0] has no content; expected text"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "text"}]}]},
            {},
            "prompt[0].content should be text, got list",
        ),
        ({"prompt": []}, {}, "prompt is missing or empty; expected what is asked"),
        ({"prompt": chat("")}, {}, "prompt is missing or empty; expected what is asked"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, {}, "prompt is missing or empty; expected what is asked"),
        ({"prompt": {"text": "x"}}, {}, "prompt should be text, got dict"),
        ({"prompt": "x", "reply": 3}, {}, "reply should be text, got int"),
        ({"prompt": "x", "hazard": ["a"]}, {}, "hazard should be text, got list"),
    ],
)
def test_a_row_that_is_none(tmp_path: Path, row: Mapping[str, Any], more: Mapping[str, Any], said: str) -> None:
    path = lines(tmp_path / "rows.jsonl", [row])
    assert refused(mine(path, **more)).startswith(f"{path}:1: {said}")


def test_where_nothing_is_left_the_reason_is_told(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"prompt": "Bake", "split": "b"}] * 3)
    said = refused(mine(path, where={"split": "a"}))
    assert said.startswith(f"{path}: no rows are left (3 its columns are not as `where` asks); give a source with")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source(name="starter", where={"language": "de"}), "'starter' is built in and does not read where; take that"),
        (Source(name="frames", kind="plain", answers="keep"), "'frames' is built in and does not read answers, kind;"),
        (Source(name="advbench", subset="a", fields={"prompt": "x"}), "'advbench' is built in and does not read field"),
        (Source(name="starter", licence="MIT", split="a"), "read licence, split; take that out (it reads limit, weigh"),
        (Source(name="alpaca", split="train"), "'alpaca' is built in and does not read split; take that out"),
        (Source(name="coconot", format="csv"), "'coconot' is built in and does not read format; take that out"),
    ],
)
def test_a_setting_that_a_built_in_source_does_not_read_is_refused(source: Source, said: str) -> None:
    assert said in refused(source)
    with pytest.raises(ConfigError):
        read(source)


def test_what_a_built_in_source_reads() -> None:
    check_files([
        Source(name="starter", limit=3, weight=2, accept_licence=True, form_balance=True),
        Source(name="coconot", subset="pref", split="test", answers="keep", where={"category": "a"}),
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"name": ""}, "curate.sources[0].name is ''; expected text"),
        ({"name": "a", "format": "xlsx"}, "curate.sources[0].format is 'xlsx'; expected 'jsonl', 'json',"),
        ({"name": "a", "answers": "trust"}, "curate.sources[0].answers is 'trust'; expected 'regenerate' or 'keep'"),
        (
            {"name": "a", "path": "x", "revision": "v1"},
            "source 'a' has a path; split and revision are of hub data sets",
        ),
        ({"name": "a", "values": {"colour": {"x": "y"}}}, "curate.sources[0].values.colour"),
        ({"name": "a", "values": {"kind": "x"}}, "curate.sources[0].values.kind is 'x'; expected keys and values"),
        ({"name": "a", "where": ["x"]}, "curate.sources[0].where is a list; expected keys and values"),
        ({"name": "a", "subsets": "x"}, "unknown key 'curate.sources[0].subsets'; did you mean 'subset'?"),
    ],
)
def test_a_setting_that_is_none(raw: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse({"curate": {"sources": [raw]}})
    assert said in str(error.value)
