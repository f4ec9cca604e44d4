"""A round's data as files: rows, card, Croissant metadata, manifest; from a ledger with a few neutral rows."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from breakfix.core import Example, Message, ask
from breakfix.curate.croissant import CONFORMS
from breakfix.curate.dataset import export
from breakfix.errors import UserError
from breakfix.ledger import Ledger

SFT = [
    Example(ask("How do I bake bread?"), "Mix and bake.", "starter", "MIT", "a plain row", "plain", parents=("c1",)),
    Example(ask("Wie | geht das?"), "So <b>.", "mine", "CC-BY-4.0", "a twin", "twin", language="de", hazard="privacy"),
    Example(
        (Message("user", "One"), Message("assistant", "Two"), Message("user", "Forbidden \ud800")),
        "I'd rather not.", "starter", "MIT", "a harmful row", "harmful", rejected="Spoilt", hazard="hate",
        parents=("c2", "a1", "V1"), rejected_cut=True,
    ),
]  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True, clock=lambda: 1_700_000_000.0) as opened:
        yield opened


def curated(ledger: Ledger, round: int = 1, record: dict[str, Any] | None = None) -> None:
    def make() -> dict[str, Any]:
        ledger.add_examples(SFT, round=round, dataset="sft")
        ledger.add_examples(SFT[2:], round=round, dataset="dpo")
        return record or {}

    ledger.stage(round, "curate", {"round": round}, make)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def made(ledger: Ledger, to: Path, **more: Any) -> tuple[Path, dict[str, Any]]:
    return export(ledger, to.parent / "run", **{"round": None, "to": to, "format": "jsonl", **more})


def test_rows_come_as_trl_takes_them_with_what_is_known_of_them(ledger: Ledger, tmp_path: Path) -> None:
    curated(ledger)
    folder, manifest = made(ledger, tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == {
        "sft.jsonl", "dpo.jsonl", "README.md", "croissant.json", "manifest.json"
    }  # fmt: skip
    sft, dpo = lines(folder / "sft.jsonl"), lines(folder / "dpo.jsonl")
    assert sft[0] == {
        "prompt": [{"role": "user", "content": "How do I bake bread?"}],
        "completion": [{"role": "assistant", "content": "Mix and bake."}],
        "id": SFT[0].id,
        "kind": "plain",
        "hazard": "",
        "language": "en",
        "family": "",
        "source": "starter",
        "licence": "MIT",
        "why": "a plain row",
        "parents": ["c1"],
        "cut": False,
    }
    [pair] = dpo
    assert [m["role"] for m in pair["prompt"]] == ["user", "assistant", "user"]
    assert pair["prompt"][-1]["content"] == "Forbidden ?"  # half a character is no text
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("I'd rather not.", "Spoilt")
    assert (pair["rejected_cut"], pair["parents"]) == (True, ["c2", "a1", "V1"])
    assert manifest["rows"] == {"sft": 3, "dpo": 1}
    assert manifest["kinds"] == {"harmful": 1, "plain": 1, "twin": 1}  # a row of both data sets is one


def test_the_manifest_has_every_files_digest_and_is_the_same_again(ledger: Ledger, tmp_path: Path) -> None:
    curated(ledger)
    folder, manifest = made(ledger, tmp_path / "out")
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert [file["name"] for file in manifest["files"]] == ["README.md", "croissant.json", "dpo.jsonl", "sft.jsonl"]
    for file in manifest["files"]:
        data = (folder / file["name"]).read_bytes()
        assert (file["sha256"], file["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert made(ledger, tmp_path / "out") == (folder, manifest)  # what an export made is replaced
    assert made(ledger, tmp_path / "elsewhere")[1] == manifest
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_redacted_the_rejected_side_is_left_out(ledger: Ledger, tmp_path: Path) -> None:
    curated(ledger)
    folder, manifest = made(ledger, tmp_path / "out", redact=True)
    assert manifest["redacted"]
    assert not [path for path in folder.iterdir() if "Spoilt" in path.read_text(encoding="utf-8")]
    assert not {"rejected", "rejected_cut"} & set(lines(folder / "dpo.jsonl")[0])
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "was left out" in card and "harmful text**" not in card
    full = made(ledger, tmp_path / "full")[0]
    assert "harmful text**" in (full / "README.md").read_text(encoding="utf-8")


def test_redacted_nothing_is_left_of_what_a_model_said_in_a_prompt(ledger: Ledger, tmp_path: Path) -> None:
    """A reply that had begun with the model's own first words, and a turn before the one that failed."""
    begun = replace(SFT[2], prompt=(*ask("Forbidden"), Message("assistant", "Sure, spoilt words")), rejected=None)
    failed = SFT[2]

    def make() -> dict[str, Any]:
        ledger.add_examples([begun, failed], round=1, dataset="sft")
        ledger.add_examples([failed], round=1, dataset="dpo")
        return {}

    ledger.stage(1, "curate", {}, make)
    folder, _ = made(ledger, tmp_path / "out", redact=True)
    first, second = lines(folder / "sft.jsonl")
    assert [m["content"] for m in first["prompt"]] == ["Forbidden", "[left out]"]
    assert [m["content"] for m in second["prompt"]] == ["One", "[left out]", "Forbidden ?"]
    assert (first["id"], first["completion"][0]["content"]) == (begun.id, "I'd rather not.")
    assert lines(folder / "dpo.jsonl")[0]["prompt"] == second["prompt"]
    assert "`[left out]`" in (folder / "README.md").read_text(encoding="utf-8")
    assert "spoilt words" in (made(ledger, tmp_path / "full")[0] / "sft.jsonl").read_text(encoding="utf-8")


