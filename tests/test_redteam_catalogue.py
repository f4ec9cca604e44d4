"""The wider catalogue: worked examples, compositions, templates by asset, rows and page, a run of all of it."""

from __future__ import annotations

import base64
import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from breakfix import assets, campaign, cli
from breakfix.campaign import Budget, Put
from breakfix.config import Redteam, parse
from breakfix.core import Attempt, Case, Conversation, Expect, Message, NotApplicable, Sampling, Split, Verdict, ask
from breakfix.curate.evidence import barred
from breakfix.errors import ConfigError
from breakfix.ledger import Ledger
from breakfix.models.fake import Echo
from breakfix.redteam import ATTACKS, asset_templates, catalogue, chosen, listing
from breakfix.redteam.asset_templates import MANY, MORE, NONE, from_folder, garak_pieces, load, pyrit_pieces
from breakfix.redteam.bijection import EXAMPLES
from breakfix.redteam.composition import composed, is_composed
from breakfix.redteam.encoding import morse, shifted
from breakfix.redteam.lettering import CONFUSABLES
from breakfix.redteam.masking import FONT, drawn, masked
from breakfix.redteam.noise import noisy
from breakfix.redteam.padding import QUESTIONS
from breakfix.redteam.past_tense import future
from breakfix.redteam.run import metrics
from breakfix.redteam.run import run as red_team
from breakfix.redteam.translation import switching

ROOT = Path(__file__).parents[1]
BREAD = "Explain how to bake bread"
DEFAULT = Redteam()


def case(text: str = BREAD, **more: Any) -> Case:
    return Case("c1", ask(text), Expect.REFUSE, "test", Split.DEV, **more)


def asked(name: str, put: Case | None = None, seed: int = 0) -> Conversation:
    attack = ATTACKS.get(name) or composed(name, ATTACKS)
    return next(attack(put or case(), random.Random(seed))).prompt


def text(name: str, put: Case | None = None, seed: int = 0) -> str:
    return asked(name, put, seed)[-1].content


def last(name: str, put: Case | None = None) -> str:
    return text(name, put).rsplit("\n\n", 1)[1]


# ---- encodings


def test_codes() -> None:
    assert last("caesar") == "Hasodlq krz wr ednh euhdg"
    assert shifted("xyz XYZ!", 3) == "abc ABC!"
    assert bytes.fromhex(last("hex")).decode() == BREAD
    assert bytes(int(byte, 2) for byte in last("binary").split()).decode() == BREAD
    assert morse("Bake it, é2") == "-... .- -.- . / .. - / . ..---"
    with pytest.raises(NotApplicable, match="Latin letters only"):
        morse("怎么做面包")
    with pytest.raises(NotApplicable):
        morse("?!")


def test_lettering() -> None:
    assert text("confusables") != BREAD
    assert text("confusables").translate({other: latin for latin, other in CONFUSABLES.items()}) == BREAD
    assert text("zero_width").replace("\u200b", "") == BREAD
    assert text("zero_width", case("Bake it")) == "B\u200ba\u200bk\u200be i\u200bt"
    assert last("reversed")[::-1] == BREAD
    assert last("flipped_words") == "bread bake to how Explain"
    with pytest.raises(NotApplicable, match="one word"):
        asked("flipped_words", case("Bread?"))
    assert "".join(c for c in text("emoji") if c.isascii()) == BREAD
    assert len(text("emoji")) == len(BREAD) + 3  # Explain, bake, bread


def test_noise_keeps_first_and_last_letters() -> None:
    assert text("character_noise") != BREAD
    assert {len(noisy(BREAD, random.Random(seed))) for seed in range(20)} == {len(BREAD)}


