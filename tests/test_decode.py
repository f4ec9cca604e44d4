"""models/decode.py, prefixes.py: what prompts begin with alike is read once, and nobody says anything else for it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import tiny
from breakfix.core import Conversation, Message, Sampling, ask

torch = pytest.importorskip("torch")

NAMES = list(tiny.FAMILIES)
NARROW = {name for name in NAMES if tiny.FAMILIES[name].settings.get("sliding_window") == 40}
NEW = 16
SCENES = ("The miller waits for the baker at the gate. ", "A sailor counts his boats, slowly. ", "Snow. ")
ASKED = ("What flour?", "How long do I knead?", "Why?", "Which oven is best for rye bread, and how hot is it?")
TREE: list[Conversation] = [
    *(ask(f"Stay brief. {scene * 2}{asked}") for scene in SCENES for asked in ASKED),
    *(ask("Stay brief. " + SCENES[0] + asked) for asked in ASKED),  # leaves a template in the middle of it
    *(ask(f"{SCENES[1] * 2}What flour?") for _ in range(3)),  # the same prompt more than once
    (*ask("Stay brief. Hi"), Message("assistant", "Hello."), *ask("What flour?")),
    ask("Alone."),
]

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns about what is no concern of these tests


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {name: tiny.save_family(name, root / name) for name in NAMES}


def load(path: Path, **how: Any) -> Any:
    from breakfix.models.hf import HFModel

    return HFModel.load(path, precision="fp32", threads=1, **how)


def tokens(model: Any, prompts: list[Conversation]) -> list[list[int]]:
    from breakfix.models.render import prompt_ids

    return [prompt_ids(model.tokenizer, prompt) for prompt in prompts]


def said(model: Any, prompts: list[Conversation], sampling: Sampling, seeds: list[int] | None = None) -> list[str]:
    found = dict(model.generate(prompts, sampling, seeds))
    return [found[i].text for i in range(len(prompts))]


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything shared is worth it, in a prompt of a few tokens."""
    from breakfix.models import decode, prefixes, reading

    monkeypatch.setattr(prefixes, "WORTH", 1)
    monkeypatch.setattr(decode, "GROUP", 1)
    monkeypatch.setattr(decode, "READ", 4)
    monkeypatch.setattr(reading, "READ", 3)


def alone(model: Any, ids: list[int]) -> str:
    """What transformers' own `generate` says: one row, no padding."""
    out = model.model.generate(
        torch.tensor([ids]), max_new_tokens=NEW, do_sample=False, eos_token_id=sorted(model.stops),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long), pad_token_id=min(model.stops),
    )[0, len(ids) :].tolist()  # fmt: skip
    return model.tokenizer.decode(out[:-1] if out and out[-1] in model.stops else out, skip_special_tokens=True)


