"""What each phase minimises: criteria that a net calls with its model and a batch."""

import torch
from torch import nn

from ..losses import classification_loss, reconstruction_loss


class ReconstructionCriterion(nn.Module):
    """Loss of the pretraining: the reconstruction of both domains (Eq. 1)."""

    def forward(self, model, batch, progress, generator):
        """Return the loss terms of a batch, and None for the clustering step."""
        _, reconstruction = model(batch.x)
        loss = reconstruction_loss(batch.x, reconstruction)
        return {"loss": loss, "reconstruction": loss}, None


class JointCriterion(nn.Module):
    """Loss of the fine-tuning: one sum, one backward pass (Eq. 4).

    The graph routes the gradients: the encoder hears every term, the decoder the reconstruction,
    the classifier the cross-entropy, the centres the clustering term.

    Parameters
    ----------
    objective : BaseClusteringObjective
        The clustering loss of the target rows.
    lambda_clustering : float
        Weight of the clustering term.
    lambda_classification : float, default=0.0
        Weight of the source's cross-entropy.
    """

    def __init__(self, objective, lambda_clustering, lambda_classification=0.0):
        super().__init__()
        self.objective = objective
        self.lambda_clustering = lambda_clustering
        self.lambda_classification = lambda_classification

    def forward(self, model, batch, progress, generator):
        """Return the loss terms of a batch, and what the objective did with it."""
        z, reconstruction = model(batch.x)
        z_source, z_target = z[: batch.n_source], z[batch.n_source :]
        terms = {"reconstruction": reconstruction_loss(batch.x, reconstruction)}
        with torch.autocast(z.device.type, enabled=False):
            step = self.objective.step(
                z_target.float(),
                model.centers.positions,
                model.centers.follow,
                progress=progress,
                generator=generator,
            )
        terms["clustering"] = step.loss
        loss = terms["reconstruction"] + self.lambda_clustering * step.loss
        if model.classifier is not None and batch.y is not None:
            terms["classification"] = classification_loss(
                model.classifier(z_source).float(), batch.y
            )
            loss = loss + self.lambda_classification * terms["classification"]
        return {"loss": loss, **terms}, (z_target, step)
