"""One run's configuration, whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from .data import Curate
from .measuring import Evaluate, Gate, Identify, Judges, Redteam
from .section import Section
from .training import Train


class Hardware(Section):
    """`threads` None: all cores. `precision` auto: bf16 where a start-up probe finds it faster and accurate."""

    threads: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    batch: int = Field(default=256, ge=1, description="most rows generated together")


def _dated(value: Any) -> Any:
    """YAML takes 2024-10-21 for a date."""
    return value.isoformat() if isinstance(value, date) else value


class Endpoint(Section):
    """How the remote models at an address are asked; see models/endpoint.py.

    `url`: the start of the models' addresses, or the whole of one. `headers`: name → environment variable with the
    value. `max_tokens` (read and written) and `max_cost` hold for each model, over the whole run.
    """

    url: str
    api_key_env: str | None = Field(default=None, description="environment variable with the key")
    auth: Literal["auto", "bearer", "api-key"] = "auto"
    api_version: Annotated[str, BeforeValidator(_dated)] | None = Field(
        default=None, min_length=1, description="of Azure, such as 2024-10-21"
    )
    headers: Mapping[str, str] = Field(default_factory=dict)
    body: Mapping[str, Any] = Field(default_factory=dict, description="sent with every request as it stands")
    length_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    seed: bool = Field(default=True, description="send the seed")
    prefill: bool = Field(default=False, description="the server continues a reply that was begun")
    timeout: float = Field(default=120.0, gt=0, description="seconds, for a whole reply")
    concurrency: int = Field(default=16, ge=1, le=256, description="most requests under way")
    retries: int = Field(default=6, ge=0, le=20)
    price_in: float | None = Field(default=None, ge=0, description="of a million tokens read")
    price_out: float | None = Field(default=None, ge=0, description="of a million tokens written")
    max_tokens: int | None = Field(default=None, ge=1)
    max_cost: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _priced(self) -> Endpoint:
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise ValueError("max_cost needs price_in and price_out, of a million tokens each")
        return self


class Config(Section):
    """One run."""

    name: str = Field(default="run", min_length=1)
    model: str = Field(
        default="smollm2-135m-instruct", min_length=1, description="asset name, folder, hub id, or URL#NAME"
    )
    rounds: int = Field(default=2, ge=1)
    seed: int = 0
    hardware: Hardware = Hardware()
    curate: Curate = Curate()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    redteam: Redteam = Redteam()
    judges: Judges = Judges()
    identify: Identify = Identify()
    gate: Gate = Gate()
    endpoints: tuple[Endpoint, ...] = ()

    @property
    def attack_seed(self) -> int:
        """The red team's."""
        return self.seed if self.redteam.seed is None else self.redteam.seed
