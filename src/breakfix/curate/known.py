"""Data sets that are known by name or hub id: their licence, what their columns say, and which rows are of use.

    hh-rlhf         Bai et al. 2022 (2204.05862), Ganguli et al. 2022 (2209.07858)      MIT
    beavertails     Ji et al. 2023 (2307.04657)                                         CC-BY-NC-4.0
    pku-saferlhf    Ji et al. 2024 (2406.15513)                                         CC-BY-NC-4.0
    coconot         Brahman et al. 2024 (2407.12043)                                    ODC-BY-1.0
    wildjailbreak   Jiang et al. 2024 (2406.18510)                                      ODC-BY-1.0
    ultrafeedback   Cui et al. 2023 (2310.01377), binarised by H4                       MIT
    uncensorbench   a package                                                           MIT
    alpaca          Taori et al. 2023; demo rows of LLaMA-Factory's source archive      unknown: prompts only

Licences are those that the data sets' own cards stated in 2025. A hazard is a guess by the most telling of their
categories; the order of a table decides where a row carries several. A set of pairs says of the reply whether it is
safe, not of the request: such a row is taken as a harmful request only where a reply went wrong, and left out else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from breakfix.curate.rows import Shape, value_at

BEAVERTAILS: Mapping[str, str] = {
    "child_abuse": "child_sexual_exploitation",
    "self_harm": "suicide_self_harm",
    "sexually_explicit,adult_content": "sexual_content",
    "terrorism,organized_crime": "violent_crimes",
    "hate_speech,offensive_language": "hate",
    "discrimination,stereotype,injustice": "hate",
    "privacy_violation": "privacy",
    "animal_abuse": "violent_crimes",
    "drug_abuse,weapons,banned_substance": "non_violent_crimes",
    "financial_crime,property_crime,theft": "non_violent_crimes",
    "violence,aiding_and_abetting,incitement": "violent_crimes",
    "non_violent_unethical_behavior": "",
    "misinformation_regarding_ethics,laws_and_safety": "",
    "controversial_topics,politics": "",
}
SAFERLHF: Mapping[str, str] = {
    "Human Trafficking": "sex_related_crimes",
    "Sexual Content": "sexual_content",
    "Animal Abuse": "violent_crimes",
    "Violence": "violent_crimes",
    "Physical Harm": "violent_crimes",
    "Discriminatory Behavior": "hate",
    "Insulting Behavior": "hate",
    "Privacy Violation": "privacy",
    "Copyright Issues": "intellectual_property",
    "Drugs": "non_violent_crimes",
    "Cybercrime": "non_violent_crimes",
    "Economic Crime": "non_violent_crimes",
    "White-Collar Crime": "non_violent_crimes",
    "Disrupting Public Order": "non_violent_crimes",
    "Environmental Damage": "non_violent_crimes",
    "Endangering National Security": "violent_crimes",
    "Endangering Public Health": "specialized_advice",
    "Psychological Harm": "",
    "Mental Manipulation": "",
}
COCONOT: Mapping[str, str] = {
    "privacy violations": "privacy",
    "copyright violations": "intellectual_property",
    "triggers for offensive language": "hate",
}
UNCENSORBENCH: Mapping[str, str] = {  # subtopics that stand out of their topic, then topics
    "explosive_synthesis": "indiscriminate_weapons",
    "defamation": "defamation",
    "misinformation": "",
    "disinformation": "",
    "gaslighting_techniques": "",
    "psychological_manipulation": "",
    "cult_tactics": "",
    "propaganda_creation": "",
    "cybersecurity": "non_violent_crimes",
    "piracy": "intellectual_property",
    "weapons": "violent_crimes",
    "drugs": "non_violent_crimes",
    "fraud": "non_violent_crimes",
    "manipulation": "non_violent_crimes",
    "violence": "violent_crimes",
    "privacy_invasion": "privacy",
    "illegal_activities": "non_violent_crimes",
    "academic_dishonesty": "non_violent_crimes",
    "gambling": "non_violent_crimes",
    "controversial_speech": "hate",
    "evasion": "non_violent_crimes",
    "self_harm": "suicide_self_harm",
    "adult_content": "sexual_content",
}


def _saferlhf(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """What two replies with their labels say of the request: asked for harm where one of them is unsafe."""
    safe = [bool(value_at(row, f"is_response_{i}_safe", "", where)) for i in (0, 1)]
    if all(safe):
        return {"kind": "", "reply": "", "rejected": "", "hazard": {}}
    safer = int(value_at(row, "safer_response_id", "", where))
    bad = 1 - safer if not safe[1 - safer] else safer
    reply = value_at(row, f"response_{1 - bad}", "", where) if safe[1 - bad] else ""
    rejected, hazard = (value_at(row, f"response_{bad}{part}", "", where) for part in ("", "_harm_category"))
    return {"kind": "harmful", "reply": reply, "rejected": rejected, "hazard": hazard}


def _wildjailbreak(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    return {"prompt": value_at(row, "adversarial", "", where) or value_at(row, "vanilla", "", where)}


def _uncensorbench(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    return {"hazard": [value_at(row, column, "", where) for column in ("subtopic", "topic")]}


def _alpaca(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Instruction and input are one request. The answer is not read."""
    parts = [value_at(row, column, "", where) for column in ("instruction", "input")]
    return {"prompt": "\n\n".join(part for part in parts if part and part.strip())}


