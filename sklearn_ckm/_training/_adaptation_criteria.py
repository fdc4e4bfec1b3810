"""What the methods without a decoder minimise."""

from math import exp

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import one_hot

from ..losses import (
    classification_loss,
    domain_confusion_loss,
    domain_discrimination_loss,
    entropy_loss,
    factorization_loss,
    graph_loss,
    squared_distances,
    support_similarity,
)
from ..modules import last_layers, reverse_gradient

_SLOPE = 10.0  # of the schedule by which the reversed gradient grows
_GRAPH_NEIGHBORS = 5
_SMALLEST_VARIANCE = 1e-5
_NOT_DRAWN = -1e6  # a logit whose probability is 0, and finite, so that 0 times it is 0


class ClassificationCriterion(nn.Module):
    """Cross-entropy of a classifier on rows that are drawn from one array.

    Parameters
    ----------
    labels : Tensor of shape (n_samples,)
        Class index of each row of the array, -1 where unlabelled.
    head : str, default="classifier"
        Name of the classifier in the model.
    """

    def __init__(self, labels, head="classifier"):
        super().__init__()
        self.labels = labels
        self.head = head

    def forward(self, model, batch, progress, generator):
        """Return the loss terms of a batch, and nothing else."""
        logits = getattr(model, self.head)(model.encoder(batch.x))
        loss = classification_loss(logits.float(), self.labels[batch.target_index])
        return {"loss": loss, "classification": loss}, None


class AdversarialCriterion(nn.Module):
    """Source classification and, through a reversed gradient, indistinguishable domains.

    Parameters
    ----------
    lambda_adversarial : float
        Weight of the reversed gradient at the end of the training.

    Notes
    -----
    The weight grows from 0 by :math:`2 / (1 + \\exp(-10 p)) - 1` with the progress p. The
    discriminator reads the code standardised over the batch: it is linear and has no bounds, and
    the encoder would win by its scale alone.
    """

    def __init__(self, lambda_adversarial):
        super().__init__()
        self.lambda_adversarial = lambda_adversarial

    def forward(self, model, batch, progress, generator):
        """Return the loss terms of a batch, and nothing else."""
        z = model.encoder(batch.x)
        weight = self.lambda_adversarial * (2 / (1 + exp(-_SLOPE * progress)) - 1)
        code = reverse_gradient(_standardized(z.float()), weight)
        is_source = model.discriminator(code).float()
        terms = {
            "classification": classification_loss(
                model.classifier(z[: batch.n_source]).float(), batch.y
            ),
            "discrimination": domain_discrimination_loss(
                is_source[: batch.n_source], is_source[batch.n_source :]
            ),
        }
        return {"loss": sum(terms.values()), **terms}, None


