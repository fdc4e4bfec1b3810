"""Cluster centres and the scale of their logits."""

import torch
from torch import nn

MARGIN = 6.0  # nats between the nearest and the second nearest centre, at the median sample
_MEMORY = 0.99  # per batch, of the moving average of the margin


def margin_temperature(distances: torch.Tensor) -> torch.Tensor:
    """Temperature at which the median gap between the two nearest centres is six nats.

    Parameters
    ----------
    distances : Tensor of shape (n_samples, n_clusters)
        Squared distances.

    Returns
    -------
    temperature : Tensor of shape ()
        In squared units of the embedding, positive. 1 where there is a single centre.
    """
    if distances.shape[1] < 2:
        return distances.new_ones(())
    nearest = distances.topk(2, dim=1, largest=False).values
    gap = (nearest[:, 1] - nearest[:, 0]).median()
    # where most rows coincide the median gap is 0; the logits must stay finite for the others
    precision = torch.finfo(distances.dtype)
    return (gap / MARGIN).clamp_min(precision.eps * distances.max() + precision.tiny)


class Centers(nn.Module):
    """Centres in the embedding with the temperature of their logits.

    Parameters
    ----------
    positions : Tensor of shape (n_clusters, n_components)
        Where the centres start.
    temperature : float or "auto"
        Scale of the logits, in squared units of the embedding. ``"auto"`` follows the data by a
        moving average of :func:`margin_temperature`, so that the noise of the assignment neither
        drowns the logits nor vanishes when the embedding shrinks or grows. No gradient flows
        through it.
    """

    def __init__(self, positions: torch.Tensor, temperature: float | str = "auto") -> None:
        super().__init__()
        self.positions = nn.Parameter(positions.clone())
        self.register_buffer(
            "temperature", torch.ones((), dtype=torch.float32, device=positions.device)
        )
        self.set_temperature(temperature)

    @torch.no_grad()
    def set_temperature(self, temperature: float | str) -> None:
        """Fix the temperature, or let it follow the data.

        Parameters
        ----------
        temperature : float or "auto"
            ``"auto"`` follows the data from where it is.
        """
        self.is_adaptive = temperature == "auto"
        if not self.is_adaptive:
            self.temperature.fill_(temperature)

    def keep_temperature(self) -> None:
        """Let the temperature be what it is."""
        self.is_adaptive = False

    @torch.no_grad()
    def calibrate(self, distances: torch.Tensor) -> None:
        """Set the temperature from the whole data.

        Parameters
        ----------
        distances : Tensor of shape (n_samples, n_clusters)
            Squared distances.
        """
        if self.is_adaptive:
            self.temperature.copy_(self._margin_temperature(distances))

    @torch.no_grad()
    def follow(self, distances: torch.Tensor) -> torch.Tensor:
        """Move the temperature towards that of a batch.

        Parameters
        ----------
        distances : Tensor of shape (n_samples, n_clusters)
            Squared distances.

        Returns
        -------
        temperature : Tensor of shape ()
            The new temperature.
        """
        if self.is_adaptive:
            margin = self._margin_temperature(distances).to(torch.float32)
            self.temperature.lerp_(margin, 1 - _MEMORY)
        return self.temperature

    def _margin_temperature(self, distances):
        """That of the rows; where all are one point, what rounding there is at that place.

        Other rows than these, such as their views, shall have finite logits too.
        """
        norms = self.positions.detach().square().sum(1)
        return margin_temperature(distances).clamp_min(torch.finfo(norms.dtype).eps * norms.max())
