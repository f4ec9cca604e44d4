"""A `core.Model` as lm-evaluation-harness sees it. Imported where the harness is installed and a task is measured.

The harness passes prompts as text. Here the text is the turns as JSON, since the model has its own chat template.

Requests are paid for once: what is known of them (by the digest of all that is asked) is not asked again, and what is
found is given away a chunk at a time. The harness's own cache (`use_cache`) is not used: it pickles, and what it knows
of a request is its text alone.
"""

# pyright: basic, reportMissingImports=false
# the harness has no types worth the name

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lm_eval.api.model import LM

from breakfix.core import Conversation, Message, Model, Reply, Sampling, digest
from breakfix.errors import ModelError
from breakfix.evaluate.items import CHUNK

MAX_NEW_TOKENS = 256  # of tasks that do not say
NOTHING: Mapping[str, Any] = MappingProxyType({})
Keep = Callable[[Mapping[str, Any]], object]


def _forget(found: Mapping[str, Any]) -> None:
    pass


class HarnessModel(LM):
    """`by_greedy`: tasks that score by whether a continuation is what the model would say. `progress(done, total)`
    counts requests. `known`: digest of a request → what came of it; `keep` is given such pairs.

    A request on which the model failed gets a value, for the harness needs one, and is remembered: `failed` are (task,
    number of the question among those asked), `failures` counts requests by reason.
    """

    def __init__(
        self,
        model: Model,
        by_greedy: set[str],
        progress: Callable[[int, int], None],
        known: Mapping[str, Any] = NOTHING,
        keep: Keep = _forget,
    ) -> None:
        super().__init__()
        self.model, self.by_greedy, self.progress = model, by_greedy, progress
        self.known, self.keep = known, keep
        self.failed: set[tuple[str, int]] = set()
        self.failures: dict[str, int] = {}

    @property
    def tokenizer_name(self) -> str:
        return self.model.id

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        """A last turn of the assistant is one that it is to go on with."""
        return json.dumps([[turn["role"], turn["content"]] for turn in chat_history])

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        keys = [digest(["likelihood", *request.args, request.task_name in self.by_greedy]) for request in requests]
        found = dict(self.known)
        todo = [place for place, key in enumerate(keys) if key not in found]
        for start in range(0, len(todo), CHUNK):
            self.progress(len(requests) - len(todo) + start, len(requests))
            chunk = todo[start : start + CHUNK]
            scored = zip(chunk, self._scored([requests[place] for place in chunk]), strict=True)
            if new := {keys[place]: list(said) for place, said in scored if said is not None}:
                self.keep(new)
                found |= new
        self.progress(len(requests), len(requests))
        logps = (found.get(key, (0.0, False)) for key in keys)  # of one that was lost any value does
        return [(float(logp), bool(greedy)) for logp, greedy in logps]

    def _scored(self, requests: Sequence[Any]) -> list[tuple[float, bool] | None]:
        """None where the model failed."""
        pairs = [(conversation(request.args[0]), request.args[1]) for request in requests]
        greedy = [place for place, request in enumerate(requests) if request.task_name in self.by_greedy]
        try:
            logps = [logp for logp, _ in self.model.score(pairs)]
            said = self._greedy([pairs[place] for place in greedy])
        except ModelError as why:
            for request in requests:
                self._lost(request, str(why))
            return [None] * len(requests)
        for request, logp in zip(requests, logps, strict=True):
            if not math.isfinite(logp):
                self._lost(request, "the log-likelihood is not a number")
        same = dict(zip(greedy, said, strict=True))
        return [(logp, same.get(i, False)) if math.isfinite(logp) else None for i, logp in enumerate(logps)]

    def _greedy(self, pairs: Sequence[tuple[Conversation, str]]) -> list[bool]:
        """Would the model say just that? Read from what it writes, for `score` does not tell."""
        if not pairs:
            return []
        longest = max(len(continuation) for _, continuation in pairs)  # characters: no fewer than tokens
        found: dict[int, Reply] = dict(
            self.model.generate([prompt for prompt, _ in pairs], Sampling(max_new_tokens=min(longest, MAX_NEW_TOKENS)))
        )
        if failed := [reply.error for reply in found.values() if reply.finish == "error"]:
            raise ModelError(failed[0] or "the model failed")
        return [found[i].text.strip().startswith(pair[1].strip()) for i, pair in enumerate(pairs)]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        raise NotImplementedError("a chat model can't be asked for the likelihood of a whole text")

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Requests with the same settings are one batch. A request that is put several times is drawn several times."""
        settings = [json.dumps(request.args[1], sort_keys=True, default=str) for request in requests]
        times = Counter[tuple[str, str]]()
        keys: list[str] = []
        for request, told in zip(requests, settings, strict=True):
            keys.append(digest(["text", request.args[0], told, times[request.args[0], told]]))
            times[request.args[0], told] += 1
        found = [str(self.known.get(key, "")) for key in keys]
        groups: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            if key not in self.known:
                groups.setdefault(settings[place], []).append(place)
        done = len(requests) - sum(map(len, groups.values()))
        for places in groups.values():
            new: dict[str, str] = {}
            options: dict[str, Any] = dict(requests[places[0]].args[1])
            waiting = dict(enumerate(places))
            why = "the model gave no reply"
            try:
                prompts = [conversation(requests[place].args[0]) for place in places]
                seeds = [int(keys[place][:8], 16) % 2**31 for place in places]
                for i, reply in self.model.generate(prompts, sampling(options), seeds):
                    place = waiting.pop(i)
                    found[place] = until(reply.text, options.get("until"))
                    if reply.finish == "error":
                        self._lost(requests[place], reply.error or "the model failed")
                    else:
                        new[keys[place]] = found[place]
                    if len(new) == CHUNK:
                        self.keep(new)
                        new = {}
                    done += 1
                    self.progress(done, len(requests))
            except ModelError as error:
                why = str(error)
            finally:
                if new:
                    self.keep(new)
            for place in waiting.values():
                self._lost(requests[place], why)
        return found

    def _lost(self, request: Any, why: str) -> None:
        self.failed.add((request.task_name, request.doc_id))
        self.failures[why] = self.failures.get(why, 0) + 1


def conversation(prompt: str) -> Conversation:
    """What `apply_chat_template` wrote; any other text is a user's turn."""
    try:
        turns = json.loads(prompt)
    except ValueError:
        turns = None
    if not isinstance(turns, list) or not all(isinstance(turn, list) and len(turn) == 2 for turn in turns):
        return (Message("user", prompt),)
    return tuple(Message(role, str(content)) for role, content in turns)


def sampling(options: dict[str, Any]) -> Sampling:
    """Of a task's generation_kwargs; greedy unless it says do_sample."""
    tokens = options.get("max_gen_toks") or options.get("max_new_tokens") or options.get("max_tokens")
    warm = float(options.get("temperature") or 0.0) if options.get("do_sample") else 0.0
    return Sampling(int(tokens or MAX_NEW_TOKENS), warm, float(options.get("top_p") or 1.0))


def until(text: str, stops: str | list[str] | None) -> str:
    """The text up to the first of the stop strings."""
    for stop in [stops] if isinstance(stops, str) else stops or []:
        if stop:
            text = text.partition(stop)[0]
    return text
