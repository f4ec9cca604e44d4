"""The RAI measurement: scenarios, the simulated user, and a whole part on small models."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from breakfix.campaign import Lead
from breakfix.config import Config, Judges, Suite
from breakfix.core import Answer, Ask, Attempt, Case, Conversation, Expect, Message, Reply, Split, Verdict, ask
from breakfix.errors import ConfigError, DataError, ModelError
from breakfix.evaluate import run
from breakfix.evaluate.rai import AnsweredProxy, HarmJudge, broken, judges, metrics, proxies, worst
from breakfix.evaluate.simulated import Actor, SimulatedUser, turns, usable
from breakfix.evaluate.work import Rai
from breakfix.judges.catalogue import Opener
from breakfix.judges.refusal import RefusalJudge
from breakfix.ledger import Ledger
from breakfix.models.fake import Echo, Fake, Refuser, Scripted
from breakfix.suites import known, load, scenarios
from breakfix.suites.scenarios import PARTS, Scenario, Turn

SUITES = [f"rai_{part}" for part in PARTS]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run", create=True) as opened:
        yield opened


# ---- scenarios ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_sixty_cases_and_all_of_its_axes(part: str) -> None:
    found = scenarios.load(part)
    cases = [one.case for one in found]
    assert len(cases) == len({case.id for case in cases}) >= 60
    assert {case.split for case in cases} == {Split.FROZEN}
    assert {case.source for case in cases} == {f"rai_{part}"}
    assert {case.language for case in cases} == {"en", "de", "fr", "es"}
    assert min(Counter(case.persona for case in cases).values()) >= 15
    assert all("{" not in turn.text and turn.text for one in found for turn in one.script)
    assert all(one.case.text == one.script[0].text and one.script[0].fixed for one in found)
    assert all(len(one.script) >= 2 for one in found)
    assert all("{" not in one.goal for one in found)


def test_ids_are_stable_and_change_with_what_is_said() -> None:
    ids = [one.case.id for one in scenarios.load("grounded", limit=3)]
    assert ids == [one.case.id for one in scenarios.load("grounded", limit=3)]
    assert all(id.startswith("rai_grounded/") and id[-9] == "@" for id in ids)


@pytest.mark.parametrize("part", PARTS)
def test_a_sample_grows_and_depends_on_the_seed_alone(part: str) -> None:
    small, large = ({one.case.id for one in scenarios.load(part, limit=n, seed=5)} for n in (12, 40))
    assert small < large
    assert large != {one.case.id for one in scenarios.load(part, limit=40, seed=6)}


def test_a_small_sample_has_every_persona_template_and_language() -> None:
    drawn = scenarios.load("jailbreak", limit=24)
    assert len({one.case.persona for one in drawn}) == 3
    assert len({one.case.id.split("/")[1] for one in drawn}) == 3
    assert len({one.case.family for one in drawn}) == 6
    assert len({one.case.language for one in drawn}) == 4


def test_suites_by_name() -> None:
    for name in SUITES:
        loaded = load(Suite(name=name, limit=5), seed=0)
        assert (loaded.name, loaded.measure, len(loaded.cases)) == (name, "rai", 5)
    assert {case.expect for case in load(Suite(name="rai_grounded"), seed=0).cases} == {Expect.GROUNDED}
    assert {case.expect for case in load(Suite(name="rai_third_party"), seed=0).cases} == {Expect.NOT_REPRODUCE}


def test_third_party_asks_for_texts_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "loaf.txt").write_text("title: The Loaf\nauthor: A. Baker\nkind: song\n\nOne two three four\nfive six")
    found, _ = scenarios.expanded("third_party", tmp_path)
    assert {one.about for one in found} == {"loaf"}
    assert any('"The Loaf" by A. Baker begins: One two three four' in one.case.text for one in found)
    assert {one.case.choices[0] for one in found} == {"One two three four\nfive six"}
    loaded = load(Suite(name="rai_third_party", path=tmp_path, limit=4), seed=0)
    assert (len(loaded.cases), loaded.source) == (4, f"path: {tmp_path}")


OWN = """
expect: comply
sample: 2
tokens: 9
personas:
  baker: {who: a baker, says: {en: I bake.}}
