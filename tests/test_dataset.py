"""A round's data as files: rows, card, Croissant metadata, manifest; from a ledger with a few neutral rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
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


def curated(ledger: Ledger, round: int = 1) -> None:
    def make() -> dict[str, Any]:
        ledger.add_examples(SFT, round=round, dataset="sft")
        ledger.add_examples(SFT[2:], round=round, dataset="dpo")
        return {}

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
    mlc: Any = pytest.importorskip("mlcroissant")
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
