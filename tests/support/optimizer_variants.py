"""The table of variants that the tests of PathAdamSAGA run over, and the parameters they train."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from scrapl_optim.experimental import host_rows, nearest
from tests.support.optimizer_helpers import assert_bitwise, random_paths

N_PATHS = 5
STORAGES = ["float32", "bfloat16", "int8", host_rows("float32"), host_rows("bfloat16"), host_rows("int8")]
CHOICES: dict[str, list[Any]] = {
    "storage": STORAGES,
    "saga": [1.0, 0.5, 0.0],
    "foreach": [None, True, False],
    "path_adam": [True, False],
    "unbiased": [False, True],
    "by_probs": [False, True],
    "maximize": [False, True],
}
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@dataclass(frozen=True)
class Variant:
    """One way to construct the optimizer."""

    storage: str = "float32"
    saga: float = 1.0
    foreach: bool | None = None
    path_adam: bool = True
    unbiased: bool = False
    maximize: bool = False
    by_probs: bool = False
    path_warmup: float = 0.0

    def kwargs(self, n_paths: int = N_PATHS, **overrides: Any) -> dict[str, Any]:
        """The arguments of the optimizer; with ``by_probs`` some paths are drawn twice as often as others."""
        given = {key: value for key, value in asdict(self).items() if key != "by_probs"}
        if self.by_probs:
            shares = [1 + path % 2 for path in range(n_paths)]
            given["probs"] = [share / sum(shares) for share in shares]
            given |= {"clocks_by_probs": True, "memory_by_probs": not self.unbiased}
        return {**given, **overrides}

    def weight(self, path: int) -> float | None:
        """A weight 1 / (P pi_p) for the unbiased update; the paper's takes none."""
        return 0.5 + 0.25 * path if self.unbiased else None

    @property
    def is_exact(self) -> bool:
        """Whether rows are stored without rounding."""
        return self.storage.startswith("float32")

    def assert_close(self, actual: Iterable[Tensor], expected: Iterable[Tensor], lr: float, n_steps: int) -> None:
        """Equal but for roundings of the arithmetic and, per step, one of the stored row in units of the update.

        The unit of a path's row follows the largest gradient of the whole step, and the dice of stochastic
        rounding are cast by the stored number: other parameters or layouts beside it, other dice.
        """
        quantum = {"float32": 0.0, "bfloat16": 2.0**-6, "int8": 2.0**-3}[self.storage.partition("-")[0]]
        for a, b in zip(actual, expected, strict=True):
            rounding = 16 * torch.finfo(a.dtype).eps
            torch.testing.assert_close(a, b, rtol=rounding, atol=rounding + n_steps * lr * quantum)

    def __str__(self) -> str:
        short = {"path_adam": "adam", "foreach": "foreach"}
        return "-".join(f"{short.get(k, k)}={v}" for k, v in asdict(self).items())


def pairwise(choices: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Rows such that any two values of different choices meet in at least one of them, greedily few."""
    rows = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    pairs = {i: set(itertools.combinations(row.items(), 2)) for i, row in enumerate(rows)}
    missing = set().union(*pairs.values())
    chosen = []
    while missing:
        best = max(pairs, key=lambda i: len(pairs[i] & missing))
        missing -= pairs[best]
        chosen.append(rows[best])
    return chosen


VARIANTS = [Variant(**row) for row in pairwise(CHOICES)]
BY_PROBS = [Variant(by_probs=True), Variant(storage="int8", saga=0.5, foreach=False, by_probs=True)]
WARM = [
    Variant(path_warmup=3.0),
    Variant(storage=host_rows("int8"), foreach=True, by_probs=True, path_warmup=3.0),
]
VARIANTS += [*BY_PROBS, *WARM]
VARIANTS += [Variant(storage=nearest("bfloat16")), Variant(storage=host_rows(nearest("int8")), foreach=True)]
EXACT_VARIANTS = [variant for variant in VARIANTS if variant.is_exact]
PATHS = random_paths(N_PATHS, 12, seed=3)
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
every_storage = pytest.mark.parametrize("storage", STORAGES)
every_device = pytest.mark.parametrize("device", DEVICES)


def make_zoo(device: str = "cpu", seed: int = 0) -> list[Parameter]:
    """Parameters of every kind; those of more than 4096 entries have blocks of int8, whole and partial ones."""
    generator = torch.Generator().manual_seed(seed)
    randn = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    tensors = [
        randn(16, 301).float(),
        randn(24, 20, 3, 3).float().to(memory_format=torch.channels_last),
        randn(30, 150).float().t(),
        randn(33).float(),
        randn(()).float(),
        randn(0, 3).float(),
        torch.view_as_complex(randn(19, 130, 2)).to(torch.complex64),
        torch.view_as_complex(randn(3, 2)),
        randn(64, 70).bfloat16(),
        randn(50).half(),
        randn(37, 31),
    ]
    return [Parameter(tensor.to(device)) for tensor in tensors]


def zoo_grads(params: list[Parameter], k: int, scale: float = 1.0) -> None:
    """Random gradients of step ``k``; now and then none, some laid out otherwise in memory."""
    generator = torch.Generator().manual_seed(1000 + k)
    for i, p in enumerate(params):
        shape = torch.view_as_real(p.detach()).shape if p.is_complex() else p.shape
        grad = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        grad = (torch.view_as_complex(grad) if p.is_complex() else grad).to(p)
        if (i + k) % 3 == 0 and p.dim() > 1:
            grad = grad.transpose(0, 1).contiguous().transpose(0, 1)
        p.grad = None if (i + 2 * k) % 7 == 3 else grad


def zoo_groups(params: list[Parameter]) -> list[dict[str, Any]]:
    """Three groups that differ in every hyperparameter that may differ."""
    return [
        {"params": params[:4], "lr": 0.02},
        {"params": params[4:8], "lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1},
        {"params": params[8:], "lr": 0.005, "eps": 1e-3, "weight_decay": 0.0},
    ]


def build(variant: Variant, device: str = "cpu", **overrides: Any) -> tuple[PathAdamSAGA, list[Parameter]]:
    params = make_zoo(device)
    return PathAdamSAGA(zoo_groups(params), N_PATHS, **variant.kwargs(**overrides)), params


def train(
    variant: Variant,
    optimizer: Any,
    params: list[Parameter],
    paths: list[int],
    *,
    first: int = 0,
    announce: bool = False,
    scale: float = 1.0,
) -> None:
    """One step for each path, the gradients those of steps ``first``, ``first + 1``, ..."""
    for k, path in enumerate(paths, start=first):
        zoo_grads(params, k, scale)
        if announce:
            optimizer.set_path(path, weight=variant.weight(path))
            optimizer.step()
        else:
            optimizer.step(path_idx=path, weight=variant.weight(path))


def state_bytes(states: Any) -> int:
    """Bytes of all tensors in ``optimizer.state`` or the ``state`` of a state dict, shared memory counted once."""
    tensors = [v for state in states.values() for v in state.values() if isinstance(v, Tensor)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def assert_same_state(actual: Any, expected: Any) -> None:
    """Two ``optimizer.state`` hold the same keys and the same bits, parameter by parameter."""
    for ours, theirs in zip(actual.values(), expected.values(), strict=True):
        assert set(ours) == set(theirs)
        keys = [key for key in ours if isinstance(ours[key], Tensor)]
        assert_bitwise([ours[key] for key in keys], [theirs[key] for key in keys])
