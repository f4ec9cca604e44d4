"""Every distinct token of a batch runs once: what rows begin with alike is shared, padding is left out; exactly.

`once(model)`: within, the model's backbone takes the usual right-padded batch and gives the usual hidden states, but
runs the rows as one tree: a token is a node, known by all tokens before it and itself. The system preamble is so run
once a batch, a pair's prompt once for both of its replies, the frame of an attack once for all rows that carry it.
Linear layers, norms and activations see the nodes only; for attention, keys, values and queries are laid out in rows
again, and what rows share sums its gradients there. Loss and gradients are those of the plain forward
(tests/test_train_speed.py). After prefix sharing in DPO (2410.20305), which shares a pair's prompt by a mask; ours
shares whatever is alike, in SFT too, and needs no mask, since right-padded rows are plainly causal.

Only for models that give the same hidden states both ways, which is tried before the first batch; others run as they
are, and so do batches with sliding windows shorter than their rows, or inputs beyond tokens.
"""
# pyright: basic
# (transformers' models are half untyped)

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

ATTENTION = "breakfix_once"  # the name under which transformers knows `_attend`
SHORT = 256  # tokens of the longest row, up to which `_short` attends
TOLERANCE = 1e-3  # of the largest hidden state, float32
_same: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()  # backbone → whether both ways agree


@dataclass(frozen=True, slots=True)
class Tree:
    """Rows as paths from a common root. `rows` × `width` is the padded batch, its places counted row by row."""

    rows: int
    width: int
    tokens: torch.Tensor  # [nodes], ids, in the order of the rows
    positions: torch.Tensor  # [nodes], distance from the root
    node: torch.Tensor  # [rows * width], the node at each place; 0 where there is padding
    place: torch.Tensor  # [nodes], the first place of each node
    places: torch.Tensor  # all places without padding, node by node
    starts: torch.Tensor  # [nodes], where each node's begin in `places`

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], device: Any = None) -> Tree:
        """Rows of token ids, none of them empty."""
        known: dict[tuple[int, int], int] = {}
        tokens: list[int] = []
        positions: list[int] = []
        found: list[list[int]] = []
        width = max(map(len, rows))
        node = [0] * (len(rows) * width)
        for i, row in enumerate(rows):
            at = -1
            for position, token in enumerate(row):
                at = known.setdefault((at, token), len(tokens))
                if at == len(tokens):
                    tokens.append(token)
                    positions.append(position)
                    found.append([])
                node[i * width + position] = at
                found[at].append(i * width + position)
        starts = [0]
        for places in found[:-1]:
            starts.append(starts[-1] + len(places))
        numbers = (tokens, positions, node, [p[0] for p in found], [at for p in found for at in p], starts)
        return cls(len(rows), width, *(torch.tensor(n, device=device) for n in numbers))

    def to_rows(self, x: torch.Tensor) -> torch.Tensor:
        """[1, heads, nodes, dim] → [rows, heads, width, dim]; padding holds the first node's."""
        _, heads, nodes, dim = x.shape
        laid: Any = _ToRows.apply(x.transpose(1, 2).reshape(nodes, heads * dim), self)
        return laid.view(self.rows, self.width, heads, dim).transpose(1, 2)

    def to_nodes(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, width, heads, dim] → [1, nodes, heads, dim]; rows agree where they share a node."""
        laid: Any = _ToNodes.apply(x.reshape(self.rows * self.width, -1), self)
        return laid.view(1, -1, *x.shape[2:])


class _ToRows(torch.autograd.Function):
    """Nodes [nodes, n] → places [rows * width, n]. A node's gradient is the sum of its places'."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, tree: Tree) -> torch.Tensor:  # type: ignore[override]
        ctx.tree = tree
        return x.index_select(0, tree.node)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        tree: Tree = ctx.tree
        # many times sooner on a CPU than index_select's own backward, which adds one row after the other
        return torch.nn.functional.embedding_bag(tree.places, grad.contiguous(), tree.starts, mode="sum"), None


class _ToNodes(torch.autograd.Function):
    """Places [rows * width, n] → nodes [nodes, n], each from its first place."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, tree: Tree) -> torch.Tensor:  # type: ignore[override]
        ctx.tree = tree
        return x.index_select(0, tree.place)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        tree: Tree = ctx.tree
        return grad.new_zeros(tree.rows * tree.width, grad.shape[1]).index_copy_(0, tree.place, grad), None


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, *, tree: Tree, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Row by row: causal, without padding's mask. transformers' own attention, or for short rows on a CPU `_short`."""
    q, k, v = tree.to_rows(query), tree.to_rows(key), tree.to_rows(value)
    if tree.width <= SHORT and q.device.type == "cpu" and not kwargs.get("dropout"):
        return tree.to_nodes(_short(q, k, v, kwargs.get("scaling"))), None
    rows, _ = sdpa_attention_forward(module, q, k, v, None, **kwargs)
    return tree.to_nodes(rows), None


