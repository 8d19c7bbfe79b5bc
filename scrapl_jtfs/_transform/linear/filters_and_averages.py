"""Linear maps along one axis: filters along log-frequency, averages, cropping, and the reflection of a signal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scrapl_jtfs._transform.linear.autograd import LinearMap


@dataclass(frozen=True, eq=False)
class Identity:
    """The map that does nothing but copy, as maps may not return their argument.

    Args:
        size: numbers of one item of the batch.
    """

    size: int

    def __call__(self, x: Tensor) -> Tensor:
        """Return x."""
        return x.clone()

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Return y."""
        return (y.clone(),)


@dataclass(frozen=True, eq=False)
class Reflection:
    """Linear map that continues a signal by its reflection, with an adjoint that is deterministic on CUDA, too.

    Args:
        left: samples added before the signal, fewer than it has.
        right: samples added after it, fewer than it has.
    """

    left: int
    right: int

    def __call__(self, x: Tensor) -> Tensor:
        """Map (batch, n) to (batch, left + n + right)."""
        return torch.nn.functional.pad(x, (self.left, self.right), mode="reflect")

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (batch, left + n + right) to (batch, n)."""
        n = y.shape[-1] - self.left - self.right
        x = y[..., self.left : self.left + n].clone()
        x[..., 1 : 1 + self.left].add_(y[..., : self.left].flip(-1))
        x[..., n - 1 - self.right : n - 1].add_(y[..., self.left + n :].flip(-1))
        return (x,)


@dataclass(frozen=True, eq=False)
class RowFilter:
    """Linear map that filters along log-frequency: from rows of planes to other rows of planes.

    Args:
        matrix: (2 rows out, rows in) real: [C; S] for real rows in, [[C, -S], [S, C]] for the planes of complex
            ones, with C + i S the circulant matrix of psi_nfr.
    """

    matrix: Tensor

    @property
    def rows(self) -> int:
        """Rows out."""
        return self.matrix.shape[0] // 2

    def __call__(self, y: Tensor) -> Tensor:
        """Map (batch, rows in, frames) to (batch, 2, rows out, frames)."""
        return torch.matmul(self.matrix, y).unflatten(1, (2, -1))

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (batch, 2, rows out, frames) to (batch, rows in, frames)."""
        return (torch.matmul(self.matrix.mT, y.flatten(1, 2)),)

    def add_adjoint(self, y: Tensor, total: Tensor) -> None:
        """Add the adjoint of ``y`` to ``total``, in place."""
        total.baddbmm_(self.matrix.mT.expand(y.shape[0], -1, -1), y.flatten(1, 2))


@dataclass(frozen=True, eq=False)
class SpinPair:
    """Linear map that filters along log-frequency with psi_nfr and with its conjugate, its mirror in spin.

    With Y = P + i Q, both (C + i S) Y and (C - i S) Y are sums of the four real products C P, S Q, C Q and S P.
    Against two :class:`RowFilter` that makes the paths of a fast n2 1.45 times faster together, and those of a
    slow one, with few rows in, no faster (timed on a CPU).

    Args:
        matrix: (2 rows out, rows in) real: [C; S].
    """

    matrix: Tensor

    @property
    def rows(self) -> int:
        """Rows out of both spins."""
        return self.matrix.shape[0]

    def __call__(self, y: Tensor) -> Tensor:
        """Map planes (batch, 2 rows in, frames) to planes (batch, 2, 2 rows out, frames), upward spin first."""
        p, q = torch.matmul(self.matrix, y.unflatten(1, (2, -1))).unbind(1)
        (cp, sp), (cq, sq) = p.chunk(2, dim=1), q.chunk(2, dim=1)
        rows = cp.shape[1]
        z = y.new_empty(y.shape[0], 2, 2 * rows, y.shape[-1])
        torch.sub(cp, sq, out=z[:, 0, :rows])
        torch.add(cp, sq, out=z[:, 0, rows:])
        torch.add(cq, sp, out=z[:, 1, :rows])
        torch.sub(cq, sp, out=z[:, 1, rows:])
        return z

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (batch, 2, 2 rows out, frames) to (batch, 2 rows in, frames)."""
        (up_p, down_p), (up_q, down_q) = (plane.chunk(2, dim=1) for plane in y.unbind(1))
        rows = up_p.shape[1]
        products = y.new_empty(y.shape)
        torch.add(up_p, down_p, out=products[:, 0, :rows])
        torch.sub(up_q, down_q, out=products[:, 0, rows:])
        torch.add(up_q, down_q, out=products[:, 1, :rows])
        torch.sub(down_p, up_p, out=products[:, 1, rows:])
        return (torch.matmul(self.matrix.mT, products).flatten(1, 2),)

    def add_adjoint(self, y: Tensor, total: Tensor) -> None:
        """Add the adjoint of ``y`` to ``total``, in place."""
        total.add_(self.adjoint(y)[0])


@dataclass(frozen=True, eq=False)
class Matrix:
    """Linear map along rows or frames by a real matrix.

    Args:
        matrix: (numbers out, numbers in).
        dim: the axis that it acts on: -2, rows, or -1, frames.
    """

    matrix: Tensor
    dim: int

    def __call__(self, u: Tensor) -> Tensor:
        """Map (..., rows in, frames) to (..., rows out, frames), or the same along frames."""
        # Along frames, sums run along the matrix's rows, for speed.
        return torch.matmul(self.matrix, u) if self.dim == -2 else torch.matmul(u, self.matrix.mT)

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (..., rows out, frames) to (..., rows in, frames), or the same along frames."""
        return (torch.matmul(self.matrix.mT, y) if self.dim == -2 else torch.matmul(y, self.matrix),)


@dataclass(frozen=True, eq=False)
class SpectralAverage:
    """Low-pass along time as a product of spectra, for many frames out.

    Args:
        spectrum: from frames to bins 0, 1, ..., complex or, of an even period, real ones.
        response: (bins,) response of the low-pass at these bins, complex.
        n_out: frames out before cropping.
        kept: those that are kept.
    """

    spectrum: LinearMap
    response: Tensor
    n_out: int
    kept: slice

    def __call__(self, u: Tensor) -> Tensor:
        """Map (..., n) to (..., frames kept)."""
        bins = self.spectrum(u) * self.response
        # Twice the rate of the output holds the whole low-pass.
        return torch.fft.irfft(bins, n=2 * self.n_out, norm="forward")[..., ::2][..., self.kept].clone()

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (..., frames kept) to (..., n)."""
        frames = y.new_zeros(*y.shape[:-1], 2 * self.n_out)
        frames[..., ::2][..., self.kept] = y
        bins = torch.fft.rfft(frames)[..., : len(self.response)]
        bins = bins * self.response.conj()
        bins[..., 1 : self.n_out].mul_(2.0)
        return (self.spectrum.adjoint(bins)[0],)


@dataclass(frozen=True, eq=False)
class Crop:
    """Linear map that keeps a run of frames.

    Args:
        n: frames in.
        kept: those that are kept.
    """

    n: int
    kept: slice

    def __call__(self, u: Tensor) -> Tensor:
        """Map (..., n) to (..., frames kept)."""
        return u[..., self.kept].clone()

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (..., frames kept) to (..., n)."""
        u = y.new_zeros(*y.shape[:-1], self.n)
        u[..., self.kept].add_(y)
        return (u,)
