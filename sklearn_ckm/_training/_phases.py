"""The phases of a fit as functions: pretrain, start the centres, fine-tune."""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.linalg import cholesky, solve_triangular
from sklearn.cluster import KMeans
from sklearn.covariance import shrunk_covariance
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Checkpoint as SkorchCheckpoint
from skorch.callbacks import PrintLog
from torch.nn.functional import one_hot

from ..modules import Centers, ClusteringModel
from ..utils._random import make_generator, torch_seed
from ..utils._warnings import ignored_warnings
from ._batches import DomainBatches
from ._checkpoint import Checkpoint
from ._fit_tasks import FitTasks
from ._history import epoch_records
from ._inference import distances_in_blocks
from ._interrupts import HeldInterrupts
from ._nets import FineTuningNet, PhaseNet, PretrainingNet
from ._optimizers import named_state
from ._progress import EpochProgressBar

_KMEANS_STARTS = 20
_KMEANS_ROWS = 20_000  # k-means++ starts are compared on at most so many rows
_SHRINKAGE = 0.1  # of the covariance that whitens, so that unused directions stay small


@dataclass(frozen=True)
class TrainingData:
    """Both domains on the device.

    Attributes
    ----------
    target : Tensor of shape (n_target, *input_shape)
        float32 or uint8.
    source : Tensor of shape (n_source, *input_shape) or None
        float32 or uint8.
    y_source, y_target : Tensor of shape (n_source,) or (n_target,), or None
        Class indices, -1 where unlabelled; None where no row is labelled.
    """

    target: torch.Tensor
    source: torch.Tensor | None = None
    y_source: torch.Tensor | None = None
    y_target: torch.Tensor | None = None


@dataclass(frozen=True)
class TrainingSettings:
    """What the phases need to know of an estimator's parameters.

    Attributes
    ----------
    device : torch.device
        Where to train.
    lr : float
        Learning rate.
    batch_size : int
        Rows of each domain in a batch.
    optimizer : callable
        Makes an optimiser.
    precision : str
        "float32" or "bfloat16".
    callbacks : list or None
        skorch callbacks, copied for each phase.
    verbose : int
        0 silent, 1 a progress bar a phase, 2 a line an epoch.
    checkpoint : Checkpoint or None
        Where the state is kept.
    tasks : FitTasks or None
        What scikit-learn's callbacks are told of.
    interrupts : HeldInterrupts or None
        What the batches look at, where Ctrl-C is held back.
    start : int
        Which of several starts this is, from 0.
    """

    device: torch.device
    lr: float
    batch_size: int
    optimizer: Any
    precision: str = "float32"
    callbacks: list | None = None
    verbose: int = 0
    checkpoint: Checkpoint | None = None
    tasks: FitTasks | None = None
    interrupts: HeldInterrupts | None = None
    start: int = 0

    def phase_checkpoint(self, name):
        """Where the state of a phase is kept, or None."""
        if self.checkpoint is None:
            return None
        return self.checkpoint.of_phase(f"{name}-{self.start}" if self.start else name)

    def net_kwargs(self, seed, description):
        """Parameters of a net of one phase."""
        callbacks = [self._own(callback, description) for callback in self.callbacks or []]
        phase_task = None if self.tasks is None else self.tasks.of_phase(description)
        if phase_task is not None:
            callbacks.append(("phase_task", phase_task))
        if self.verbose == 1:
            callbacks.append(("progress_bar", EpochProgressBar(description)))
        elif self.verbose > 1:
            callbacks.append(("print_log", PrintLog()))
        return {
            "lr": self.lr,
            "optimizer": self.optimizer,
            "precision": self.precision,
            "device": str(self.device),
            "callbacks": callbacks,
            "verbose": int(self.verbose > 1),
            "generator": make_generator(seed, self.device),
            "interrupts": self.interrupts,
        }

    def _own(self, callback, description):
        """Copy a callback; a checkpoint of skorch gets files of its own, but in the fine-tuning."""
        own = _copied(callback)
        kept = own[-1] if isinstance(own, tuple) else own
        phase = "" if description == "fine-tuning" else f"{description.replace(' ', '-')}-"
        start = f"start-{self.start}-" if self.start else ""
        if isinstance(kept, SkorchCheckpoint) and own is not callback and phase + start:
            kept.fn_prefix = f"{phase}{start}{kept.fn_prefix or ''}"
        return own


