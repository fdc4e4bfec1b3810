"""The one place that decides where tensors live."""

import torch

from ._warnings import warn_user


def resolve_device(device):
    """Turn the parameter ``device`` into a torch device that exists.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes the current CUDA device where there is one, else the CPU.

    Returns
    -------
    device : torch.device
        With its index, if it is a CUDA device.

    Raises
    ------
    ValueError
        If the device is unknown or not available.
    """
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"Expected 'device' to be 'auto', 'cpu', 'cuda', 'cuda:<index>' or a torch.device, "
            f"got {device!r}."
        ) from error
    if resolved.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = resolved.index
        if index is None and n_devices:
            index = torch.cuda.current_device()
        if index is None or index >= n_devices:
            raise ValueError(
                f"Expected an available device, got {device!r}, but torch sees {n_devices} CUDA "
                "device(s). Use device='auto' to fall back on the CPU."
            )
        return torch.device("cuda", index)
    try:
        torch.empty(0, dtype=torch.float64, device=resolved).cpu()  # some sums are of float64
    except (RuntimeError, NotImplementedError, AssertionError, TypeError) as error:
        raise ValueError(
            f"Expected an available device, got {device!r}, where torch cannot keep a float64 "
            "tensor. Use device='auto' or 'cpu'."
        ) from error
    return resolved


def resolve_kept_device(device):
    """Return the device of a fit, or the one that ``"auto"`` takes, with a warning, if it is gone.

    Parameters
    ----------
    device : str
        Where the fit was.

    Returns
    -------
    device : torch.device
    """
    try:
        return resolve_device(device)
    except ValueError:
        found = resolve_device("auto")
        warn_user(
            f"The estimator was fitted on {device}, which does not exist here: it answers on "
            f"{found}. Set device='auto' for further fits."
        )
        return found
