"""Curation steps: those on hashes against what they say, text by text, by brute force; the others by examples."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from breakfix.core import Case, Dropped, Example, Expect, Message, Split, ask
from breakfix.curate.caps import FULL, Caps
from breakfix.curate.steps import hashed, stream
from breakfix.curate.steps import near as near_module
from breakfix.curate.steps.decontaminate import EDITED, SHORTEST, Decontaminate
from breakfix.curate.steps.exact import Exact
from breakfix.curate.steps.hashed import Index, Table, letter_sets, shingle_sets
from breakfix.curate.steps.labels import LEAST, WRONG, LabelErrors, errors
from breakfix.curate.steps.language import OTHER, Language, foreign
from breakfix.curate.steps.meaning import Meaning
from breakfix.curate.steps.near import FAMILY, Copies, Family, Near
from breakfix.curate.steps.order import said_again
from breakfix.curate.steps.personal import Personal, luhn
from breakfix.curate.steps.quality import LOW, Quality, score
from breakfix.curate.steps.text import asked, jaccard, letters, normal, runs, shingles, unspaced, words
from breakfix.curate.steps.vectors import Vectors

NOUNS = "bread oven garden boat river violin ladder comet harbour orchard kettle lamp".split()
CHINESE = "我怎样才能在家里不用烤箱就做出又软又香的牛奶面包"


def row(text: str, kind: str = "plain", reply: str = "", **more: Any) -> Example:
    return Example(ask(text), reply, "test", "MIT", "a test", kind, parents=(f"t/{text[:20]}",), **more)


def wall(text: str, id: str, **more: Any) -> Case:
    return Case(id, ask(text), Expect.REFUSE, "suite", Split.FROZEN, **more)


def sentences(rng: random.Random, n: int, longest: int = 14) -> list[str]:
    """Texts of few words, so that many are alike; some in Chinese, some empty of words, some with a changed word."""
    found: list[str] = []
    for _ in range(n):
        pick = rng.random()
        if found and pick < 0.35:
            text = rng.choice(found).split()
            text[rng.randrange(len(text)) :][:1] = [rng.choice(NOUNS)]
            found.append(" ".join(text))
        elif pick < 0.45:
            start = rng.randrange(8)
            found.append(CHINESE[start : start + rng.randint(1, 16)] + rng.choice(["", "灯", " bread"]))
        else:
            found.append(" ".join(rng.choice(NOUNS) for _ in range(rng.randint(1, longest))))
    return [*found, "!!!", "Bread, bread.", "..."]


# ---- hashed sets against sets of strings ------------------------------------------------------------------------


def test_sets_of_hashes_are_as_large_and_as_like_as_sets_of_strings() -> None:
    texts = sentences(random.Random(1), 60)
    for make, said in ((shingle_sets, shingles), (letter_sets, letters)):
        found = make([normal(text) for text in texts])
        assert found.sizes.tolist() == [len(said(text)) for text in texts]
        i, j = (np.array(side) for side in zip(*[(a, b) for a in range(len(texts)) for b in range(a)], strict=True))
        common = hashed.shared(found, i, found, j)
        assert common.tolist() == [len(said(texts[a]) & said(texts[b])) for a, b in zip(i, j, strict=True)]


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("at_once", [8, 1 << 21])
def test_the_index_finds_every_pair_and_no_other(
    threshold: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashed, "AT_ONCE", at_once)
    rng = random.Random(2)
    known, given = sentences(rng, 90), sentences(rng, 40)
    index = Index(threshold)
    for start in range(0, len(known), 7):  # many runs, merged on the way
        index.add(shingle_sets([normal(text) for text in known[start : start + 7]]))
    pairs = list(zip(*(side.tolist() for side in index.alike(shingle_sets([normal(t) for t in given]))), strict=True))
    assert pairs == [
        (a, b)
        for a in range(len(given))
        for b in range(len(known))
        if jaccard(shingles(given[a]), shingles(known[b])) >= threshold
    ]


@pytest.mark.parametrize("threshold", [0.4, 0.8])
def test_an_index_that_has_grown_misses_nothing(threshold: float) -> None:
    """60,000 postings of rare and common elements, then sets with some of a known one's changed."""
    rng = random.Random(4)
    made = [{int(1 + 60_000 * rng.random() ** 3) ** 2 for _ in range(rng.randint(1, 40))} for _ in range(3000)]
    for _ in range(400):
        changed = {element for element in rng.choice(made[:3000]) if rng.random() < 0.85}
        made.append(changed | {rng.randrange(1 << 40)})

    def sets(some: Sequence[set[int]]) -> hashed.Sets:
        spread = [np.sort(hashed.mixed(np.array(sorted(one), np.uint64)) >> np.uint64(16)) for one in some]
        return hashed.Sets(np.concatenate(spread), np.cumsum([0, *map(len, spread)]))

    index = Index(threshold)
    for start in range(0, 3000, 500):
        index.add(sets(made[start : start + 500]))
    holds: dict[int, list[int]] = {}
    for number, one in enumerate(made[:3000]):
        for element in one:
            holds.setdefault(element, []).append(number)
    said: list[tuple[int, int]] = []
    for place, one in enumerate(made[3000:]):
        common = Counter(number for element in one for number in holds.get(element, ()))
        said += sorted((place, n) for n, c in common.items() if c / (len(one) + len(made[n]) - c) >= threshold)
    found = index.alike(sets(made[3000:]))
    assert list(zip(*(side.tolist() for side in found), strict=True)) == said
    assert len(said) > 100
    some = [made[n] for _, n in said] + [made[3000 + place] for place, _ in said] + made[:500]
    assert {*range(2 * len(said))} <= {*hashed.crowded(sets(some), threshold).tolist()}


