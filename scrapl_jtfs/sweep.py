"""A loss over one control of a synthesizer around the truth: does it lead there?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .checks import dense

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(sound, target) -> scalar, differentiable in the sound."""
POINTS = 33
"""Values of the control where none are given."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """Losses between a synthesizer's sound at several values of one control and its sound at the truth.

    Args:
        values: (n,) values of the control, rising, float64.
        truth: the value that the target was made with.
        losses: for each loss its values (n,), float64.
        gradients: for each loss its derivative with respect to the control (n,), float64.
    """

    values: NDArray[np.float64]
    truth: float
    losses: dict[str, NDArray[np.float64]]
    gradients: dict[str, NDArray[np.float64]]

    def points_to_truth(self, name: str) -> NDArray[np.bool_]:
        """Whether descent on a loss moves the control towards the truth, from each value (n,); False at it."""
        side = np.sign(self.values - self.truth)
        return (np.sign(self.gradients[name]) == side) & (side != 0)

    @property
    def shares(self) -> dict[str, float]:
        """For each loss the share of values, the truth apart, from which descent moves towards the truth."""
        elsewhere = int((self.values != self.truth).sum())
        return {name: float(self.points_to_truth(name).sum() / elsewhere) for name in self.losses}

    def __repr__(self) -> str:
        low, high = self.values[[0, -1]]
        shares = ", ".join(f"{name}: {share:.0%} of gradients point to it" for name, share in self.shares.items())
        return f"Sweep({len(self.values)} values from {low:g} to {high:g}, truth {self.truth:g}; {shares})"


def sweep_control(
    loss: Loss | Mapping[str, Loss],
    synth: Callable[[Tensor], Tensor],
    theta: Tensor,
    control: int,
    values: Sequence[float] | NDArray[np.floating[Any]] | Tensor | None = None,
) -> Sweep:
    r"""Compute a loss and its slope over one control: L(g(theta'), g(theta)), theta' being theta but for u.

    A loss that trains well has its minimum at the truth and slopes that lead there from everywhere. One that is
    flat, or whose slopes are as often wrong as right, does not hear the control: J may be too small for its rates.

    Args:
        loss: (sound, target) -> scalar, such as ``JTFSPathLoss(jtfs).full``; or several by name.
        synth: g, from controls of the shape of ``theta`` to a sound, differentiable and without randomness of its
            own.
        theta: (U,) or (1, U) controls of one sound, the truth.
        control: u, from 0 to U - 1.
        values: values of the control, at least two; by default 33 from 0 to 1 where the truth lies there. The
            truth is added if it is not among them.

    Raises:
        TypeError: ``theta`` is not a real floating-point tensor, ``control`` not an integer, or a loss is not
            callable.
        IndexError: there is no such control.
        ValueError: ``theta`` holds several sounds, values are not finite or missing, a loss is not a scalar, or
            has no gradient with respect to the control.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, JTFSPathLoss, sweep_control
        >>> loss_fn = JTFSPathLoss(JTFSPath(4096, J=9, Q=(8, 2), J_fr=2, T="global", F="global"))
        >>> t = torch.arange(4096)
        >>> def synth(theta):  # the second control is how fast loudness beats, over one octave
        ...     return torch.sin(t + theta[0]) * torch.sin(0.03 * 2 ** theta[1] * t) ** 2
        >>> sweep_control(loss_fn.full, synth, torch.tensor([0.0, 0.5]), control=1, values=torch.linspace(0, 1, 5))
        Sweep(5 values from 0 to 1, truth 0.5; loss: 100% of gradients point to it)
    """
    losses = _checked_losses(loss)
    theta = dense(theta, "theta").detach()
    if theta.ndim == 0 or theta.numel() != theta.shape[-1]:
        raise ValueError(f"Invalid theta: shape {tuple(theta.shape)}; expected the controls (U,) of one sound.")
    u = _checked_control(control, theta.numel())
    truth = float(theta.flatten()[u])
    places = _checked_values(values, truth)
    mask = torch.zeros_like(theta, dtype=torch.bool)
    mask.view(-1)[u] = True
    with torch.no_grad():
        target = synth(theta)
    found = {name: np.empty((2, len(places))) for name in losses}
    for i, place in enumerate(places):
        for name, pair in _losses_at(losses, synth, theta, mask, float(place), target).items():
            found[name][:, i] = pair
    return Sweep(
        places,
        truth,
        {name: both[0] for name, both in found.items()},
        {name: both[1] for name, both in found.items()},
    )


def _losses_at(
    losses: Mapping[str, Loss],
    synth: Callable[[Tensor], Tensor],
    theta: Tensor,
    mask: Tensor,
    place: float,
    target: Tensor,
) -> dict[str, tuple[float, float]]:
    """Return each loss and its derivative where the control is ``place``."""
    found: dict[str, tuple[float, float]] = {}
    with torch.enable_grad():
        control = torch.tensor(place, dtype=theta.dtype, device=theta.device, requires_grad=True)
        sound = synth(torch.where(mask, control, theta))
        for name, loss in losses.items():
            value = loss(sound, target)
            if not isinstance(value, Tensor) or value.numel() != 1:
                got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise ValueError(f"Invalid loss {name!r}: it returned {got}; expected a tensor of one number.")
            gradient = None
            if value.requires_grad:
                (gradient,) = torch.autograd.grad(
                    value, control, value.new_ones(value.shape), True, allow_unused=True
                )
            if gradient is None:
                raise ValueError(
                    f"Invalid loss {name!r}: it has no gradient with respect to the control; expected synth and "
                    "loss to be differentiable: mind detach(), no_grad() and rounding in synth."
                )
            found[name] = float(value.detach()), float(gradient)
    return found


def _checked_losses(loss: Any) -> dict[str, Loss]:
    losses = dict(loss) if isinstance(loss, Mapping) else {"loss": loss}
    if not losses:
        raise ValueError("Invalid loss: an empty mapping; expected at least one loss.")
    for name, one in losses.items():
        if not callable(one):
            raise TypeError(f"Invalid loss {name!r}: {one!r}; expected a function of (sound, target).")
    return losses


def _checked_control(control: Any, n_controls: int) -> int:
    if isinstance(control, bool) or not isinstance(control, (int, np.integer)):
        raise TypeError(f"Invalid control: {control!r}; expected an integer from 0 to {n_controls - 1}.")
    if not 0 <= control < n_controls:
        raise IndexError(f"control {control} is out of range: theta has {n_controls} controls, from 0.")
    return int(control)


def _checked_values(values: Any, truth: float) -> NDArray[np.float64]:
    if values is None:
        if not 0 <= truth <= 1:
            raise ValueError(
                f"Invalid values: None, with the truth at {truth:g}; expected a truth from 0 to 1, or the values "
                "of the control to try."
            )
        values = np.linspace(0, 1, POINTS)
    try:
        values = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"Invalid values: {values!r}; expected finite numbers on one axis.") from None
    if values.ndim != 1 or len(np.unique(values)) < 2 or not np.isfinite(values).all():
        raise ValueError(f"Invalid values: {values!r}; expected at least two finite numbers on one axis.")
    apart = values[~np.isclose(values, truth, rtol=1e-6, atol=1e-6 * float(np.ptp(values)))]
    return np.unique([*apart, truth])
