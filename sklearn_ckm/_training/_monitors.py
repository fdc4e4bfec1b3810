"""Label-free numbers that tell, every epoch, whether the clusters are alive."""

import torch
from torch.nn.functional import one_hot


class ClusteringMonitors:
    """Running sums over the batches of an epoch, on the device, read once at its end.

    Parameters
    ----------
    n_samples : int
        Number of target rows.
    n_clusters : int
        Number of centres.
    labels : Tensor of shape (n_samples,)
        The nearest centre of each row before the first epoch.

    Attributes
    ----------
    labels : Tensor of shape (n_samples,)
        The nearest centre of each target row when it was last drawn.
    """

    def __init__(self, n_samples, n_clusters, labels):
        self.n_samples = n_samples
        self.n_clusters = n_clusters
        self.labels = labels.clone()

    def start_epoch(self, rows=None):
        """Forget the sums of the epoch before.

        Parameters
        ----------
        rows : Tensor of shape (n_drawn,), default=None
            Target rows that are drawn in this epoch, where some are not.
        """
        self._rows = slice(None) if rows is None else rows
        self._labels_before = self.labels[self._rows].clone()
        self._sums = None

    @torch.no_grad()
    def update(self, batch, z, step):
        """Take in one batch.

        Parameters
        ----------
        batch : Batch
            The batch.
        z : Tensor of shape (n_target, n_components)
            Target embeddings of the batch.
        step : ClusteringStep
            What the objective did with them.
        """
        nearest_distance, nearest = step.distances.min(1)
        self.labels[batch.target_index] = nearest
        z = z.double()
        means = torch.stack(
            [
                step.logits.exp().amax(1).mean(),
                (step.choice != nearest).float().mean(),
                nearest_distance.mean(),
            ]
        )
        sums = torch.cat([means, z.mean(0), z.square().mean(0)])
        self._sums = sums if self._sums is None else self._sums + sums

    def count(self):
        """Return how many of the drawn rows each centre holds, (n_clusters,)."""
        return torch.bincount(self.labels[self._rows], minlength=self.n_clusters)

    @torch.no_grad()
    def measure_gradient(self, z, step, positions, weight, *, has_direct=True):
        """Split the gradient of the centres; called between a backward pass and its update.

        Parameters
        ----------
        z : Tensor of shape (n_target, n_components)
            Target embeddings of the batch.
        step : ClusteringStep
            What the objective did with them.
        positions : Parameter of shape (n_clusters, n_components)
            The centres, with the gradient of the weighted clustering term.
        weight : float
            Weight of the clustering term.
        has_direct : bool
            Whether the clustering term has a gradient for the centres.
        """
        direct = torch.zeros_like(positions)
        if has_direct:
            direct = direct_center_gradient(z.float(), positions, step.choice)
        indirect = torch.zeros_like(direct)
        if weight > 0 and positions.grad is not None:
            indirect = positions.grad / weight - direct
        self._gradient_norms = direct.norm(), indirect.norm()

    @torch.no_grad()
    def finish_epoch(self, n_batches, centers):
        """Read the epoch's numbers; the one place where the device is waited for.

        Parameters
        ----------
        n_batches : int
            Number of batches of the epoch.
        centers : Centers
            The centres after the epoch.

        Returns
        -------
        monitors : dict of str to float
        """
        labels = self.labels[self._rows]
        counts = self.count()
        positions = centers.positions.detach()
        means = self._sums / n_batches
        mean_z, mean_square = means[3:].chunk(2)
        variance = (mean_square - mean_z.square()).sum()
        spread = (positions - positions.mean(0)).square().sum(1).mean()
        divisor = variance.clamp_min(torch.finfo(torch.float32).tiny)
        values = torch.stack(
            [
                *means[:2],
                variance,
                means[2] / divisor,
                spread / divisor,
                counts.min() / len(labels),
                counts.max() / len(labels),
                (labels != self._labels_before).float().mean(),
                *self._gradient_norms,
                centers.temperature,
            ]
        )
        return dict(zip(MONITORS, values.tolist(), strict=True))


MONITORS = (
    "mean_max_probability",
    "sampled_not_nearest",
    "embedding_variance",
    "within_over_variance",
    "center_spread_over_variance",
    "min_cluster_fraction",
    "max_cluster_fraction",
    "label_change",
    "center_gradient_direct",
    "center_gradient_indirect",
    "temperature",
)


def direct_center_gradient(z, centers, choice):
    """Gradient of the k-means loss with respect to the centres, assignments held fixed.

    Parameters
    ----------
    z : Tensor of shape (n_samples, n_components)
        Embeddings.
    centers : Tensor of shape (n_clusters, n_components)
        Centres.
    choice : Tensor of shape (n_samples,)
        Index of each sample's centre.

    Returns
    -------
    gradient : Tensor of shape (n_clusters, n_components)
        ``-2/n sum_{i: c_i = j} (z_i - mu_j)``.
    """
    weights = one_hot(choice, len(centers)).to(z.dtype)  # (n, k)
    return 2 * (weights.sum(0).unsqueeze(1) * centers - weights.T @ z) / len(z)
