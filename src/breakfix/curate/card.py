"""The card of a data set: README.md with the hub's header. It says what the round's record says: a step that was off is
not named, and what is not on record is said to be unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[left out]"
STEPS: Mapping[str, str] = {
    "licence": "licences",
    "personal": "a look for personal data",
    "language": "a check of language",
    "quality": "a score of form",
    "exact": "exact duplicates",
    "near": "near-duplicates",
    "family": "a limit for what is alike within a family",
    "labels": "a look for wrong labels",
    "cap": "a limit for each hazard",
    "decontaminate": "decontamination by words",
    "meaning": "decontamination by meaning",
}
_HUB_LICENCES = {"mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-3.0"}


def title(facts: Mapping[str, Any]) -> str:
    return re.sub(r"[^\w.-]+", "-", f"breakfix-{facts['run']}-round-{facts['round']}")


def what(facts: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{n} {name.upper()} rows" for name, n in facts["rows"].items())
    return (
        f"Safety training data of round {facts['round']} of the break-fix run {facts['run']}: {counts}. Harmful "
        "requests that are declined, harmless look-alikes and plain instructions that are answered."
    )


def origin(facts: Mapping[str, Any]) -> str:
    failures = {True: ", and of failures that a red team found", False: "", None: ""}[facts["made"]["from_failures"]]
    return f"Prompts are those of {', '.join(facts['sources']) or 'no source'}{failures}."


def replies(made: Mapping[str, Any]) -> str:
    """Who wrote what harmless requests are answered with."""
    if made["own_replies"] is None:
        return "Who wrote the replies to harmless requests is not on record."
    if made["own_replies"]:
        return "Replies to harmless requests whose source had none were written by the untouched model."
    return "No reply to a harmless request was written by the untouched model."


def _steps(made: Mapping[str, Any]) -> str:
    if made["steps"] is None:
        return "Which steps prompts went through is not on record."
    steps = ", ".join(STEPS.get(name, name) for name in made["steps"]) or "no step"
    return f"Prompts went through {steps}; the run's report counts what each step took out."


def _walls(made: Mapping[str, Any]) -> str:
    if made["not_checked"] is None:
        return "Whether they overlap benchmarks is not on record."
    if made["not_checked"]:
        missing = ", ".join(made["not_checked"])
        return f"**They could not be checked against {missing}**, so whether they overlap these is not known."
    return "None of them overlaps a benchmark that the run knows, by its rules."


def personal(made: Mapping[str, Any]) -> str:
    if made["steps"] is None:
        return "Whether personal data were looked for is not on record; names and postal addresses were not."
    if "personal" not in made["steps"]:
        return "Personal data were not looked for."
    return (
        "E-mail addresses, telephone, card and account numbers, public IP addresses and US social security numbers "
        "were looked for by form; names and postal addresses were not."
    )


def readme(facts: Mapping[str, Any], published: str) -> str:
    """The data set's README.md. `facts`: the manifest without its files."""
    licences = list(facts["licences"])
    known = licences[0].lower() if len(licences) == 1 else ""
    header: list[str] = ["---"]
    header += [f"license: {known if known in _HUB_LICENCES else 'other'}"]
    header += [] if known in _HUB_LICENCES else ["license_name: by-row", "license_link: README.md"]
    header += ["language:", *(f"- {json.dumps(code)}" for code in facts["languages"])]
    header += ["task_categories:", "- text-generation", "tags:", "- safety", "- refusal", "- preference", "- breakfix"]
    header += [f"size_categories:\n- {_size(sum(facts['rows'].values()))}"]
    if facts["format"] != "datasets":
        header += ["configs:"]
        for name in facts["rows"]:
            header += [f"- config_name: {name}", f"  data_files: {name}.{facts['format']}"]
    tables = {name: "\n".join(_table(name, facts[key])) for name, key in TABLES.items()}
    rows = "\n".join(f"- `{name}`: {n}" for name, n in facts["rows"].items())
    made = facts["made"]
    text = CARD.format(
        name=title(facts),
        what=what(facts),
        published=published,
        made_by=facts["made_by"],
        digest=facts["digest"],
        rejected=LEFT_OUT if facts["redacted"] else HARMFUL,
        rows=rows,
        terms=replies(made).removesuffix(".") + (", whose licence may say more." if made["own_replies"] else "."),
        how=" ".join((_steps(made), _walls(made), personal(made))),
        **tables,
    )
    return "\n".join([*header, "---", "", text])


TABLES = {"kind": "kinds", "hazard": "hazards", "language": "languages", "source": "sources", "licence": "licences"}
HARMFUL = """\
The `rejected` side of the pairs holds **harmful text**: what models answered before they were taught, or a source
brought along. It is there to be moved away from. A prompt may hold some, too, where a reply had begun or a conversation
went before. Keep it from those who need not see it; `breakfix dataset RUN --redact` leaves it out."""
LEFT_OUT = """\
The rejected side of the pairs was left out (`--redact`), and what an assistant says in a prompt is `[left out]`; `id`
is that of the whole row."""
CARD = """\
# {name}

{what}

Made on {published} by {made_by}. The digest of the rows is `{digest}`; `manifest.json` has every file's.

**Harmful requests are in this data**, each answered by declining. {rejected}

## Rows

{rows}

Prompts, completions and both sides of a pair are lists of messages, as TRL's trainers take them. `why` says why a row
is there, `parents` what it came from (ids of the run's ledger: `breakfix trace ID RUN`); `kind` is harmful, twin (a
harmless look-alike) or plain; `cut` and `rejected_cut`: that text was cut.

{kind}
{hazard}
{language}
{source}
## Licences

Each row has its own, in `licence`; a use of all rows has to keep to all of them. {terms}

{licence}
## How it was made, and what it is not

{how}

Labels were given by sources and a judge, not by people who read each row. It teaches one model's weaknesses to that
model; for another one it is a start.
"""


def _table(name: str, counts: Mapping[str, int]) -> list[str]:
    return [f"| {name} | rows |", "|---|---|", *(f"| {_cell(key)} | {n} |" for key, n in counts.items()), ""]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _size(n: int) -> str:
    limits = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in limits if n < limit), "1M<n<10M")