def test_a_table_gives_the_least_number() -> None:
    table = Table(np.array([7, 9, 7], np.uint64) << np.uint64(50), np.array([5, 1, 2]))
    places, numbers = table.find(np.array([9, 8, 7], np.uint64) << np.uint64(50))
    assert (places.tolist(), numbers.tolist()) == ([0, 2], [1, 2])
    empty = Table(np.zeros(0, np.uint64), np.zeros(0, np.int64))
    assert empty.find(np.arange(3, dtype=np.uint64))[0].tolist() == []


# ---- the steps as they were, text by text -----------------------------------------------------------------------


def near_by_hand(rows: Sequence[Example], threshold: float, most: int = 1) -> list[Example]:
    """A row goes if `most` earlier ones that stayed, of the same label, are like it."""
    kept: list[Example] = []
    for one in rows:
        like = (
            jaccard(shingles(asked(one.prompt)), shingles(asked(other.prompt))) >= threshold
            for other in kept
            if (other.kind == "harmful") == (one.kind == "harmful")
        )
        if sum(like) < most:
            kept.append(one)
    return kept


def overlap_by_hand(one: Example, walls: Sequence[Case], ngram: int, threshold: float) -> str:
    """The plainest rule by which a row overlaps a wall; "" if there is none."""

    def size(tokens: Sequence[str]) -> int:
        return ngram * 2 if unspaced(tokens) else ngram

    turns = [words(m.content) for m in one.prompt if m.role != "assistant"]
    texts = [*turns, words(one.reply)]
    found: set[str] = set()
    for text in (text for w in walls for text in (asked(w.prompt), *w.translations.values())):
        tokens = words(text)
        n = size(tokens)
        if normal(text) in [" ".join(turn) for turn in turns]:
            found.add("exact")
        if len(tokens) >= n:
            mine = set(runs(tokens, n))
            if any(mine & set(runs(other, n)) for other in texts if size(other) == n):
                found.add("ngram")
        elif len(tokens) >= SHORTEST and any(tuple(tokens) in set(runs(turn, len(tokens))) for turn in turns):
            found.add("contained")
        if jaccard(letters(text), letters(asked(one.prompt))) >= min(threshold, EDITED):
            found.add("near")
    return next((rule for rule in ("exact", "ngram", "contained", "near") if rule in found), "")


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("batch", [5, 4096])
def test_near_is_what_it_was(threshold: float, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BATCH", batch)
    monkeypatch.setattr(near_module, "AT_ONCE", 3 if batch == 5 else 256)
    for seed in range(4):
        rng = random.Random(seed)
        rows = [row(text, rng.choice(["harmful", "twin", "plain"])) for text in sentences(rng, 120)]
        kept, dropped = Near(threshold)(rows)
        assert kept == near_by_hand(rows, threshold)
        assert len(kept) + len(dropped) == len(rows)
        assert {id(d.example) for d in dropped} == {id(r) for r in rows} - {id(r) for r in kept}
        assert Copies("few", threshold, "why", most=2)(rows)[0] == near_by_hand(rows, threshold, most=2)


@pytest.mark.parametrize("ngram", [3, 8])
def test_decontamination_is_what_it_was(ngram: int) -> None:
    for seed in range(4):
        rng = random.Random(seed)
        texts = sentences(rng, 60)
        walls = [
            wall(text, f"w{i}", translations={"de": rng.choice(texts)} if i % 7 == 0 else {})
            for i, text in enumerate(sentences(rng, 30, 18))
        ]
        rows = [row(text, reply=rng.choice(["", *texts])) for text in texts]
        talk = (Message("user", texts[0]), Message("assistant", walls[0].text), Message("user", texts[1]))
        rows.append(Example(talk, "", "t", "MIT", "w", "plain"))
        step = Decontaminate(walls, ngram=ngram, threshold=0.8)
        found = {hit.row: hit.rule for hit in step.overlaps(rows)}
        said = {i: rule for i, one in enumerate(rows) if (rule := overlap_by_hand(one, walls, ngram, 0.8))}
        assert found == said
        assert len({*found.values()}) >= (3 if ngram == 8 else 2)


def test_streaming_is_one_step_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    rows = [row(text, rng.choice(["harmful", "plain"])) for text in sentences(rng, 200)]
    walls = [wall(text, f"w{i}") for i, text in enumerate(sentences(rng, 20))]
    steps = [Exact(), Near(0.8), Decontaminate(walls, ngram=5, threshold=0.8)]
    left, gone = rows, list[Dropped]()
    for step in steps:
        left, dropped = step(left)
        gone += dropped
    monkeypatch.setattr(stream, "BATCH", 16)
    sifted = list(stream.sift(steps, iter(rows)))
    assert [one for one in sifted if not isinstance(one, Dropped)] == left
    reasons = sorted((d.step, d.reason, d.example.id) for d in sifted if isinstance(d, Dropped))
    assert reasons == sorted((d.step, d.reason, d.example.id) for d in gone)


# ---- copies: families, replies ----------------------------------------------------------------------------------


def test_a_family_keeps_a_few_rows_that_are_half_alike() -> None:
    def of(family: str, *texts: str, kind: str = "plain") -> list[Example]:
        return [row(text, kind, family=family) for text in texts]

    frame = "Please write a short friendly note about {} for the people next door"
    alike = [frame.format(noun) for noun in NOUNS[:5]]
    rows = [*of("f", *alike), *of("g", *alike[:2]), *of("f", "What is a comet?"), *of("", *alike)]
    kept, dropped = Family(2)(rows)
    assert kept == [*rows[:2], *rows[5:]]
    assert {d.reason for d in dropped} == {FAMILY}


def test_what_a_model_says_again_and_again_is_learnt_a_few_times() -> None:
    rows = [row(f"Tell me about {noun}", "plain", "It is a thing that many people like.") for noun in NOUNS]
    kept, dropped = said_again(0.8, 3)(rows)
    assert (len(kept), len(dropped)) == (3, len(rows) - 3)
    harmful = [
        row(f"Forbidden: {noun}", "harmful", "No.", rejected=f"Fine, {noun} it is, as you wish") for noun in NOUNS
    ]
    assert said_again(0.8, 3)(harmful)[0] == harmful
    silent = [row(f"Forbidden: {noun}", "harmful", "No.") for noun in NOUNS]
    assert said_again(0.8, 3)(silent)[0] == silent


def test_copies_counts_only_rows_that_stayed() -> None:
    rows = [row(text) for text in ("a b c d e f", "a b c d e g", "a b c d e h")]
    step = Copies("x", 0.5, "why", most=2)
    assert len(step(rows)[0]) == 2


# ---- personal data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Write to ann.lee+news@mail.bakery.co.uk today", "Write to [email] today"),
        ("Write to ann@example.com or to info@bakery.test", "Write to ann@example.com or to info@bakery.test"),
        ("Call +44 20 7946 0958 now", "Call [phone] now"),
        ("Call (212) 736-5000 or 212-736-5001.", "Call [phone] or [phone]."),
        ("Call 415-555-0123, which is nobody's", "Call 415-555-0123, which is nobody's"),
        ("My card is 4111 1111 1111 1111, thanks", "My card is [card], thanks"),
        ("My card is 4111 1111 1111 1112, thanks", "My card is 4111 1111 1111 1112, thanks"),
        ("Pay to GB29 NWBK 6016 1331 9268 19 please", "Pay to [iban] please"),
        ("Pay to GB28 NWBK 6016 1331 9268 19 please", "Pay to GB28 NWBK 6016 1331 9268 19 please"),
        ("The server 8.8.8.8 and 127.0.0.1 and 192.168.1.20", "The server [ip] and 127.0.0.1 and 192.168.1.20"),
        ("Version 1.2.3.4.5 of the tool, and 2001:4860:4860:0:0:0:0:8888", "Version 1.2.3.4.5 of the tool, and [ip]"),
        ("Ask 2001:4860:4860::8888, or [2606:4700::]: quick", "Ask [ip], or [[ip]]: quick"),
        ("2001:4860:1:2:3:4::5 but 2001:db8::1 is nobody's", "[ip] but 2001:db8::1 is nobody's"),
        ("std::vector, a::b, dead::beef, ::1, fe80::1", "std::vector, a::b, dead::beef, ::1, fe80::1"),
        ("His number is 536-22-1234, hers 900-22-1234", "His number is [ssn], hers 900-22-1234"),
        (
            "In 2024-2025, 1,000,000 loaves of 0.5 kg: 10:30-11:45",
            "In 2024-2025, 1,000,000 loaves of 0.5 kg: 10:30-11:45",
        ),
        ("ISBN 978-3-16-148410-0 and 3.14159265358979", "ISBN 978-3-16-148410-0 and 3.14159265358979"),
    ],
)
def test_personal_data_is_told_by_its_form_and_check_digits(text: str, said: str) -> None:
    one = row("Hello", reply=text, rejected=text)
    [kept], _ = Personal("mask")([one])
    assert (kept.reply, kept.rejected) == (said, said)
    kept, dropped = Personal("drop")([one])
    assert len(dropped) == (said != text)
    assert Personal("keep")([one]) == ([one], [])
    if said == text:
        assert Personal("mask")([one])[0][0] is one


