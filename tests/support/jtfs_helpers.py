"""What the tests of the transform share: its settings, seeded noise, inner products, literal DFTs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scrapl_jtfs._transform.linear.autograd import LinearMap
from scrapl_jtfs._transform.linear.filters_and_averages import RowFilter, SpinPair
from scrapl_jtfs._transform.linear.spectra import Subbands

SMALL: dict[str, Any] = dict(n_samples=512, J=5, Q=(4, 1), J_fr=2)
# Averages that are local along both axes
LOCAL: dict[str, Any] = SMALL | dict(T=32, F=2)
BOTH_ORDERS: dict[str, Any] = LOCAL | dict(orders=(1, 2))
# For numerical Jacobians, which have a row for each sample
TINY: dict[str, Any] = dict(n_samples=48, J=3, Q=(2, 1), J_fr=1, T=8, F=2, orders=(1, 2))
OPTIONS: dict[str, Any] = dict(orders=(1, 2), samples_per_bandwidth=2, smoothing=1e-4, memory=100_000)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw normal noise, real or complex."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def inner(a: Tensor, b: Tensor) -> float:
    """Real inner product, sum Re(conj(a) b)."""
    return float((a.conj() * b).sum().real)


def size(x: Tensor) -> float:
    """Euclidean norm."""
    return float(torch.linalg.vector_norm(x))


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare with a tolerance relative to the largest expected magnitude."""
    assert actual.shape == expected.shape
    scale = float(expected.detach().abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale)


def dft(bins: Sequence[int], n: int) -> Tensor:
    """Matrix (bins, n) of x_hat[k] = 1/n sum_t x[t] e^{-2 pi i k t / n}."""
    phase = (torch.tensor(list(bins))[:, None] * torch.arange(n) % n).double()
    return torch.polar(torch.full_like(phase, 1.0 / n), -2 * math.pi * phase / n)


def literal_band(bins: Tensor, response: Tensor, length: int) -> Tensor:
    """z[t] = sum_i bins[i] response[i] e^{2 pi i (i + 1) t / M}, term by term, for bins (..., width)."""
    waves = dft([-(i + 1) for i in range(response.shape[-1])], length) * length
    return (bins * response) @ waves


def planes_of(z: Tensor) -> Tensor:
    """Real and imaginary parts of z (batch, rows, frames) as planes (batch, 2, rows, frames)."""
    return torch.stack([z.real, z.imag], dim=1)


def energy(outputs: list[Tensor]) -> Tensor:
    """Sum of squares."""
    return torch.stack([y.square().sum() for y in outputs]).sum()


def value_and_gradient(f: Callable[[Tensor], list[Tensor]], x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return what f makes of x, and the gradient of its energy."""
    x = x.detach().requires_grad_()
    outputs = f(x)
    (gradient,) = torch.autograd.grad(energy(outputs), x)
    return [y.detach() for y in outputs], gradient


def assert_all_near(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Compare one by one."""
    for a, b in zip(actual, expected, strict=True):
        assert_near(a, b, tolerance)


def distance(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Relative error over all paths."""
    apart = [a - b for a, b in zip(actual, expected, strict=True)]
    return float((energy(apart) / energy(expected)).sqrt())


@dataclass(frozen=True)
class Dense:
    """A linear map given by one real matrix for each argument, on flattened items.

    Args:
        matrices: each (numbers out, numbers in).
        shapes: of an item of each argument.
        shape: of an item of the result.
    """

    matrices: tuple[Tensor, ...]
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in the image of one item."""
        return math.prod(self.shape)

    def __call__(self, *xs: Tensor) -> Tensor:
        """Apply the map."""
        images = [x.flatten(1) @ matrix.mT for x, matrix in zip(xs, self.matrices, strict=True)]
        return torch.stack(images).sum(0).reshape(-1, *self.shape)

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        """Apply its adjoint."""
        flat = y.flatten(1)
        return tuple(
            (flat @ matrix).reshape(-1, *shape) for matrix, shape in zip(self.matrices, self.shapes, strict=True)
        )

    def add_adjoint(self, y: Tensor, total: Tensor) -> None:
        """Add the adjoint of ``y``, where there is one argument, to ``total``."""
        total.add_(self.adjoint(y)[0])


def random_dense(shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...], seed: int) -> Dense:
    """Draw a dense map."""
    out = math.prod(shape)
    matrices = tuple(noise(out, math.prod(s), seed=seed + 1000 * i) / out**0.5 for i, s in enumerate(shapes))
    return Dense(matrices, tuple(shapes), shape)


def assert_is_linear_map(linear_map: LinearMap, *xs: Tensor, tolerance: float = 1e-12) -> Tensor:
    """Check the contract of linear maps on a batch, and return the image.

    The adjoint identity; what adds its adjoint to a sum does so in place; arguments are neither changed nor
    returned, nor any view of them; each item of the batch depends on itself alone.
    """
    before = [x.clone() for x in xs]
    y = linear_map(*xs)
    w = noise(*y.shape, seed=77, dtype=y.dtype)
    kept_w = w.clone()
    backs = linear_map.adjoint(w)
    assert [(b.shape, b.dtype) for b in backs] == [(x.shape, x.dtype) for x in xs]

    scale = size(w) * (size(y) + 1e-300)
    assert abs(inner(w, y) - sum(inner(b, x) for b, x in zip(backs, xs, strict=True))) <= tolerance * scale

    storages = {x.untyped_storage().data_ptr() for x in (*xs, w)}
    constants = [v for v in vars(linear_map).values() if isinstance(v, Tensor)]
    storages |= {c.untyped_storage().data_ptr() for c in constants}
    assert all(out.untyped_storage().data_ptr() not in storages for out in (y, *backs))

    if isinstance(linear_map, (Subbands, RowFilter, SpinPair)):
        total = noise(*xs[0].shape, seed=5, dtype=xs[0].dtype)
        expected = total + backs[0]
        linear_map.add_adjoint(w, total)
        torch.testing.assert_close(total, expected, rtol=tolerance, atol=tolerance * size(expected))
    assert all(torch.equal(x, b) for x, b in zip(xs, before, strict=True))
    assert torch.equal(w, kept_w)

    for i in range(y.shape[0]):
        alone = linear_map(*(x[i : i + 1] for x in xs))
        torch.testing.assert_close(alone, y[i : i + 1], rtol=0, atol=tolerance * size(y))
        for back, whole in zip(linear_map.adjoint(w[i : i + 1]), backs, strict=True):
            torch.testing.assert_close(back, whole[i : i + 1], rtol=0, atol=tolerance * size(whole))
    return y