class Counted:
    """From here on: how many tokens of prompts the model is given, without padding, and how often groups attend."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from breakfix.models import grouped
        from breakfix.models.reading import Reading

        self.read, self.beside = 0, 0
        attend = grouped.Beside.attend

        def attended(beside: Any, *args: Any, **more: Any) -> Any:
            self.beside += 1
            return attend(beside, *args, **more)

        def look(_: Any, __: Any, given: dict[str, Any]) -> None:
            first = given["past_key_values"].layers[0]
            self.read += int(first.rows.own_BT.sum()) if isinstance(first, Reading) else 0

        monkeypatch.setattr(grouped.Beside, "attend", attended)
        self.hook = model.model.register_forward_pre_hook(look, with_kwargs=True)


def none(prompts: list[list[int]]) -> list[list[int]]:
    """In place of `prefixes.cuts`: nothing is shared."""
    return [[] for _ in prompts]


def least(ids: list[list[int]]) -> int:
    """Tokens that must be read of these prompts."""
    from breakfix.models.prefixes import cuts, distinct

    marks = cuts(ids)
    total = distinct(ids, dict(enumerate(marks))) + sum(
        len(p) - (m or [0])[-1] for p, m in zip(ids, marks, strict=True)
    )
    assert total < 0.65 * sum(map(len, ids))  # else it proves little
    return total


# ---- where prompts are cut


def test_cuts_of_templates_in_a_frame() -> None:
    from breakfix.models.prefixes import cuts, distinct, together

    frame, first, second = [1] * 30, [2] * 50, [3] * 40
    prompts = [frame + template + [10 + i] * 3 for template in (first, second) for i in range(4)] + [[*frame, 4]]
    found = cuts(prompts)
    assert found == [[30, 80]] * 4 + [[30, 70]] * 4 + [[30]]
    assert distinct(prompts, dict(enumerate(found))) == 30 + 50 + 40
    assert together(prompts, dict(enumerate(found))) == list(range(9))
    assert cuts([frame] * 4) == [[29]] * 4  # a token is left
    assert cuts([[*frame, 5], [*frame, 6]]) == [[], []]  # saves too little
    assert cuts([]) == [] and cuts([[1]]) == [[]]


def test_cuts_are_shared_and_ascend(many: None) -> None:
    from breakfix.models.prefixes import SHARED_MIN, cuts

    for seed in range(40):
        rng = random.Random(seed)
        parts = [[rng.randrange(3) for _ in range(rng.randrange(1, 20))] for _ in range(4)]
        prompts = [sum(rng.choices(parts, k=rng.randrange(1, 5)), list[int]()) for _ in range(12)]
        for prompt, marks in zip(prompts, cuts(prompts), strict=True):
            assert all(b - a >= SHARED_MIN for a, b in zip([0, *marks], marks, strict=False))
            assert not marks or marks[-1] < len(prompt)
            assert all(sum(other[:cut] == prompt[:cut] for other in prompts) > 1 for cut in marks)


def test_rows_without_much_in_common_stay_sorted_by_length() -> None:
    from breakfix.models.prefixes import cuts, together

    rng = random.Random(0)
    prompts = [[1] * 20 + [rng.randrange(99) for _ in range(rng.randrange(30, 90))] for _ in range(50)]
    order = together(prompts, dict(enumerate(cuts(prompts))))
    assert [len(prompts[i]) for i in order] == sorted(map(len, prompts), reverse=True)


def test_a_store_forgets_what_was_not_wanted_for_longest() -> None:
    from breakfix.models.prefixes import Store

    store = Store(6)

    def learn(past: list[int], *tokens: int) -> list[int]:
        places = store.take(len(tokens))
        assert places is not None
        store.learn(past, list(tokens), places)
        return past + places

    store.turn = 1
    stem = learn([], 1, 2)
    branch = learn(stem, 3, 4)
    store.turn = 2
    other = learn(stem, 5, 6)
    assert store.find([1, 2, 5, 6, 7]) == other and store.find([1, 2]) == stem and store.size == 6
    store.turn = 3
    assert store.find([1, 2, 5, 6]) == other
    assert store.take(4) is None  # only two are not wanted
    taken = store.take(2)
    assert taken is not None and set(taken) == set(branch) - set(stem)
    assert store.find([1, 2, 3, 4]) == stem
    store.learn(stem, [5, 6], taken)  # known already
    assert store.find([1, 2, 5, 6]) == other and store.take(2) == taken


def test_rows_leave_by_few_moves() -> None:
    from breakfix.models import decode

    assert decode._staying([0, 1, 2, 3]) == [0, 1, 2, 3]  # pyright: ignore[reportPrivateUsage]
    assert decode._staying([1, 2, 5, 6]) == [6, 1, 2, 5]  # pyright: ignore[reportPrivateUsage]


# ---- what is said


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shared_is_read_once_and_nobody_says_anything_else(
    name: str, folders: dict[str, Path], many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the cache and, as after `HFModel(...)` or in a narrow window, in the cache; with much room and little."""
    from breakfix.models import decode
    from breakfix.models.hf import HFModel
    from breakfix.models.prefixes import cuts

    model = load(folders[name])
    ids = tokens(model, TREE)
    expected = [alone(model, prompt) for prompt in ids]
    assert len(set(expected)) > len(TREE) // 2  # else it proves little
    counted = Counted(model, monkeypatch)
    assert said(model, TREE, Sampling(NEW)) == expected
    assert (counted.beside > 0) == (name not in NARROW)
    once, counted.read = counted.read, 0
    monkeypatch.setattr(decode, "GROUP", 1 << 30)
    assert said(model, TREE, Sampling(NEW)) == expected
    counted.read = 0
    monkeypatch.setattr(decode, "cuts", none)
    assert said(model, TREE, Sampling(NEW)) == expected
    assert (once, counted.read) == (least(ids), sum(map(len, ids)))
    monkeypatch.setattr(decode, "cuts", cuts)
    for GROUP, batch, room in ((1, 7, 1200), (1 << 30, 7, 1200), (1, 64, 300)):
        monkeypatch.setattr(decode, "GROUP", GROUP)
        tight = HFModel(model.model, model.tokenizer, model.id, batch=batch)
        tight.cache_tokens = room
        assert said(tight, TREE, Sampling(NEW)) == expected