def test_personal_data_is_counted() -> None:
    step = Personal("mask")
    [kept], dropped = step([row("I am ann@bakery.org, call +4930123456 or ann@bakery.org")])
    assert kept.prompt[0].content == "I am [email], call [phone] or [email]"
    assert (dict(step.found), dropped) == ({"email": 2, "phone": 1}, [])


def test_luhn() -> None:
    assert luhn("79927398713") and not luhn("79927398710")


# ---- language, quality, caps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "language", "wrong"),
    [
        ("How do I bake a dark rye bread at home without a stand mixer?", "en", False),
        ("Wie backe ich zu Hause ein dunkles Roggenbrot ohne Waage und ohne Maschine?", "en", True),
        ("Wie backe ich zu Hause ein dunkles Roggenbrot ohne Waage und ohne Maschine?", "de-AT", False),
        ("Brot?", "en", False),
        (CHINESE, "en", True),
        (CHINESE, "zh", False),
        ("Translate into German: 'Guten Abend, wo ist der Bahnhof?' is an example of how it sounds.", "en", False),
    ],
)
def test_language(text: str, language: str, wrong: bool) -> None:
    assert foreign(text, language) == wrong
    _, dropped = Language()([row(text, language=language)])
    assert [d.reason for d in dropped] == ([OTHER] if wrong else [])