def _short(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None) -> torch.Tensor:
    """Causal attention by plain products. q [rows, heads, width, dim], k and v [rows, fewer heads, width, dim] →
    [rows, width, heads, dim].

    torch's fused kernel is made for long rows: at 16 rows of 65 tokens its backward takes ten times as long.
    Heads that share keys are one product. What it keeps grows with the square of the width, hence `SHORT`.
    """
    rows, heads, width, dim = q.shape
    held, by = k.shape[1], heads // k.shape[1]
    q = (q * (dim**-0.5 if scale is None else scale)).reshape(rows * held, by * width, dim)
    later = torch.full((width, width), -torch.inf, dtype=q.dtype).triu(1).repeat(by, 1)
    scores = torch.baddbmm(later, q, k.reshape(rows * held, width, dim).transpose(1, 2))
    found = torch.bmm(scores.softmax(-1).to(v.dtype), v.reshape(rows * held, width, v.shape[-1]))
    return found.view(rows, heads, width, -1).transpose(1, 2)


AttentionInterface.register(ATTENTION, _attend)


@contextlib.contextmanager
def once(model: Any) -> Generator[None]:
    """Within: `model` runs every distinct token of a batch once, where that is exact."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone = inner.base_model
    own = vars(backbone).get("forward")
    stock = backbone.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if args or not _agree(backbone, stock) or (rows := _rows(backbone, kwargs)) is None:
            return stock(*args, **kwargs)
        tree = Tree.of(rows, kwargs["input_ids"].device)
        others = {name: value for name, value in kwargs.items() if name not in ("input_ids", "attention_mask")}
        return _run(backbone, stock, tree, kwargs["input_ids"].shape[1], others)

    backbone.forward = forward
    try:
        yield
    finally:
        if own is None:
            del backbone.forward
        else:
            backbone.forward = own


def _run(backbone: Any, stock: Any, tree: Tree, width: int, kwargs: dict[str, Any]) -> Any:
    """The backbone's output on `tree`, with hidden states [rows, width, hidden]; padding holds anything."""
    config = backbone.config
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        output = stock(input_ids=tree.tokens[None], position_ids=tree.positions[None], tree=tree, **kwargs)
    finally:
        config._attn_implementation = before
    hidden: Any = _ToRows.apply(output.last_hidden_state[0], tree)
    hidden = hidden.view(tree.rows, tree.width, -1)
    output.last_hidden_state = torch.nn.functional.pad(hidden, (0, 0, 0, width - tree.width))
    return output


def _rows(backbone: Any, inputs: dict[str, Any]) -> list[list[int]] | None:
    """The batch without its padding, if it can be run as a tree and there is anything to save."""
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    if any(v is not None and v is not False for k, v in inputs.items() if k not in ("input_ids", "attention_mask")):
        return None
    if ids is None or mask is None or ids.dim() != 2 or mask.shape != ids.shape or len(ids) < 2:
        return None
    config = backbone.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if any(window is not None and ids.shape[1] > window for window in windows):
        return None
    lengths = mask.sum(1)
    if not bool(((torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]) == mask.bool()).all()):
        return None  # padded on the left
    if not int(lengths.min()):
        return None
    return [row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]


def _agree(backbone: Any, stock: Any) -> bool:
    """Whether the model's hidden states are the same both ways: three short rows, in float32, once a model."""
    if backbone not in _same:
        _same[backbone] = backbone.config._attn_implementation == "sdpa" and _try(backbone, stock)
    return _same[backbone]


def _try(backbone: Any, stock: Any) -> bool:
    rows = [[5, 6, 7, 8, 9, 10, 11, 12], [5, 6, 7, 13, 14, 15], [5, 6, 7, 8, 16]]
    width = max(map(len, rows))
    device = backbone.device
    ids = torch.tensor([row + [5] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    training = [module for module in backbone.modules() if module.training]
    backbone.eval()  # dropout would tell them apart
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            plain = stock(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            shared = _run(backbone, stock, Tree.of(rows, device), width, {"use_cache": False}).last_hidden_state
    except Exception:  # a model of another kind: whatever it can't do, it is run as it is
        return False
    finally:
        for module in training:
            module.training = True
    real = mask.bool()
    return bool((plain - shared)[real].abs().max() <= TOLERANCE * plain[real].abs().max())