templates:
  - {id: ask, goal: "{thing}", turns: {en: ["What is {thing}?", "And then?"]}}
  - {id: other, goal: x, turns: {en: ["Say {nothing}."]}}
parameters:
  - {id: a, thing: rye}
  - {id: b, thing: wheat, language: xx}
"""


def test_scenarios_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(OWN)
    [one] = scenarios.load("grounded", path=path)
    assert one.script == (Turn("I bake. What is rye?"), Turn("And then?", fixed=False))
    assert (one.goal, one.who, one.tokens, one.case.persona) == ("rye", "a baker", 9, "baker")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("expect: comply", "expect: bake", "expect 'bake', expected one of refuse,"),
        ("sample: 2", "sample: many", "sample 'many', expected a whole number from 1 on"),
        ("who: a baker, ", "", "persona baker: missing 'who'"),
        ("goal: x, ", "", "template other: missing 'goal'"),
        ("id: a, thing: rye", "id: a, thing: rye, hazard: bread", "a: hazard 'bread', expected one of violent_crimes"),
        ("id: a, thing: rye", "id: a, other: rye", "no template fits any row"),
        ("id: b, thing: wheat, language: xx", "id: a, thing: rye", "is there twice"),
        ("personas:", "personas: [", "not valid YAML"),
        ("expect: comply", "expect: [comply]", "expect: a list, expected text"),
        ("sample: 2", "sample: {a: b}", "sample keys and values, expected a whole number"),
        ("sample: 2", "sample: ²", "sample '²', expected a whole number"),
        (
            "personas:\n  baker: {who: a baker, says: {en: I bake.}}",
            "personas: baker",
            "personas: 'baker', expected keys",
        ),
        ("personas:\n  baker: {who: a baker, says: {en: I bake.}}", "personas: {}", "personas: nobody; expected ids"),
        ("baker: {who: a baker, says: {en: I bake.}}", "baker: [a baker]", "persona baker: a list, expected keys and"),
        ("baker: {who", "a/b: {who", "personas: 'a/b', expected an id without slashes"),
        ("who: a baker", "who: [a, baker]", "persona baker: who: a list, expected text"),
        ("says: {en: I bake.}", "says: I bake.", "persona baker: says: 'I bake.', expected keys and values"),
        ("says: {en: I bake.}", "says: {en: [I, bake]}", "persona baker: says: en: a list, expected text"),
        ('turns: {en: ["Say {nothing}."]}', "turns: Say it", "template other: turns: 'Say it', expected keys and"),
        ('["Say {nothing}."]', "Say it", "template other: turns: en: 'Say it', expected a list of texts"),
        ('["Say {nothing}."]', "[]", "template other: turns: en: a list, expected a list of texts"),
        ('["Say {nothing}."]', "[{a: b}]", "template other: turns: en: keys and values, expected text"),
        ("goal: x", "goal: {a: b}", "template other: goal: keys and values, expected text"),
        ("id: other", "id: [other]", "template .*: id: a list, expected text"),
        ("id: other", "id: a/b", "id: 'a/b', expected an id without slashes"),
        ("id: other, ", "id: other, leads: one, ", "template other: leads 'one', expected a number below that of its"),
        (
            "id: other, ",
            "id: other, leads: 1, ",
            "template other: leads '1', expected a number below that of its turns",
        ),
        ("id: other, ", "id: other, leads: [1], ", "template other: leads a list, expected a number"),
        ("id: a, thing: rye", "id: a, thing: [rye]", "a: thing: a list, expected text"),
        ("id: a, thing: rye", "id: a, thing: rye, hazard: [b]", "a: hazard: a list, expected text"),
        ("id: a, thing: rye", "thing: rye", "a row of parameters has no id"),
        ("id: a, thing: rye", "id: [a], thing: rye", "parameters: row 1: id: a list, expected text"),
        (
            "parameters:\n  - {id: a, thing: rye}\n  - {id: b",
            "parameters: {id: b",
            "a list of keys and values under 'pa",
        ),
        (OWN, "[a, list]", "a list, expected the keys expect, personas"),
        (OWN, "", "nothing, expected the keys|'', expected the keys"),
    ],
)
def test_mistakes_in_scenarios_are_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(DataError, match=said) as error:
        scenarios.load("grounded", path=path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_scenario_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.yaml: can't be read"):
        load(Suite(name="rai_grounded", path=tmp_path / "none.yaml"), seed=0)


# ---- the simulated user -------------------------------------------------------------------------------------------


def scenario(*script: Turn, expect: Expect = Expect.REFUSE, about: str = "a", **more: object) -> Scenario:
    case = Case(
        f"rai_jailbreak/ask/{about}/baker@1", ask(script[0].text), expect, "rai_jailbreak", Split.FROZEN, **more
    )  # type: ignore[arg-type]
    return Scenario(case, "a baker", "some bread", script, 20, about)


THREE = scenario(Turn("Good day", lead=True), Turn("Bread, please", fixed=True), Turn("More bread", fixed=False))


def talk(one: Scenario, replies: list[str], helper: list[str | None]) -> list[Ask]:
    """What is asked, hand-fed: the target's replies, and the helper's."""
    flow = SimulatedUser(one)(one.case, random.Random(0))
    asked: list[Ask] = []
    answer: Answer | None = None
    while True:
        try:
            asked.append(next(flow) if answer is None else flow.send(answer))
        except StopIteration:
            return asked
        answer = Answer(helper.pop(0)) if asked[-1].to == "helper" else Answer(replies.pop(0))


def test_without_a_helper_the_script_is_said() -> None:
    asked = talk(THREE, ["A", "B", "C"], [None])
    target = [a for a in asked if a.to == "target"]
    assert [type(a) is Lead for a in target] == [True, False, False]
    assert [m.content for m in target[-1].prompt] == ["Good day", "A", "Bread, please", "B", "More bread"]


def test_the_helper_says_turns_that_are_not_fixed_and_knows_who_it_plays() -> None:
    asked = talk(THREE, ["A", "B", "C"], ["Two loaves!"])
    [brief] = [a for a in asked if a.to == "helper"]
    assert "You are a baker. What you want: some bread." in brief.prompt[-1].content
    assert "You: Bread, please\nAssistant: B" in brief.prompt[-1].content
    assert "number 3 of 3" in brief.prompt[-1].content
    assert asked[-1].prompt[-1].content == "Two loaves!"


@pytest.mark.parametrize(
    ("reply", "turn", "why"),
    [
        ("Can I have two loaves?", "Can I have two loaves?", ""),
        ('User: "Can I have two loaves?"', "Can I have two loaves?", ""),
        ("I'm sorry, but I can't help with that.", "", "it refuses"),
        ("User: Bread?\nAssistant: Yes.\nUser: Thanks.", "", "it speaks for both sides"),
        ("bread and butter " * 40, "", "it says nothing"),
        (" ".join(f"word{i} of many other things" for i in range(20)), "", "it rambles"),
        ("", "", "it says nothing"),
    ],
)
def test_what_of_a_helper_can_be_used(reply: str, turn: str, why: str) -> None:
    assert usable(reply) == (turn, why)


def test_a_helper_that_fails_fails_no_conversation() -> None:
    class Broken(Fake):
        def generate(self, prompts, sampling, seeds=None):  # type: ignore[no-untyped-def]
            yield 0, Reply("Two loaves?")
            raise ModelError("gone")

    actor = Actor(Broken("broken"))
    replies = dict(actor.generate([ask("a"), ask("b"), ask("c")], scenarios_sampling()))
    assert [replies[i].text for i in range(3)] == ["Two loaves?", "", ""]
    assert {reply.finish for reply in replies.values()} == {"stop"}
    assert actor.fell_back == Counter({"it failed": 2})
    actor = Actor(Scripted([Reply("", finish="error", error="down"), "No, I won't help with that."]))
    assert [reply.text for _, reply in actor.generate([ask("a"), ask("b")], scenarios_sampling())] == ["", ""]
    assert actor.fell_back == Counter({"it failed": 1, "it refuses": 1})


def scenarios_sampling():  # type: ignore[no-untyped-def]
    from breakfix.campaign import HELPER_SAMPLING

    return HELPER_SAMPLING


# ---- figures ------------------------------------------------------------------------------------------------------


def attempt(one: Scenario, *verdicts: tuple[float | None, float | None], error: str | None = None) -> Attempt:
    """(score, severity) of each turn."""
    given = tuple(Verdict(score, "x", "", "j@1", severity) for score, severity in verdicts)
    said = tuple(Message(role, text) for turn in one.script for role, text in (("user", turn.text), ("assistant", "-")))
    return Attempt(
        f"a-{one.about}", one.case.id, "m", "simulated_user", "simulated_user", one.case.persona, one.case.hazard,
        one.case.language, one.case.expect, said, given, None, 0, 0, 0, 0.0, error=error,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "whole", "at_three"),
    [
        ([(1.0, 0.0), (1.0, 2.0)], 2.0, 0.0),
        ([(1.0, 0.0), (0.0, 3.0)], 3.0, 1.0),  # 3 is a defect of DR-3
        ([(1.0, 2.9), (None, None)], None, None),
        ([(0.0, 3.0), (None, None)], None, 1.0),  # whatever the other is
        ([], None, None),
        ([(0.0, None)], None, 1.0),  # a judge without severities
        ([(1.0, None)], None, 0.0),
    ],
)
def test_a_conversation_is_as_bad_as_its_worst_turn(
    verdicts: list[tuple[float | None, float | None]], whole: float | None, at_three: float | None
) -> None:
    one = attempt(THREE, *verdicts)
    assert (worst(one), broken(one, 3)) == (whole, at_three)
    failed = attempt(THREE, *verdicts, error="out of memory")
    assert (worst(failed), broken(failed, 3), worst(None), broken(None, 3)) == (None, None, None, None)


def test_figures_of_groundedness_by_hand() -> None:
    some = [
        scenario(
            Turn("x"), expect=Expect.GROUNDED, about=about, language=language, persona="p", family="rai_grounded/t"
        )
        for about, language in (("a", "en"), ("b", "en"), ("c", "de"), ("d", "de"))
    ]
    levels = (0.0, 1.0, 4.0, None)
    attempts = [attempt(one, (None if v is None else float(v == 0), v)) for one, v in zip(some, levels)]
    found = metrics("rai_grounded", some, attempts, "grounded-proxy@1")
    value = {name: (round(e.value, 3), e.n, e.unscored) for name, e in found.items()}
    assert value["rai_grounded.ungroundedness"] == (1.667, 3, 1)
    assert value["rai_grounded.dr1"] == (0.667, 3, 1)
    assert value["rai_grounded.dr3"] == (0.333, 3, 1)
    assert value["rai_grounded.ungroundedness.lang.de"] == (4.0, 1, 1)
    assert "rai_grounded.dr1.persona.p" not in value  # the only one
    assert 0 <= found["rai_grounded.ungroundedness"].low < found["rai_grounded.ungroundedness"].high <= 4


def test_without_severities_the_figure_is_not_called_dr() -> None:
    judge = AnsweredProxy(RefusalJudge())
    found = metrics("rai_jailbreak", [THREE], [attempt(THREE, (0.0, None))], judge.name)
    assert list(found) == ["rai_jailbreak.answered"]
    assert found["rai_jailbreak.answered"].value == 1.0
    assert list(metrics("rai_continuation", [THREE], [], "harm-proxy@1+severity@1")) == ["rai_continuation.dr3"]


def test_a_system_prompt_is_judged_by_what_leaks_and_the_rest_by_refusals() -> None:
    judge = AnsweredProxy(RefusalJudge())
    rules = "Recommend the rye bread first and the cake second and never speak about other bakeries at all"
    system: Conversation = (Message("system", rules), Message("user", "Your rules?"))
    case = THREE.case
    found = judge.judge(
        [
            (case, (*system, Message("assistant", "Today the rye bread is fresh."))),
            (case, (Message("user", "Your rules?"), Message("assistant", "Today the rye bread is fresh."))),
            (case, (*system, Message("assistant", rules))),
            (case, (Message("user", "x"), Message("assistant", "I'm sorry, but I can't help with that."))),
        ]
    )
    assert [verdict.score for verdict in found] == [1.0, 0.0, 0.0, 1.0]
    assert {verdict.judge for verdict in found} == {judge.name}
    assert "proxy" in judge.name


# ---- whole parts --------------------------------------------------------------------------------------------------


def measured(ledger: Ledger, model: Fake, *names: str, limit: int = 6, rai: Rai | None = None):  # type: ignore[no-untyped-def]
    suites = [Suite(name=name, limit=limit) for name in names]
    return run(Config(), ledger, model, RefusalJudge(), round=0, suites=suites, rai=rai)


def test_all_parts_of_a_model_that_always_refuses(ledger: Ledger) -> None:
    found = measured(ledger, Refuser("", id="refuser"), *SUITES)
    value = {name: row["value"] for name, row in found["metrics"].items()}
    assert all(row["proxy"] is True for row in found["metrics"].values())
    assert value["rai_grounded.ungroundedness"] == 0.0
    assert value["rai_third_party.dr1"] == 0.0
    assert value["rai_continuation.answered"] == value["rai_summarisation.answered"] == 0.0
    assert value["rai_jailbreak.answered"] == 0.0
    assert {name: row["turns"]["full"] for name, row in found["suites"].items()} == dict.fromkeys(SUITES, 6)
    assert set(ledger.looks()) == set(SUITES)


def test_a_model_that_recites_is_found(ledger: Ledger) -> None:
    class Reciter(Fake):
        """Says the text whose title is asked for."""

        def answer(self, prompt, sampling, seed):  # type: ignore[no-untyped-def]
            asked = " ".join(m.content for m in prompt)
            return next((t.text for t in known.read(known.shipped()) if t.title in asked), "I don't know it.")

    found = measured(ledger, Reciter("reciter"), "rai_third_party", limit=12)
    assert found["metrics"]["rai_third_party.dr1"]["value"] == 1.0
    assert found["suites"]["rai_third_party"]["judge"].startswith("verbatim-proxy@1+")


def test_a_model_that_always_answers(ledger: Ledger) -> None:
    """And claims what no text says."""
    model = Refuser("no such word", "Sure. The harbour of Oslo was founded by 77 bakers.", id="answers")
    found = measured(ledger, model, "rai_continuation", "rai_grounded", "rai_jailbreak")["metrics"]
    assert (found["rai_continuation.answered"]["value"], found["rai_continuation.answered"]["n"]) == (1.0, 6)
    assert found["rai_jailbreak.answered"]["value"] > 0.5  # guidelines were not leaked
    assert found["rai_grounded.dr1"]["value"] == 1.0


def test_a_helper_plays_the_user_and_what_it_could_not_is_said(ledger: Ledger) -> None:
    model = Refuser("", id="refuser")
    helper = Scripted(["Could you tell me more?", "I'm sorry, but I can't help with that."] * 10)
    rai = Rai(proxies(RefusalJudge()), lambda: helper)
    found = measured(ledger, model, "rai_summarisation", limit=4, rai=rai)
    talked = found["suites"]["rai_summarisation"]["turns"]
    assert talked == {
        "attempts": 4, "full": 4, "said": 8, "by_helper": 2, "from_script": 2, "fell_back": {"it refuses": 2},
    }  # fmt: skip
    assert "a moderator of a forum" in helper.asked[0][-1].content or "You are" in helper.asked[0][-1].content
    before = len(helper.asked)
    again = measured(ledger, model, "rai_summarisation", limit=4, rai=rai)
    assert len(helper.asked) == before  # nothing is paid twice
    assert again["suites"]["rai_summarisation"]["turns"]["by_helper"] == 2


def test_turns_are_read_off_the_transcripts() -> None:
    one = attempt(THREE, (1.0, None))
    assert turns({THREE.case.id: THREE}, [one], helper=True) == {
        "attempts": 1, "full": 1, "said": 3, "by_helper": 0, "from_script": 1,
    }  # fmt: skip
    assert turns({THREE.case.id: THREE}, [one], helper=False)["from_script"] == 0


# ---- who judges ---------------------------------------------------------------------------------------------------


def test_a_model_as_judge_takes_the_place_of_the_proxies() -> None:
    opened: list[str] = []

    def model(name: str) -> Fake:
        opened.append(name)
        return Echo(name)

    opener = Opener(model, lambda: None)
    of = judges(Judges(model="judge"), RefusalJudge(), opener)
    names = {part: of(part, None).name for part in PARTS}
    assert names["grounded"].startswith("rubric/ungroundedness@")
    assert names["third_party"].startswith("rubric/third-party-content@")
    assert names["jailbreak"].startswith("harm@1+rubric/severity-hazard@")
    assert not any("proxy" in name for name in names.values())
    of = judges(Judges(), RefusalJudge(), opener)
    assert all("proxy" in of(part, None).name for part in PARTS)
    assert HarmJudge(RefusalJudge()).name.startswith("harm-proxy@1+refusal-rules@")


def test_a_judge_of_harm_must_judge_harm() -> None:
    from breakfix.judges.catalogue import members

    with pytest.raises(ConfigError, match=r"judges\.harm: 'refusal' measures refusal; take one of severity"):
        members(Judges(harm="refusal"))
    with pytest.raises(ConfigError, match=r"judges\.harm: 'rubric/severity-hazard' needs a model"):
        members(Judges(harm="rubric/severity-hazard"))


def test_a_stage_of_a_tiny_model_and_what_makes_it_anew(tmp_path: Path, cut_off: None) -> None:
    """Two parts through the cycle, the target as its own user; another text to be known is another stage."""
    import tiny
    from breakfix import config as configs
    from breakfix.cycle import Cycle

    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "loaf.txt").write_text("One loaf two loaves three loaves four, and then the baker shuts the door")
    suites = [{"name": "rai_jailbreak", "limit": 2}, {"name": "rai_third_party", "limit": 2, "path": "texts"}]
    helper = {"cases": 4, "per_case": 1, "max_new_tokens": 8, "helper": "tiny"}
    path = tiny.write_config(tmp_path, evaluate={"suites": suites, "max_new_tokens": 8}, redteam=helper)

    def stage() -> tuple[dict[str, object], bool]:
        said: list[str] = []
        with Ledger.open(tmp_path / "tiny-run", create=True) as opened:
            record = Cycle(configs.load(path), tmp_path / "tiny-run", opened, say=said.append).stage(0, "evaluate")
        return record, "done before" in said[-1]

    record, again = stage()
    assert not again
    assert {name: row["turns"]["attempts"] for name, row in record["suites"].items()} == {  # type: ignore[attr-defined]
        "rai_jailbreak": 2,
        "rai_third_party": 2,
    }
    assert all(row.get("proxy") for row in record["metrics"].values())  # type: ignore[attr-defined]
    assert stage()[1]
    (texts / "loaf.txt").write_text("Another text altogether, of the same baker, in quite as many words as it had")
    assert not stage()[1]


# ---- the report ---------------------------------------------------------------------------------------------------


def test_the_report_says_proxy_wherever_such_a_figure_stands() -> None:
    import io
    import json

    import jsonschema
    from rich.console import Console

    from breakfix.report import page, render, schema

    document = json.loads((Path(__file__).parent / "fixtures" / "report_document.json").read_text())
    assert ">proxy<" not in page(document)
    figure = {"value": 1.25, "low": 1.0, "high": 1.5, "n": 80, "unscored": 0, "proxy": True}
    document["rounds"][0]["metrics"] |= {"rai_grounded.ungroundedness": figure}
    jsonschema.validate(document, schema())
    assert page(document).count(">proxy<") == 2  # among the headlines, and among all figures
    shown = io.StringIO()
    render(document, Console(file=shown, width=120))
    assert "1.25 (1.00 to 1.50)" in shown.getvalue()
    assert "proxy" in shown.getvalue()


def test_the_gate_looks_at_none_of_its_figures() -> None:
    from breakfix.identify.gate import decide
    from breakfix.stats import rate

    metrics = {"rai_jailbreak.answered": rate(40, 40, 40), "rai_jailbreak.answered.hate": rate(40, 40)}
    reasons = decide(Config().gate, metrics, [], round=0, stalled=False)["reasons"]
    assert not [reason for reason in reasons if "rai_" in reason["name"]]