def test_the_starter_packs_languages_are_what_they_say() -> None:
    from breakfix import starter

    wrong = [case.id for case in starter.cases() if foreign(case.text, case.language)]
    assert wrong == []


@pytest.mark.parametrize(
    ("reply", "low", "high"),
    [
        ("", 0, 0),
        ("Paris.", 0.2, 0.3),
        ("Mix the flour with warm water and let the dough rest for an hour.", 1, 1),
        ("Mix the flour with warm water and let the dough rest for", 0.69, 0.71),
        ("the same thing the same thing " * 20, 0, 0.1),
        ("#### ---- |||| ==== 0x00 //// 1234 5678", 0, 0.2),
        ("A line of it.\n" * 12, 0, 0.1),
        ("我们先把面粉和水混合，然后让面团休息一个小时。", 1, 1),
    ],
)
def test_quality_by_form(reply: str, low: float, high: float) -> None:
    assert low <= score(reply) <= high
    _, dropped = Quality(0.2)([row("Hello", reply=reply)])
    assert [d.reason for d in dropped] == ([LOW] if reply and high < 0.2 + 1e-9 else [])


def test_quality_lets_what_is_not_its_business_through() -> None:
    rows = [row("a", "harmful", "??"), row("b"), row("c", "plain", "??")]
    assert Quality(0.2)(rows)[0] == rows[:2]
    assert score("It rests for an hour and then it is kneaded until", cut=True) == 1


