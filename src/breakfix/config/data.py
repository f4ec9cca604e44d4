"""What a round learns from: sources of prompts, and the steps of curation."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, model_validator

from .section import Section

FIELDS = ("prompt", "kind", "reply", "rejected", "hazard", "language", "licence")  # of a training row


def _worded(value: Any) -> Any:
    """YAML takes true, no and 1 for more than words; as keys of `values` they are words."""
    if not isinstance(value, Mapping):
        return value
    given = cast("Mapping[Any, Any]", value)
    return {str(key).lower() if isinstance(key, bool) else str(key): ours for key, ours in given.items()}


class Source(Section):
    """Where training prompts come from: a built-in name, a file (`path`), or a hub data set (`hub`, with `subset`,
    `split` and `revision`). See docs/data-sources.md.

    `fields` maps our names (prompt, reply, rejected, hazard, language, kind) to the source's columns, or dotted paths
    into them; `where` keeps rows whose column has that value (or one of a list); `values` maps their words for kind,
    hazard and language to ours.
    """

    name: str = Field(min_length=1)
    path: Path | None = None
    format: Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"] | None = None
    hub: str | None = None
    subset: str | None = None
    split: str | None = None
    revision: str | None = None
    kind: Literal["harmful", "twin", "plain"] | None = Field(
        default=None, description="what the rows are, if no field says so"
    )
    fields: Mapping[str, str] = Field(default_factory=dict)
    where: Mapping[str, str | bool | int | float | tuple[str | bool | int | float, ...]] = Field(default_factory=dict)
    values: Mapping[Literal["kind", "hazard", "language"], Annotated[Mapping[str, str], BeforeValidator(_worded)]] = (
        Field(default_factory=dict[Literal["kind", "hazard", "language"], Mapping[str, str]])
    )
    licence: str = "unknown"
    accept_licence: bool = Field(default=False, description="learn from its rows whatever their licence is")
    limit: int | None = Field(default=None, ge=1)
    weight: float = Field(default=1.0, gt=0, description="how often its rows are drawn beside those of other sources")
    answers: Literal["regenerate", "keep"] | None = Field(
        default=None, description="of safety rows; None: regenerate where the data set is a known one"
    )
    form_balance: bool = Field(default=False, description="turn half of its requests into questions or instructions")

    @model_validator(mode="after")
    def _sound(self) -> Source:
        if self.path is not None and self.hub is not None:
            raise ValueError(f"source {self.name!r} has a path and a hub id; give one of the two")
        if self.path is not None and (self.split or self.revision):
            raise ValueError(f"source {self.name!r} has a path; split and revision are of hub data sets")
        for name in self.fields:
            if name not in FIELDS:
                close = difflib.get_close_matches(name, FIELDS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(FIELDS)}"
                raise ValueError(f"fields of source {self.name!r}: unknown name {name!r}; {hint}")
        return self


class Curate(Section):
    """What a round's data is made of. Shares are of the rows of the SFT mix; the rest is plain instructions."""

    sources: tuple[Source, ...] = Field(
        default=(
            Source(name="starter"),
            Source(name="frames", weight=0.25),
            Source(name="advbench", limit=400, weight=2),
        ),
        min_length=1,
    )
    harmful: int = Field(default=480, ge=1, description="most harmful rows a round")
    harmful_share: float = Field(default=0.27, gt=0, lt=1)
    twin_share: float = Field(default=0.31, ge=0, lt=1)
    reply_tokens: int = Field(default=24, ge=8, description="length of the replies that the untouched model gives")
    near_duplicate: float = Field(default=0.8, gt=0, le=1, description="Jaccard similarity of word 3-grams")
    per_family: int | None = Field(default=None, ge=1, description="rows of a family and kind that are half alike")
    per_hazard: int | None = Field(default=None, ge=1, description="rows of a hazard, of each kind")
    reply_copies: int | None = Field(
        default=None, ge=1, description="rows in which the model's own text (rejected, or a benign reply) is the same"
    )
    ngram: int = Field(
        default=8, ge=3, description="words in a row that a training prompt may not share with dev or frozen"
    )
    embedding: float | None = Field(
        default=None, gt=0, le=1, description="cosine to a measured request from which a prompt counts as the same"
    )
    check_language: bool = Field(default=True, description="drop what is surely in another language than it says")
    personal_data: Literal["drop", "mask", "keep"] = "mask"
    quality: float | None = Field(
        default=0.2, ge=0, le=1, description="least score of form of a given reply, and of what is replayed"
    )
    label_errors: Literal["off", "report", "drop"] = Field(
        default="off", description="rows whose label a classifier on embeddings is sure is wrong"
    )
    allow_unknown_licence: bool = False
    language_sampling: float = Field(
        default=0.85, ge=0, le=1, description="languages by their rows to this power: 1 as they are, 0 all alike"
    )
    wrapped_share: float = Field(
        default=0.22, ge=0, le=1, description="of the rows of each kind, put into seen attacks and training wrappers"
    )
    on_topic: int = Field(
        default=0,
        ge=0,
        description="how often a row is put after a talk on its own topic, where a kind of wrapper is drawn once",
    )
    unclear_share: float = Field(
        default=0.02, ge=0, lt=1, description="of all rows, text that nobody can read, with a reply that says so"
    )
    neighbours: int = Field(
        default=2, ge=0, description="paraphrases and the like of each failure that rows are made from"
    )
    recovery_share: float = Field(
        default=0.07,
        ge=0,
        le=1,
        description="of the harmful rows, replies that began to answer and turn away; of twins as many",
    )
    on_policy: int = Field(default=0, ge=0, description="refusals sampled from the policy for each row that has a pair")
    answers: int = Field(
        default=4, ge=0, description="samples of an answer, where the untouched model refused a harmless request"
    )
    alike: float = Field(
        default=0.75, gt=0, le=1, description="edit similarity of two replies' first tokens from which they are no pair"
    )
    helper: str | None = Field(default=None, description="model that paraphrases; none: by rule")
    replay: float = Field(default=0.1, ge=0, lt=1, description="of each kind's rows, those that earlier rounds had")
    failures: bool = Field(
        default=True, description="learn from what the last round failed at; false: from sources only"
    )

    def asked(self) -> dict[str, Any]:
        """What identifies a round's data, without `sources`; `replay` and `failures` only where they change something,
        so that what was made before them stands."""
        later = {"replay", "failures"}
        same = {name for name in later if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude={"sources", *same})

    @model_validator(mode="after")
    def _shares(self) -> Curate:
        if self.harmful_share + self.twin_share >= 1:
            raise ValueError("harmful_share + twin_share must stay below 1, so that plain instructions have a share")
        return self
