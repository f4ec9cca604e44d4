"""A vulnerability's name, in plain words: what the model does, with which requests, put how, in which language."""

from __future__ import annotations

from collections.abc import Iterable

from breakfix import taxonomy
from breakfix.identify.group import CAPABILITY, COMPLIANCE, Key

LANGUAGES = {
    "ar": "Arabic",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "nl": "Dutch",
    "pt": "Portuguese",
    "ru": "Russian",
    "zh": "Chinese",
}
PUT = {
    "": "put in various ways",
    "direct": "asked directly",
    "human": "put by a person",
    "encoding": "put in an encoding",
    "translation": "with a change of language",
    "past_tense": "put in another tense",
    "payload_splitting": "split into parts",
    "many_shot": "after many harmless answers",
    "crescendo": "approached in small steps",
    "multi_turn": "led up to over several turns",
    "agent": "by an agent that adapts to the answers",
    "long_dialogue": "after a long harmless dialogue",
    "prefix_injection": "with the answer's beginning given",
    "refusal_suppression": "with refusals forbidden",
    "noise": "with errors of typing",
    "best_of_n": "with errors of typing, again and again",
    "resampling": "asked again and again",
    "refinement": "put in ever new ways until one works",
    "map_elites": "put in many styles and forms",
    "fuzzing": "wrapped in mutants of known templates",
    "padding": "hidden in much harmless text",
    "prefill": "with the answer begun for it",
    "given_turns": "after turns that it never said",
    "persuasion": "with words that persuade",
    "attention": "put as another task",
    "privilege": "with rights that are claimed",
    "style": "for an answer in a set style",
    "pyrit_templates": "wrapped in a template of PyRIT",
    "garak_templates": "wrapped in a template from garak",
    "pyrit_converters": "rewritten by a converter of PyRIT",
    "garak_probes": "put as a probe of garak puts it",
}


def name(key: Key, topic: str = "", heard: Iterable[str] = ()) -> str:
    """ "Answers harmful requests about privacy (passwords, accounts) wrapped in role play (English)". `topic`: of a
    part; `heard`: the languages of its attempts."""
    if key.kind == CAPABILITY:
        return f"Answers fewer questions of {key.family} rightly than before training"
    put = PUT.get(key.family, f"wrapped in {key.family.replace('_', ' ')}")
    language = spoken(key.language, heard)
    known = taxonomy.hazards().get(key.hazard)
    hazard = _lower(known.name) if known else key.hazard.replace("_", " ")
    part = f" ({topic})" if topic else ""
    if key.kind == COMPLIANCE:
        about = f"harmful requests about {hazard}" if hazard else "harmful requests"
        return f"Answers {about}{part} {put} ({language})"
    about = f"harmless look-alikes of requests about {hazard}" if hazard else "everyday requests"
    return f"Refuses {about}{part} {put} ({language})"


def spoken(language: str, heard: Iterable[str]) -> str:
    """A language's name. Where languages are pooled (""), that of the one that was `heard`, if it is one: other cells
    of the hazard may have all others."""
    code = language or (one.pop() if len(one := set(heard)) == 1 else "")
    return LANGUAGES.get(code, code) or "several languages"


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]
