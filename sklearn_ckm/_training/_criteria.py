"""What each phase minimises: criteria that a net calls with its model and a batch."""

import torch
from torch import nn

from ..losses import (
    balance_loss,
    class_consistency_loss,
    classification_loss,
    reconstruction_loss,
    squared_distances,
    view_consistency_loss,
)

_FIRST_SOFTNESS = 6.0  # factor on the temperature of views, as the fine-tuning starts
_FIRST_BALANCE = 3.0  # factor on the weight of the balance, likewise
_SOFT_SHARE = 0.5  # of the epochs, over which both factors fall to 1


def early_factor(first, progress):
    """Factor that falls from `first` to 1 over the first half of the epochs.

    Soft assignments let rows leave the cluster in which k-means put them, and a strong balance
    keeps centres from leaving two classes to one of them; later, sizes may differ more.
    """
    return first ** max(0.0, 1 - progress / _SOFT_SHARE)


class ReconstructionCriterion(nn.Module):
    """Loss of the pretraining: the reconstruction of both domains (Eq. 1)."""

    def forward(self, model, batch, progress, generator):
        """Return the loss terms of a batch, and None for the clustering step."""
        _, reconstruction = model(batch.x)
        loss = reconstruction_loss(batch.x, reconstruction)
        return {"loss": loss, "reconstruction": loss}, None


class SourceClassificationCriterion(nn.Module):
    """Loss of a pretraining on the source's labels: cross-entropy, on views where there are some.

    Parameters
    ----------
    augmentation : callable or None
        Called as ``augmentation(x, generator)``.
    """

    def __init__(self, augmentation):
        super().__init__()
        # past nn.Module, which would take a module for a part of the network that is trained
        object.__setattr__(self, "augmentation", augmentation)

    def forward(self, model, batch, progress, generator):
        """Return the loss terms of a batch, and None for the clustering step."""
        x = batch.x[: batch.n_source]
        if self.augmentation is not None:
            with torch.autocast(x.device.type, enabled=False):
                x = self.augmentation(x, generator)
        loss = classification_loss(model.classifier(model.encoder(x)).float(), batch.y)
        return {"loss": loss, "classification": loss}, None