def test_the_card_has_the_hubs_header(ledger: Ledger, tmp_path: Path) -> None:
    curated(ledger)
    card = (made(ledger, tmp_path / "out")[0] / "README.md").read_text(encoding="utf-8")
    _, header, text = card.split("---\n", 2)
    said = yaml.safe_load(header)
    assert said["license"] == "other"
    assert said["language"] == ["de", "en"]
    assert said["size_categories"] == ["n<1K"]
    assert [c["data_files"] for c in said["configs"]] == ["sft.jsonl", "dpo.jsonl"]
    assert "| CC-BY-4.0 | 1 |" in text and "2023-11-14" in text


RECORD: dict[str, Any] = {
    "steps": ["licence", "personal", "exact", "decontaminate"],
    "decontamination": {"clean": True, "not_checked": []},
    "own_replies": {"twin: none": 3, "plain: full": 1},
    "evidence": {"rows": 2},
}


def told(ledger: Ledger, to: Path, round: int | None = None) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(the card on one line, the metadata, what the manifest says of how it was made)"""
    folder, manifest = made(ledger, to, round=round)
    card = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    return card, json.loads((folder / "croissant.json").read_text(encoding="utf-8")), manifest["made"]


def test_the_card_says_what_was_done_and_nothing_else(ledger: Ledger, tmp_path: Path) -> None:
    curated(ledger, 1, RECORD)
    card, metadata, facts = told(ledger, tmp_path / "all")
    assert "went through licences, a look for personal data, exact duplicates, decontamination by words; the" in card
    assert "check of language" not in card and "None of them overlaps a benchmark" in card
    assert "were written by the untouched model, whose licence may say more." in card
    assert "names and postal addresses were not" in metadata["rai:personalSensitiveInformation"]
    assert "and of failures that a red team found" in metadata["rai:dataCollection"]
    assert facts == {"steps": RECORD["steps"], "clean": True, "not_checked": [], "own_replies": True,
                     "from_failures": True}  # fmt: skip


def test_the_card_names_what_was_not_checked(ledger: Ledger, tmp_path: Path) -> None:
    missing = [{"suite": "xstest", "reason": "no network"}]
    record = {**RECORD, "steps": ["exact", "decontaminate"], "own_replies": {"harmful: none": 4, "twin: full": 1}}
    curated(ledger, 1, record | {"decontamination": {"clean": None, "not_checked": missing}, "evidence": {"rows": 0}})
    card, metadata, facts = told(ledger, tmp_path / "some")
    assert "**They could not be checked against xstest**" in card and "None of them overlaps" not in card
    assert "Personal data were not looked for." in card
    assert metadata["rai:personalSensitiveInformation"] == "Personal data were not looked for."
    assert "No reply to a harmless request was written by the untouched model." in card and "licence may" not in card
    assert "red team" not in metadata["rai:dataCollection"]
    assert (facts["clean"], facts["not_checked"], facts["own_replies"]) == (None, ["xstest"], False)
    curated(ledger, 2, RECORD)
    curated(ledger, 3, record)
    assert told(ledger, tmp_path / "later", 3)[2]["own_replies"]  # rows of round 2 may be among them
    assert not told(ledger, tmp_path / "first", 1)[2]["own_replies"]


def test_what_is_not_on_record_is_said_to_be_unknown(ledger: Ledger, tmp_path: Path) -> None:
    curated(ledger)
    card, metadata, facts = told(ledger, tmp_path / "old")
    for said in ("Which steps prompts went through", "Whether they overlap benchmarks", "Who wrote the replies"):
        assert said in card
    assert "not on record" in metadata["rai:personalSensitiveInformation"]
    assert set(facts.values()) == {None}


@pytest.mark.parametrize("redact", [False, True])
def test_parquet_and_folders_of_datasets(ledger: Ledger, tmp_path: Path, redact: bool) -> None:
    import datasets

    library: Any = datasets
    curated(ledger)
    rows = {name: lines(made(ledger, tmp_path / "out", redact=redact)[0] / f"{name}.jsonl") for name in ("sft", "dpo")}
    parquet, _ = made(ledger, tmp_path / "parquet", format="parquet", redact=redact)
    folders, manifest = made(ledger, tmp_path / "folders", format="datasets", redact=redact)
    for name, some in rows.items():
        files = str(parquet / f"{name}.parquet")
        read = library.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
        assert read.to_list() == some
        assert library.load_from_disk(str(folders / name)).to_list() == some
    assert "sft/dataset_info.json" in {file["name"] for file in manifest["files"]}


def test_croissant_says_what_the_specification_asks_for(ledger: Ledger, tmp_path: Path) -> None:
    curated(ledger)
    folder, manifest = made(ledger, tmp_path / "out")
    data = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    required = {"@context", "@type", "conformsTo", "description", "license", "name", "url", "creator", "datePublished"}
    assert required <= set(data)
    assert (data["conformsTo"], data["@type"], data["datePublished"]) == (CONFORMS, "sc:Dataset", "2023-11-14")
    digests = {file["name"]: file["sha256"] for file in manifest["files"]}
    for file in data["distribution"]:
        assert {"@id", "contentUrl", "encodingFormat", "sha256"} <= set(file)
        assert digests[file["contentUrl"]] == file["sha256"]
    files = {file["@id"] for file in data["distribution"]}
    for records in data["recordSet"]:
        row = lines(folder / f"{records['name']}.jsonl")[0]
        leaves = [leaf for field in records["field"] for leaf in field.get("subField", [field])]
        assert all(leaf["source"]["fileObject"]["@id"] in files and "dataType" in leaf for leaf in leaves)
        assert [field["name"].partition("/")[2] for field in records["field"]] == list(row)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mlcroissant's own, of rdflib
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_mlcroissant_reads_it(ledger: Ledger, tmp_path: Path, format: str) -> None:
    mlc: Any = importlib.import_module("mlcroissant")

    curated(ledger)
    folder, _ = made(ledger, tmp_path / "out", format=format)
    found = mlc.Dataset(jsonld=str(folder / "croissant.json"))
    assert not found.metadata.ctx.issues.errors and not found.metadata.ctx.issues.warnings
    rows = list(found.records(record_set="sft"))
    assert len(rows) == 3
    assert rows[0]["sft/kind"] in (b"plain", "plain")


def test_mistakes_are_one_line(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no round has training data yet; `breakfix curate"):
        made(ledger, tmp_path / "out")
    curated(ledger, 1)
    curated(ledger, 2)
    assert made(ledger, tmp_path / "out")[1]["round"] == 2
    with pytest.raises(UserError, match="round 3 has no training data; rounds that have: 1, 2"):
        made(ledger, tmp_path / "out", round=3)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="is there, and is no data set of breakfix"):
        made(ledger, tmp_path / "full")
    with pytest.raises(UserError, match="can't be made"):
        made(ledger, Path("/dev/null/x"))
    assert (tmp_path / "full" / "letter.txt").read_text() == "mine"


FOREIGN = ["{}", "[]", "{", '{"made_by": "npm 9", "files": []}', '{"made_by": "breakfix 1", "files": [3]}', "\udcff"]


@pytest.mark.parametrize("manifest", FOREIGN)
def test_a_folder_with_somebody_elses_manifest_is_left_alone(ledger: Ledger, tmp_path: Path, manifest: str) -> None:
    curated(ledger)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text(manifest, errors="surrogateescape")
    with pytest.raises(UserError, match="is there, and is no data set of breakfix"):
        made(ledger, tmp_path / "site")
    assert (tmp_path / "site" / "manifest.json").read_text(errors="surrogateescape") == manifest


@pytest.mark.parametrize("name", ["letter.txt", "notes/letter.txt", ".hidden"])
def test_a_data_set_that_somebody_added_to_is_left_alone(ledger: Ledger, tmp_path: Path, name: str) -> None:
    curated(ledger)
    folder, _ = made(ledger, tmp_path / "out")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    with pytest.raises(UserError, match="is there, and is no data set of breakfix"):
        made(ledger, folder)
    assert (folder / name).read_text() == "mine"
    (folder / name).unlink()
    assert made(ledger, folder)[0] == folder


def test_a_link_stays_and_what_it_leads_to_is_replaced(ledger: Ledger, tmp_path: Path) -> None:
    curated(ledger)
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    for _ in range(2):
        folder, _ = made(ledger, tmp_path / "link")
    assert folder.is_symlink() and (tmp_path / "there" / "sft.jsonl").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"run", "there", "link"}
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="can't be made"):
        made(ledger, tmp_path / "loop")


def test_an_export_that_dies_leaves_a_whole_data_set(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curated(ledger)
    folder, before = made(ledger, tmp_path / "out")
    move = Path.replace

    def dies(self: Path, target: Path) -> Path:
        if target == folder and not self.name.endswith(".old"):
            raise OSError("gone")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(OSError, match="gone"):
        made(ledger, folder)
    assert json.loads((folder / "manifest.json").read_text()) == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}
