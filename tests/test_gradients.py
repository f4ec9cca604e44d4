"""Token gradients and losses of candidates: those of the plain forward pass, for every family of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")

BEFORE, AFTER, TARGET = tuple(range(10, 24)), (5, 6, 7), (40, 41, 42)
SUFFIX = [50, 51, 52, 53]


def gradients(folder: Path, precision: Any = "fp32") -> tuple[Any, Any]:
    from breakfix.models.gradients import Gradients, Slot
    from breakfix.models.hf import HFModel

    model = HFModel.load(folder, precision=precision, threads=1)
    return Gradients(model), Slot(BEFORE, AFTER, TARGET)


def plain_loss(model: Any, one_hot: Any) -> Any:
    """The loss of the target, written out: embeddings by a product with one-hot rows, all logits, no cache."""
    embed = model.get_input_embeddings()
    table = embed(torch.arange(embed.num_embeddings))
    ends = [table[torch.tensor(part)] for part in (BEFORE, (*AFTER, *TARGET))]
    embeds = torch.cat([ends[0], one_hot @ table, ends[1]])[None]
    logits = model(inputs_embeds=embeds, use_cache=False).logits[0]
    start = len(BEFORE) + len(one_hot) + len(AFTER)
    logps = logits[start - 1 : start - 1 + len(TARGET)].log_softmax(dim=-1)
    return -logps[torch.arange(len(TARGET)), torch.tensor(TARGET)].mean()


def one_hot(ids: list[int], vocabulary: int) -> Any:
    return torch.nn.functional.one_hot(torch.tensor(ids), vocabulary).float()


@pytest.mark.parametrize("family", ["llama", "gemma3", "phi3-4k"])
def test_gradients_are_those_of_the_plain_forward(family: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m") if family == "llama" else tiny.save_family(family, tmp_path / "m")
    found, slot = gradients(folder)
    given = one_hot(SUFFIX, found.table.shape[0]).requires_grad_()
    loss = plain_loss(found.model, given)
    loss.backward()
    slope, said = found.gradient(slot, SUFFIX)
    assert said == pytest.approx(loss.item(), abs=1e-5)
    assert slope.shape == given.shape
    assert torch.allclose(slope, given.grad, atol=1e-5)


def test_gradients_are_finite_differences(tmp_path: Path) -> None:
    """A step towards a token at a place changes the loss by the slope there."""
    found, slot = gradients(tiny.save_family("llama3", tmp_path / "m"))
    slope, _ = found.gradient(slot, SUFFIX)
    given = one_hot(SUFFIX, found.table.shape[0])
    for place, token in ((0, 7), (2, 99), (3, 52)):
        step = torch.zeros_like(given)
        step[place, token] = 1e-2
        with torch.no_grad():
            change = (plain_loss(found.model, given + step) - plain_loss(found.model, given - step)) / 2e-2
        assert slope[place, token].item() == pytest.approx(change.item(), rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("family", ["llama", "phi3-4k", "phi3-128k"])  # the latter two: a window, a long rope
def test_losses_of_candidates_are_those_of_each_alone(family: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m") if family == "llama" else tiny.save_family(family, tmp_path / "m")
    found, slot = gradients(folder)
    rows = torch.randint(20, 200, (7, 4), generator=torch.Generator().manual_seed(0))
    found.tokens = 60  # two rows at a time
    losses, said = found.losses(slot, rows)
    for row, loss in zip(rows.tolist(), losses.tolist(), strict=True):
        with torch.no_grad():
            assert loss == pytest.approx(plain_loss(found.model, one_hot(row, found.table.shape[0])).item(), abs=1e-4)
    assert said.tolist() == [False] * 7


def test_what_greedy_decoding_would_say_is_known(tmp_path: Path) -> None:
    found, _ = gradients(tiny.save(tmp_path / "m", says="Yes."))
    from breakfix.models.gradients import Slot

    tokens = tiny.tokenizer()
    before = tokens.apply_chat_template([{"role": "user", "content": "Bread?"}], return_dict=False)[:-2]
    after = tokens("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    for text, would in (("Yes.", True), ("Yet.", False)):
        target = tokens(text, add_special_tokens=False)["input_ids"]
        slot = Slot(tuple(before), tuple(after), tuple(target))
        assert found.losses(slot, torch.tensor([[40, 41]]))[1].tolist() == [would]


def test_a_model_in_bfloat16_gets_a_float32_copy_and_stays_as_it_is(tmp_path: Path) -> None:
    from breakfix.models.gradients import Gradients
    from breakfix.models.hf import HFModel

    folder = tiny.save_family("llama3", tmp_path / "m")
    packed = HFModel.load(folder, precision="bf16", threads=1)
    before = {name: weight.clone() for name, weight in packed.model.state_dict().items()}
    found = Gradients(packed)
    assert found.model.dtype == torch.float32
    assert packed.model.dtype == torch.bfloat16
    rounded = {name: weight.to(torch.bfloat16) for name, weight in found.model.state_dict().items()}
    assert all(torch.equal(rounded[name], weight) for name, weight in before.items())
    full = HFModel.load(folder, precision="fp32", threads=1)
    assert Gradients(full).model is full.model
