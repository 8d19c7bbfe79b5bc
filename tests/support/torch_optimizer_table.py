"""PathAdamSAGA in the terms of torch's own optimizer tests: OptimizerInfo and OptimizerInput.

The tables say how the optimizer is constructed; what must hold is in ``test_torch_optimizer_situations.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ExponentialLR, LinearLR, PolynomialLR, ReduceLROnPlateau, StepLR

from scrapl_optim import PathAdamSAGA
from scrapl_optim.experimental import host_rows

pytest.importorskip("expecttest", reason="torch's own testing machinery needs it: pip install expecttest")
# The import forbids to set torch.backends flags for the rest of the process, where other tests have to.
with mock.patch.object(torch.backends, "disable_global_flags"):
    from torch.testing._internal import common_optimizers as common

N_PATHS = 3
SITUATIONS = "TestTorchsSituations"

Input: Any = common.OptimizerInput


def flavour(name: str, n_paths: int = N_PATHS, **fixed: Any) -> type[PathAdamSAGA]:
    """A class as torch's tests construct optimizers, from parameters and keywords, with some settings fixed.

    It is put into this module's globals, by which pickle finds it.
    """

    def __init__(self: PathAdamSAGA, params: Any, **kwargs: Any) -> None:
        PathAdamSAGA.__init__(self, params, **{"n_paths": n_paths, **fixed, **kwargs})

    made = type(name, (PathAdamSAGA,), {"__init__": __init__, "__module__": __name__})
    globals()[name] = made
    return made


def inputs(device: Any, dtype: Any = None) -> list[Any]:
    """Return hyperparameters as users give them; ``foreach`` is added by the tests."""
    numpy_numbers = {"lr": np.float32(0.01), "weight_decay": np.float64(0.1), "eps": np.float64(1e-12)}
    tensor_betas = (torch.tensor(0.9, device="cpu"), torch.tensor(0.99, device="cpu"))
    return [
        Input(params=None, kwargs={}, desc="default"),
        Input(params=None, kwargs={"lr": 0.01}, desc="non-default lr"),
        Input(params=None, kwargs={"lr": torch.tensor(0.01, device=device)}, desc="Tensor lr"),
        Input(params=None, kwargs={"weight_decay": 0.1}, desc="nonzero weight_decay"),
        Input(params=None, kwargs={"weight_decay": 0.1, "maximize": True}, desc="maximize"),
        Input(params=None, kwargs={"betas": (0.5, 0.8), "eps": 1e-8}, desc="betas and eps"),
        Input(params=None, kwargs={"betas": tensor_betas}, desc="Tensor betas"),
        Input(params=None, kwargs=numpy_numbers, desc="NumPy numbers"),
        Input(params=None, kwargs={"nonfinite": "skip"}, desc="non-finite gradients skipped"),
    ]


SCHEDULERS: list[list[Callable[[Any], Any]]] = [
    [lambda optimizer: StepLR(optimizer, gamma=0.9, step_size=10)],
    [lambda optimizer: LinearLR(optimizer, start_factor=0.4, total_iters=4)],
    [
        lambda optimizer: StepLR(optimizer, gamma=0.9, step_size=10),
        lambda optimizer: ReduceLROnPlateau(optimizer, threshold=1e-3),
    ],
    [lambda optimizer: ExponentialLR(optimizer, gamma=0.99), lambda optimizer: PolynomialLR(optimizer, power=0.9)],
]


def info(cls: type[PathAdamSAGA], decorators: Iterable[Any] = ()) -> Any:
    return common.OptimizerInfo(
        cls,  # type: ignore[arg-type]
        optim_inputs_func=inputs,
        optim_error_inputs_func=common.get_error_inputs_for_all_optims,
        scheduler_inputs=SCHEDULERS,  # type: ignore[arg-type]
        supported_impls=("foreach",),
        not_og_supported_flags=("foreach", "maximize", "unbiased", "nonfinite", "saga", "storage"),
        decorators=decorators,
    )


OPTIMIZERS: list[Any] = [
    info(flavour("OnePath", n_paths=1)),
    info(flavour("Paths")),
    info(flavour("PathsBfloat16", storage="bfloat16")),
    info(flavour("PathsInt8", storage="int8")),
    info(flavour("PathsInt8Host", storage=host_rows("int8"))),
    info(flavour("PathAdamOnly", saga=0.0)),
    info(flavour("PathSAGAOnly", path_adam=False)),
    info(flavour("Unbiased", unbiased=True)),
    info(flavour("PlainSGD", path_adam=False, saga=0.0)),
]


def params_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def next_path(optimizer: torch.optim.Optimizer) -> int:
    """Return a path that follows from the state alone, so that copies and resumed optimizers draw the same."""
    clocks = [optimizer.state[p]["step"] for p in params_of(optimizer) if "step" in optimizer.state.get(p, {})]
    return max((int(clock.max()) for clock in clocks), default=0) % optimizer.defaults["n_paths"]


def step(optimizer: Any, closure: Callable[[], Any] | None = None) -> Any:
    """A step as trainers take it: the path, if there are several, is announced or passed."""
    path = next_path(optimizer)
    if optimizer.defaults["n_paths"] == 1:
        return optimizer.step(closure)
    weight = 0.5 + 0.25 * path if optimizer.defaults["unbiased"] else None
    if path % 2:
        return optimizer.step(closure, path_idx=path, weight=weight)
    optimizer.set_path(path, weight=weight)
    return optimizer.step(closure)
