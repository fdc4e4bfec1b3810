"""Starts of the fine-tuning that compete: the better at half of the epochs goes on."""

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
from ._phases import Pretrained, set_centers
from ._state import restore_state, set_trained_parameters, take_state, trained_parameters

_COMPARED = "consistency", "balance", "source_consistency", "source_balance", "kshot"


@dataclass(frozen=True, eq=False)
class Start:
    """Where the fine-tuning begins: a pretrained network, and centres in its embedding.

    Attributes
    ----------
    pretrained : Pretrained
        The network; starts may share one.
    init : str or None
        How the centres were placed; None where an earlier fit left them.
    labels : Tensor of shape (n_target,)
        Nearest centre of each target row.
    state : dict of str to Tensor
        State of the model, with the centres; empty where no other start has this network.
    is_trained : dict of str to bool
        Which parameters of the model are trained.
    """

    pretrained: Pretrained
    init: str | None
    labels: torch.Tensor
    state: dict[str, Any] = field(default_factory=dict)
    is_trained: dict[str, bool] = field(default_factory=dict)

    @property
    def learned(self):
        """What an estimator tells of it; how it began, only where no earlier fit did."""
        told = {} if self.init is None else {"init_": self.init}
        if self.pretrained.has_source is not None:
            is_taught = self.pretrained.follows_classes
            told["pretraining_"] = "classification" if is_taught else "reconstruction"
            told["source_in_pretraining_"] = self.pretrained.has_source
        return told

    def take_up(self):
        """Give the model the state of this start."""
        if self.state:
            self.pretrained.model.load_state_dict(self.state)
            self.state.clear()
            # callbacks of another start may have frozen some
            set_trained_parameters(self.pretrained.model, self.is_trained)

    def __str__(self):
        network = " without the source" if self.pretrained.has_source is False else ""
        if self.pretrained.follows_classes:
            network = " in the network of the source's classes"
        return f"{self.init}{network}"


def place_starts(pretrained, z, positions, temperature):
    """Give a pretrained model centres, for each start anew; it ends with those of the last one.

    Parameters
    ----------
    pretrained : Pretrained
        Its model is changed in place.
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
    starts, model = [], pretrained.model
    for init, centers in positions.items():
        labels = distances_in_blocks(z, centers.to(z)).argmin(1)
        if any(divide_alike(labels, start.labels) for start in starts):
            continue
        labels = set_centers(model, z, centers, temperature)
        state = copy.deepcopy(model.state_dict()) if len(positions) > 1 else {}
        starts.append(Start(pretrained, init, labels, state, trained_parameters(model)))
    return starts


def divide_alike(labels, others):
    """Whether two starts put the same target rows together."""
    return adjusted_rand_score(labels.cpu().numpy(), others.cpu().numpy()) == 1


def train_best(starts, make_net, *, max_epochs, seed, device):
    """Train from several starts until one can see which is the best, and that one to its end.

    It goes on from where it was, as if there had been no other. All but the first one have to train
    without a divergence.

    Parameters
    ----------
    starts : iterable of Start
        Two or more; a further one may have to be pretrained first.
    make_net : callable
        Makes the net and the batches of a start, for the state that its model has.
    max_epochs : int
        Number of epochs.
    seed : int
        Seed of whatever is random in the network.
    device : torch.device
        Where to train.

    Returns
    -------
    net : FineTuningNet
        Trained.
    start : Start
        What it came from: the first one, where it stopped before starts could be compared.
    """
    n_epochs = n_epochs_until_compared(max_epochs)
    starts, begun = iter(starts), []

    def begin(start):
        start.take_up()
        begun.append(_Training(start, *make_net(start), seed, device))
        return begun[-1]

    try:
        best = begin(next(starts))
        best.run(n_epochs)
        while best.stop_reason in (None, "converged"):
            try:
                start = next(starts, None)
            except KeyboardInterrupt:
                best.state["stop_reason"] = "interrupted"
                break
            if start is None:
                break
            best = _compare(best, begin(start), n_epochs)
            begun[:] = [best]  # the other's memory is free
        best.run(max_epochs)
        best.end()
    except BaseException:
        for training in sorted(begun, key=lambda t: t.state is not None):  # the one at work first
            with suppress(Exception):  # what is under way tells more
                training.end()
        raise
    return best.net, best.start


def _compare(best, other, n_epochs):
    """Train another one as far as the best so far, end the poorer, and return the better."""
    other.net.may_slow_down = False  # at a tenth of the rate it would be another fit
    with suppress(DivergenceError):
        other.run(n_epochs)
    other.net.may_slow_down = True
    left = [
        left_to_minimize(training.net.history[n_epochs - 1])
        if len(training.net.history) >= n_epochs
        else inf
        for training in (best, other)
    ]
    better, poorer = (other, best) if left[1] < left[0] else (best, other)
    if other.stop_reason == "interrupted":
        best.state["stop_reason"] = "interrupted"
    if better.net.verbose:
        print(
            f"Going on from {better.start}: {min(left):.4g} left to minimize, "
            f"{max(left):.4g} from {poorer.start}."
        )
    poorer.end()
    return better


class _Training:
    """One start, trained in parts, between which the model may have the state of another."""

    def __init__(self, start, net, batches, seed, device):
        self.start, self.net, self.batches = start, net, batches
        self.seed, self.device = seed, device
        self.state, self.is_begun, self.is_over = None, False, False

    @property
    def stop_reason(self):
        """Why it stopped, if it did."""
        return self.net.stop_reason if self.state is None else self.state["stop_reason"]

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
    return sum(epoch.get(term, 0.0) for term in _COMPARED)
