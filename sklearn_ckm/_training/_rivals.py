"""Starts of the centres in one network that compete: the better at half of the epochs goes on."""

import copy
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from sklearn.metrics import adjusted_rand_score

from ..utils._random import torch_seed
from ._divergence import DivergenceError
from ._inference import distances_in_blocks
from ._phases import set_centers
from ._state import restore_state, set_trained_parameters, take_state, trained_parameters


@dataclass(frozen=True)
class Start:
    """A way to begin the fine-tuning.

    Attributes
    ----------
    init : str or None
        How the centres were placed; None where an earlier fit left them.
    labels : Tensor of shape (n_target,)
        Nearest centre of each target row.
    state : dict of str to Tensor
        State of the model, with the centres; empty where there is no other start.
    """

    init: str | None
    labels: torch.Tensor
    state: dict[str, Any] = field(default_factory=dict)


def place_starts(model, z, positions, temperature):
    """Give a model centres, for each start anew; it ends with those of the last one.

    Parameters
    ----------
    model : ClusteringModel
        Changed in place.
    z : Tensor of shape (n_target, n_components)
        Target embeddings.
    positions : dict of str to Tensor of shape (n_clusters, n_components)
        Where the centres of each start are.
    temperature : float or "auto"
        That of the centres.

    Returns
    -------
    starts : list of Start
        Those that divide the rows otherwise than the ones before.
    """
    starts = []
    for init, centers in positions.items():
        labels = distances_in_blocks(z, centers.to(z)).argmin(1)
        if any(_divide_alike(labels, start.labels) for start in starts):
            continue
        labels = set_centers(model, z, centers, temperature)
        state = copy.deepcopy(model.state_dict()) if len(positions) > 1 else {}
        starts.append(Start(init, labels, state))
    return starts


def _divide_alike(labels, others):
    return adjusted_rand_score(labels.cpu().numpy(), others.cpu().numpy()) == 1


def train_best(starts, make_net, model, *, max_epochs, seed, device):
    """Train from two starts until one can see which is the better, and that one to its end.

    It goes on from where it was, as if there had been no other. The second one has to train without
    a divergence.

    Parameters
    ----------
    starts : list of Start
        Two.
    make_net : callable
        Makes the net and the batches of a start, of which the model has the state.
    model : ClusteringModel
        Trained in place.
    max_epochs : int
        Number of epochs.
    seed : int
        Seed of whatever is random in the network.
    device : torch.device
        Where to train.

    Returns
    -------
    net : FineTuningNet
        Trained. The first one, where it stopped before starts could be compared.
    """
    n_epochs = n_epochs_until_compared(max_epochs)
    is_trained = trained_parameters(model)
    begun = []

    def begin(start):
        model.load_state_dict(start.state)
        start.state.clear()
        set_trained_parameters(model, is_trained)  # callbacks of another start may have frozen some
        begun.append(_Training(*make_net(start), seed, device))
        return begun[-1]

    try:
        better = begin(starts[0])
        better.run(n_epochs)
        if better.net.stop_reason in (None, "converged"):
            better = _compare(better, begin(starts[1]), n_epochs)
            begun[:] = [better]
            better.run(max_epochs)
        better.end()
    except BaseException:
        for training in sorted(begun, key=lambda t: t.state is not None):  # the one at work first
            with suppress(Exception):  # what is under way tells more
                training.end()
        raise
    return better.net


def _compare(first, second, n_epochs):
    """Train the second as far as the first, end the poorer one, and return the better one."""
    second.net.may_slow_down = False  # at a tenth of the rate it would be another fit
    with suppress(DivergenceError):
        second.run(n_epochs)
    second.net.may_slow_down = True
    left = [
        left_to_minimize(training.net.history[n_epochs - 1])
        if len(training.net.history) >= n_epochs
        else inf
        for training in (first, second)
    ]
    better, other = (second, first) if left[1] < left[0] else (first, second)
    if second.net.stop_reason == "interrupted":
        first.state["stop_reason"] = "interrupted"
    if better.net.verbose:
        print(
            f"Going on from {better.net.init}: {min(left):.4g} left to minimize, "
            f"{max(left):.4g} from {other.net.init}."
        )
    other.end()
    return better


class _Training:
    """One start, trained in parts, between which the model may have the state of another."""

    def __init__(self, net, batches, seed, device):
        self.net, self.batches, self.seed, self.device = net, batches, seed, device
        self.state, self.is_begun, self.is_over = None, False, False

    def run(self, n_epochs):
        """Train until so many epochs are done, or there is a reason to stop."""
        with torch_seed(self.seed, self.device):
            self._restore()
            if not self.is_begun:
                self.net.notify("on_train_begin", X=self.batches, y=None)
                self.is_begun = True
            self.net.fit_loop(self.batches, epochs=n_epochs - len(self.net.history))
            self.state = take_state(self.net, self.batches)

    def end(self):
        """Tell the callbacks, once."""
        if self.is_begun and not self.is_over:
            self.is_over = True
            with torch_seed(self.seed, self.device):
                self._restore()
                self.net.notify("on_train_end", X=self.batches, y=None)

    def _restore(self):
        """Give the model, and the global generators, the state after the last part."""
        if self.state is not None:
            restore_state(self.net, self.batches, self.state)
            self.state = None


def n_epochs_until_compared(max_epochs):
    """Epochs of which the last is the first one with assignments as sharp as at the end."""
    return min((max_epochs + 1) // 2 + 1, max_epochs)


def left_to_minimize(epoch):
    """What views and labelled rows leave to minimise: what trained nets are compared by.

    The other terms of the loss depend on the scale of the embedding. The weights are left out:
    without one on the balance, all rows in one cluster would be the best of all.
    """
    return sum(epoch.get(term, 0.0) for term in ("consistency", "balance", "kshot"))