class JointCriterion(nn.Module):
    """Loss of the fine-tuning: one sum, one backward pass (Eqs. 4 and 8).

    The graph routes the gradients: the encoder hears every term, the decoder the reconstruction,
    the classifier the cross-entropy, the centres the clustering term (unless the objective moves
    them by a rule), consistency and balance, and the term of the labelled target rows.

    Parameters
    ----------
    objective : BaseClusteringObjective
        The clustering loss of the target rows.
    lambda_clustering : float
        Weight of the clustering term.
    lambda_classification : float, default=0.0
        Weight of the source's cross-entropy.
    lambda_kshot : float, default=0.0
        Weight of the cross-entropy of the labelled target rows.
    augmentation : callable, default=None
        Called as ``augmentation(x, generator)``. Where given, the target takes part as it is and in
        a view, source and labelled target rows in a view alone.
    lambda_consistency : float, default=0.0
        Weight of the agreement of the target with its view.
    lambda_balance : float, default=0.0
        Weight of the balance of the clusters over the target and its view.
    lambda_source : float, default=0.0
        Weight, relative to the two before, of the same of the source's clusters, where rows of one
        class are views of each other; only where the target takes part in views, and the source
        has two classes or more.
    starts_soft : bool, default=True
        Whether the temperature of both starts at a multiple of that of the centres, and the weight
        of the balance at one of its own.
    follows_classes : bool, default=False
        Whether the source's labels stand where the reconstruction does otherwise, which is left
        out. The temperature should then stay as it is: where it follows the data, nothing but the
        reconstruction keeps the embedding from shrinking.
    """

    def __init__(
        self,
        objective,
        lambda_clustering,
        lambda_classification=0.0,
        lambda_kshot=0.0,
        *,
        augmentation=None,
        lambda_consistency=0.0,
        lambda_balance=0.0,
        lambda_source=0.0,
        starts_soft=True,
        follows_classes=False,
    ):
        super().__init__()
        self.objective = objective
        self.lambda_clustering = lambda_clustering
        self.lambda_classification = lambda_classification
        self.lambda_kshot = lambda_kshot
        # past nn.Module, which would take a module for a part of the network that is trained
        object.__setattr__(self, "augmentation", augmentation)
        self.lambda_consistency = lambda_consistency
        self.lambda_balance = lambda_balance
        self.lambda_source = lambda_source
        self.starts_soft = starts_soft
        self.follows_classes = follows_classes

    def forward(self, model, batch, progress, generator, state=None):
        """Return the loss terms of a batch, and what the objective did with it."""
        n_source, n_rows, n_views = batch.n_source, batch.n_rows, 0
        x = batch.x
        if self.augmentation is not None:
            n_views = n_rows - n_source if self.compares_views else 0
            x = self._with_views(batch, n_views, generator)
        if self.follows_classes:
            z, reconstruction = model.encoder(x), None
        else:
            z, reconstruction = model(x, n_decoded=n_rows)
        z_source, z_target = z[:n_source], z[n_source:n_rows]
        z_shots, z_views = z[n_rows : len(z) - n_views], z[len(z) - n_views :]
        terms, is_taught = {}, model.classifier is not None and batch.y is not None
        if reconstruction is not None:
            terms["reconstruction"] = reconstruction_loss(x[:n_rows], reconstruction)
        with torch.autocast(z.device.type, enabled=False):
            step = self.objective.step(
                z_target.float(),
                model.centers.positions,
                model.centers.follow,
                progress=progress,
                generator=generator,
                index=batch.target_index,
                state=state,
            )
        terms["clustering"] = step.loss
        loss = terms.get("reconstruction", 0.0) + self.lambda_clustering * step.loss
        if n_views:
            terms.update(self._consistency(step.distances, z_views, model.centers, progress))
            loss = loss + self.lambda_consistency * terms["consistency"]
            weight = self.lambda_balance * self._early_factor(_FIRST_BALANCE, progress)
            loss = loss + weight * terms["balance"]
            if self.lambda_source and is_taught and model.classifier.out_features > 1:
                terms.update(self._class_consistency(z_source, batch.y, model.centers, progress))
                asked = self.lambda_consistency * terms["source_consistency"]
                asked = asked + weight * terms["source_balance"]
                loss = loss + self.lambda_source * asked
        if is_taught:
            terms["classification"] = classification_loss(
                model.classifier(z_source).float(), batch.y
            )
            loss = loss + self.lambda_classification * terms["classification"]
        if batch.y_shots is not None:
            terms["kshot"] = self._kshot_loss(z_shots, batch.y_shots, model.centers)
            loss = loss + self.lambda_kshot * terms["kshot"]
        return {"loss": loss, **terms}, (z_target, step)

    @property
    def compares_views(self):
        """Whether the target takes part in views."""
        return self.augmentation is not None and self.lambda_consistency + self.lambda_balance > 0

    def is_settled(self, progress):
        """Whether the terms are what they will be at the end, so that training may stop."""
        if self.objective.is_scheduled:
            return False
        return not self.compares_views or self._early_factor(_FIRST_SOFTNESS, progress) == 1.0

    def _early_factor(self, first, progress):
        return early_factor(first, progress) if self.starts_soft else 1.0

    def _with_views(self, batch, n_views, generator):
        """Rows of the batch, the source's and the labelled ones changed, and views of the target.

        An augmentation may look at the whole of what it gets, so it gets one domain at a time, the
        few labelled rows among the others.
        """
        source, target, shots = batch.x.split(
            [batch.n_source, len(batch.target_index), len(batch.x) - batch.n_rows]
        )
        # a copy: an augmentation may work in place
        changed = torch.cat([shots, target]) if len(shots) else target[:n_views].clone()
        with torch.autocast(batch.x.device.type, enabled=False):
            views = [self._view(x, generator) for x in (source, changed)]
        return torch.cat([views[0], target, views[1][: len(shots) + n_views]])

    def _view(self, x, generator):
        if not len(x):
            return x
        return self.augmentation(x, generator)

    def _consistency(self, distances, z_views, centers, progress):
        """Agreement of the target with its view, and balance of the clusters over both."""
        with torch.autocast(z_views.device.type, enabled=False):
            temperature = self._view_temperature(centers, progress)
            log_p, log_p_view = (
                self.objective.log_probabilities(d, temperature)
                for d in (distances, squared_distances(z_views, centers.positions))
            )
            return {
                "consistency": view_consistency_loss(log_p, log_p_view),
                "balance": balance_loss(torch.cat([log_p, log_p_view])),
            }

    def _class_consistency(self, z, y, centers, progress):
        """Agreement of source rows of one class on a cluster, and balance of their clusters."""
        with torch.autocast(z.device.type, enabled=False):
            log_p = self.objective.log_probabilities(
                squared_distances(z, centers.positions), self._view_temperature(centers, progress)
            )
            return {
                "source_consistency": class_consistency_loss(log_p, y),
                "source_balance": balance_loss(log_p),
            }

    def _view_temperature(self, centers, progress):
        return centers.temperature * self._early_factor(_FIRST_SOFTNESS, progress)

    def _kshot_loss(self, z, y, centers):
        """Cross-entropy of the centres' probabilities on labelled target rows (Eq. 7)."""
        with torch.autocast(z.device.type, enabled=False):
            distances = squared_distances(z, centers.positions)
            return classification_loss(
                self.objective.log_probabilities(distances, centers.temperature), y
            )
