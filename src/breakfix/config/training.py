"""How a round is trained: supervised, by preferences, and the candidates for its release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import Field, ValidationError, model_validator

from .mistakes import plain
from .section import Kind, Section


class Lora(Section):
    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | tuple[str, ...] = Field(
        default="auto", description="auto: those of the model's family; all-linear; or names of modules"
    )


class Sft(Section):
    """Supervised fine-tuning. `learning_rate` None: by method and the model's width."""

    enabled: bool = True
    learning_rate: float | None = Field(default=None, gt=0)
    rate: float = Field(default=1.0, gt=0, description="times the learning rate; for candidates")
    epochs: float = Field(default=1.0, gt=0)
    batch: int = Field(default=16, ge=1)
    max_length: int = Field(default=512, ge=32)
    first_tokens: int | None = Field(
        default=8,
        ge=1,
        description="most replies are learnt that far only: the decision falls there; null: all of them",
    )
    whole_share: float = Field(
        default=0.25, ge=0, le=1, description="share of the replies that are learnt to their end"
    )
    first_weight: float = Field(
        default=1.0,
        ge=1,
        description="how much the first tokens of a reply that is learnt to its end weigh in the loss",
    )
    row_weight: Mapping[Kind, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict[Kind, float],
        description="how much the rows of a kind weigh in the loss; 1 where not given",
    )
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)

    @model_validator(mode="after")
    def _weighed(self) -> Sft:
        if self.first_weight > 1 and self.first_tokens is None:
            raise ValueError("first_weight says what the first_tokens weigh; set first_tokens, too (such as 8)")
        return self


class Dpo(Section):
    """Preference optimisation: DPO (2305.18290) and its kin on pairs, with an SFT term (RPO); or KTO
    (train.preference), which reads the same settings but `loss` and `sft_weight`. `beta` None: by loss."""

    enabled: bool = True
    loss: Literal[
        "sigmoid", "sigmoid_norm", "ipo", "hinge", "nca_pair", "bco_pair", "sppo_hard", "aot", "apo_zero", "apo_down"
    ] = Field(default="sigmoid", description="as TRL names them")
    beta: float | None = Field(default=None, gt=0)
    sft_weight: float = Field(default=0.2, ge=0, description="weight of the SFT loss on the chosen side")
    learning_rate: float | None = Field(default=None, gt=0)
    rate: float = Field(default=1.0, gt=0, description="times the learning rate; for candidates")
    epochs: float = Field(default=1.0, gt=0)
    batch: int = Field(default=8, ge=1)
    max_length: int = Field(default=512, ge=32)
    max_pairs: int = Field(default=112, ge=1)
    completion_tokens: int = Field(
        default=8, ge=1, description="pairs are cut to this many tokens: the decision falls early"
    )


