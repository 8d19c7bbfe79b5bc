"""Rounding apart from training: stored moments after many visits of a path against moments in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scrapl_optim import PathAdamSAGA
from scrapl_optim._path_adam_saga.formats import row_format
from scrapl_optim.experimental import nearest

STORAGES = ("float32", "bfloat16", nearest("bfloat16"), "int8", nearest("int8"))


@dataclass(frozen=True)
class Rounding:
    """Visits of one path (whose clock then ticks once a visit), with gradients around a constant mean.

    Args:
        shape: of the parameter.
        visits: after how many the moments are compared.
        betas: of P-Adam.
        halving: visits in which gradients fall to a half, as they do when training converges; None: they do not.
        seed: of means, scales and noise.
    """

    shape: tuple[int, int] = (16, 1024)
    visits: tuple[int, ...] = (10, 30, 100, 300, 1000, 3000, 10000)
    betas: tuple[float, float] = (0.9, 0.999)
    halving: int | None = None
    seed: int = 0

    @property
    def label(self) -> str:
        return "constant mean" if self.halving is None else f"halved every {self.halving} visits"


@dataclass(frozen=True)
class Moments:
    """The moments of one path, in float64: update = m_hat / root of v_hat, and that root."""

    update: Tensor
    rms: Tensor


def gradients(rounding: Rounding) -> Iterator[Tensor]:
    """Float32 gradients, visit after visit: entries differ in scale (by 8 octaves or so) and in noise."""
    generator = torch.Generator().manual_seed(rounding.seed)
    scale = torch.randn(rounding.shape, generator=generator).exp()
    mean = 0.5 * torch.randn(rounding.shape, generator=generator)
    for visit in range(rounding.visits[-1]):
        fall = 1.0 if rounding.halving is None else 2.0 ** (-visit / rounding.halving)
        yield fall * scale * (mean + torch.randn(rounding.shape, generator=generator))


def exact_moments(rounding: Rounding) -> Iterator[Moments]:
    """The bias-corrected moments of Adam after each of ``rounding.visits``, in float64 and from their sums."""
    (beta1, beta2), m, v = rounding.betas, torch.zeros(()).double(), torch.zeros(()).double()
    for visit, grad in enumerate(gradients(rounding), 1):
        g = grad.double()
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g.square()
        if visit in rounding.visits:
            rms = (v / (1 - beta2**visit)).sqrt()
            yield Moments(m / (1 - beta1**visit) / rms, rms)


def decoded_moments(state: dict[str, Tensor], storage: str, shape: tuple[int, ...], path: int = 0) -> Moments:
    """Decode what the state of a parameter holds of one path."""
    formats = row_format(storage, shape)

    def decode(name: str) -> Tensor:
        kept = getattr(formats, name)
        return kept.decode([state[f"{name}{suffix}.{path}"] for suffix in kept.suffixes], torch.float64).double()

    return Moments(decode("update"), decode("rms") / state["scale"][path])


def visited_moments(rounding: Rounding, storage: str) -> Iterator[Moments]:
    """The same moments as PathAdamSAGA keeps them."""
    parameter = torch.nn.Parameter(torch.zeros(rounding.shape))
    optimizer = PathAdamSAGA([parameter], n_paths=1, betas=rounding.betas, storage=storage)
    for visit, grad in enumerate(gradients(rounding), 1):
        parameter.grad = grad
        optimizer.step(path_idx=0)
        if visit in rounding.visits:
            yield decoded_moments(optimizer.state[parameter], storage, rounding.shape)


def errors(found: Moments, exact: Moments) -> dict[str, float]:
    """Relative errors of the root, and of the update, whose bias is along its sign (below 0: too short)."""
    ratio = found.rms / exact.rms - 1
    difference = found.update - exact.update
    return {
        "rms_median": ratio.abs().median().item(),
        "rms_p99": ratio.abs().flatten().quantile(0.99).item(),
        "rms_bias": ratio.mean().item(),
        "update_error": (difference.norm() / exact.update.norm()).item(),
        "update_bias": ((difference * exact.update.sign()).mean() / exact.update.abs().mean()).item(),
    }


def study_rounding(rounding: Rounding, storages: Sequence[str] = STORAGES) -> Iterator[dict[str, Any]]:
    """One row for each storage and number of visits; every storage sees the same gradients."""
    exact = list(exact_moments(rounding))
    for storage in storages:
        for visits, found, wanted in zip(rounding.visits, visited_moments(rounding, storage), exact, strict=True):
            yield {"gradients": rounding.label, "storage": storage, "visits": visits, **errors(found, wanted)}
