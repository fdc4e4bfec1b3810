"""Forward passes over whole data sets, in blocks."""

from math import prod

import torch

from ..losses import squared_distances
from ._batches import as_float
from ._divergence import divergence_error

_BLOCK_ELEMENTS = {"cpu": 2**22, "cuda": 2**24}
_BLOCK_ROWS = {"cpu": 256, "cuda": 4096}


def block_rows(device, n_features):
    """Rows of a block: fixed for a model, so that a row's result depends on that row alone."""
    kind = "cuda" if torch.device(device).type == "cuda" else "cpu"
    return max(1, min(_BLOCK_ROWS[kind], _BLOCK_ELEMENTS[kind] // max(1, n_features)))


@torch.no_grad()
def forward_in_blocks(function, X, device, prepare=None):
    """Apply a function to blocks of rows and put the answers together.

    Every block has the same shape (the last is padded with zeros, whose answers are dropped):
    matrix products of other shapes round differently, and a row would get another answer alone
    than among others. (Some kernels still round a row by where it stands in its block.)

    Parameters
    ----------
    function : callable
        Maps (n_rows, *input_shape) float32 tensors on `device` to (n_rows, ...) tensors.
    X : Tensor of shape (n_samples, *input_shape) or ndarray of shape (n_samples, n_features)
        Inputs anywhere; a tensor is float32 or uint8.
    device : torch.device
        Where the function computes.
    prepare : callable, default=None
        Makes a tensor of a block of an ndarray, so that no scaled copy of the whole is held.

    Returns
    -------
    output : Tensor of shape (n_samples, ...)
        On `device`.
    """
    n_rows = block_rows(device, prod(X.shape[1:]))
    output = None
    for start in range(0, len(X), n_rows):
        block = X[start : start + n_rows]
        x = as_float((block if prepare is None else prepare(block)).to(device))
        n_padded = n_rows - len(x)
        if n_padded:
            x = torch.cat([x, x.new_zeros(n_padded, *x.shape[1:])])
        with torch.autocast(x.device.type, enabled=False):  # whatever surrounds the call
            y = function(x)
        if output is None:  # one allocation: many small ones would fragment the heap
            output = y.new_empty(len(X), *y.shape[1:])
        output[start : start + n_rows] = y[: n_rows - n_padded]
    return output


@torch.no_grad()
def distances_in_blocks(z, centers):
    """Squared distances (n_samples, n_clusters) of many embeddings, in bounded memory."""
    n_rows = max(1, _BLOCK_ELEMENTS["cpu"] // centers.numel())
    with torch.autocast(z.device.type, enabled=False):
        return torch.cat([squared_distances(block, centers) for block in z.split(n_rows)])


def embed(model, X, device, prepare=None):
    """Embeddings of all rows, (n_samples, n_components) float32 on `device`, in eval mode."""
    model.eval()
    return forward_in_blocks(lambda x: model.encoder(x).float(), X, device, prepare)


def describe_centers(model):
    """Return what a fitted estimator tells of its centres, by the name of the attribute."""
    positions = model.centers.positions.detach().cpu().numpy().copy()
    return {
        "cluster_centers_": positions,
        "n_clusters_": len(positions),
        "temperature_": float(model.centers.temperature),
        "_n_features_out": positions.shape[1],
    }


def embed_training_rows(model, X, device, *, phase, lr):
    """Embed rows that the model was trained on, which is finite unless the training diverged.

    Parameters
    ----------
    model : nn.Module
        With an encoder.
    X : Tensor of shape (n_samples, *input_shape)
        Rows of the target.
    device : torch.device
        Where the model is.
    phase : str
        The phase that trained it.
    lr : float
        Learning rate of that phase.

    Returns
    -------
    z : Tensor of shape (n_samples, n_components)

    Raises
    ------
    DivergenceError
        If a squared norm overflows: distances to centres would, too.
    """
    z = embed(model, X, device)
    if not z.float().square().sum(1).isfinite().all():
        finding = "the embedding of the target overflows"
        raise divergence_error("in the last epoch of", finding, phase=phase, lr=lr)
    return z
