"""Two starts of the centres in one network: the better of them at half of the epochs goes on."""

import copy
from dataclasses import dataclass, replace
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from ..utils._random import torch_seed
from ..utils._warnings import ignored_warnings
from ._divergence import DivergenceError
from ._inference import distances_in_blocks
from ._state import restore_state, take_state


@dataclass(frozen=True)
class Rival:
    """A start that was trained until it could be compared.

    Attributes
    ----------
    state : dict
        From :func:`take_state`.
    history : list of dict
        Its epochs, as skorch has them.
    """

    state: dict[str, Any]
    history: list

    def meet(self, net, batches):
        """Let a net go on from the rival's state, where that has less left to minimise.

        The net has trained for as many epochs. It keeps what belongs to its callbacks: learning
        rates, and which parameters are frozen.

        Parameters
        ----------
        net : FineTuningNet
            Changed in place, its history included.
        batches : DomainBatches
            What it trains on; changed in place.
        """
        if left_to_minimize(self.history[-1]) >= left_to_minimize(net.history[-1]):
            return
        own = take_state(net, batches)
        net.history[:] = self.history
        groups = own["optimizer"]["param_groups"]
        optimizer = {**self.state["optimizer"], "param_groups": groups}
        kept = {name: own[name] for name in ("is_trained", "is_slowed")}
        if own["stop_reason"] != "converged":  # that was the start which is given up
            kept["stop_reason"] = own["stop_reason"]
        restore_state(net, batches, {**self.state, **kept, "optimizer": optimizer})


def train_rival(make_net, pretrained, settings, seed):
    """Train a start for as many epochs as it takes until starts can be compared.

    Parameters
    ----------
    make_net : callable
        Makes the net, with views, and its batches; takes further arguments of
        :func:`~sklearn_ckm._training._phases.start_finetuning`.
    pretrained : Pretrained
        With centres at that start. Left as it is.
    settings : TrainingSettings
        Settings of the fit. Callbacks see nothing of a rival.
    seed : int
        Seed of whatever is random in the network.

    Returns
    -------
    rival : Rival or None
        None where the training diverged, were it once, or was interrupted.
    """
    model, before = pretrained.model, copy.deepcopy(pretrained.model.state_dict())
    net, batches = make_net(
        settings=replace(settings, callbacks=None, tasks=None),
        optimizer_state=copy.deepcopy(pretrained.optimizer_state),
        description="fine-tuning, another start",
    )
    net.checkpoint = settings.phase_checkpoint("rival")
    n_epochs = n_epochs_until_compared(net.max_epochs)
    try:
        with ignored_warnings(ConvergenceWarning), torch_seed(seed, settings.device):
            net.partial_fit(batches, epochs=n_epochs)
            state = take_state(net, batches)
    except DivergenceError:
        return None
    finally:
        model.load_state_dict(before)
    is_sound = len(net.history) == n_epochs and not net.is_slowed
    return Rival(state, list(net.history)) if is_sound else None


def n_epochs_until_compared(max_epochs):
    """Epochs of which the last is the first one with assignments as sharp as at the end."""
    return min((max_epochs + 1) // 2 + 1, max_epochs)


def left_to_minimize(epoch):
    """What views and labelled rows leave to minimise: what trained nets are compared by.

    The other terms of the loss depend on the scale of the embedding. The weights are left out:
    without one on the balance, all rows in one cluster would be the best of all.
    """
    return sum(epoch.get(term, 0.0) for term in ("consistency", "balance", "kshot"))


def divide_differently(z, *starts):
    """Whether rows have other neighbours in their clusters around one start than around another."""
    labels = [
        distances_in_blocks(z, positions.to(z)).argmin(1).cpu().numpy() for positions in starts
    ]
    return adjusted_rand_score(*labels) < 1
