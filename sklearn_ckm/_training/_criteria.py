"""What each phase minimises: criteria that a net calls with its model and a batch."""

import torch
from torch import nn

from ..losses import classification_loss, reconstruction_loss, squared_distances


class ReconstructionCriterion(nn.Module):
    """Loss of the pretraining: the reconstruction of both domains (Eq. 1)."""

    def forward(self, model, batch, progress, generator):
        """Return the loss terms of a batch, and None for the clustering step."""
        _, reconstruction = model(batch.x)
        loss = reconstruction_loss(batch.x, reconstruction)
        return {"loss": loss, "reconstruction": loss}, None


class JointCriterion(nn.Module):
    """Loss of the fine-tuning: one sum, one backward pass (Eqs. 4 and 8).

    The graph routes the gradients: the encoder hears every term, the decoder the reconstruction,
    the classifier the cross-entropy, the centres the clustering term (unless the objective moves
    them by a rule) and the term of the labelled target rows.

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
    """

    def __init__(self, objective, lambda_clustering, lambda_classification=0.0, lambda_kshot=0.0):
        super().__init__()
        self.objective = objective
        self.lambda_clustering = lambda_clustering
        self.lambda_classification = lambda_classification
        self.lambda_kshot = lambda_kshot

    def forward(self, model, batch, progress, generator, state=None):
        """Return the loss terms of a batch, and what the objective did with it."""
        z, reconstruction = model(batch.x, n_decoded=batch.n_rows)
        z_source, z_target = z[: batch.n_source], z[batch.n_source : batch.n_rows]
        x = batch.x[: batch.n_rows]
        terms = {"reconstruction": reconstruction_loss(x, reconstruction)}
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
        loss = terms["reconstruction"] + self.lambda_clustering * step.loss
        if model.classifier is not None and batch.y is not None:
            terms["classification"] = classification_loss(
                model.classifier(z_source).float(), batch.y
            )
            loss = loss + self.lambda_classification * terms["classification"]
        if batch.y_shots is not None:
            terms["kshot"] = self._kshot_loss(z[batch.n_rows :], batch.y_shots, model.centers)
            loss = loss + self.lambda_kshot * terms["kshot"]
        return {"loss": loss, **terms}, (z_target, step)

    def _kshot_loss(self, z, y, centers):
        """Cross-entropy of the centres' probabilities on labelled target rows (Eq. 7)."""
        with torch.autocast(z.device.type, enabled=False):
            distances = squared_distances(z, centers.positions)
            return classification_loss(
                self.objective.log_probabilities(distances, centers.temperature), y
            )
