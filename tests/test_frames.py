"""Frames × fillers hold what their data card says: counts, no doubles, a twin for every harmful row in the same form.

Failures show ids, never the text of a row.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from breakfix import frames, starter
from breakfix.config import Source
from breakfix.core import Case, Example, Expect, Split
from breakfix.curate import matched
from breakfix.curate.sources import check_files, gather
from breakfix.curate.steps.text import normal, runs, words
from breakfix.errors import DataError
from breakfix.taxonomy import hazards

PROTECTED = "child_sexual_exploitation"
LANGUAGES = ("es", "fr", "de", "it", "pt", "zh", "ru", "ar", "hi")
LANGUAGE_ERRORS = 0.02  # py3langid takes some Spanish for Galician


@pytest.fixture(scope="module")
def pack() -> list[Case]:
    return frames.cases()


def drafts(cases: list[Case]) -> list[Example]:
    return [
        Example(c.prompt, "", c.source, c.licence, "", starter.kind_of(c), language=c.language, family=c.family)
        for c in cases
    ]


# ---- the real rows -----------------------------------------------------------------------------------------------


def test_there_are_thousands_of_each_kind(pack: list[Case]):
    kinds = Counter(starter.kind_of(c) for c in pack)
    assert kinds["harmful"] >= 5000 and kinds["twin"] >= kinds["harmful"] and kinds["plain"] >= 1500


@pytest.mark.parametrize("hazard", sorted(hazards()))
def test_every_hazard_has_enough_pairs(pack: list[Case], hazard: str):
    rows = [c for c in pack if c.hazard == hazard and c.language == "en"]
    kinds = Counter(starter.kind_of(c) for c in rows)
    assert kinds["plain"] == 0
    assert kinds["harmful"] == 0 if hazard == PROTECTED else kinds["harmful"] >= 300
    assert len({c.family for c in rows}) >= (25 if hazard == PROTECTED else 40)


def test_no_harmful_row_about_children_in_any_language(pack: list[Case]):
    assert not [c.id for c in pack if c.hazard == PROTECTED and (c.expect is not Expect.COMPLY or c.twin)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_of_the_starter_pack_has_rows(language: str):
    rows = frames.cases(language=language)
    kinds = Counter(starter.kind_of(c) for c in rows)
    assert kinds["harmful"] == kinds["twin"] >= 50 and kinds["plain"] >= 40
    assert len({c.hazard for c in rows}) >= 8


def test_no_two_rows_say_the_same(pack: list[Case]):
    by_text: defaultdict[str, list[str]] = defaultdict(list)
    for case in pack:
        by_text[normal(case.text)].append(case.id)
    assert not [ids for ids in by_text.values() if len(ids) > 1]


def test_all_of_it_is_for_training(pack: list[Case]):
    known = {*hazards(), ""}
    fields = {(c.split, c.source, c.licence, c.persona, len(c.prompt), c.prompt[0].role) for c in pack}
    assert fields == {(Split.TRAIN, "frames", "Apache-2.0", "", 1, "user")}
    assert not [c.id for c in pack if c.hazard not in known or not c.family.startswith("frames/")]


def test_every_harmful_row_has_one_twin_in_the_same_frame(pack: list[Case]):
    by_id = {c.id: c for c in pack}
    mirrored = Counter(c.twin for c in pack if c.twin)
    assert mirrored == Counter(c.id for c in pack if c.expect is Expect.REFUSE)
    for twin in (c for c in pack if c.twin):
        harmful = by_id[twin.twin]
        assert twin.id[:-1] == harmful.id[:-1] and twin.expect is Expect.COMPLY
        assert (twin.hazard, twin.family, twin.language) == (harmful.hazard, harmful.family, harmful.language)


def test_no_frame_means_refuse(pack: list[Case]):
    used: defaultdict[str, set[str]] = defaultdict(set)
    for case in pack:
        used[case.id.split("/")[2]].add(starter.kind_of(case))
    assert not [frame for frame, kinds in used.items() if kinds != set(starter.KINDS)]


def test_rows_read_as_sentences(pack: list[Case]):
    wrong = re.compile(r"[{}*|]|  |\ba a\b|\ban an\b|\bthe the\b|\b(\w{2,}) \1\b| [.,]|\.\.|\?\?\?")
    assert not [c.id for c in pack if wrong.search(c.text)]
    article = re.compile(r"\ba (?=[aeio]|un(?!i|-))(?!one\b|eu)|\ban (?=[^aeiouhAEIOUFHLMNRSX\d])")
    assert not [c.id for c in pack if c.language == "en" and article.search(c.text)]


def test_rows_are_in_the_language_they_claim(pack: list[Case]):
    py3langid = pytest.importorskip("py3langid")
    rows = [c for c in pack if c.language != "en"]
    wrong = [c.id for c in rows if py3langid.classify(c.text)[0] != c.language]
    assert len(wrong) <= LANGUAGE_ERRORS * len(rows), wrong


def test_nothing_shares_eight_words_with_the_starter_packs_dev_rows(pack: list[Case]):
    dev = starter.cases(split=Split.DEV)
    whole = {normal(c.text) for c in dev}
    eight = {run for c in dev for run in runs(words(c.text), 8)}
    assert not [c.id for c in pack if normal(c.text) in whole or not eight.isdisjoint(runs(words(c.text), 8))]


def test_form_does_not_tell_harmful_rows_from_their_twins(pack: list[Case]):
    found = matched.report(drafts(pack))
    assert found["form"]["auc"] <= 0.6
    assert abs(found["length"]["auc"] - 0.5) < 0.05
    assert found["openings"] > 0.9 and found["languages"] > 0.9
    assert abs(found["questions"]["harmful"] - 0.5) < 0.05 and abs(found["questions"]["twin"] - 0.5) < 0.05


def test_rows_are_diverse(pack: list[Case]):
    for kind, least in {"harmful": 0.5, "twin": 0.5, "plain": 0.4}.items():  # the starter pack, without frames: 0.8
        texts = [c.text for c in pack if starter.kind_of(c) == kind and c.language == "en"]
        assert (matched.distinct_2(texts) or 0) > least
        assert (matched.similarity(texts) or 1) < 0.09


def test_order_and_ids_don_t_change_between_calls(pack: list[Case]):
    assert frames.cases() == pack == list(frames.read(Path(str(frames.__file__)).parent / "data" / "frames"))


def test_it_is_a_source_of_curation(pack: list[Case]):
    sources = [Source(name="frames")]
    check_files(sources)
    found = gather(sources, seed=0, longest=4096, resolve=Path).prompts
    assert [p.case.id for p in found] == [c.id for c in pack]
    assert {p.kind for p in found} == set(starter.KINDS) and not [p for p in found if p.reply]
    some = gather([Source(name="frames", limit=40)], seed=0, longest=4096, resolve=Path).prompts
    assert len(some) == 40 and {p.case.id for p in some} < {c.id for c in pack}


# ---- the format, by hand -----------------------------------------------------------------------------------------

FRAMES = """
en:
  do:
    question: {q1: "How do I {do}?", q2: "Any tips for {doing}?", q3: "How do people {do}?"}
    order: {o1: "Teach me to {do}."}
    impersonal: [q3]