def test_a_cap_per_hazard_is_drawn_by_the_row_alone() -> None:
    rows = [row(f"{noun}", "harmful", hazard="privacy") for noun in NOUNS]
    others = [row("kettle", "twin", hazard="privacy"), row("lamp", "plain")]
    kept, dropped = Caps(4)([*rows, *others])
    assert (len(kept), {d.reason for d in dropped}) == (6, {FULL})
    again = Caps(4)([*reversed(rows), *others])[0]
    assert {r.id for r in again} == {r.id for r in kept}


# ---- embeddings: meaning, label errors, the cache ---------------------------------------------------------------


class Topics:
    """An embedder that knows what a text is about: one direction a noun, a little of the text's own beside it."""

    id = "topics@1"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> Any:
        self.texts += texts
        found = np.zeros((len(texts), len(NOUNS) + 2), np.float32)
        for i, text in enumerate(texts):
            for j, noun in enumerate(NOUNS):
                found[i, j] = noun in text
            found[i, -2] = "forbidden" in text.lower()
            found[i, -1] = 0.1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def vectors(folder: Path | None = None) -> tuple[Vectors, Topics]:
    embedder = Topics()
    return Vectors(embedder.id, lambda: embedder, folder), embedder


def test_what_means_the_same_as_a_wall_goes() -> None:
    walls = [wall("How is bread made in an oven?", "w1"), wall("Who plays the violin?", "w2"), wall("A lamp", "w3")]
    walls.append(Case("w4", ask("Which boat is on the river?"), Expect.ANSWER, "mc", Split.FROZEN))
    step = Meaning(walls, vectors()[0], 0.95)
    rows = [row("An oven and bread: tell me more"), row("Of bread and boats"), row("boat river"), row("Not a lamp")]
    kept, dropped = step(rows)
    assert [d.reason for d in dropped] == ["means what suite asks"]
    assert kept == rows[1:]  # a short wall and a question with one answer are no meaning to keep clear of
    assert step.report["pairs"] == [{"row": "t/An oven and bread: t", "wall": "w1", "cosine": 1.0}]
    assert (step.report["walls"], step.report["checked"], step.report["by_wall"]) == (2, 4, {"suite": 1})
    assert Meaning([], vectors()[0], 0.9)(rows)[0] == rows


def test_vectors_are_made_once_and_read_again(tmp_path: Path) -> None:
    first, one = vectors(tmp_path)
    made = first.of(["bread", "boat", "bread"])
    assert (first.made, one.texts) == (2, ["bread", "boat"])
    second, two = vectors(tmp_path)
    assert np.array_equal(second.of(["boat", "bread", "lamp"])[:2], made[[1, 0]])
    assert (second.made, two.texts) == (1, ["lamp"])
    next(tmp_path.iterdir()).write_bytes(b"broken")
    third, _ = vectors(tmp_path)
    assert third.of(["boat"]).shape == (1, len(NOUNS) + 2)
    nowhere, _ = vectors(Path("/dev/null/x"))
    assert nowhere.of(["boat"]).shape == (1, len(NOUNS) + 2)


def test_a_planted_label_error_is_found_and_dropped_if_asked() -> None:
    rng = random.Random(0)
    rows = [row(f"Forbidden: {rng.choice(NOUNS)} {i}", "harmful") for i in range(40)]
    rows += [row(f"Allowed: {rng.choice(NOUNS)} {i}", "twin") for i in range(40)]
    rows += [row("Forbidden: bread", "plain"), row("Allowed: comet", "harmful")]
    step = LabelErrors(vectors()[0], drop=False)
    assert step(rows) == (rows, [])
    assert {(found["row"], found["kind"]) for found in step.report["rows"]} == {
        ("t/Forbidden: bread", "plain"),
        ("t/Allowed: comet", "harmful"),
    }
    kept, dropped = LabelErrors(vectors()[0], drop=True)(rows)
    assert kept == rows[:-2]
    assert {d.reason for d in dropped} == {WRONG}
    few = LabelErrors(vectors()[0], drop=True)
    assert few(rows[:5]) == (rows[:5], [])
    assert few.report["why_not"] == f"fewer than {LEAST} harmful or harmless rows"


def test_errors_are_what_crosses_the_other_labels_mean() -> None:
    chance = np.array([0.9, 0.8, 0.1, 0.2, 0.3, 0.95])  # of "harmful"; means: 0.6 of harmful, 0.516 of benign
    harmful = np.array([True, True, True, False, False, False])
    assert errors(chance, harmful) == [5, 2]