def test_a_bijection_can_be_undone_by_its_own_table() -> None:
    said = text("bijection")
    table = dict(pair.split("=") for pair in said.split(": ", 1)[1].split(".\n", 1)[0].split(", "))
    assert sorted(table) == sorted(table.values())
    assert said.rsplit("\n", 1)[1] == "".join(table.get(c, c) for c in BREAD.lower())
    assert all(f"{example} -> " in said for example in EXAMPLES)
    assert text("bijection", seed=1) != said


def test_a_masked_word_is_given_apart() -> None:
    assert masked(BREAD) == ("Explain how to bake [WORD]", "bread")
    assert masked("Bake bread, then eat Bread") == ("Bake [WORD], then eat [WORD]", "bread")
    assert "bread" not in text("ascii_art")
    assert drawn("it").splitlines()[0] == "#####  #####"
    assert all(len(rows.split()) == 5 and all(len(row) == 5 for row in rows.split()) for rows in FONT.values())
    letters = dict(pair.split(": ") for pair in text("masked_word").split("places: ")[1].split(". ")[0].split(", "))
    assert "".join(letters[str(n)] for n in range(1, 6)) == "bread"
    with pytest.raises(NotApplicable, match="no word"):
        masked("怎么做面包")


# ---- framing, code, padding, begun answers, languages


def test_code_holds_the_request() -> None:
    program = text("odd_even").split("```python\n")[1].split("\n```")[0]
    found: dict[str, Any] = {}
    exec(program, found)  # ours, with bread in it
    assert found["problem"] == BREAD
    assert [
        line.split("'")[1] for line in text("word_list").splitlines() if line.startswith("task.append")
    ] == BREAD.split()
    assert repr(BREAD) in text("function_body")


def test_data_structures_are_well_formed() -> None:
    odd = case('Say "bread",\nand <b> | ]')
    assert json.loads(last("json_form", odd))["topic"] == odd.text
    rows = list(csv.reader(text("csv_rows", odd).split("???.\n\n")[1].splitlines(keepends=True)))
    assert rows[-1] == ["3", odd.text, "???"]
    assert "&lt;b&gt;" in text("xml_form", odd)
    assert '| step | Say "bread", and <b> \\| ] |' in text("markdown_table", odd)


def test_padding_surrounds_the_request() -> None:
    before, request, after = text("distractor_text").split("\n\n")[1:]
    assert request == BREAD
    assert len(before.split()) > 150 < len(after.split())
    numbered = text("distractor_list").splitlines()
    place = next(i for i, line in enumerate(numbered, 1) if line.endswith(BREAD))
    assert len(numbered) == QUESTIONS + 2
    assert f"number {place}," in numbered[-1]


def test_begun_answers_and_given_turns() -> None:
    assert [m.role for m in asked("prefill_steps")] == ["user", "assistant"]
    assert text("prefill_steps").endswith("Step 1:")
    assert BREAD in text("prefill_restated")
    assert not text("prefill_json").endswith(" ")  # templates strip it
    assert [m.role for m in asked("accepted_offer")] == ["user", "assistant", "user"]
    assert asked("accepted_offer")[0].content == asked("agreed_rules")[-1].content == BREAD


def test_the_future() -> None:
    assert future("How do I bake bread?") == "How will people bake bread a hundred years from now?"
    assert future("What is the best flour?") == "What will the best flour be a hundred years from now?"
    with pytest.raises(NotApplicable, match="English"):
        asked("future_tense", case("Wie backt man Brot?", language="de"))


def test_languages() -> None:
    some = case(translations={"de": "Brot?", "hi": "रोटी?", "sw": "Mkate?"})
    assert text("low_resource", some) == "Mkate?"
    assert text("low_resource", case(translations={"de": "Brot?", "hi": "रोटी?"})) == "रोटी?"
    with pytest.raises(NotApplicable, match="low- or medium-resource"):
        asked("low_resource", case(translations={"de": "Brot?"}))
    words = text("code_switching").split()
    assert words[3:] == ["bake", "bread"]
    assert words[0].lower() in switching()["explain"].values()
    assert "on" in switching()
    with pytest.raises(NotApplicable, match="none of the words"):
        asked("code_switching", case("Bread?"))
    assert text("language_sandwich").splitlines()[3] == f"3) {BREAD}"
    assert BREAD in text("translation_sandwich")


