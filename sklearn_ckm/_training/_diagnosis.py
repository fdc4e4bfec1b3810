"""Whether the centres of a finished fit can be trusted."""

import numpy as np

_FEWEST_ROWS = 0.02  # of an equal share
_SMALLEST_SPREAD = 0.05  # of the variance of the embedding
_NEAREST_PAIR = 0.05  # of the mean squared distance of the rows to their centres
_FARTHEST_OFFSET = 1.0  # of the variance of the embedding


def find_center_problems(z, centers, labels):
    """Describe dead, doubled, collapsed and runaway centres.

    Parameters
    ----------
    z : ndarray of shape (n_samples, n_components)
        Target embeddings.
    centers : ndarray of shape (n_clusters, n_components)
        Cluster centres.
    labels : ndarray of shape (n_samples,)
        Nearest centre of each row.

    Returns
    -------
    problems : list of str
        One sentence a problem, with its numbers; empty if there is none.
    """
    centers = centers.astype(np.float64)
    n_clusters = len(centers)
    if n_clusters == 1:
        return []
    counts = np.bincount(labels, minlength=n_clusters)
    variance = z.var(axis=0, dtype=np.float64).sum()
    alive = np.flatnonzero(counts)
    means = np.stack([z[labels == j].mean(0, dtype=np.float64) for j in alive])
    within = sum(np.square(z[labels == j] - centers[j]).sum() for j in alive) / len(z)
    problems = []

    dead = np.flatnonzero(counts < max(1, _FEWEST_ROWS * len(z) / n_clusters))
    if len(dead):
        problems.append(
            f"{len(dead)} of {n_clusters} centres are dead (centres {dead.tolist()} hold "
            f"{counts[dead].tolist()} of {len(z)} rows)"
        )
    spread = np.square(centers - centers.mean(0)).sum(1).mean()
    if spread <= _SMALLEST_SPREAD * variance:
        problems.append(
            f"the centres have collapsed (their spread is {spread:.3g}, the variance of the "
            f"embedding {variance:.3g})"
        )
    gaps = np.square(centers[:, None] - centers[None]).sum(-1)
    doubled = np.argwhere(np.triu(gaps <= _NEAREST_PAIR * within, k=1))
    if len(doubled):
        i, j = doubled[0]
        problems.append(
            f"{len(doubled)} pairs of centres are doubled (centres {i} and {j} are "
            f"{gaps[i, j]:.3g} apart, rows lie {within:.3g} from their centres, both squared)"
        )
    offsets = np.square(centers[alive] - means).sum(1)
    if (offsets > _FARTHEST_OFFSET * variance).any() and variance > 0:
        worst = offsets.argmax()
        problems.append(
            f"centre {alive[worst]} has left the data (it is {offsets[worst]:.3g} from the mean of "
            f"its rows, squared, and the variance of the embedding is {variance:.3g})"
        )
    return problems
