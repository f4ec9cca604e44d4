"""The prescription as a file: read, edited, and run again, on models that know what they say (no training)."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import tiny
from breakfix import identify, prescription
from breakfix.config import Config
from breakfix.core import Example, Status, Vulnerability
from breakfix.cycle import Cycle
from breakfix.errors import UserError
from breakfix.ledger import Ledger
from breakfix.report import build, page, schema
from conftest import call
from test_cycle import SMALL, World, cut_off, write_suites
from test_identify import attempt, case

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and a run whose round 0 is identified, and round 1 curated by the file as it was."""
    folder = tmp_path_factory.mktemp("prescription")
    write_suites(folder)
    tiny.write_config(
        folder,
        curate={"sources": [{"name": "rows", "path": "rows.jsonl"}, {"name": "starter", "limit": 900}], "harmful": 40,
                "reply_tokens": 24, "wrapped_share": 0.5},
        evaluate={**SMALL, "suites": [{"name": "starter_dev", "limit": 60}, {"name": "plain", "limit": 6}]},
        redteam={"cases": 24, "per_case": 2, "max_new_tokens": 24},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        cut_off(patch)
        curated(folder, folder / "run")
    return folder


def curated(folder: Path, run: Path, file: Path | None = None) -> tuple[dict[str, Any], list[str]]:
    """(round 1's record, what was said)"""
    said: list[str] = []
    with Ledger.open(run, create=True) as ledger:
        world = World(folder)
        cycle = Cycle(world.config, run, ledger, open_model=world.open, say=said.append)
        for name in ("evaluate", "redteam", "identify"):
            cycle.stage(0, name)
        if file is not None:
            cycle.prescribe(1, file)
        return cycle.stage(1, "curate"), said


def rows(run: Path) -> list[Example]:
    with Ledger.open(run, write=False) as ledger:
        return [row for dataset in ("sft", "dpo") for row in ledger.examples(round=1, dataset=dataset)]


def found(run: Path) -> list[Vulnerability]:
    with Ledger.open(run, write=False) as ledger:
        return [v for v in ledger.vulnerabilities(round=0) if v.status is not Status.FIXED]


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "run", tmp_path / "run")


def change(run: Path, edit: Edit) -> Path:
    """The file with its values changed by `edit`, as a person would: comments stay or go, whatever."""
    file = prescription.path(run, 0)
    said = yaml.safe_load(file.read_text())
    edit(said)
    file.write_text(yaml.safe_dump(said, sort_keys=False))
    return file


def test_identify_writes_what_the_ledger_prescribes_and_why(made: Path) -> None:
    text = prescription.path(made / "run", 0).read_text()
    said = yaml.safe_load(text)
    open_ = found(made / "run")
    assert [(e["id"], e["name"]) for e in said["vulnerabilities"]] == [(v.id, v.name) for v in open_]
    for entry, v in zip(said["vulnerabilities"], open_, strict=True):
        assert {word: entry[word] for word in prescription.WORDS if word in entry} == v.prescription
        factors = [float(n) for n in re.findall(r"(?:severity|rate|reach|confidence) ([\d.]+)", entry["why"])]
        assert v.rank == pytest.approx(factors[0] / 7 * factors[1] * factors[2] * factors[3], abs=2e-3)
        assert entry["languages"] == ([v.language] if v.language else [])
    listed = text.partition("wrappers: any, or")[2].partition("Held-out")[0]
    assert "role_play" in listed and "polite" in listed
    assert not any(family in listed for family in World(made).config.redteam.held_out)


def test_one_of_which_nothing_fails_any_more_was_measured_all_the_same(tmp_path: Path) -> None:
    """Four of ten, then none: too few to call it fixed."""
    given = [case(f"c{i}") for i in range(10)]
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        ledger.add_cases(given)
        for round, failed in enumerate((4, 0)):
            asked = [attempt(c, float(i >= failed), family="direct") for i, c in enumerate(given)]
            ledger.add_attempts(asked, round=round, stage="redteam")
            identified = partial(identify.run, Config(), ledger, round=round)
            ledger.stage(round, "identify", {}, identified)
        [entry] = yaml.safe_load(prescription.render(ledger, Config(), 1))["vulnerabilities"]
    assert entry["why"] == (
        "open since round 0; none of it failed in the round that measured it last, so it has no rows; "
        "rate 0.000 (0.000 to 0.278, n 10)"
    )