@dataclass
class Pretrained:
    """Where the fine-tuning sets out.

    Attributes
    ----------
    model : ClusteringModel
        With a trained encoder; with centres if it is that of an earlier fit.
    history : list of dict
        Epochs of the pretraining.
    optimizer_state : dict of str to dict
        State of its optimiser, by parameter.
    has_source : bool or None
        Whether the source took part; None where there is none.
    follows_classes : bool
        Whether it has learned the source's classes in place of the reconstruction.
    """

    model: ClusteringModel
    history: list = field(default_factory=list)
    optimizer_state: dict = field(default_factory=dict)
    has_source: bool | None = None
    follows_classes: bool = False


def pretrain(
    model, data, settings, *, max_epochs, seed, has_source=True, criterion=None, is_balanced=False
):
    """Train the autoencoder of `model` in place on the reconstruction, or by another criterion.

    Parameters
    ----------
    model : ClusteringModel
        Trained in place.
    data : TrainingData
        Both domains.
    settings : TrainingSettings
        Settings of the fit.
    max_epochs : int
        Number of epochs.
    seed : int
        Seed of the batches, and of whatever is random in the network.
    has_source : bool or None, default=True
        Whether the source takes part, if there is one. Without it there are as many batches, of the
        target alone.
    criterion : nn.Module, default=None
        Another one than the reconstruction, which may read the source's labels.
    is_balanced : bool, default=False
        Whether that one sees the source's classes equally often.

    Returns
    -------
    history : list of dict
        One per epoch.
    optimizer_state : dict of str to dict
        State of the optimiser, by parameter.
    """
    if max_epochs == 0:
        return [], {}
    batches = DomainBatches(
        data.target,
        data.source,
        *(() if criterion is None else (data.y_source,)),
        is_balanced=is_balanced,
        draws_source=has_source is not False,
        batch_size=settings.batch_size,
        generator=make_generator(seed, settings.device),
    )
    phase, description = "pretrain", "pretraining"
    if has_source is False:
        phase, description = "pretrain-target", "pretraining of the target"
    if criterion is not None:
        phase, description = "pretrain-classes", "pretraining on classes"
    net = PretrainingNet(
        model,
        **({} if criterion is None else {"criterion": criterion}),
        max_epochs=max_epochs,
        has_source=has_source,
        checkpoint=settings.phase_checkpoint(phase),
        **settings.net_kwargs(seed, description),
    )
    with torch_seed(seed, settings.device):
        net.fit(batches)
    return epoch_records(net), named_state(net.optimizer_, net.module_)


def _copied(callback):
    """A copy for one phase; a callback that cannot be copied, as it has a file open, as it is."""
    try:
        return copy.deepcopy(callback)
    except TypeError:
        return callback


def run_phase(model, criterion, batches, settings, *, phase, max_epochs, seed):
    """Train `model` in place on a criterion.

    Parameters
    ----------
    model : nn.Module
        Trained in place.
    criterion : nn.Module
        As :class:`PhaseNet` calls it.
    batches : DomainBatches
        What to train on.
    settings : TrainingSettings
        Settings of the fit.
    phase : str
        Name of the phase in the history.
    max_epochs : int
        Number of epochs.
    seed : int
        Seed of whatever is random in the network.

    Returns
    -------
    net : PhaseNet
    """
    net = PhaseNet(
        model, criterion, phase=phase, max_epochs=max_epochs, **settings.net_kwargs(seed, phase)
    )
    with torch_seed(seed, settings.device):
        return net.fit(batches)


def start_centers(z, n_clusters, *, seed, is_whitened=False):
    """Run k-means from twenty k-means++ starts in the embedding and return the best centres.

    Parameters
    ----------
    z : Tensor of shape (n_samples, n_components)
        Target embeddings.
    n_clusters : int
        Number of centres.
    seed : int
        Seed of the starts.
    is_whitened : bool, default=False
        Whether k-means sees the embeddings whitened.

    Returns
    -------
    centers : Tensor of shape (n_clusters, n_components)
        Means of the clusters in the embedding as it is; on the CPU, float32.
    """
    z = z.cpu().numpy()
    if len(z) > _KMEANS_ROWS:
        rows = np.random.default_rng(seed).choice(len(z), _KMEANS_ROWS, replace=False)
        z = z[np.sort(rows)]
    kmeans = KMeans(n_clusters, n_init=_KMEANS_STARTS, random_state=seed)
    mean, factor = z.mean(0, dtype=np.float64), _covariance_factor(z) if is_whitened else None
    if factor is not None:
        z = solve_triangular(factor, (z - mean).T, lower=True).T
    # fewer distinct rows than centres: the fit says so itself, with its own numbers
    with ignored_warnings(ConvergenceWarning):
        centers = kmeans.fit(z).cluster_centers_
    if factor is not None:
        centers = centers @ factor.T + mean
    return torch.from_numpy(centers.astype(np.float32))


