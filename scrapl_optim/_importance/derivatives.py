"""Derivatives of path losses in the controls of a synthesizer: s of equation (11), H of equation (12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class PathDerivatives(NamedTuple):
    r"""First and second derivatives of the loss of a path on one batch.

    Attributes:
        slope: :math:`s_{bu} = \partial L_p / \partial \theta_{bu}`, shape ``(B, U)``, float64.
        hessian: :math:`H_{buu'} = \partial^2 L_p / \partial \theta_{bu} \partial \theta_{bu'}`, shape
            ``(B, U, U)``; no loss couples examples, so that there are no others.
    """

    slope: Tensor
    hessian: Tensor


def path_derivatives(loss: Callable[[Tensor], Tensor], theta: Tensor) -> PathDerivatives:
    r"""Differentiate a loss twice with respect to the controls.

    The loss is a mean or sum over examples. Its Hessian is therefore a block of U x U for each example, and one
    backward pass through its gradient gives a row of all blocks at once: U passes in all, whatever the batch. Weak
    paths need float64: in float32 their second derivatives can be off a hundredfold.

    Args:
        loss: maps controls of shape ``(B, U)`` to a scalar.
        theta: controls, shape ``(B, U)``.

    Raises:
        ValueError: if the loss is not a scalar.

    Source: SCRAPL, equations (11) and (12).
    """
    theta = theta.detach().requires_grad_()
    value = loss(theta)
    if value.numel() != 1:
        raise ValueError(f"Invalid path_loss: shape {tuple(value.shape)}; expected a scalar for each path")
    if not value.requires_grad:
        zeros = torch.zeros_like(theta)
        return PathDerivatives(zeros, zeros.unsqueeze(1).expand(-1, theta.shape[1], -1))
    (slope,) = torch.autograd.grad(value, theta, create_graph=True, materialize_grads=True)
    rows = [_differentiate(slope[:, u], theta) for u in range(theta.shape[1])]
    return PathDerivatives(slope.detach(), torch.stack(rows, 1))


def _differentiate(slope: Tensor, theta: Tensor) -> Tensor:
    """Return the derivative of the slope in one control of each example, a row of each Hessian."""
    if not slope.requires_grad:
        return torch.zeros_like(theta)
    (row,) = torch.autograd.grad(slope.sum(), theta, retain_graph=True, materialize_grads=True)
    return row


def couples_examples(loss: Callable[[Tensor], Tensor], theta: Tensor, generator: torch.Generator) -> bool:
    """Return whether the second derivatives of a loss between different examples do not vanish.

    Row sums of the Hessian under random signs tell: without coupling, the sign of each example comes out of the
    derivative as a factor.
    """
    if theta.shape[0] < 2:
        return False
    theta = theta.detach().requires_grad_()
    value = loss(theta)
    if not value.requires_grad:
        return False
    (slope,) = torch.autograd.grad(value, theta, create_graph=True, materialize_grads=True)
    if not slope.requires_grad:
        return False
    shape, device = (theta.shape[0], 1), generator.device
    signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.int64, device=device).to(theta) * 2 - 1
    signs[0], signs[1] = 1, -1
    (plain,) = torch.autograd.grad(slope.sum(), theta, retain_graph=True, materialize_grads=True)
    (signed,) = torch.autograd.grad((signs * slope).sum(), theta, materialize_grads=True)
    tolerance = 1e3 * torch.finfo(theta.dtype).eps ** 0.75
    return bool((signed - signs * plain).norm() > tolerance * plain.norm())