def test_what_is_left_to_people(tmp_path: Path) -> None:
    given = [case(f"c{i}") for i in range(6)]
    asked = [attempt(c, 0.0, family=f) for c in given for f in ("encoding", "direct")]
    few = [attempt(case(f"d{i}", hazard="privacy"), 0.0 if i < 2 else 1.0) for i in range(4)]
    with Ledger.open(tmp_path / "run", create=True) as ledger:
        ledger.add_cases([*given, *(case(f"d{i}", hazard="privacy") for i in range(4))])
        ledger.add_attempts([*asked, *few], round=0, stage="redteam")
        ledger.stage(0, "identify", {}, lambda: identify.run(Config(), ledger, round=0))
        said = yaml.safe_load(prescription.render(ledger, Config(), 0))
        of = {v.id: (v.hazard, v.family) for v in ledger.vulnerabilities(round=0)}
    left = {of[one["id"]]: one["why"] for one in said["people"]}
    assert set(left) == {("hate", "encoding"), ("privacy", "direct")}
    assert "held out" in left["hate", "encoding"] and "tell little" in left["privacy", "direct"]


@pytest.mark.parametrize("how", ["gone", "as written", "other words", "unsigned"])
def test_a_file_that_says_the_same_gives_the_same_data(made: Path, run: Path, how: str) -> None:
    file = prescription.path(run, 0)
    text = file.read_text()
    if how == "gone":
        file.unlink()
    elif how == "other words":
        file.write_text("# mine now\n" + text.replace("name: ", "name:   "))
    elif how == "unsigned":
        file.write_text("".join(line for line in text.splitlines(True) if "written:" not in line))
    record, said = curated(made, run)
    assert said[-1] == "round 1: curate, done before" and "prescription" not in record
    fresh = run.with_name("fresh")
    shutil.copytree(run, fresh, ignore=shutil.ignore_patterns("ledger.db*", "blobs"))
    assert "prescription" not in curated(made, fresh)[0]
    assert [row.id for row in rows(fresh)] == [row.id for row in rows(made / "run")]


def test_an_edited_file_wins_and_is_on_record(made: Path, run: Path) -> None:
    first, second, *_ = [v for v in found(run) if v.prescription.get("harmful")]

    def edit(said: dict[str, Any]) -> None:
        entry = next(e for e in said["vulnerabilities"] if e["id"] == first.id)
        entry |= {"harmful": 1, "twins": 0}
        said["vulnerabilities"] = [e for e in said["vulnerabilities"] if e["id"] != second.id]

    file = change(run, edit)
    before = file.read_bytes()
    record, said = curated(made, run)
    changes = {(c["id"], c["what"]): c["now"] for c in record["prescription"]["changes"]}
    assert changes == {(first.id, "harmful"): 1, (first.id, "twins"): 0, (second.id, "taken out"): {}}
    assert record["from_vulnerabilities"][first.id] <= 1 and record["from_vulnerabilities"][second.id] == 0
    assert any(f"{first.id} harmful {first.prescription['harmful']} → 1" in line for line in said)
    with Ledger.open(run, write=False) as ledger:
        assert ledger.blob_path(record["prescription"]["sha256"]).read_bytes() == before
        told, tree = build(ledger), ledger.trace("round 1 curate")
        assert {"gate", "prescription"} <= {parent["kind"] for parent in tree["parents"]}
        own = ledger.trace("round 0 prescription")
        assert own["summary"]["changed_by"] == "a person" and f"{second.id} taken out" in own["summary"]["changes"]
        assert [parent["id"] for parent in own["parents"]] == [first.id, second.id]
        assert "round 0 prescription" in {child["id"] for child in ledger.trace(first.id)["children"]}
    jsonschema.validate(told, schema())
    notes = {v["id"]: [note["text"] for note in v["notes"]] for v in told["vulnerabilities"]}
    assert notes[second.id] == ["taken out"] and len(notes[first.id]) == 2
    shown = page(told)
    assert "learnt by a prescription that a person changed" in shown and f"{second.id} taken out" in shown
    assert curated(made, run)[1][-1] == "round 1: curate, done before"
    assert file.read_bytes() == before


def test_other_languages_bring_other_rows(made: Path, run: Path) -> None:
    hazard = "hate"
    mine = {v.id for v in found(run) if v.hazard == hazard}
    spoken = Counter(row.language for row in rows(run) if row.hazard == hazard)

    def edit(said: dict[str, Any]) -> None:
        for entry in said["vulnerabilities"]:
            entry["harmful"] = 40 // len(mine) if entry["id"] in mine else 0
            entry |= {"languages": ["fr"]} if entry["id"] in mine else {}

    change(run, edit)
    record, _ = curated(made, run)
    now = Counter(row.language for row in rows(run) if row.hazard == hazard)
    assert now["fr"] / now.total() > spoken["fr"] / spoken.total()
    assert record["evidence"]["barred"]["its language is not among those prescribed"] > 0


def test_rows_of_a_hazard_go_into_the_wrappers_that_are_named(made: Path, run: Path) -> None:
    def edit(said: dict[str, Any]) -> None:
        for entry in said["vulnerabilities"]:
            entry |= {"wrappers": ["polite", "role_play"], "languages": ["en"]}

    change(run, edit)
    curated(made, run)
    into, mine = re.compile(r"put into \S+ \(([^)]*)\)"), {v.hazard for v in found(run)}
    wrapped = [(row.hazard in mine, m[1]) for row in rows(run) if row.language == "en" if (m := into.search(row.why))]
    kinds = Counter(kind for is_mine, kind in wrapped if is_mine)
    assert set(kinds) == {"polite", "attack role_play"}
    assert len({kind for is_mine, kind in wrapped if not is_mine}) > 4