@pytest.mark.parametrize("name", ["llama3", "gemma2"])
def test_rows_that_leave_early_leave_the_others_alone(name: str, folders: dict[str, Path], many: None) -> None:
    model = load(folders[name])
    long = [list(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in
            said(model, TREE, Sampling(NEW))]  # fmt: skip
    model.stops |= {text[len(text) // 2] for text in long[::3] if text}
    expected = [alone(model, prompt) for prompt in tokens(model, TREE)]
    assert len({len(text) for text in expected}) > 3
    assert said(model, TREE, Sampling(NEW)) == expected


@pytest.mark.parametrize("name", ["llama3", "mistral"])
def test_a_sample_is_drawn_as_if_it_were_alone(name: str, folders: dict[str, Path], many: None) -> None:
    model, sampling = load(folders[name]), Sampling(NEW, temperature=1.0, top_p=0.9)
    seeds = list(range(100, 100 + len(TREE)))
    expected = [said(model, [prompt], sampling, [seed])[0] for prompt, seed in zip(TREE, seeds, strict=True)]
    assert said(model, TREE, sampling, seeds) == expected
    assert len(set(expected)) == len(TREE)  # the same prompt with other seeds, too


@pytest.mark.parametrize("masked", [True, False])
def test_attention_over_two_parts_is_that_over_both(masked: bool) -> None:
    from breakfix.models.grouped import Beside, Groups

    torch.manual_seed(0)
    groups, long = Groups([[2, 0], [3, 4, 1]]), (7, 20)
    query = torch.randn(6, 2, 3, 8)
    key, value = torch.randn(2, 6, 2, 5, 8)
    pasts = [torch.randn(2, 1, 2, n, 8) for n in long]
    mask = torch.ones(6, 1, 1, 5, dtype=torch.bool) if masked else None
    if mask is not None:
        mask[1, ..., :3] = mask[5, ..., :1] = False
    beside = Beside(groups, [past[0] for past in pasts], [past[1] for past in pasts])

    def whole(row: int, group: int | None) -> Any:
        real = slice(None) if mask is None else mask[row, 0, 0]
        k, v = key[row][:, real], value[row][:, real]
        if group is not None:
            k, v = torch.cat([pasts[group][0, 0], k], 1), torch.cat([pasts[group][1, 0], v], 1)
        return torch.nn.functional.scaled_dot_product_attention(query[row], k, v, scale=0.3)

    found = beside.attend(query, key, value, mask, 0.3)
    for row, group in enumerate((0, 1, 0, 1, 1, None)):
        torch.testing.assert_close(found[row], whole(row, group))
    groups.keep([5, 4, 2])  # row 1 is now what row 4 was; the rest of its group has left
    rows = [5, 4, 2]
    found = beside.attend(query[rows], key[rows], value[rows], None if mask is None else mask[rows], 0.3)
    for place, (row, group) in enumerate(((5, None), (4, 1), (2, 0))):
        torch.testing.assert_close(found[place], whole(row, group))


def test_out_of_memory_while_templates_are_read(folders: dict[str, Path], many: None) -> None:
    model = load(folders["llama3"])
    expected = said(model, TREE, Sampling(NEW))
    stock, calls = model.model.forward, [0]

    def forward(*args: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] in (2, 5, 9):
            raise RuntimeError("not enough memory: you tried to allocate 9 bytes")
        return stock(*args, **more)

    model.model.forward = forward
    before = model.batch
    try:
        assert said(model, TREE, Sampling(NEW)) == expected
    finally:
        model.model.forward = stock
    assert model.batch == before // 8


@pytest.mark.parametrize("name", ["llama3", "gemma2", "mistral", "phi3-128k"])
def test_questions_that_begin_alike_are_scored_as_each_alone(
    name: str, folders: dict[str, Path], many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakfix.models import scoring

    model = load(folders[name])
    pairs = [(prompt, text) for prompt in TREE[::2] for text in ("Yes.", "No, by hand.")]
    counted = Counted(model, monkeypatch)
    shared = model.score(pairs)
    once, counted.read = counted.read, 0
    model.score_tokens = 400  # several batches
    assert model.score(pairs) == [pytest.approx(score, abs=1e-3) for score in shared]
    counted.read = 0
    model.score_tokens = 4096
    monkeypatch.setattr(scoring, "cuts", none)
    assert model.score(pairs) == [pytest.approx(score, abs=1e-3) for score in shared]
    ids = tokens(model, list(dict.fromkeys(TREE[::2])))
    assert (once, counted.read) == (least(ids), sum(map(len, ids)))
