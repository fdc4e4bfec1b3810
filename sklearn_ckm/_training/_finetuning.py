"""The fine-tuning of a fit: centres are placed, in one way or in several that compete, and trained.

Eqs. 4 and 8.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from ..utils._random import phase_seed, torch_seed
from ._criteria import JointCriterion
from ._divergence import DivergenceError
from ._inference import distances_in_blocks, embed_training_rows
from ._phases import TrainingData, start_finetuning
from ._rivals import Start, divide_alike, place_starts, train_best

_PHASES = (  # of the training from each start: name of the checkpoint, description
    ("finetune", "fine-tuning"),
    ("second-start", "second start"),
    ("third-start", "third start"),
    ("fourth-start", "fourth start"),
)


@dataclass(frozen=True)
class OtherNetwork:
    """A further network, in which the last way to place centres competes with those in the first.

    Attributes
    ----------
    pretrain : callable
        Called with the settings and the seed of a fit; returns it, a :class:`Pretrained`.
    needs_doubt : bool
        Whether it is made only where the starts in the first network divide the rows in several
        ways, and competes only where it divides them in yet another one.
    """

    pretrain: Callable
    needs_doubt: bool


@dataclass(frozen=True)
class FineTuning:
    """What the fine-tunings of a fit have in common, whatever their weights.

    Attributes
    ----------
    data : TrainingData
        Both domains.
    make_criterion : callable
        Called with ``follows_classes``; returns the :class:`JointCriterion` of such networks.
    place_centers : callable
        Called with the target embeddings, the data, a number of centres, a seed and one of `inits`;
        returns the positions of the centres.
    inits : list of str
        How centres start.
    temperature : float or "auto"
        That of the centres.
    max_epochs : int
        Number of epochs.
    net_kwargs : dict
        Further arguments of :func:`start_finetuning`.
    others : tuple of OtherNetwork
        They compete with the network at hand.
    """

    data: TrainingData
    make_criterion: Callable[..., JointCriterion]
    place_centers: Callable
    inits: list[str]
    temperature: Any
    max_epochs: int
    net_kwargs: dict[str, Any]
    others: tuple[OtherNetwork, ...] = ()

    @property
    def most_phases(self):
        """How many phases a run may take, the pretraining of further networks among them."""
        return len(self.inits) + 2 * len(self.others)

    def run(self, pretrained, settings, seed, *, n_clusters):
        """Place the centres, unless an earlier fit left some, and train everything together.

        Parameters
        ----------
        pretrained : Pretrained
            Its model is trained in place.
        settings : TrainingSettings
            Settings of the fit.
        seed : int
            Seed of the fit, or of a further start.
        n_clusters : int
            Number of centres, if an earlier fit left none.

        Returns
        -------
        net : FineTuningNet
            Trained.
        start : Start
            What it came from.
        """
        place = partial(self._place_starts, n_clusters=n_clusters, settings=settings, seed=seed)
        starts = place(pretrained, self.inits)
        phases = iter(_PHASES)

        def make_net(start):
            return self._make_net(start, *next(phases), settings, seed)

        dropout_seed = phase_seed(seed, "dropout")
        others = [other for other in self.others if len(starts) > 1 or not other.needs_doubt]
        if len(starts) > 1 or others:
            return train_best(
                chain(starts, self._further_starts(others, starts, place, settings, seed)),
                make_net,
                max_epochs=self.max_epochs,
                seed=dropout_seed,
                device=settings.device,
            )
        (start,) = starts
        start.take_up()
        net, batches = make_net(start)
        with torch_seed(dropout_seed, settings.device):
            return net.partial_fit(batches, epochs=self.max_epochs), start

    def _place_starts(self, pretrained, inits, *, n_clusters, settings, seed):
        """Starts in one network: its centres in several ways, or those of an earlier fit."""
        model = pretrained.model
        phase = "pretrain" if model.centers is None else "finetune"
        z = embed_training_rows(
            model, self.data.target, settings.device, phase=phase, lr=settings.lr
        )
        if model.centers is not None:
            if pretrained.follows_classes:
                model.centers.keep_temperature()
            labels = distances_in_blocks(z, model.centers.positions.detach()).argmin(1)
            return [Start(pretrained, None, labels)]
        seed = phase_seed(seed, "finetune")
        positions = {
            init: self.place_centers(z, self.data, n_clusters, seed, init) for init in inits
        }
        starts = place_starts(pretrained, z, positions, self.temperature)
        if pretrained.follows_classes:
            model.centers.keep_temperature()
        return starts

    def _further_starts(self, others, starts, place, settings, seed):
        """Those in other networks, each of which is pretrained when its start is wanted."""
        divisions = [start.labels for start in starts]
        for other in others:
            try:
                placed = place(other.pretrain(settings, seed), self.inits[-1:])
            except DivergenceError:
                continue
            for start in placed:
                is_new = not any(divide_alike(start.labels, labels) for labels in divisions)
                if is_new or not other.needs_doubt:  # another loss leads elsewhere from there
                    divisions.append(start.labels)
                    yield start

    def _make_net(self, start, phase, description, settings, seed):
        """Net and batches of a start, for the state that its model has."""
        settings.tasks.start = start
        network = start.pretrained
        net, batches = start_finetuning(
            network.model,
            self.data,
            settings,
            seed=phase_seed(seed, "finetune"),
            description=description,
            criterion=self.make_criterion(follows_classes=network.follows_classes),
            labels=start.labels,
            init=start.init,
            has_source=network.has_source,
            optimizer_state=copy.deepcopy(network.optimizer_state),  # training moves it
            max_epochs=self.max_epochs,
            **self.net_kwargs,
        )
        net.checkpoint = settings.phase_checkpoint(phase)
        return net, batches
