"""Sweep of a loss over one control of a synthesizer, which shows if its gradients lead to the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scrapl_jtfs._validation import as_dense

# (sound, target) -> scalar, differentiable in the sound
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
# The number of values of the control where none are given.
_N_VALUES = 33


@dataclass(frozen=True, eq=False)
class Sweep:
    """Losses between the sounds at several values of one control and the sound at its true value.

    Args:
        values: (n,) values of the control, rising, float64.
        truth: value of the control with which the target was made.
        losses: (n,) values of each loss, by name, float64.
        gradients: (n,) derivatives of each loss with respect to the control, by name, float64.
    """

    values: NDArray[np.float64]
    truth: float
    losses: dict[str, NDArray[np.float64]]
    gradients: dict[str, NDArray[np.float64]]

    def points_to_truth(self, name: str) -> NDArray[np.bool_]:
        """Return (n,) True for the values from which descent on a loss moves the control towards the truth."""
        side = np.sign(self.values - self.truth)
        return (np.sign(self.gradients[name]) == side) & (side != 0)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the values other than the truth from which descent moves towards it, for each loss."""
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
    r"""Compute a loss and its derivative over one control: L(g(theta'), g(theta)), where theta' differs in u only.

    A loss that trains well has its minimum at the truth, and its derivatives lead there from everywhere. A loss
    that is flat, or whose derivatives are as often wrong as right, does not hear the control; J may be too small
    for its rates.

    Args:
        loss: (sound, target) -> scalar, such as ``JTFSPathLoss(jtfs).full``; or several by name.
        synth: g, a differentiable function from controls of the shape of ``theta`` to a sound, without random
            numbers.
        theta: (U,) or (1, U) controls of one sound, the truth.
        control: index u of the control that is swept, from 0 to U - 1.
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
    losses = _as_losses(loss)
    theta = as_dense(theta, "theta").detach()
    if theta.ndim == 0 or theta.numel() != theta.shape[-1]:
        raise ValueError(f"Invalid theta: shape {tuple(theta.shape)}; expected the controls (U,) of one sound")
    u = _as_control(control, theta.numel())
    truth = float(theta.flatten()[u])
    swept = _as_values(values, truth)
    is_control = torch.zeros_like(theta, dtype=torch.bool)
    is_control.view(-1)[u] = True
    with torch.no_grad():
        target = synth(theta)
    results = {name: np.empty((2, len(swept))) for name in losses}
    for i, value in enumerate(swept):
        with torch.enable_grad():
            moved = torch.tensor(float(value), dtype=theta.dtype, device=theta.device, requires_grad=True)
            sound = synth(torch.where(is_control, moved, theta))
            for name, one in losses.items():
                results[name][:, i] = _value_and_derivative(name, one(sound, target), moved)
    return Sweep(
        swept,
        truth,
        {name: both[0] for name, both in results.items()},
        {name: both[1] for name, both in results.items()},
    )


def _value_and_derivative(name: str, loss: Any, control: Tensor) -> tuple[float, float]:
    """Return a loss and its derivative with respect to the control.

    Raises:
        ValueError: the loss is not a scalar, or does not depend on the control by differentiable operations.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        kind = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise ValueError(f"Invalid loss {name!r}: it returned {kind}; expected a tensor of one number")
    derivative = None
    if loss.requires_grad:
        # The sound is differentiated again for the next loss.
        ones = loss.new_ones(loss.shape)
        (derivative,) = torch.autograd.grad(loss, control, ones, retain_graph=True, allow_unused=True)
    if derivative is None:
        raise ValueError(
            f"Invalid loss {name!r}: it has no gradient with respect to the control; expected synth and loss to "
            "be differentiable; mind detach(), no_grad() and rounding in synth"
        )
    return float(loss.detach()), float(derivative)


def _as_losses(loss: Any) -> dict[str, Loss]:
    losses = dict(loss) if isinstance(loss, Mapping) else {"loss": loss}
    if not losses:
        raise ValueError("Invalid loss: an empty mapping; expected at least one loss")
    for name, one in losses.items():
        if not callable(one):
            raise TypeError(f"Invalid loss {name!r}: {one!r}; expected a function of (sound, target)")
    return losses


def _as_control(control: Any, n_controls: int) -> int:
    if isinstance(control, bool) or not isinstance(control, (int, np.integer)):
        raise TypeError(f"Invalid control: {control!r}; expected an integer from 0 to {n_controls - 1}")
    if not 0 <= control < n_controls:
        raise IndexError(f"Invalid control: {control}; expected an integer from 0 to {n_controls - 1}")
    return int(control)


def _as_values(values: Any, truth: float) -> NDArray[np.float64]:
    if values is None:
        if not 0 <= truth <= 1:
            raise ValueError(
                f"Invalid values: None, with the truth at {truth:g}; expected a truth from 0 to 1, or the values "
                "of the control to try"
            )
        values = np.linspace(0, 1, _N_VALUES)
    try:
        values = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"Invalid values: {values!r}; expected finite numbers on one axis") from None
    if values.ndim != 1 or len(np.unique(values)) < 2 or not np.isfinite(values).all():
        raise ValueError(f"Invalid values: {values!r}; expected at least two finite numbers on one axis")
    # Values that differ from the truth by rounding are the truth.
    others = values[~np.isclose(values, truth, rtol=1e-6, atol=1e-6 * float(np.ptp(values)))]
    return np.unique([*others, truth])
