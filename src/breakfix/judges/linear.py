"""Linear models on vectors: multinomial logistic regression and ridge regression. Fitted with scipy, run with numpy.

A fitted model is a safetensors file with its settings and what it was fitted on in the header; nothing is executed
when it is read. Fitting is deterministic: it starts at zero and is a convex problem.
"""
# pyright: basic
# (scipy's minimize, numpy's solve and safetensors are half untyped)

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from breakfix.errors import AssetError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """`labels`: one an output, or () for a regression, whose one output is the value.

    Features [n, F] are centred on `mean` [F], multiplied by `scale` [F], then by `weights` [F, outputs]; `bias`
    [outputs]. `about`: everything else that is known of the model (JSON-able).
    """

    labels: tuple[str, ...]
    mean: Array
    scale: Array
    weights: Array
    bias: Array
    about: Mapping[str, Any]

    def outputs(self, features: Array) -> Array:
        """[n, outputs]: log-odds, or the value. A feature that is not known (nan) counts as an average one."""
        return np.nan_to_num((features - self.mean) * self.scale, nan=0.0) @ self.weights + self.bias

    def probabilities(self, features: Array) -> Array:
        """[n, labels], rows of sum 1."""
        return _softmax(self.outputs(features))

    def save(self, path: Path) -> None:
        """Weights as float32. The same model makes the same bytes."""
        from safetensors.numpy import save_file

        tensors = {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": self.bias}
        header = {"judge": json.dumps({"labels": self.labels, "about": self.about}, sort_keys=True)}
        save_file({name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()}, str(path), header)
        path.chmod(0o644)


def load(path: Path) -> Linear:
    """Raises AssetError where the file is not such a model."""
    from safetensors import SafetensorError, safe_open

    try:
        with cast("Any", safe_open)(str(path), framework="np") as file:
            judge = cast("dict[str, Any]", json.loads((file.metadata() or {})["judge"]))
            tensor = {name: file.get_tensor(name).astype(np.float64) for name in ("mean", "scale", "weights", "bias")}
        return Linear(tuple(judge["labels"]), **tensor, about=judge["about"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise AssetError(f"{path}: not the weights of a judge ({error}); install breakfix again") from None


def standard(features: Array, blocks: Sequence[tuple[int, float]]) -> tuple[Array, Array]:
    """(mean, scale) of the features, over rows where they are known.

    `blocks`: (width, weight) in order. A block of width 1 gets variance weight², a wider one has that in all.
    """
    mean = np.nanmean(features, axis=0)
    variance = np.nanvar(features, axis=0)
    scale, at = np.zeros_like(mean), 0
    for width, weight in blocks:
        total = float(variance[at : at + width].sum())
        scale[at : at + width] = weight / np.sqrt(total) if total > 1e-12 else 0.0
        at += width
    return mean, scale


def fit_labels(
    features: Array,
    told: Sequence[str],
    labels: Sequence[str],
    blocks: Sequence[tuple[int, float]],
    *,
    l2: float,
    counts: Sequence[float] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Linear:
    """Minimise the mean of -ln p(label) + l2/2 |weights|². `counts`: how much each row counts (default 1)."""
    from scipy.optimize import minimize

    mean, scale = standard(features, blocks)
    x = np.nan_to_num((features - mean) * scale, nan=0.0)
    y = np.zeros((len(told), len(labels)))
    y[np.arange(len(told)), [labels.index(label) for label in told]] = 1
    row = np.ones(len(told)) if counts is None else np.asarray(counts, np.float64)
    row = (row / row.sum())[:, None]
    shape = (x.shape[1] + 1, len(labels))

    def loss(flat: Array) -> tuple[float, Array]:
        w = flat.reshape(shape)
        p = _softmax(x @ w[:-1] + w[-1])
        wrong = row * (p - y)
        gradient = np.concatenate([x.T @ wrong + l2 * w[:-1], wrong.sum(0, keepdims=True)])
        value = -float((row * y * np.log(p + 1e-12)).sum()) + l2 / 2 * float((w[:-1] ** 2).sum())
        return value, gradient.ravel()

    found = cast("Any", minimize)(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    w = found.x.reshape(shape)
    return Linear(tuple(labels), mean, scale, w[:-1], w[-1], about or {})


def fit_value(
    features: Array,
    told: Sequence[float],
    blocks: Sequence[tuple[int, float]],
    *,
    l2: float,
    counts: Sequence[float] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Linear:
    """Ridge regression: the mean of (value - told)² + l2 |weights|², solved in the smaller of rows and features."""
    mean, scale = standard(features, blocks)
    x = np.nan_to_num((features - mean) * scale, nan=0.0)
    row = np.ones(len(told)) if counts is None else np.asarray(counts, np.float64)
    row = row / row.sum()
    y = np.asarray(told, np.float64)
    middle, level = row @ x, float(row @ y)
    root = np.sqrt(row)[:, None]
    a, b = root * (x - middle), root[:, 0] * (y - level)
    if len(a) < a.shape[1]:
        w = a.T @ np.linalg.solve(a @ a.T + l2 * np.eye(len(a)), b)
    else:
        w = np.linalg.solve(a.T @ a + l2 * np.eye(a.shape[1]), a.T @ b)
    return Linear((), mean, scale, w[:, None], np.array([level - float(middle @ w)]), about or {})


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