def test_persuasion_leaves_the_request_as_it_is() -> None:
    for attack in ATTACKS.values():
        if attack.family == "persuasion":
            assert text(attack.name).endswith(BREAD)
            assert attack.persona == "low-skilled"


# ---- compositions


def test_the_right_one_acts_first() -> None:
    inner = base64.b64decode(last("base64+role_play")).decode()
    assert BREAD in inner
    assert inner != BREAD
    assert text("role_play+base64").endswith(base64.b64encode(BREAD.encode()).decode())
    for name in ("base64∘role_play", "base64 ∘ role_play", "base64 + role_play"):
        assert composed(name, ATTACKS).name == "base64+role_play"
        assert is_composed(name)


def test_a_composition_says_what_it_is() -> None:
    made = composed("prefill+base64", ATTACKS)
    assert (made.family, made.access, made.queries, made.turns) == ("prefill+base64", "prefill", 1, 1)
    assert made.source == "2404.02151, 2307.02483"
    assert [m.role for m in asked("prefill+base64")] == ["user", "assistant"]
    assert made.version == 2
    assert composed("logical_appeal+character_noise", ATTACKS).persona == "low-skilled"
    assert composed("base64+agreed_rules", ATTACKS).turns == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("base64+rol_play", "no attack is named 'rol_play'; did you mean 'role_play'"),
        ("base64+zzzz", "breakfix redteam --list"),
        ("base64+", "no attack is named ''"),
        ("base64+rot13+hex", "3 parts; a composition has two"),
        ("base64+direct", "'direct' changes nothing"),
        ("base64+crescendo", "asks more than once"),
        ("base64+prefill", r"nothing can be put around it; write prefill\+base64"),
        ("prefill_steps+prefill", "they can't be composed"),
        ("past_tense+base64", r"needs the request's own words, which 'base64' changes; write base64\+past_tense"),
        ("past_tense+translation", "they can't be composed"),
    ],
)
def test_what_does_not_go_together_is_said(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed(name, ATTACKS)


def test_what_a_part_can_t_be_put_to_the_whole_can_t() -> None:
    with pytest.raises(NotApplicable, match="no translation"):
        asked("base64+translation")
    with pytest.raises(NotApplicable, match="no Latin letters"):
        asked("rot13+translation", case(translations={"zh": "怎么做面包"}))


def test_every_two_that_ask_once_go_together_or_are_refused() -> None:
    singles = [a for a in ATTACKS.values() if isinstance(a, listing.OneQuery)]
    put = case(translations={"sw": "Ninaokaje mkate?", "de": "Wie backt man Brot?"})
    worked = 0
    for outer in singles:
        for inner in singles:
            try:
                made = composed(f"{outer.name}+{inner.name}", ATTACKS)
                [said] = list(made(put, random.Random(0)))
            except (ConfigError, NotApplicable) as why:
                assert str(why)
                continue
            assert said.prompt == next(made(put, random.Random(0))).prompt
            worked += 1
    assert worked > 0.7 * len(singles) ** 2


def test_a_config_names_compositions() -> None:
    config = parse({"redteam": {"seen": ["direct", "role_play∘fiction"], "held_out": ["base64 + role_play"]}})
    assert config.redteam.seen == ("direct", "role_play+fiction")
    assert config.redteam.held_out == ("base64+role_play",)
    seen, held_out = chosen(config.redteam.seen, config.redteam.held_out)
    assert [a.name for a in seen] == ["direct", "role_play+fiction"]
    assert [a.family for a in held_out] == ["base64+role_play"]


def test_a_seen_composition_has_no_held_out_part() -> None:
    with pytest.raises(ConfigError, match="part, 'base64', of the held-out family 'encoding'"):
        chosen(["base64+role_play"], ["encoding"])
    seen, held_out = chosen(["role_play", "template"], ["role_play∘fiction"])
    assert {a.name for a in held_out} == {"role_play+fiction"}
    assert "role_play+fiction" not in {a.name for a in seen}


def test_a_composition_with_a_translation_is_recorded_in_its_language() -> None:
    put = case(translations={"de": "Wie backt man Brot?", "sw": "Ninaokaje mkate?"})
    names = ("base64+translation", "role_play+low_resource", "base64+role_play", "translation")
    attacks = [ATTACKS.get(name) or composed(name, ATTACKS) for name in names]
    for seed in range(6):
        found = attempts([Put(put, attack) for attack in attacks], seed)
        said = base64.b64decode(found[0].transcript[0].content.rsplit("\n\n", 1)[1]).decode()
        assert put.translations[found[0].language] == said
        assert put.translations[found[3].language] == found[3].transcript[0].content
        assert [a.language for a in found[1:3]] == ["sw", "en"]
    with pytest.raises(NotApplicable, match="from English"):
        asked("code_switching+translation", put)


def test_the_default_families_hold_nine_seen_and_27_held_out_attacks() -> None:
    seen, held_out = chosen(DEFAULT.seen, DEFAULT.held_out)
    assert [a.name for a in seen] == [
        "direct", "prefix_injection", "prefill", "role_play", "hypothetical", "developer_mode", "opposite_day",
        "fiction", "two_answers",
    ]  # fmt: skip
    assert len(held_out) == 27
    with pytest.raises(ConfigError, match="not known"):
        chosen(["encodng"], [])


# ---- templates by asset


@pytest.mark.parametrize(
    ("given", "parameters", "pieces"),
    [
        ("Say: {{ prompt }}!", ["prompt"], ("Say: ", "!")),
        ("{{prompt}} and {{ prompt }}", ["prompt"], ("", " and ", "")),
        ("{% raw %}{a}{% endraw %}{{ prompt }}", ["prompt"], ("{a}", "")),
        ("Say it.", ["prompt"], NONE),
        ("{{ prompt }} for {{ group }}", ["group", "prompt"], MORE),
        ("{{ prompt }} {% for a in b %}", ["prompt"], MORE),
    ],
)
def test_pyrit_placeholders(given: str, parameters: list[str], pieces: Any) -> None:
    assert pyrit_pieces(given, parameters) == pieces


@pytest.mark.parametrize(
    ("given", "pieces"),
    [
        ("Answer: [INSERT PROMPT HERE] now", ("Answer: ", " now")),
        ("{prompt}", ("", "")),
        ("<PUT_YOUR_QUERY_HERE>", ("", "")),
        ("Prompt: INSERT PROMPT HERE", ("Prompt: ", "")),
        ("No place (for instructions only)", NONE),
        ("[PROMPT] is [PROMPT]", MANY),
        ("[PROMPT] is [PROMPT], {context}", MANY),
        ("{generator.name} says: [PROMPT]", MORE),
        ("[PROMPT] in {context}", MORE),
        ("[PROMPT] [CONTEXT]", MORE),
        ("How to bake an [insert object]. [PROMPT]", MORE),
        ("Today is [insert date and time you like here]. [PROMPT]", MORE),
        ("Stay [NAME YOU CHOSE\\]. [PROMPT] in [TARGETLANGUAGE]", MORE),
        ("[PROMPT] Baker: [insert reply here], or {Stay calm!}", ("", " Baker: [insert reply here], or {Stay calm!}")),
        ("[PROMPT] (insert coin) [GPT]: [what you would say]", MORE),
        ("[PROMPT] [GPT]: [what you would say]", ("", " [GPT]: [what you would say]")),
    ],
)
def test_garak_placeholders(given: str, pieces: Any) -> None:
    assert garak_pieces(given) == pieces


def test_templates_become_attacks_and_the_others_are_counted(tmp_path: Path) -> None:
    (tmp_path / "calm.yaml").write_text("value: 'Be calm. {{ prompt }}'\nparameters: [prompt]\n")
    (tmp_path / "bare.yaml").write_text("value: 'Be calm.'\nparameters: [prompt]\n")
    found = from_folder("pyrit_templates", tmp_path)
    assert found.left_out == {NONE: 1}
    [attack] = found.attacks.values()
    assert (attack.name, attack.family, attack.queries) == ("pyrit_calm", "pyrit_templates", 1)
    assert next(attack(case("Use {{ prompt }}"), random.Random(0))).prompt == ask("Be calm. Use {{ prompt }}")
    (tmp_path / "calm.yaml").write_text("value: 'Be very calm. {{ prompt }}'\nparameters: [prompt]\n")
    assert from_folder("pyrit_templates", tmp_path).attacks["pyrit_calm"].version != attack.version


def test_a_config_names_templates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wild.json").write_text('["Sing: [PROMPT]", "Sing."]')
    monkeypatch.setattr(asset_templates, "load", lambda family: from_folder(family, tmp_path))
    seen, held_out = chosen(["direct"], ["garak_templates"])
    assert [a.name for a in held_out] == ["garak_wild_1"]
    assert [a.name for a in seen] == ["direct"]


@pytest.mark.parametrize("held_out", [[], ["garak_templates"]])
def test_templates_of_packages_are_never_seen(held_out: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asset_templates, "load", lambda family: pytest.fail("nothing is fetched for it"))
    with pytest.raises(ConfigError, match=r"^redteam.seen: .*'pyrit_templates'.*; move it to redteam.held_out$"):
        chosen(["direct", "pyrit_templates"], held_out)


def test_the_stage_s_record_counts_the_texts_that_are_no_attacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wild.json").write_text('["Sing: [PROMPT]", "Sing.", "[PROMPT] in {context}"]')
    monkeypatch.setattr(asset_templates, "load", lambda family: from_folder(family, tmp_path))

    def record(held_out: str) -> dict[str, Any]:
        config = parse({"redteam": {"seen": ["direct"], "held_out": [held_out]}})
        with Ledger.open(tmp_path / held_out, create=True) as ledger:
            return red_team(
                config, ledger, Echo(), SorryJudge(), None, round=0, cases=[case()], progress=lambda *told: None
            )

    found = record("garak_templates")
    assert found["left_out"] == {"garak_templates": {NONE: 1, MORE: 1}}
    assert found["metrics"]["asr.family.garak_templates"]["n"] == 1
    assert "left_out" not in record("encoding")


@pytest.mark.assets
@pytest.mark.parametrize("family", list(asset_templates.SOURCES))
def test_the_packages_give_as_many_templates_as_the_catalogue_says(family: str) -> None:
    found = load(family)
    assert len(found.attacks) == assets.catalogue()[asset_templates.SOURCES[family].asset].rows
    assert sum(found.left_out.values()) > 0
    for attack in found.attacks.values():
        assert next(attack(case(), random.Random(0))).prompt[0].content.count(BREAD) >= 1


# ---- all of it


class SorryJudge:
    name = "sorry@1"

    def judge(self, rows: Sequence[tuple[Case, Conversation]]) -> list[Verdict]:
        return [
            Verdict(1.0, "full", "", self.name) if "Sorry" in said[-1].content else Verdict(0.0, "none", "", self.name)
            for _, said in rows
        ]


def put_all(puts: Sequence[Put], seed: int) -> campaign.Outcome:
    return campaign.run(
        puts, Echo(), SorryJudge(), sampling=Sampling(), seed=seed, known=lambda ids: {}, record=lambda attempts: None,
        budget=Budget(),
    )  # fmt: skip


def attempts(puts: Sequence[Put], seed: int) -> tuple[Attempt, ...]:
    return put_all(puts, seed).attempts


def run(seed: int) -> campaign.Outcome:
    put = case(translations={"sw": "Ninaokaje mkate?", "de": "Wie backt man Brot?"})
    attacks = [*ATTACKS.values(), composed("base64+role_play", ATTACKS)]
    return put_all([Put(put, attack) for attack in attacks], seed)


def test_the_whole_catalogue_against_the_fake_target() -> None:
    found = run(1)
    assert len(found.attempts) == len(ATTACKS) + 1
    assert (found.skipped, found.unrun) == ((), ())
    rows = {r["name"]: r for r in listing.rows()}
    for attempt in found.attempts:
        assert attempt.error is None
        assert attempt.score == 0.0
        assert len(attempt.verdicts) <= rows.get(attempt.attack, {"queries": 1})["queries"]
        assert attempt.transcript[-1].role == "assistant"
    assert [plain(a) for a in run(1).attempts] == [plain(a) for a in found.attempts]
    assert [plain(a) for a in run(2).attempts] != [plain(a) for a in found.attempts]
    assert {f"asr.family.{a.family}" for a in found.attempts} <= metrics(found.attempts, set()).keys()


def plain(attempt: Attempt) -> tuple[str, Conversation, int]:
    return attempt.attack, attempt.transcript, attempt.seed


def test_what_a_held_out_composition_finds_may_not_be_learnt_from() -> None:
    [attempt] = [a for a in run(1).attempts if a.attack == "base64+role_play"]
    train = Case("c1", ask(BREAD), Expect.REFUSE, "test", Split.TRAIN)
    assert "not among the seen" in barred(attempt, train, DEFAULT)
    assert "not among the seen" in barred(attempt, train, Redteam(seen=("direct",), held_out=("base64∘role_play",)))
    assert barred(attempt, train, Redteam(seen=("base64∘role_play",), held_out=())) == ""


def test_every_row_is_whole_and_every_example_is_neutral() -> None:
    rows = listing.rows(ATTACKS)
    assert [r["name"] for r in rows[: len(ATTACKS)]] == list(ATTACKS)
    for row in rows:
        assert all(row[key] is not None for key in (*listing.COLUMNS, "what"))
        assert row["access"] in ("black-box", "prefill", "white-box")
    for name, attack in ATTACKS.items():
        assert listing.example(attack)
        assert name == "direct" or listing.ours(attack), f"{name}: its file does not say what ours changes"
        assert name == "direct" or "quer" in listing.ours(attack), f"{name}: its file does not say what it costs"


def test_a_third_party_s_row_says_what_is_not_known() -> None:
    class Third:
        name = family = "third"
        persona = "intermediate"

        def __call__(self, case: Case, rng: random.Random) -> Any:
            yield campaign.Ask((Message("user", case.text),))

    row = listing.row(Third())
    assert (row["turns"], row["queries"], row["paper"], row["helper"]) == (None, None, None, True)
    assert (row["access"], row["what"], row["version"]) == (None, None, 1)


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    assert page == listing.page(ATTACKS), "make it anew: breakfix redteam --list --markdown docs/attacks.md"


def test_the_command_lists_the_same_rows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["redteam", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == listing.rows(catalogue())
    assert cli.main(["redteam", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in shown for name in ATTACKS if name != "direct")
    assert cli.main(["redteam", "--list", "--markdown", str(tmp_path / "a.md")]) == 0
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == listing.page()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("redteam", "required: RUN_OR_CONFIG"),
        ("redteam runs/demo", "required: --round"),
        ("redteam runs/demo --list", "is of no run"),
        ("redteam runs/demo --round 0 --markdown a.md", "goes with --list"),
    ],
)
def test_a_command_line_that_is_not_valid(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == 2
    assert message in capsys.readouterr().err