def _covariance_factor(z):
    """Lower Cholesky factor of the shrunk covariance of rows; None where all rows are equal."""
    covariance = np.atleast_2d(np.cov(z, rowvar=False, dtype=np.float64, bias=True))
    if not np.trace(covariance) > 0:
        return None
    return cholesky(shrunk_covariance(covariance, shrinkage=_SHRINKAGE), lower=True)


def class_means(z, y):
    """Mean embedding of each labelled class (Eq. 6, right for unequal counts as well).

    Parameters
    ----------
    z : Tensor of shape (n_samples, n_components)
        Embeddings.
    y : Tensor of shape (n_samples,)
        Class indices from 0, each of which occurs; -1 where unlabelled.

    Returns
    -------
    means : Tensor of shape (n_classes, n_components)
        On the CPU, float32.
    """
    z, y = z.cpu().double(), y.cpu()
    members = one_hot(y[y >= 0]).double()  # (n_labelled, n_classes)
    return (members.T @ z[y >= 0] / members.sum(0).unsqueeze(1)).float()


def start_centers_apart(z, named, n_unnamed, *, seed, is_whitened=False):
    """Centres for the rows that lie far from the named ones.

    Parameters
    ----------
    z : Tensor of shape (n_samples, n_components)
        Target embeddings.
    named : Tensor of shape (n_named, n_components)
        Centres that stand already.
    n_unnamed : int
        Number of further centres.
    seed : int
        Seed of the starts.
    is_whitened : bool, default=False
        Whether k-means sees the embeddings whitened.

    Returns
    -------
    centers : Tensor of shape (n_unnamed, n_components)
        k-means, from k-means++ starts, on the rows farthest from their nearest named centre: an
        equal share of all rows for each further centre.
    """
    nearest = distances_in_blocks(z, named.to(z.device)).amin(1)
    n_far = max(n_unnamed, len(z) * n_unnamed // (len(named) + n_unnamed))
    far = z[nearest.topk(n_far).indices.sort().values]
    return start_centers(far, n_unnamed, seed=seed, is_whitened=is_whitened)


def set_centers(model, z, positions, temperature):
    """Give `model` centres at `positions`, with a temperature fitted to all target rows `z`.

    Returns
    -------
    labels : Tensor of shape (n_samples,)
        Nearest centre of each row.
    """
    model.centers = Centers(positions, temperature).to(z.device)
    distances = distances_in_blocks(z, model.centers.positions.detach())
    model.centers.calibrate(distances)
    return distances.argmin(1)


def start_finetuning(
    model, data, settings, *, is_balanced, seed, description="fine-tuning", **net_kwargs
):
    """Make the net of the fine-tuning and its batches; nothing is trained yet.

    Parameters
    ----------
    model : ClusteringModel
        With centres; trained in place later.
    data : TrainingData
        Both domains.
    settings : TrainingSettings
        Settings of the fit.
    is_balanced : bool
        Whether the source's classes are drawn equally often.
    seed : int
        Seed of the batches and of the noise.
    description : str
        What the progress bar and scikit-learn's callbacks call it.
    **net_kwargs : dict
        Parameters of :class:`FineTuningNet`.

    Returns
    -------
    net : FineTuningNet
    batches : DomainBatches
    """
    batches = DomainBatches(
        data.target,
        data.source,
        data.y_source,
        data.y_target,
        batch_size=settings.batch_size,
        is_balanced=is_balanced,
        generator=make_generator(seed, settings.device),
    )
    net = FineTuningNet(model, **net_kwargs, **settings.net_kwargs(seed, description))
    return net.initialize(), batches


def strip_net(net):
    """Keep of a trained net what prediction needs: the model, in eval mode."""
    net.trim_for_prediction()
    # skorch maps `module_` to another device on loading, but not the `module` it was made from
    training_only = ("optimizer", "optimizer_state", "generator", "labels", "monitors", "_farthest")
    watched = ("_is_named", "_infinite_buffers", "clustering_state", "checkpoint", "interrupts")
    for name in ("module", *training_only, *watched):
        setattr(net, name, None)
    return net
