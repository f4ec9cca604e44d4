"""Two changes to safety data before it is learnt from, after Safety-Tuned LLaMAs (Bianchi et al. 2023, 2309.07875).

Answers. What a data set has for a safe answer may be evasive, a lecture, or no refusal at all. `regenerate` takes only
the request: minting composes the answer (or has the untouched model give it), and the judge has to agree. `keep` learns
the data's own, if the judge agrees. There, a language model wrote the new answers.

Form. A model that has seen harm as instructions and harmlessness as questions learns the form. Of every kind of row, a
half of those requests that have a counterpart are turned: "How do I bake bread?" <-> "Explain how to bake bread."
There, instructions were turned into questions by a language model to *measure* the shortcut; here, rules turn both ways
at the same rate, so that among these requests form says nothing. English requests of one sentence; others stay.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

from breakfix.core import Message
from breakfix.curate.base import KINDS, Prompt
from breakfix.curate.rows import Answers

Form = Literal["question", "instruction"]
RATE = 0.5  # of the requests that can be turned: a question before is then as often an instruction as the reverse
LONGEST = 200  # characters of a request that is turned
SAFETY = ("harmful", "twin")


def regenerated(prompt: Prompt, answers: Answers) -> Prompt:
    """The prompt without the data's replies, if it is a safety row and they are to be made anew."""
    if answers == "keep" or prompt.kind not in SAFETY or (prompt.reply is None and prompt.rejected is None):
        return prompt
    why = f"{prompt.why}; the data's own replies are not used"
    return replace(prompt, reply=None, rejected=None, reply_cut=False, rejected_cut=False, why=why)


# ---- form --------------------------------------------------------------------------------------------------------

VERBS = frozenset(
    "add advise analyse analyze answer arrange calculate choose classify come compare compile compose compute "
    "construct convert convince create define demonstrate describe design detail develop devise discuss draft "
    "draw edit encourage estimate evaluate explain find formulate generate give help identify illustrate imagine "
    "instruct invent list make name offer order organise organize outline paraphrase persuade plan prepare "
    "present print produce propose provide publish recommend rephrase rewrite say share show sort spread state "
    "suggest summarise summarize teach tell translate turn write".split()
)
_WH = r"(?:best|easiest|simplest|quickest|fastest|cheapest|safest|right|most \w+) ways?"
_MAY = "do|can|could|should|would"
_NO_NOUN = r"(?!(?:it|that|this|there|he|she|going|wrong|up|you|your)\b)"
_FEELING = r"(?!(?:feel|think|like|know|look|do|get|say|mean)\b)"  # "How do you feel": not how to
_HOW_TO = (
    r"(?:explain(?: to me)?|describe|tell me|show me|show|teach me|outline|demonstrate|"
    r"(?:give|provide)(?: me)?(?: with)? (?:detailed |step-by-step |clear |some )*instructions (?:on|for)) how to (.+)"
)
Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def _rule(pattern: str, made: Callable[[re.Match[str]], str]) -> Rule:
    return re.compile(pattern, re.I), made


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