class TransferCriterion(nn.Module):
    """Label-efficient transfer: supervision, domain transfer and semantic transfer.

    Parameters
    ----------
    lambda_adversarial, lambda_transfer : float
        Weights alpha and beta of the domain and of the semantic transfer.
    source_temperature, target_temperature : float
        Temperatures of the similarities to source and to target classes.
    source_centers : Tensor of shape (n_source_classes, n_components)
        Class means of the source by its own network.
    n_target_classes : int
        Number of labelled target classes.
    """

    def __init__(
        self,
        lambda_adversarial,
        lambda_transfer,
        source_temperature,
        target_temperature,
        source_centers,
        n_target_classes,
    ):
        super().__init__()
        self.lambda_adversarial = lambda_adversarial
        self.lambda_transfer = lambda_transfer
        self.source_temperature = source_temperature
        self.target_temperature = target_temperature
        self.source_centers = source_centers
        self.n_target_classes = n_target_classes

    def forward(self, model, batch, progress, generator):
        """Return the loss terms of a batch, without those of weight 0, and nothing else."""
        shots = batch.x[batch.n_rows :]
        if not (self.lambda_adversarial or self.lambda_transfer):
            logits = model.target_classifier(model.encoder(shots)).float()
            loss = classification_loss(logits, batch.y_shots)
            return {"loss": loss, "classification": loss}, None

        layers = last_layers(model.encoder, batch.x[batch.n_source :])
        n_target = len(batch.target_index)
        z, z_shots = layers[-1].float().split([n_target, len(shots)])
        loss = classification_loss(model.target_classifier(z_shots).float(), batch.y_shots)
        terms = {"classification": loss}
        if self.lambda_adversarial:
            encoder = model.source_encoder.eval()  # batch statistics and dropout would move it
            with torch.no_grad():
                source_layers = last_layers(encoder, batch.x[: batch.n_source])
            target_layers = [layer[:n_target] for layer in layers]
            domain = self._domain_transfer(model.discriminator, source_layers, target_layers)
            loss = loss + self.lambda_adversarial * sum(domain.values())
            terms.update(domain)
        if self.lambda_transfer:
            with torch.autocast(z.device.type, enabled=False):
                terms["transfer"] = self._semantic_transfer(z, z_shots, batch.y_shots)
            loss = loss + self.lambda_transfer * terms["transfer"]
        return {"loss": loss, **terms}, None

    @staticmethod
    def _domain_transfer(discriminator, source_layers, target_layers):
        """Both players' losses; each reaches its own player alone, so one update serves both."""
        is_source = discriminator(source_layers)
        seen = discriminator([layer.detach() for layer in target_layers])
        fixed = {name: value.detach() for name, value in discriminator.named_parameters()}
        felt = functional_call(discriminator, fixed, (target_layers,))
        return {
            "discrimination": domain_discrimination_loss(is_source.float(), seen.float()),
            "confusion": domain_confusion_loss(felt.float()),
        }

    def _semantic_transfer(self, z, z_shots, y_shots):
        """Entropies over both sets of classes, and the metric cross-entropy of the shots."""
        n_classes = self.n_target_classes
        members = one_hot(y_shots, n_classes).to(z.dtype)  # (n_shots, n_classes)
        counts = members.sum(0)
        centers = members.T @ z_shots / counts.clamp_min(1).unsqueeze(1)

        def similarity(rows):  # not to classes of which no row was drawn
            return support_similarity(rows, centers).masked_fill(counts == 0, _NOT_DRAWN)

        return (
            entropy_loss(support_similarity(z, self.source_centers), self.source_temperature)
            + entropy_loss(similarity(z), self.target_temperature)
            + classification_loss(similarity(z_shots), y_shots)
        )


class FactorizationCriterion(nn.Module):
    """Classification of both domains on factors that are nearly binary and smooth on a graph.

    Parameters
    ----------
    lambda_kshot, lambda_factorization, lambda_graph : float
        Weights of the labelled target rows, of the entropy of the factors, and of the graph.
    """

    def __init__(self, lambda_kshot, lambda_factorization, lambda_graph):
        super().__init__()
        self.lambda_kshot = lambda_kshot
        self.lambda_factorization = lambda_factorization
        self.lambda_graph = lambda_graph

    def forward(self, model, batch, progress, generator):
        """Return the loss terms of a batch, and nothing else."""
        z = model.encoder(batch.x).float()
        factor_logits = model.factors(z[: batch.n_rows]).float()
        target = slice(batch.n_source, batch.n_rows)
        logits = model.classifier(z[: batch.n_source]).float()
        logits_shots = model.target_classifier(z[batch.n_rows :]).float()
        terms = {
            "classification": classification_loss(logits, batch.y),
            "kshot": classification_loss(logits_shots, batch.y_shots),
            "factorization": factorization_loss(factor_logits),
            "graph": graph_loss(
                _of_unit_variance(z[target]), _neighbor_affinity(factor_logits[target].sigmoid())
            ),
        }
        loss = (
            terms["classification"]
            + self.lambda_kshot * terms["kshot"]
            + self.lambda_factorization * terms["factorization"]
            + self.lambda_graph * terms["graph"]
        )
        return {"loss": loss, **terms}, None


def _standardized(z):
    """Columns of zero mean and unit variance over a batch; those of a single row are zero."""
    centered = z - z.mean(0)
    return centered / centered.square().mean(0).add(_SMALLEST_VARIANCE).sqrt()


@torch.no_grad()
def _neighbor_affinity(factors):
    """Symmetric graph of nearest neighbours in the factors; its weights sum to one a row."""
    distances = squared_distances(factors, factors).fill_diagonal_(torch.inf)
    n_neighbors = min(_GRAPH_NEIGHBORS, len(factors) - 1)
    nearest = distances.topk(max(n_neighbors, 0), largest=False).indices
    edges = torch.zeros_like(distances).scatter_(1, nearest, 1.0)
    edges = edges + edges.T
    return edges * (len(factors) / edges.sum().clamp_min(1))


def _of_unit_variance(z):
    """Embeddings over their scale, which no gradient reaches: their unit is arbitrary."""
    variance = z.detach().var(0, correction=0).sum()
    return z / variance.clamp_min(torch.finfo(z.dtype).tiny).sqrt()
