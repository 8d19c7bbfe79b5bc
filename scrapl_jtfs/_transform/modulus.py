"""The modulus of complex numbers given as two planes, smoothed or not, and its gradient.

|z| = sqrt(Re(z)^2 + Im(z)^2 + eps^2) - eps, whose gradient is z / rho, rho = |z| + eps. At eps = 0 the gradient
is zero, with all higher derivatives, where |z| is at most the square root of the smallest normal number (1e-19 in
float32): there squares underflow and the direction of z is rounding noise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from scrapl_jtfs._transform.linear.autograd import (
    forward_derivative,
    in_full_precision,
    merge_mapped,
    split_mapped,
)


def modulus(z: Tensor, epsilon: float) -> Tensor:
    """Return |z| (batch, ...) of planes (batch, 2, ...); not differentiable."""
    u = torch.mul(z[:, 0], z[:, 0]).addcmul_(z[:, 1], z[:, 1])
    if epsilon:
        # sqrt(u + eps^2) - eps would cancel where u is small.
        return u.div_((u + epsilon**2).sqrt_().add_(epsilon))
    return u.sqrt_()


def rho_(u: Tensor, epsilon: float) -> Tensor:
    """Turn a modulus, in place, into rho, by which z is divided; infinity where the gradient shall vanish."""
    if epsilon:
        return u.add_(epsilon)
    return torch.threshold_(u, _smallest(u), torch.inf)


def phase(z: Tensor, epsilon: float) -> Tensor:
    """Return z / rho, the gradient of the modulus, differentiably by plain autograd."""
    return z * _inverse(z, epsilon)


def times_phase(z: Tensor, d: Tensor, epsilon: float) -> Tensor:
    """Return d z / rho, differentiably.

    Its differential along (h, e) is (d / rho) (h - n <n, h>) + e n with n = z / rho, which is symmetric in h.

    Args:
        z: planes (batch, 2, rows, frames).
        d: (batch, rows, frames), gradient with respect to the modulus.
        epsilon: eps.
    """
    return _TimesPhase.apply(z, d, epsilon)


class _TimesPhase(Function):
    @staticmethod
    def forward(z: Tensor, d: Tensor, epsilon: float) -> Tensor:
        return z * (d / rho_(modulus(z, epsilon), epsilon)).unsqueeze(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, d, ctx.epsilon = inputs
        ctx.save_for_backward(z, d)
        ctx.save_for_forward(z, d)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        z, d = ctx.saved_tensors
        (h,) = grad_outputs
        if torch.is_grad_enabled():
            n = phase(z, ctx.epsilon)
            along = (h * n).sum(1)
            slope = d.unsqueeze(1) * _inverse(z, ctx.epsilon)
            return slope * (h - n * along.unsqueeze(1)), along, None
        rho = rho_(modulus(z, ctx.epsilon), ctx.epsilon).unsqueeze(1)
        n = z / rho
        along = torch.mul(h[:, 0], n[:, 0]).addcmul_(h[:, 1], n[:, 1])
        return torch.addcmul(h, n, along.unsqueeze(1), value=-1.0).mul_(d.unsqueeze(1) / rho), along, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        z, d = (merge_mapped(x, dim, info.batch_size) for x, dim in zip(args[:2], in_dims[:2], strict=True))
        return split_mapped(times_phase(z, d, args[2]), info.batch_size), 1

    @staticmethod
    @forward_derivative
    def jvp(ctx: Any, *grad_inputs: Any) -> Tensor:
        z, d = ctx.saved_tensors
        h, e = grad_inputs[:2]
        n = phase(z, ctx.epsilon)
        along = (h * n).sum(1, keepdim=True)
        return d.unsqueeze(1) * _inverse(z, ctx.epsilon) * (h - n * along) + e.unsqueeze(1) * n


def _inverse(z: Tensor, epsilon: float) -> Tensor:
    """Return 1 / rho, differentiably."""
    energy = z.square().sum(1, keepdim=True)
    if epsilon:
        return (energy + epsilon**2).rsqrt()
    return torch.nn.functional.threshold(energy, _smallest(z) ** 2, torch.inf).rsqrt()


def _smallest(u: Tensor) -> float:
    return torch.finfo(u.dtype).tiny ** 0.5