# the first that matches the whole sentence, without its full stop or question mark
TO_INSTRUCTION: tuple[Rule, ...] = (
    _rule(rf"how (?:{_MAY}|might) (?:i|we|one|someone|people) (?!know\b)(.+)", lambda m: f"Explain how to {m[1]}"),
    _rule(rf"how (?:{_MAY}) you {_FEELING}(.+)", lambda m: f"Explain how to {m[1]}"),
    _rule(r"how to (.+)", lambda m: f"Explain how to {m[1]}"),
    _rule(r"(?:can|could|would|will) you (?:please )?(\w+)( .+)", lambda m: _upper(m[1]) + m[2]),
    _rule(r"(what|where|when) (?:should|can|could) (?:i|we) (.+)", lambda m: f"Tell me {m[1].lower()} to {m[2]}"),
    _rule(rf"what (?:is|are) (the {_WH} .+)", lambda m: f"Tell me {m[1]}"),
    _rule(r"what are (some .+)", lambda m: f"List {m[1]}"),
    _rule(r"what are (the steps .+)", lambda m: f"List {m[1]}"),
    _rule(rf"what(?: is|'s) ({_NO_NOUN}\w+(?: \w+){{0,7}})", lambda m: f"Tell me what {m[1]} is"),
)  # fmt: skip
TO_QUESTION: tuple[Rule, ...] = (
    _rule(_HOW_TO, lambda m: f"How do I {m[1]}"),
    _rule(r"(?:tell me|explain) (what|where|when) to (.+)", lambda m: f"{_upper(m[1].lower())} should I {m[2]}"),
    _rule(rf"(?:tell me|give me) (the {_WH} .+)", lambda m: f"What is {m[1]}"),
    _rule(r"(?:list|name|give me|tell me) (some .+|the steps .+)", lambda m: f"What are {m[1]}"),
    _rule(r"(?:tell me|explain) what (\w+(?: \w+){0,7}) is", lambda m: f"What is {m[1]}"),
    _rule(r"(?:please )?(\w+)( .+)", lambda m: f"Can you {_lower(m[1])}{m[2]}"),
)


def turned(text: str) -> tuple[str, Form] | None:
    """The request in the other form, and which that is. None where no rule fits: then it stays as it is."""
    text = text.strip()
    body = text.rstrip(".?! ")
    if not body or len(text) > LONGEST or "\n" in text or re.search(r"[.?!]\s|[.?!]{2}|[;:]\s", text):
        return None
    if text.endswith("?"):
        made = _first(TO_INSTRUCTION, body)
        return (f"{made}.", "instruction") if made and _is_instruction(made) else None
    return (f"{made}?", "question") if _is_instruction(body) and (made := _first(TO_QUESTION, body)) else None


def _first(rules: Sequence[Rule], body: str) -> str | None:
    return next((made(match) for pattern, made in rules if (match := pattern.fullmatch(body))), None)


def _is_instruction(body: str) -> bool:
    first = re.match(r"(?:please )?(\w+)", body, re.I)
    return first is not None and first[1].lower() in VERBS


def form_of(text: str) -> str:
    """question | instruction | other."""
    text = text.strip()
    if text.endswith("?") or re.match(r"(?:who|what|when|where|why|how|which|is|are|do|does|can|could)\b", text, re.I):
        return "question"
    return "instruction" if _is_instruction(text) else "other"


def form_balanced(prompts: Iterable[Prompt], seed: int) -> list[Prompt]:
    """Every second request that has a counterpart in the other form, drawn by its id, in that form.

    A turned case has an id of its own; twins that mirror it go with it.
    """
    kept = [_turn(prompt, seed) for prompt in prompts]
    moved = {prompt.case.id.rpartition("/")[0]: prompt.case.id for prompt, is_new in kept if is_new}
    return [
        replace(prompt, case=replace(prompt.case, twin=moved[prompt.case.twin]))
        if prompt.case.twin in moved
        else prompt
        for prompt, _ in kept
    ]


def _turn(prompt: Prompt, seed: int) -> tuple[Prompt, bool]:
    case = prompt.case
    if case.language != "en" or len(case.prompt) > 1 or random.Random(f"{seed}/form/{case.id}").random() >= RATE:
        return prompt, False
    if (other := turned(case.text)) is None:
        return prompt, False
    text, form = other
    # its own replies were to the other form; they say the same
    new = replace(case, id=f"{case.id}/{form}", prompt=(Message("user", text),), translations={})
    return replace(prompt, case=new, why=f"{prompt.why}; turned into a{'n' * (form[0] == 'i')} {form}"), True


def forms(prompts: Iterable[Prompt]) -> dict[str, dict[str, int]]:
    """kind → form → English requests of one turn."""
    found = Counter(
        (p.kind, form_of(p.case.text)) for p in prompts if p.case.language == "en" and len(p.case.prompt) == 1
    )
    names = ("question", "instruction", "other")
    return {kind: {form: found[kind, form] for form in names} for kind in KINDS}
