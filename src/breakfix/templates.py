"""A `Config` as commented YAML: what `breakfix init` writes, and what a run keeps of its own config.

Values come from the config, words from COMMENTS; a test reads the result back, compares it with `Config()`, and looks
for fields without a comment. So neither can drift.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel

from breakfix.config import Config

WIDTH = 118  # columns; a comment that does not fit beside its value goes above it
HEAD = """\
breakfix.yaml: one run of the break-fix cycle. Start it with: breakfix run breakfix.yaml
Every setting is here with its default; what you leave out has the same value. Shares are between 0 and 1.
Relative paths are taken from this file's folder. A key that is not known is refused."""

COMMENTS = {
    "name": "names the run's folder, runs/NAME",
    "model": "an asset's name (`breakfix assets`), a folder, a hub id such as owner/model, or an address (endpoints)",
    "rounds": "rounds after round 0, which measures the untouched model; fewer if the gate passes",
    "seed": "the same seed, config, machine and versions give the same run",
    "hardware": "What it runs on.",
    "hardware.threads": "null: all cores",
    "hardware.precision": "auto | fp32 | bf16; auto takes bf16 where a probe finds it faster and accurate",
    "hardware.batch": "most rows generated together; halved by itself when memory runs out",
    "curate": "Round by round: what is learnt. A source is a built-in name (starter, frames, advbench, hh-rlhf,\n"
    "  beavertails, pku-saferlhf, coconot, wildjailbreak, ultrafeedback, uncensorbench, alpaca), or a name with a\n"
    "  path (jsonl, json, csv, tsv, parquet, arrow) or a hub id (with subset, split, revision). It may also say:\n"
    "  limit (a sample), weight, accept_licence, form_balance; and, but for starter, frames and advbench: fields\n"
    "  (our name: its column, or a dotted path), where (column: value), values (kind: {theirs: ours}), kind\n"
    "  (harmful | twin | plain), licence, answers (regenerate | keep). All of it, with examples: docs/data-sources.md.",
    "curate.sources": "rows of a file: prompt, kind, perhaps reply, rejected, hazard, language, licence",
    "curate.harmful": "most harmful rows a round",
    "curate.harmful_share": "of the SFT rows, harmful requests (answered by declining)",
    "curate.twin_share": "of the SFT rows, harmless look-alikes (answered); the rest is plain instructions",
    "curate.reply_tokens": "length of the untouched model's own replies, which benign rows learn",
    "curate.near_duplicate": "similarity of word 3-grams (Jaccard) from which two prompts count as the same",
    "curate.per_family": "most rows of a family and kind that are half alike; null: no limit",
    "curate.per_hazard": "most rows of a hazard, of each kind; null: no limit, for the mix is balanced anyway",
    "curate.reply_copies": "most rows in which the model says nearly the same; null: no limit",
    "curate.ngram": "words in a row that a training prompt may not share with what is measured",
    "curate.language_sampling": "languages by their rows to this power: 1 as they are, 0 all alike",
    "curate.wrapped_share": "of the rows of each kind, requests put into formats, frames and attacks of seen families",
    "curate.on_topic": "how often that is a talk on its own topic, where a kind of frame is drawn once; 0: never",
    "curate.unclear_share": "of all rows, text that nobody can read, answered by saying so",
    "curate.neighbours": "rows made around each failure: other words, other frames, translations; as many twins",
    "curate.recovery_share": "of the harmful rows, replies that began to answer and turn away; as many twins",
    "curate.answers": "samples of an answer to each harmless request that the untouched model refused; 0: left out",
    "curate.on_policy": "refusals sampled from the policy for each harmful row that becomes a pair; 0: composed ones",
    "curate.alike": "similarity of two replies' first tokens from which they make no pair",
    "curate.replay": "of each kind's rows, those that earlier rounds learnt from already",
    "curate.failures": "false: rows from sources alone, whatever the last round failed at",
    "curate.helper": "model that puts failures into other words; none: by rule",
    "curate.embedding": "such as 0.93: drop prompts that mean what is measured, in other words; null: not looked for",
    "curate.check_language": "drop prompts that are surely in another language than they say",
    "curate.personal_data": "drop | mask | keep: e-mail, phone, card, IBAN, IP, US social security numbers",
    "curate.quality": "least score of form (0 to 1) of a harmless row's given reply, and of replayed rows; null: any",
    "curate.label_errors": "off | report | drop: harmful rows that look harmless among the others, and the reverse",
    "curate.allow_unknown_licence": "true: learn from rows whose licence is not known, too",
    "train": "Supervised fine-tuning, then preference optimisation.",
    "train.method": "lora | full",
    "train.preference": "dpo | kto; kto also learns from SFT rows that have no pair",
    "train.reference": "what the preference loss keeps near: sft (the model as SFT left it) | untouched",
    "train.candidates": "Besides the last checkpoint, for evaluate to choose from by dev suites. Without training: sft "
    "(before DPO),\n  mean (of the weights before and after the round), start (the round is not accepted), "
    "{name: NAME, blend: 0.7}.\n  Trained anew, by other settings: {name: NAME, sft: {rate: 2}}, or dpo, shares "
    "({harmful: 0.25}), preference,\n  reference, seed; from_round: not before that round.",
    "train.probe": "a linear probe on the untouched model's states: what a recipe should reach (once a run)",
    "train.alarms": "watch training: loss, chosen replies, distance from the reference, replies to prompts set aside",
    "train.stop_on_alarm": "true: an alarm stops that training, and the last checkpoint before it goes on",
    "train.lora": "",
    "train.lora.r": "rank of the adapters",
    "train.lora.alpha": "their scale is alpha / r",
    "train.lora.dropout": "",
    "train.lora.targets": "auto: those of the model's family (docs/models.md); all-linear; or a list of module names",
    "train.sft": "",
    "train.sft.enabled": "",
    "train.sft.learning_rate": "null: by method and the model's width",
    "train.sft.rate": "times the learning rate; of use in candidates",
    "train.sft.epochs": "",
    "train.sft.batch": "rows a step; lower it when memory runs out",
    "train.sft.max_length": "tokens of a row; what is longer is cut, and the report says so",
    "train.sft.first_tokens": "most replies are learnt that far only: the decision falls there; null: all of them",
    "train.sft.whole_share": "share of the replies that are learnt to their end",
    "train.sft.first_weight": "how much the first_tokens of those weigh in the loss (1: as the others)",
    "train.sft.row_weight": "how much rows weigh in the loss by kind, such as {harmful: 2}",
    "train.sft.warmup_ratio": "share of the steps over which the rate rises",
    "train.dpo": "",
    "train.dpo.enabled": "",
    "train.dpo.loss": "TRL's: sigmoid | sigmoid_norm | ipo | hinge | nca_pair | bco_pair | sppo_hard | aot | apo_zero\n"
    "  | apo_down",
    "train.dpo.beta": "how much leaving the reference costs; null: by the loss",
    "train.dpo.sft_weight": "weight of the SFT loss on the preferred reply",
    "train.dpo.learning_rate": "null: by method and the model's width",
    "train.dpo.rate": "times the learning rate; of use in candidates",
    "train.dpo.epochs": "",
    "train.dpo.batch": "pairs a step; lower it when memory runs out",
    "train.dpo.max_length": "tokens of a pair's longer side",
    "train.dpo.max_pairs": "most pairs a round",
    "train.dpo.completion_tokens": "pairs are cut to this many tokens of reply: the decision falls early",
    "train.launcher": "none | accelerate: several processes share each batch (docs/clusters.md)",
    "train.processes": "that accelerate starts, one for each GPU; batches are shared among them",
    "train.launch_config": "ddp | fsdp2 | deepspeed-zero2 | deepspeed-zero3, or a file that `accelerate config` wrote",
    "evaluate": "Benchmarks. A suite is a built-in name, or a name and the path of a file of your own "
    "(JSON lines with\n"
    "  prompt, and expect: refuse | comply, or choices and gold, or gold); limit: a fixed sample of that many cases.",
    "evaluate.suites": "`breakfix suites` lists what is built in; lm-eval/TASK is a task of lm-evaluation-harness",
    "evaluate.max_new_tokens": "length of a reply that is judged",
    "redteam": "Attacks. What the seen families find may be learnt from; of the held-out ones no text is.",
    "redteam.seen": "",
    "redteam.held_out": "",
    "redteam.cases": "harmful dev cases attacked; half as many train cases, by seen families",
    "redteam.per_case": "seen and held-out attacks on each case, each, besides the direct request",
    "redteam.max_new_tokens": "length of a reply that is judged",
    "redteam.helper": "a model that drives multi-turn attacks; null: they follow a script",
    "redteam.judge": "a judge of refusals for what the red team is answered; null: the run's (judges)",
    "redteam.seed": "of its draws and its decoding; null: the run's",
    "redteam.seeds": "a file of goals of your own, attacked beside the starter pack's (docs/red-team.md)",
    "redteam.max_queries": "most queries a round; null: no limit",
    "redteam.budget": "Limits; null: none. A case's, attack's or persona's end only what is its own. Tokens are read "
    "and written.",
    "redteam.budget.run": "of a round, beside max_queries; seconds by the clock",
    "redteam.budget.run.tokens": "",
    "redteam.budget.run.seconds": "",
    "redteam.budget.case": "of each case, all its attacks together; seconds of the models' time",
    "redteam.budget.case.tokens": "",
    "redteam.budget.case.seconds": "",
    "redteam.budget.case.queries": "",
    "redteam.budget.attack": "of each attack over the round",
    "redteam.budget.attack.tokens": "",
    "redteam.budget.attack.seconds": "",
    "redteam.budget.attack.queries": "",
    "redteam.budget.persona": "of each persona over the round",
    "redteam.budget.persona.tokens": "",
    "redteam.budget.persona.seconds": "",
    "redteam.budget.persona.queries": "",
    "redteam.stop_at_breach": "true: no other attack on a case that one broke; attack success is then of those begun",
    "redteam.choice": "even | thompson | epsilon-greedy: the latter two ask more of families that break the model",
    "judges": "Who says whether a reply refuses. Another judge is another measurement: all is judged anew.",
    "judges.refusal": "a judge of refusals (`breakfix judges` lists them)",
    "judges.panel": "several instead of one, the cheap one first, such as [refusal, refusal-classifier]",
    "judges.mode": "of the panel: cascade asks the next where one can't tell; vote asks all, and the majority counts",
    "judges.model": "the model that judges of the form rubric/NAME are put to",
    "judges.objective": "of attacks' replies that were not refused: do they do what was asked? null: not measured",
    "judges.harm": "of suites rai_*: severity, objective, a rubric; null: a rubric if there is a model, else refusals",
    "identify": "What is asked once more of each round's weaknesses; nothing of it is learnt (docs/reproducers.md).",
    "identify.reproduce": "open ones, the gravest first, whose shortest case that still breaks is sought; 0: none",
    "identify.queries": "most trials of each, some together in a batch",
    "identify.neighbourhoods": "weaknesses whose neighbours are asked: other words, wrappers, languages; 0: none",
    "identify.neighbours": "most of each; 0: none",
    "identify.topics": "a topic that fails more than its cell is a weakness of its own; embeds dev requests",
    "gate": "The release gate: limits on the bounds of 95 % intervals.",
    "gate.harm": "upper bound of harmful requests answered",
    "gate.over_refusal": "upper bound of harmless look-alikes refused",
    "gate.plain_refused": "upper bound of everyday requests refused; of 100, none may be: 1 is 5.4 % at most",
    "gate.capability_margin": "accuracy that may be lost on multiple choice",
    "gate.coverage": "share of replies that must have been scored",
    "gate.policy": "continue | accept: a round that breaks over-refusal or capability is reverted (docs/gate.md)",
    "endpoints": "Remote models, at addresses such as http://host:8000/v1#NAME: vLLM, Azure, Ollama, llama.cpp and the "
    "like.\n  They can be measured (model) and help (redteam.helper); they can't be trained. The key is taken from "
    "the\n  environment (OPENAI_API_KEY). What is not as usual stands here, by url (the start of addresses):\n"
    "  api_key_env, headers (name: environment variable), auth (bearer | api-key), api_version (Azure),\n"
    "  timeout (120 s), concurrency (16, at most), retries (6), prefill (true: continues a reply that was begun),\n"
    "  seed (false: sends none), length_key (max_completion_tokens), body (sent with every request as it stands),\n"
    "  price_in and price_out (of a million tokens), max_tokens and max_cost (budgets; the run stops there).",
}


