"""One suffix that makes a model begin its reply with a yes, for several requests at once: GCG on its own gradients.

Source: Zou et al. 2023 (2307.15043), Algorithm 2: at each step the gradients of the active requests, each scaled to
length 1, are added up; replacements of one token are drawn from the `TOP` steepest at each place, and the best of them
is taken; requests become active one after the other, once the model would say the opening to all that are. Ours: fewer
candidates and requests, the losses in float32 (models/gradients.py); candidates are kept only if the prompt, rendered
as text with them, has just these tokens in it, so that a suffix does as text what it did in the search; printable
ASCII only; it ends when the opening is the likeliest beginning everywhere, and gives the best suffix it met, by the
mean over all requests. Each step's draws depend on the seed and the step alone: a search that was killed goes on.
"""
# pyright: basic
# (torch's tensors are half untyped)

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from breakfix.core import Case, digest
from breakfix.models.gradients import Gradients, Slot
from breakfix.models.hf import HFModel
from breakfix.probes.base import Unprobed
from breakfix.redteam.base import reworded
from breakfix.redteam.gcg_suffix import Suffix, joined
from breakfix.redteam.prefix_injection import OPENING

TOP = 256  # tokens a place that replacements are drawn from
BEGUN = " !"  # what the search begins with, again and again
SPARE = 2  # times as many candidates are drawn as are wanted: not all of them survive as text
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Search:
    """`steps` at most, `candidates` scored in each, `tokens` of the suffix; `target`: what replies shall begin with."""

    steps: int = 100
    candidates: int = 64
    tokens: int = 20
    target: str = OPENING
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _State:
    """After `step` steps: the suffix, how many requests are active, the best so far, and its loss after each step.
    `begun`: the loss that it began with. `seconds` of all steps."""

    step: int
    ids: list[int]
    active: int
    best: list[int]
    begun: float
    losses: list[float]
    said: int
    seconds: float


def find(model: HFModel, cases: Sequence[Case], search: Search, kept: Path, progress: Progress) -> tuple[Suffix, float]:
    """(the best suffix met, seconds a step). `kept`: a file from which a search that was interrupted goes on; it is
    deleted at the end.

    Raises Unprobed where the model's tokenizer gives the beginning no place that can be told.
    """
    work = _Work(model, cases, search)
    state = _read(kept) or work.start()
    while state.step < search.steps and state.said < len(cases):
        progress(f"gcg (seed {search.seed}), loss {state.losses[-1]:.2f}", state.step, search.steps)
        began = time.monotonic()
        state = work.step(state)
        state = replace(state, seconds=state.seconds + time.monotonic() - began)
        _write(kept, state)
    progress(f"gcg (seed {search.seed}), loss {state.losses[-1]:.2f}", search.steps, search.steps)
    kept.unlink(missing_ok=True)
    found = Suffix(
        text=work.text(state.best),
        model=model.id,
        target=search.target,
        cases=tuple(case.id for case in cases),
        seed=search.seed,
        steps=state.step,
        candidates=search.candidates,
        tokens=search.tokens,
        begun=work.text(work.begin),
        loss_before=state.begun,
        loss=state.losses[-1],
        losses=tuple(state.losses),
        said=state.said,
    )
    return found, state.seconds / max(1, state.step)


