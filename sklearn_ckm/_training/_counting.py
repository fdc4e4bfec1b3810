"""Counting the clusters of a target: by short fine-tunings, or in the pretrained embedding."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np

from ..augmentation._resolve import are_of_images
from ..objectives import ConcreteKMeansObjective
from ..utils._random import fixed_sample, torch_seed
from ._batches import resolve_batch_size
from ._criteria import JointCriterion
from ._divergence import DivergenceError
from ._inference import embed_training_rows
from ._n_clusters import count_by_views, estimate_n_clusters
from ._phases import TrainingData, set_centers, start_centers, start_finetuning

COUNTED_ROWS = 2000  # at most, where views judge
_EPOCHS = 30  # of the fine-tuning for each number that views judge
_WEIGHTS = {  # the defaults of the estimators
    "lambda_clustering": 0.1,
    "lambda_consistency": 10.0,
    "lambda_balance": 10.0,
}


def count_clusters(
    pretrained,
    target,
    settings,
    views,
    *,
    batch_size,
    temperature,
    max_epochs,
    seed,
):
    """Estimate the number of clusters of the target.

    Views of images judge short fine-tunings, which are the same whatever the objective and the
    weights of the fit. Those of tables, which have little more in common than being near, do not:
    there, and without views or fine-tuning, the pretrained embedding is looked at.

    Parameters
    ----------
    pretrained : Pretrained
        A trained network; left as it is.
    target : Tensor of shape (n_target, *input_shape)
        What is clustered.
    settings : TrainingSettings
        Settings of the fit.
    views : callable or None
        The augmentation, where the fit compares views.
    batch_size : int or "auto"
        Rows in a batch of the short fine-tunings.
    temperature : float or "auto"
        That of the centres.
    max_epochs : int
        Number of epochs of the fit's fine-tuning.
    seed : int
        Seed of the estimate.

    Returns
    -------
    n_clusters : int
        At least two.
    curve : dict of str to ndarray of shape (n_candidates,)
        What the estimate was read from.
    """
    if not are_of_images(views, tuple(target.shape[1:])) or not max_epochs:
        z = embed_training_rows(
            pretrained.model, target, settings.device, phase="pretrain", lr=settings.lr
        )
        return estimate_n_clusters(z.cpu().numpy(), seed=seed)
    target = target[fixed_sample(len(target), COUNTED_ROWS)]
    information = partial(
        shared_information,
        pretrained,
        target,
        replace(settings, batch_size=resolve_batch_size(batch_size, len(target))),
        JointCriterion(
            ConcreteKMeansObjective(),
            augmentation=views,
            follows_classes=pretrained.follows_classes,
            **_WEIGHTS,
        ),
        temperature=temperature,
        max_epochs=min(_EPOCHS, max_epochs),
        seed=seed,
    )
    return count_by_views(information, len(target))


def shared_information(
    pretrained, target, settings, criterion, n_clusters, *, temperature, max_epochs, seed
):
    """Mutual information of the clusters of rows and of their views, after a fine-tuning.

    Parameters
    ----------
    pretrained : Pretrained
        Where it sets out; left as it is.
    target : Tensor of shape (n_target, *input_shape)
        What is clustered.
    settings : TrainingSettings
        Settings of the fit.
    criterion : JointCriterion
        One that compares views.
    n_clusters : int
        Number of centres.
    temperature : float or "auto"
        That of the centres.
    max_epochs : int
        Number of epochs.
    seed : int
        Seed of k-means, of the batches and of the noise.

    Returns
    -------
    information : float
        A lower bound in nats, not below 0: the entropy of the clusters, which is log k less the
        ``balance``, less the cross-entropy ``consistency``, both of the last epoch. 0 where the
        training diverges.
    """
    try:
        pretrained = copy.deepcopy(pretrained)  # training moves the optimiser's state as well
    except (RuntimeError, TypeError) as error:
        raise TypeError(
            "Expected an encoder that copy.deepcopy can copy, because n_clusters='auto' trains "
            f"copies of it, got {type(pretrained.model.encoder).__name__}: {error}. Pass a number."
        ) from error
    model = pretrained.model
    z = embed_training_rows(model, target, settings.device, phase="pretrain", lr=settings.lr)
    labels = set_centers(model, z, start_centers(z, n_clusters, seed=seed), temperature)
    if criterion.follows_classes:
        model.centers.keep_temperature()
    net, batches = start_finetuning(
        model,
        TrainingData(target),
        replace(settings, callbacks=None, tasks=None),
        is_balanced=False,
        seed=seed,
        description=f"counting, {n_clusters}",
        criterion=criterion,
        labels=labels,
        optimizer_state=pretrained.optimizer_state,
        max_epochs=max_epochs,
    )
    net.checkpoint = settings.phase_checkpoint(f"counting-{n_clusters}")
    try:
        with torch_seed(seed, settings.device):
            net.partial_fit(batches)
    except DivergenceError:
        return 0.0
    if net.stop_reason == "interrupted":
        raise KeyboardInterrupt
    last = net.history[-1]
    return max(0.0, float(np.log(n_clusters)) - last["consistency"] - last["balance"])