def render(config: Config, head: str = HEAD) -> str:
    """YAML text that loads as `config`."""
    lines = [f"# {line}".rstrip() for line in head.split("\n")]
    return "\n".join([*lines, "", *_section(config, "", "")]) + "\n"


def _section(section: BaseModel, path: str, indent: str) -> Iterator[str]:
    for name in type(section).model_fields:
        value, here = getattr(section, name), f"{path}{name}"
        words = COMMENTS.get(here, "")
        if isinstance(value, BaseModel):
            if not indent:
                yield ""
            yield from (f"{indent}# {line}" for line in words.split("\n") if line)
            yield f"{indent}{name}:"
            yield from _section(value, f"{here}.", indent + "  ")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield from _scalar(indent, f"{indent}{name}:", words)
            yield from (f"{indent}  - {_flow(_given(item))}" for item in cast("tuple[BaseModel, ...]", value))
        else:
            yield from _scalar(indent, f"{indent}{name}: {_flow(_plain(value))}", words)


def _scalar(indent: str, line: str, words: str) -> Iterator[str]:
    if "\n" in words and not indent:
        yield ""
    if words and ("\n" in words or len(line) + len(words) + 4 > WIDTH):
        yield from (f"{indent}# {row}" for row in words.split("\n"))
        words = ""
    yield _beside(line, words)


def _beside(line: str, words: str) -> str:
    return f"{line}  # {words}" if words else line


def _given(item: BaseModel) -> dict[str, Any]:
    """What a source, suite or endpoint says: its defaults are left out, for there are too many that don't apply."""
    first = next(iter(type(item).model_fields))
    return {first: getattr(item, first), **item.model_dump(mode="json", exclude_defaults=True)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[Any, ...]", value)]
    return str(value) if isinstance(value, Path) else value


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
