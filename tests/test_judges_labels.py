"""Labelled replies are read honestly: majority, median, ties, what nobody labelled; a mistake names its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from breakfix.errors import AssetError, DataError
from breakfix.judges.ask import MEASURES
from breakfix.judges.labels import NOT_LABELLED, SETS, UNDECIDED, PublicSet, guarded, load, pyrit, read, unguarded

REFUSAL, SEVERITY = MEASURES["refusal"], MEASURES["severity"]


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def labelled(label: Any, **more: Any) -> dict[str, Any]:
    return {"prompt": "How do I bake bread?", "response": "Mix, knead, bake.", "label": label, **more}


def test_every_word_for_yes_and_no(tmp_path: Path) -> None:
    yes = ["full", "partial", "Refused", "refusal", 1, 1.0, True, "yes", " TRUE "]
    no = ["none", "answered", "compliance", 0, 0.0, False, "no", "false"]
    found = read(lines(tmp_path / "a.jsonl", *map(labelled, yes + no)), REFUSAL)
    assert [row.label for row in found.rows] == [1.0] * len(yes) + [0.0] * len(no)
    assert (found.name, found.measure, found.left_out) == ("a.jsonl", "refusal", {})


def test_several_people_majority_and_median(tmp_path: Path) -> None:
    rows = [{**labelled(0), "labels": given} for given in ([1, 1, 0], [1, 0], [0, None, ""], [])]
    found = read(lines(tmp_path / "a.jsonl", *rows), REFUSAL)
    assert [(row.label, row.raters) for row in found.rows] == [(1.0, (1.0, 1.0, 0.0)), (0.0, (0.0,))]
    assert found.left_out == {UNDECIDED: 1, NOT_LABELLED: 1}
    rows = [{**labelled(0), "labels": given} for given in ([0, 5, 7], [2, 3])]
    assert [row.label for row in read(lines(tmp_path / "b.jsonl", *rows), SEVERITY).rows] == [5.0, 2.5]


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    one = read(lines(tmp_path / "a.jsonl", labelled("full"), labelled("none")), REFUSAL)
    same = read(lines(tmp_path / "b.jsonl", "", labelled(1), labelled(0)), REFUSAL)
    other = read(lines(tmp_path / "c.jsonl", labelled("full"), labelled("full")), REFUSAL)
    assert one.digest == same.digest != other.digest


def test_a_weight_of_a_sheet_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    for weight in ("", "0", "-1", "many", "inf", "nan"):
        path.write_text(f"prompt,response,label,weight\nBake,Mix it.,none,{weight}\n")
        with pytest.raises(DataError, match=r"sheet\.csv:2: the weight is '.*'; expected a number above 0"):
            read(path, REFUSAL)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", ":1: not JSON (Expecting property name enclosed in double quotes); expected one object a line"),
        ("[1]", ":1: expected an object, found list"),
        ({"prompt": "x", "label": 1}, ":1: 'response' is nothing; expected text"),
        (labelled(1, response=3), ":1: 'response' is int; expected text"),
        (labelled(1, category=["a"]), ":1: 'category' is list; expected text"),
        ({"prompt": "x", "response": "y"}, ":1: no 'label'; expected what a person says of the response"),
        (
            labelled("maybe"),
            ":1: the label is 'maybe'; expected one of full, partial, refused, refusal, none, answered",
        ),
        (labelled(1, lable=1), ":1: unknown field 'lable'; known: prompt, response, label"),
        (labelled(""), "a.jsonl: no labelled rows; fill in 'label' for some of them"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_line(tmp_path: Path, row: Any, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read(lines(tmp_path / "a.jsonl", row), REFUSAL)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", ["high", 8, -1, float("nan"), True])
def test_a_severity_off_the_scale(tmp_path: Path, label: Any) -> None:
    with pytest.raises(DataError, match="expected a number from 0 to 7"):
        read(lines(tmp_path / "a.jsonl", labelled(label)), SEVERITY)


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(DataError, match="is not UTF-8"):
        load(str(tmp_path / "a.jsonl"), "refusal")
    with pytest.raises(DataError, match=r"nix\.jsonl: no such file"):
        load(str(tmp_path / "nix.jsonl"), "refusal")
    with pytest.raises(DataError, match="pyrit-refusl: no such labels; give a JSONL or CSV file, or one of pyrit-"):
        load("pyrit-refusl", "refusal")
    with pytest.raises(DataError, match="pyrit-severity: labels of severity; this judge measures refusal"):
        load("pyrit-severity", "refusal")


def test_an_absent_of_a_sheet_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    for absent in ("-1", "many", "nan"):
        path.write_text(f"prompt,response,label,weight,absent\nBake,Mix it.,none,2,{absent}\n")
        with pytest.raises(DataError, match=r"sheet\.csv:2: absent is '.*'; expected a whole number"):
            read(path, MEASURES["refusal"])


# ---- the sheet ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["=1+1", "+49 30", "-x", "@sum(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''=1", "＝1"])
def test_no_cell_is_a_formula_and_none_is_changed(text: str) -> None:
    assert guarded(text) == f"'{text}"
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("text", ["", "bread", "'tis", "1=1", "a\n=b"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert guarded(text) == unguarded(text) == text


def test_a_sheet_is_read_back_also_as_spreadsheets_write_it(tmp_path: Path) -> None:
    head = "label;hazard;language;attack;shown;prompt;response;note\r\n"
    body = 'full;hate;en;direct;full;"\'=How; do I";No.;\r\n;;;;full;a;b;later\r\nnone;;;;full;=c;"two\nlines";\r\n'
    path = tmp_path / "sheet.csv"
    path.write_bytes(("\ufeff" + head + body).encode())
    found = read(path, REFUSAL)
    assert [(row.label, row.prompt, row.response) for row in found.rows] == [
        (1.0, "=How; do I", "No."),
        (0.0, "=c", "two\nlines"),
    ]
    assert (found.rows[0].category, found.rows[0].source) == ("hate", "direct")
    assert found.left_out == {NOT_LABELLED: 1}


def test_text_that_was_cut_for_showing_is_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text('label,shown,prompt,response\n,team,"a",b\nfull,team,a,b\n')
    with pytest.raises(
        DataError, match=r"sheet\.csv:3: its text was left out or cut \(redaction team\); write the sheet"
    ):
        read(path, REFUSAL)


def test_a_sheet_without_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label,prompt\n1,x\n")
    with pytest.raises(DataError, match=r"a\.csv:1: no column response; expected prompt, response, label"):
        read(tmp_path / "a.csv", REFUSAL)


# ---- PyRIT's files -----------------------------------------------------------------------------------------------


def test_pyrits_format_with_one_person_and_with_three(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text(
        "# dataset_version=1.0,,\n# more\nobjective,assistant_response,human_score,data_type\n"
        'Bake bread,"No,\nthank you.",1,text\n'
    )
    (tmp_path / "three.csv").write_text(
        "# dataset_version=1.0\nharm_category,objective,assistant_response,human_score_1,human_score_2,human_score_3,"
        "data_type\nHATE,Bake,Yes,0.25,0.75,1,text\n"
    )
    found = pyrit("pyrit-severity", PublicSet("x", "severity", times=7.0), tmp_path)
    assert [(r.prompt, r.response, r.label, r.category, r.source, r.language) for r in found.rows] == [
        ("Bake bread", "No,\nthank you.", 7.0, "", "one", "en"),
        ("Bake", "Yes", 5.25, "hate", "three", "en"),
    ]
    assert found.rows[1].raters == (1.75, 5.25, 7.0)


@pytest.mark.assets
@pytest.mark.parametrize(("name", "n", "yes"), [("pyrit-refusal", 169, 109), ("pyrit-objective", 395, 191)])
def test_the_real_sets(name: str, n: int, yes: int) -> None:
    found = load(name, SETS[name].measure)
    assert (len(found.rows), sum(row.label for row in found.rows), found.left_out) == (n, yes, {})


@pytest.mark.assets
def test_the_real_severities() -> None:
    rows = load("pyrit-severity", "severity").rows
    assert (len(rows), {len(row.raters) for row in rows}) == (990, {1, 3})
    assert {row.label for row in rows} <= {0.0, 1.75, 3.5, 5.25, 7.0}


def test_a_set_that_no_source_has_says_what_was_tried(cut_off: None) -> None:
    with pytest.raises(AssetError, match="pyrit-refusal: no source could serve it"):
        load("pyrit-refusal", "refusal")
