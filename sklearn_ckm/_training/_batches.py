"""Batches of both domains: tensors on the device, drawn by index."""

from itertools import repeat
from math import ceil
from typing import NamedTuple

import numpy as np
import torch

_MOST_SHOTS = 256  # labelled target rows in a batch
_BATCHES_PER_EPOCH = 64  # wanted by batch_size="auto", within these limits of its size
_BATCH_LIMITS = 32, 256


def resolve_batch_size(batch_size, *n_rows):
    """Rows of each domain in a batch.

    Parameters
    ----------
    batch_size : int or "auto"
        The parameter of an estimator.
    *n_rows : int
        How many rows each domain has.

    Returns
    -------
    batch_size : int
    """
    if batch_size != "auto":
        return int(batch_size)
    return int(np.clip(max(n_rows) // _BATCHES_PER_EPOCH, *_BATCH_LIMITS))


class Batch(NamedTuple):
    """One batch: rows of the source, of the target, and labelled rows of the target again.

    Attributes
    ----------
    x : Tensor of shape (n_source + n_target + n_shots, *input_shape)
        float32 inputs.
    n_source : int
        How many of the rows are source.
    y : Tensor of shape (n_source,) or None
        Class indices of the source rows, -1 where unlabelled.
    target_index : Tensor of shape (n_target,)
        Where the target rows stand in the target data.
    y_shots : Tensor of shape (n_shots,) or None
        Class indices of the labelled target rows that stand last; None where there are none.
    """

    x: torch.Tensor
    n_source: int
    y: torch.Tensor | None
    target_index: torch.Tensor
    y_shots: torch.Tensor | None = None

    @property
    def n_rows(self):
        """How many rows of both domains come before the labelled ones."""
        return self.n_source + len(self.target_index)


def as_float(x):
    """Return a batch as float32; bytes become values in [0, 1]."""
    return x.to(torch.float32).mul_(1 / 255) if x.dtype == torch.uint8 else x


class DomainBatches:
    """Iterator over batches that hold both domains.

    An epoch passes once over the larger domain; the smaller one starts anew, in a new order, as
    often as that takes. All batches of an epoch have the same size, `batch_size` rows of each
    domain or all its rows where there are fewer: the last batch is filled up from the next
    permutation. Indices are drawn on the device and each domain is gathered once a batch.

    Parameters
    ----------
    X_target : Tensor of shape (n_target, *input_shape)
        Target inputs on the device, float32 or uint8.
    X_source : Tensor of shape (n_source, *input_shape) or None, default=None
        Source inputs on the same device.
    y_source : Tensor of shape (n_source,) or None, default=None
        Class indices, -1 where unlabelled.
    y_target : Tensor of shape (n_target,) or None, default=None
        Class indices, -1 where unlabelled. Every batch holds all labelled target rows besides, or
        256 of them, drawn like the others, where there are more. Where they are fewer than half of
        the target, they are not drawn among the other target rows as well.
    batch_size : int, default=256
        Rows of each domain in a batch.
    is_balanced : bool, default=False
        Draw the labelled source rows with replacement such that every class is as likely.
    draws_source : bool, default=True
        Whether source rows are drawn. If not, an epoch has as many batches as if they were.
    generator : torch.Generator
        Source of the order, on the device of the data.
    """

    def __init__(
        self,
        X_target,
        X_source=None,
        y_source=None,
        y_target=None,
        *,
        batch_size=256,
        is_balanced=False,
        draws_source=True,
        generator=None,
    ):
        self.X_target = X_target
        self.X_source = X_source if draws_source else None
        self.y_source = y_source if draws_source else None
        self.generator = generator
        self.y_target = y_target
        self.shots, self.pool = _split_labelled(X_target, y_target)
        sizes = [len(self.pool)] + ([] if X_source is None else [len(X_source)])
        self.n_target_batch = min(batch_size, len(self.pool))
        self.n_source_batch = 0 if self.X_source is None else min(batch_size, len(X_source))
        self.n_batches = max(ceil(n / min(batch_size, n)) for n in sizes)
        self._source_cdf = None
        if is_balanced and self.y_source is not None:
            self._source_cdf = _balanced_cdf(y_source)

    def __len__(self):
        return self.n_batches

    @property
    def device(self):
        """Where the data are, and so the batches."""
        return self.X_target.device

    def __iter__(self):
        target_index = self.pool[self._permutations(len(self.pool), self.n_target_batch)]
        source_index = repeat(None) if self.X_source is None else self._source_index()
        shots = self._shot_index()
        for index_s, index_t, index_l in zip(source_index, target_index, shots, strict=False):
            n_source = 0 if index_s is None else len(index_s)
            parts = [self.X_target[index_t]]
            if n_source:
                parts.insert(0, self.X_source[index_s])
            if index_l is not None:
                parts.append(self.X_target[index_l])
            x = torch.cat(parts) if len(parts) > 1 else parts[0]
            yield Batch(
                as_float(x),
                n_source,
                None if self.y_source is None else self.y_source[index_s],
                index_t,
                None if index_l is None else self.y_target[index_l],
            )

    def _permutations(self, n_rows, n_drawn):
        """Row indices of every batch of an epoch, (n_batches, n_drawn)."""
        n_total = self.n_batches * n_drawn
        orders = [
            torch.randperm(n_rows, generator=self.generator, device=self.device)
            for _ in range(ceil(n_total / n_rows))
        ]
        return torch.cat(orders)[:n_total].view(self.n_batches, n_drawn)

    def _source_index(self):
        if self._source_cdf is None:
            return self._permutations(len(self.X_source), self.n_source_batch)
        shape = (self.n_batches, self.n_source_batch)
        uniform = torch.rand(
            shape, generator=self.generator, device=self.device, dtype=torch.float64
        )
        return torch.searchsorted(self._source_cdf, uniform).clamp_max_(len(self.X_source) - 1)

    def _shot_index(self):
        """Labelled target rows of every batch of an epoch."""
        if not len(self.shots):
            return repeat(None)
        if len(self.shots) <= _MOST_SHOTS:
            return repeat(self.shots)
        return self.shots[self._permutations(len(self.shots), _MOST_SHOTS)]


def _split_labelled(X, y):
    """Indices of the labelled rows, and of the rows to draw from: few labelled ones are left out.

    Where half of the rows or more are labelled, the others are too few to stand for the domain.
    """
    rows = torch.arange(len(X), device=X.device)
    if y is None:
        return rows[:0], rows
    labelled, others = rows[y >= 0], rows[y < 0]
    return labelled, others if len(others) > len(labelled) else rows


def _balanced_cdf(y):
    """Cumulative probability of the rows: classes equally likely, unlabelled rows as they are."""
    device, y = y.device, y.cpu()  # cumulative sums on CUDA are not reproducible
    is_labelled = y >= 0
    counts = torch.bincount(y[is_labelled])
    n_classes = (counts > 0).sum()
    weights = torch.ones(len(y), dtype=torch.float64, device=y.device)
    per_row = is_labelled.sum() / (n_classes * counts.clamp_min(1).double())  # (n_classes,)
    weights[is_labelled] = per_row[y[is_labelled]]
    return (weights.cumsum(0) / weights.sum()).to(device)