WRONG = {
    "not YAML": (lambda s: s + "\n  - {id: [\n", "not YAML"),
    "empty": (lambda s: "# nothing\n", "empty"),
    "a list": (lambda s: "- V1\n", "expected keys and values"),
    "an unknown key": (lambda s: s.replace("replay:", "reply:"), "unknown key 'reply'; did you mean 'replay'?"),
    "an unknown id": (lambda s: s.replace("id: V1\n", "id: V991\n"), "'V991' is no vulnerability that is open"),
    "twice": (lambda s: s.replace("id: V1\n", "id: V2\n"), "V2 is there twice"),
    "negative rows": (lambda s: re.sub(r"harmful: \d+", "harmful: -3", s, count=1), "from 0 on, found '-3'"),
    "words for rows": (lambda s: re.sub(r"harmful: \d+", "harmful: many", s, count=1), "from 0 on, found 'many'"),
    "too many rows": (lambda s: re.sub(r"harmful: \d+", "harmful: 9000", s, count=1), "harmful rows in all; expected"),
    "held out": (lambda s: s.replace("wrappers: any\n", "wrappers: [encoding]\n", 1), "'encoding' is held out"),
    "no wrapper": (lambda s: s.replace("wrappers: any\n", "wrappers: [polit]\n", 1), "did you mean 'polite'?"),
    "no language": (lambda s: s.replace('languages: ["en"]', "languages: [xx]", 1), "has no row of hazard"),
    "languages as text": (lambda s: s.replace('languages: ["en"]', "languages: en", 1), "expected a list"),
    "another round": (lambda s: s.replace("round: 0", "round: 7"), "round is 7; expected 0"),
    "replay": (lambda s: s.replace("replay: 0.1", "replay: 3"), "expected a share from 0 to below 1, found '3'"),
    "nested": (lambda s: "[" * 5000, "not YAML"),
}


@pytest.mark.parametrize("how", WRONG)
def test_nonsense_is_one_line_with_its_place_and_nothing_is_lost(made: Path, run: Path, how: str) -> None:
    edit, expected = WRONG[how]
    file, before = prescription.path(run, 0), [row.id for row in rows(run)]
    text = edit(file.read_text())
    assert text != file.read_text()
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(expected)) as caught:
        curated(made, run)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(str(file))
    assert how in ("empty", "nested") or re.match(re.escape(str(file)) + r":\d+: ", line)
    assert file.read_text() == text
    file.unlink()
    curated(made, run)
    assert [row.id for row in rows(run)] == before


def test_a_file_from_elsewhere_takes_its_place(made: Path, run: Path, tmp_path: Path) -> None:
    own, other = prescription.path(run, 0), tmp_path / "other.yaml"
    mine = own.read_text().replace("replay: 0.1", "replay: 0.2")
    own.write_text(mine)
    other.write_text(mine.replace("replay: 0.2", "replay: 0.3"))
    record, said = curated(made, run, other)
    assert [(c["was"], c["now"]) for c in record["prescription"]["changes"]] == [(0.1, 0.3)]
    assert own.with_name("prescription.1.yaml").read_text() == mine and any("prescription.1.yaml" in s for s in said)
    assert other.exists()
    code, _, err = call(
        "curate", str(made / "tiny.yaml"), "--run", str(run), "--round", "1", "--prescription", "no.yaml"
    )
    assert code == 2 and err.splitlines()[-1].startswith("breakfix: no.yaml: no such file")


def test_peoples_edits_are_in_the_file_until_it_is_changed(made: Path, run: Path) -> None:
    shutil.copy(made / "tiny.yaml", run / "breakfix.yaml")
    file = prescription.path(run, 0)
    assert call("vulns", "rename", "V1", str(run), 'Says: "yes"\n# no')[0] == 0
    assert yaml.safe_load(file.read_text())["vulnerabilities"][0]["name"] == 'Says: "yes" # no'
    mine = file.read_text().replace("replay: 0.1", "replay: 0.25")
    file.write_text(mine)
    v, gone = [v for v in found(run) if v.kind == "harmful_compliance"][:2]
    code, _, err = call("vulns", "merge", v.id, gone.id, str(run))
    assert code == 0 and "stays" in err and file.read_text() == mine
    assert gone.id not in {
        e["id"] for e in yaml.safe_load(file.with_name(prescription.NEWER).read_text())["vulnerabilities"]
    }
    with pytest.raises(UserError, match=f"'{gone.id}' is no vulnerability that is open: it was merged into {v.id}"):
        curated(made, run)