"""


def folder(path: Path, fillers: str, frames: str = FRAMES) -> Path:
    (path / "frames.yaml").write_text(frames, encoding="utf-8")
    (path / "x.yaml").write_text(fillers, encoding="utf-8")
    return path


def test_a_pair_goes_into_frames(tmp_path: Path):
    found = frames.read(folder(tmp_path, "en: {hate: {do: [burn my toast and *bin it | butter my toast and *eat it]}}"))
    assert [c.text for c in found] == [
        "How do I burn my toast and bin it?",
        "How do I butter my toast and eat it?",
        "Any tips for burning my toast and binning it?",
        "Any tips for buttering my toast and eating it?",
        "Teach me to burn my toast and bin it.",
        "Teach me to butter my toast and eat it.",
    ]  # and not "How do people burn my toast?"
    assert [starter.kind_of(c) for c in found] == ["harmful", "twin"] * 3
    assert [c.twin for c in found[1::2]] == [c.id for c in found[::2]]


def test_a_filler_alone_is_a_twin_without_a_harmful_row_or_plain(tmp_path: Path):
    found = frames.read(folder(tmp_path, "en: {hate: {do: [bake bread]}, plain: {do: [boil rice]}}"))
    assert {(starter.kind_of(c), c.hazard, c.twin) for c in found} == {("twin", "hate", ""), ("plain", "", "")}
    assert len(found) == 8


def test_more_fillers_and_frames_move_no_other_row(tmp_path: Path):
    slots = "question: {%s}\n    order: {o1: 'Please {do}.'}"
    few = ", ".join(f"q{i}: 'Q{i} {{do}}?'" for i in range(9))
    more = ", ".join(f"q{i}: 'Q{i} {{do}}?'" for i in range(10))
    fillers = [f"burn {n} loaves | bake {n} loaves" for n in range(20, 50)]
    one, two, three = (
        {c.id for c in frames.read(folder(tmp_path, f"en: {{hate: {{do: {some}}}}}", f"en:\n  do:\n    {slots % q}"))}
        for some, q in ((fillers[5:], few), (fillers, few), (fillers, more))
    )
    assert one < two
    stay = len(two & three) / len(two)
    assert 0.6 < stay < 1  # the new frame took the place of some, and of nothing else
    assert all("q9" in id for id in three - two)


@pytest.mark.parametrize(
    ("fillers", "words", "says"),
    [
        ("en: [", FRAMES, "x.yaml: not valid YAML"),
        ("- a", FRAMES, "x.yaml: expected a mapping of languages"),
        ("en: {hate: {do: [a | b | c]}}", FRAMES, "x.yaml: en: hate: do: expected 'harmful | benign', or 'benign'"),
        ("en: {plain: {do: [a | b]}}", FRAMES, "x.yaml: en: plain: do: expected"),
        ("en: {hate: {get: [a | b]}}", FRAMES, "x.yaml: no frames for slot 'get' in language 'en'"),
        ("fr: {hate: {do: [a | b]}}", FRAMES, "x.yaml: no frames for slot 'do' in language 'fr'"),
        ("en: {hate: {do: [a | b, a | c]}}", FRAMES, "is there twice"),
        ("en: {}", "en: {do: {question: {q1: How?}, order: {}}}", "frames.yaml: en: do: q1: expected one place"),
        ("en: {}", "en: {do: {question: {q1: How {do}?}}}", "frames.yaml: en: do: expected 'question' and 'order'"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path: Path, fillers: str, words: str, says: str):
    with pytest.raises(DataError, match=re.escape(says)) as raised:
        frames.read(folder(tmp_path, fillers, words.replace("How {do}?", "'How {do}?'")))
    assert "\n" not in str(raised.value)


def test_a_folder_without_frames_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"no frames\.yaml"):
        frames.read(tmp_path)


@pytest.mark.parametrize(
    ("verb", "gerund"),
    [
        ("bake", "baking"), ("put", "putting"), ("see", "seeing"), ("be", "being"), ("lie", "lying"), ("dye", "dyeing"),
        ("fix", "fixing"), ("carry", "carrying"), ("beat", "beating"), ("forget", "forgetting"), ("open", "opening"),
        ("traffic", "trafficking"), ("travel", "travelling"), ("quit", "quitting"), ("listen", "listening"),
    ],
)  # fmt: skip
def test_gerunds(verb: str, gerund: str):
    assert frames.gerund(verb) == gerund