@dataclass(frozen=True, slots=True)
class Known:
    """A data set. `subsets`: of its subsets that may be learnt from, how rows are read; the first is the default.

    `hub`, with `options` for `datasets.load_dataset`; or `asset`, of which `files` says the file of a subset, and
    `inside` the key under which its rows are. `split`: the one to learn from, where it has another name than train;
    `splits`: that of a subset. `folders`: a subset is a folder of the repository, not a configuration.
    """

    name: str
    doc: str
    licence: str
    subsets: Mapping[str, Shape]
    hub: str = ""
    split: str = "train"
    splits: Mapping[str, str] = field(default_factory=dict[str, str])
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    folders: bool = False
    asset: str = ""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    inside: str = ""


def _shape(**more: Any) -> Shape:
    return Shape(strict=False, trusted=False, **more)


_CHOSEN = {"prompt": "chosen", "reply": "chosen", "rejected": "rejected"}
_QA = {"prompt": "prompt", "rejected": "response", "hazard": "category"}
_SAFETY = {"category": "Requests with safety concerns"}
_COCONOT = {"prompt": "prompt", "hazard": "subcategory"}

_ALL = (
    Known(
        "hh-rlhf",
        "red-team requests, several turns; harmless-base with a better and a worse reply",
        "MIT",
        {
            "harmless-base": _shape(kind="harmful", fields=_CHOSEN),
            "red-team-attempts": _shape(kind="harmful", fields={"prompt": "transcript", "reply": "transcript"}),
            "helpful-base": _shape(kind="plain", fields=_CHOSEN),
            "helpful-online": _shape(kind="plain", fields=_CHOSEN),
            "helpful-rejection-sampled": _shape(kind="plain", fields=_CHOSEN),
        },
        hub="Anthropic/hh-rlhf",
        folders=True,
    ),
    Known(
        "beavertails",
        "requests that were answered harmfully, with 14 categories of harm",
        "CC-BY-NC-4.0",
        {
            "": _shape(kind="harmful", fields=_QA, where={"is_safe": False}, values={"hazard": BEAVERTAILS}),
        },
        hub="PKU-Alignment/BeaverTails",
        split="30k_train",
    ),
    Known(
        "pku-saferlhf",
        "requests that were answered harmfully, with a safer reply, and 19 categories of harm",
        "CC-BY-NC-4.0",
        {
            name: _shape(derive=_saferlhf, fields={"prompt": "prompt"}, values={"hazard": SAFERLHF})
            for name in ("", "alpaca-7b", "alpaca2-7b", "alpaca3-8b")
        },
        hub="PKU-Alignment/PKU-SafeRLHF",
    ),
    Known(
        "coconot",
        "requests with safety concerns (original), and harmless look-alikes (pref, contrast)",
        "ODC-BY-1.0",
        {
            "original": _shape(
                kind="harmful", fields={**_COCONOT, "reply": "response"}, where=_SAFETY, values={"hazard": COCONOT}
            ),
            "pref": _shape(
                kind="twin", fields={**_COCONOT, "reply": "chosen", "rejected": "rejected"}, values={"hazard": COCONOT}
            ),
            "contrast": _shape(kind="twin", fields=_COCONOT, values={"hazard": COCONOT}),
        },
        hub="allenai/coconot",
        splits={"contrast": "test"},
    ),
    Known(
        "wildjailbreak",
        "requests harmful and harmless, each plain and in a jailbreak, with replies",
        "ODC-BY-1.0",
        {
            "train": _shape(
                derive=_wildjailbreak,
                fields={"prompt": "prompt", "reply": "completion", "kind": "data_type"},
                values={
                    "kind": {
                        "vanilla_harmful": "harmful", "adversarial_harmful": "harmful",
                        "vanilla_benign": "twin", "adversarial_benign": "twin",
                    }
                },
            )
        },
        hub="allenai/wildjailbreak",
        options={"delimiter": "\t", "keep_default_na": False},
    ),
    Known(
        "ultrafeedback",
        "everyday instructions with a better and a worse answer",
        "MIT",
        {"": _shape(kind="plain", fields=_CHOSEN)},
        hub="HuggingFaceH4/ultrafeedback_binarized",
        split="train_prefs",
    ),
    Known(
        "uncensorbench",
        "requests of 15 topics, each with a refusal and an answer",
        "MIT",
        {
            "": _shape(
                kind="harmful",
                derive=_uncensorbench,
                fields={"prompt": "prompt", "reply": "censored_response", "rejected": "uncensored_response"},
                values={"hazard": UNCENSORBENCH},
            )
        },
        asset="uncensorbench",
        inside="prompts",
    ),
    Known(
        "alpaca",
        "everyday instructions without their answers",
        "unknown",
        {
            "en": _shape(kind="plain", derive=_alpaca, fields={"prompt": "prompt"}),
            "zh": _shape(kind="plain", derive=_alpaca, fields={"prompt": "prompt"}, language="zh"),
        },
        asset="alpaca",
        files={"en": "alpaca_en_demo.json", "zh": "alpaca_zh_demo.json"},
    ),
)  # fmt: skip
KNOWN: Mapping[str, Known] = {one.name: one for one in _ALL}
HUBS: Mapping[str, Known] = {one.hub.casefold(): one for one in _ALL if one.hub}


def find(name: str, hub: str | None) -> Known | None:
    """The data set of this name, or of this hub id."""
    return HUBS.get((hub or "").casefold()) or KNOWN.get(name)