class Recipe(Section):
    """A release candidate of a round besides its last checkpoint: a checkpoint, a blend of weights, or a training anew.

    `start`, `mean` and `sft` are names that need nothing else: the model that the round started from (the round is not
    accepted), the mean of its weights before and after, and the model before DPO. `blend` α: the weights that lie α of
    the way from the round's start to its end; above 1, beyond the end. `sft` and `dpo`: settings of train.sft and
    train.dpo that are otherwise; `shares`: of the SFT rows by kind, reached by leaving rows out.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    blend: float | None = Field(default=None, ge=0, le=2)
    shares: Mapping[Kind, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict[Kind, float])
    sft: Mapping[str, Any] = Field(default_factory=dict)
    dpo: Mapping[str, Any] = Field(default_factory=dict)
    preference: Literal["dpo", "kto"] | None = None
    reference: Literal["sft", "untouched"] | None = None
    seed: int | None = None
    from_round: int = Field(default=1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """`mean` for {name: mean}, and what the built-in names mean."""
        found: Any = {"name": given} if isinstance(given, str) else given
        if not isinstance(found, Mapping):
            return found
        said = cast("Mapping[str, Any]", found)
        return {**BUILT_IN.get(str(said.get("name")), {}), **said} if len(said) == 1 else said

    @model_validator(mode="after")
    def _sound(self) -> Recipe:
        if self.name == "model":
            raise ValueError(
                "candidate 'model' is the round's last checkpoint, which is always there; take another name"
            )
        if self.name != "sft" and self.blend is None and not self.trains:
            known = ", ".join(BUILT_IN)
            raise ValueError(f"candidate {self.name!r} changes nothing; give blend, shares, sft, dpo ... (or {known})")
        if self.name == "sft" and (self.blend is not None or self.trains):
            raise ValueError("candidate 'sft' is the model before DPO; give one that changes something another name")
        if self.blend == 0 and self.trains:
            raise ValueError(
                f"candidate {self.name!r}: blend 0 is the round's start, whatever is trained; take it away"
            )
        if sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError(f"candidate {self.name!r}: shares add up to more than 1")
        return self

    @property
    def trains(self) -> bool:
        """Whether it is trained anew."""
        return bool(self.shares or self.sft or self.dpo) or any(
            value is not None for value in (self.preference, self.reference, self.seed)
        )


BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "start": {"blend": 0.0, "from_round": 2},
    "mean": {"blend": 0.5, "from_round": 2},  # with the untouched model, in round 1, it would be half of a fix
    "sft": {},
}


class Train(Section):
    """`candidates`: what evaluate may choose instead of the last checkpoint, by dev suites alone.

    `reference` is what the preference loss keeps near: the policy as SFT left it, or the model that the run began with.
    The first is the default though the second is the usual KL anchor: against the untouched model, which answers, DPO
    undid within 24 to 100 steps what SFT had taught (LOG, "first tries by hand"). A candidate may try it.
    """

    method: Literal["lora", "full"] = "lora"
    preference: Literal["dpo", "kto"] = Field(default="dpo", description="on pairs; or also on rows that have no pair")
    reference: Literal["sft", "untouched"] = Field(default="sft", description="of the preference loss")
    candidates: tuple[Recipe, ...] = Field(
        default=(Recipe.model_validate("mean"),),
        description="release candidates besides the last checkpoint: sft, mean, start, or recipes of your own",
    )
    probe: bool = Field(default=True, description="a linear probe on the untouched model's states, as a yardstick")
    alarms: bool = Field(default=True, description="watch training, with a few replies to prompts that are set aside")
    stop_on_alarm: bool = Field(default=False, description="stop at an alarm, and keep the last checkpoint before it")
    lora: Lora = Lora()
    sft: Sft = Sft()
    dpo: Dpo = Dpo()
    launcher: Literal["none", "accelerate"] = Field(
        default="none", description="accelerate: several processes share each batch"
    )
    processes: int = Field(default=2, ge=1, description="that the launcher starts, one for each GPU")
    launch_config: str = Field(
        default="ddp", min_length=1, description="ddp, fsdp2, deepspeed-zero2, deepspeed-zero3, or a YAML of accelerate"
    )

    @model_validator(mode="after")
    def _shared(self) -> Train:
        for name, batch in (("sft", self.sft.batch), ("dpo", self.dpo.batch)):
            if self.launcher != "none" and batch % self.processes:
                raise ValueError(
                    f"{name}.batch is {batch}, which {self.processes} processes can't share; give a multiple of "
                    "train.processes"
                )
        return self

    @model_validator(mode="after")
    def _apart(self) -> Train:
        names = [recipe.name for recipe in self.candidates]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"candidates: {twice[0]!r} is there twice; give each another name")
        for recipe in self.candidates:
            if recipe.trains:
                self.changed(recipe)
        return self

    def changed(self, recipe: Recipe) -> Train:
        """The settings that a candidate is trained by. ValueError where they are none."""
        own = {key: value for key in ("preference", "reference") if (value := getattr(recipe, key)) is not None}
        parts = {
            part: {**getattr(self, part).model_dump(exclude_unset=True), **getattr(recipe, part)}
            for part in ("sft", "dpo")
        }
        rest = self.model_dump(exclude={"candidates", "sft", "dpo"}, exclude_unset=True)
        try:
            return Train.model_validate({**rest, **own, **parts, "candidates": ()})
        except ValidationError as error:
            raise ValueError(f"candidate {recipe.name!r}: {plain(error, Train, 'train')}") from None