class _Work:
    def __init__(self, model: HFModel, cases: Sequence[Case], search: Search) -> None:
        self.model, self.cases, self.search = model, cases, search
        tokenizer = model.tokenizer
        self.target = tuple(tokenizer(search.target, add_special_tokens=False)["input_ids"])
        begin = tokenizer(BEGUN * search.tokens, add_special_tokens=False)["input_ids"]
        self.begin: list[int] = list(begin[: search.tokens])
        self.slots = [self._slot(case) for case in cases]
        self.gradients = Gradients(model)
        self.allowed = self._allowed(self.gradients.table.shape[0])

    def start(self) -> _State:
        loss, said = self._all(self.begin)
        return _State(0, self.begin, 1, self.begin, loss, [loss], sum(said), 0.0)

    def step(self, state: _State) -> _State:
        """One replacement (none where no candidate survives as text)."""
        active = self.slots[: state.active]
        slopes = [self.gradients.gradient(slot, state.ids)[0] for slot in active]
        steep = torch.stack([slope / slope.norm().clamp(min=1e-12) for slope in slopes]).sum(dim=0)
        candidates = self._candidates(state, -steep)
        ids = state.ids
        if candidates:
            rows = torch.tensor(candidates)
            losses = sum(self.gradients.losses(slot, rows)[0] for slot in active)
            order = torch.as_tensor(losses).argsort().tolist()
            ids = next((candidates[i] for i in order if all(map(self._as_text(candidates[i]), self.cases))), ids)
        loss, said = self._all(ids)
        better = loss < state.losses[-1] or sum(said) == len(said)
        more = all(said[: state.active]) and state.active < len(self.slots)
        return replace(
            state,
            step=state.step + 1,
            ids=ids,
            active=state.active + more,
            best=ids if better else state.best,
            losses=[*state.losses, loss if better else state.losses[-1]],
            said=sum(said) if better else state.said,
        )

    def text(self, ids: Sequence[int]) -> str:
        return self.model.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _all(self, ids: Sequence[int]) -> tuple[float, list[bool]]:
        """(mean loss over all requests, to which of them the opening would be said)"""
        found = [self.gradients.losses(slot, torch.tensor([ids])) for slot in self.slots]
        return sum(loss.item() for loss, _ in found) / len(found), [bool(said.item()) for _, said in found]

    def _candidates(self, state: _State, gain: torch.Tensor) -> list[list[int]]:
        """Different suffixes, each another token at one place, that the first request's text keeps as they are."""
        gain[:, ~self.allowed.to(gain.device)] = -torch.inf
        top = gain.topk(min(TOP, int(self.allowed.sum())), dim=1).indices.cpu()
        generator = torch.Generator().manual_seed(int(digest([self.search.seed, state.step])[:8], 16))
        n = SPARE * self.search.candidates
        places = torch.randint(len(state.ids), (n,), generator=generator).tolist()
        picks = torch.randint(top.shape[1], (n,), generator=generator).tolist()
        seen: dict[tuple[int, ...], None] = {}
        for place, pick in zip(places, picks, strict=True):
            ids = [*state.ids[:place], int(top[place, pick]), *state.ids[place + 1 :]]
            if ids != state.ids and self._as_text(ids)(self.cases[0]):
                seen[tuple(ids)] = None
            if len(seen) == self.search.candidates:
                break
        return [list(ids) for ids in seen]

    def _as_text(self, ids: Sequence[int]) -> Callable[[Case], bool]:
        """Whether a request with the suffix, rendered as text, has just these tokens in it."""
        text, places = self.text(ids), dict(zip([case.id for case in self.cases], self.slots, strict=True))

        def same(case: Case) -> bool:
            slot = places[case.id]
            return self._rendered(case, text) == [*slot.before, *ids, *slot.after]

        return same

    def _rendered(self, case: Case, text: str) -> list[int]:
        return list(self.model.ids(self.model.tokenizer, reworded(case, joined(case.text, text))))

    def _slot(self, case: Case) -> Slot:
        ids, n = self._rendered(case, self.text(self.begin)), len(self.begin)
        for start in range(len(ids) - n, -1, -1):
            if ids[start : start + n] == self.begin:
                return Slot(tuple(ids[:start]), tuple(ids[start + n :]), self.target)
        raise Unprobed(
            f"{self.model.id}: its tokenizer joins the suffix with what stands beside it ({case.id}); "
            "GCG needs tokens of its own; leave gcg out of --probes"
        )

    def _allowed(self, vocabulary: int) -> torch.Tensor:
        """[V]: tokens that are printable ASCII and nothing special."""
        tokenizer = self.model.tokenizer
        texts = tokenizer.batch_decode([[i] for i in range(min(len(tokenizer), vocabulary))])
        found = torch.zeros(vocabulary, dtype=torch.bool)
        found[: len(texts)] = torch.tensor([bool(t.strip()) and t.isascii() and t.isprintable() for t in texts])
        found[[i for i in tokenizer.all_special_ids if i < vocabulary]] = False
        return found


def _read(kept: Path) -> _State | None:
    try:
        row: Any = json.loads(kept.read_text(encoding="utf-8"))
        return _State(**row)
    except (OSError, ValueError, TypeError):
        return None


def _write(kept: Path, state: _State) -> None:
    work = kept.with_suffix(".new")
    work.write_text(json.dumps(asdict(state)), encoding="utf-8")
    work.replace(kept)
