"""Several fits from new weights, of which the one with the best label-free score is kept."""

from dataclasses import replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import EarlyStopping

from ..metrics import neighborhood_agreement_score
from ..utils._random import fixed_sample, phase_seed
from ..utils._warnings import warn_user
from ._divergence import DivergenceError
from ._inference import distances_in_blocks, embed
from ._rivals import left_to_minimize

SCORED_ROWS = 2000
_FEWEST_SCORED = 3


def choose_start(first, pretrain, finetune, target, *, n_init, settings, seed):
    """Train from further new weights, and choose the net of the best label-free score.

    Parameters
    ----------
    first : FineTuningNet, Start
        Of the first weights: trained, and what it came from.
    pretrain, finetune : callable
        The phases of further ones.
    target : Tensor of shape (n_target, *input_shape)
        What is clustered.
    n_init : int
        Number of starts, the first among them.
    settings : TrainingSettings
        Settings of the fit.
    seed : int
        Seed of the first start; those of the others follow from it.

    Returns
    -------
    best : FineTuningNet, Start
        The best of those that were trained to their end, and what it came from.
    scores : ndarray of shape (n_trained,)
        Score of each start that was not interrupted; minus infinity where it diverged.
    """
    best, net = first, first[0]
    is_interrupted = net.stop_reason == "interrupted"
    scores = [] if is_interrupted else [score_start(net, target)]
    for i in range(1, n_init):
        if is_interrupted or settings.interrupts.is_pending:
            break
        own = replace(settings, start=i), phase_seed(seed, "start", i)
        try:
            net, start = finetune(pretrain(*own), *own)
        except KeyboardInterrupt:  # before there were centres
            if settings.interrupts.is_repeated:
                raise
            is_interrupted = True
            break
        except DivergenceError as error:
            scores.append(-np.inf)
            warn_user(
                f"Start {i + 1} of {n_init} is left out. {error}",
                ConvergenceWarning,
            )
            continue
        is_interrupted = net.stop_reason == "interrupted"
        if is_interrupted:
            break
        scores.append(score_start(net, target))
        if scores[-1] > max(scores[:-1]):
            best = net, start
    if is_interrupted:
        best[0].stop_reason = "interrupted"
    return best, np.array(scores)


def score_start(net, target):
    """Label-free score of a trained net, to choose among starts by: higher is better.

    With views, what they and the labelled rows have left to minimise, negated.
    """
    if net.criterion_.compares_views and net.history:
        return -left_to_minimize(_kept_epoch(net))
    rows = fixed_sample(len(target), SCORED_ROWS)
    return neighborhood_agreement(net.module_, target[rows]) if len(rows) >= _FEWEST_SCORED else 0.0


def _kept_epoch(net):
    """Record of the epoch whose weights the net has: not the last, where a callback took others."""
    kept = net.history[-1]
    for _, callback in net.callbacks_:
        if not getattr(callback, "load_best", False):
            continue
        if isinstance(callback, EarlyStopping):
            known = [e for e in net.history if e["epoch"] == callback.best_epoch_]
        else:
            known = [e for e in net.history if e.get(getattr(callback, "event_name", None))]
        kept = known[-1] if known else kept
    return kept


def neighborhood_agreement(model, X, sample_weight=None):
    """Agreement of a model's clusters with neighbourhoods in the input space.

    Parameters
    ----------
    model : ClusteringModel
        With centres.
    X : Tensor of shape (n_samples, *input_shape)
        Scaled rows.
    sample_weight : ndarray of shape (n_samples,) or None
        Weights of the rows.

    Returns
    -------
    score : float
    """
    z = embed(model, X, model.centers.positions.device)
    labels = distances_in_blocks(z, model.centers.positions.detach()).argmin(1)
    return neighborhood_agreement_score(
        X.flatten(1).float().cpu().numpy(),
        labels.cpu().numpy(),
        sample_size=None,
        sample_weight=sample_weight,
    )
