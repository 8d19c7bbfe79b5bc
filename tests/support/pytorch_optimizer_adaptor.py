"""A pytest plugin that puts PathAdamSAGA among the optimizers that pytorch_optimizer's own tests go through.

It is loaded (``-p pytorch_optimizer_adaptor``) in the process that runs those tests, before their modules, which
read the table of optimizers when they are imported.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import pytest
from pytorch_optimizer.optimizer import OPTIMIZERS
from torch.optim import Optimizer

from scrapl_optim import PathAdamSAGA
from scrapl_optim.experimental import host_rows

N_PATHS = 3


def announce(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Name the path of a step whose caller knows nothing of paths: one that follows from the state."""
    states = [
        optimizer.state[p] for group in optimizer.param_groups for p in group["params"] if p in optimizer.state
    ]
    step = max((int(state["step"].max()) for state in states if "step" in state), default=0)
    optimizer.set_path(step % optimizer.defaults["n_paths"])  # type: ignore[attr-defined]


class Adapted(PathAdamSAGA):
    """PathAdamSAGA that needs parameters alone, with the arguments of the suite's other optimizers."""

    fixed: ClassVar[dict[str, Any]] = {"n_paths": N_PATHS}

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        eps: float = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        rest = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "foreach": foreach}
        super().__init__(params, lr=lr, **rest, **self.fixed)
        self.register_step_pre_hook(announce)


def adapted(name: str, **fixed: Any) -> type[Adapted]:
    return type(name, (Adapted,), {"fixed": {**Adapted.fixed, **fixed}})


class Wrapped(Adapted):
    """In place of the optimizers that the suite wraps, which ignore arguments that they do not know."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0, **ignored: Any) -> None:
        super().__init__(params, lr, weight_decay=weight_decay)


class WrappedOnePath(Wrapped):
    """The same with one path: like SGD, it moves by the learning rate if all gradients are 1."""

    fixed: ClassVar[dict[str, Any]] = {"n_paths": 1}


CLASSES = [
    adapted("PathAdamSAGA1", n_paths=1),
    adapted("PathAdamSAGA3"),
    adapted("PathAdamSAGAInt8", storage="int8"),
    adapted("PathAdamSAGAHost", storage=host_rows("bfloat16")),
    adapted("PathAdamSAGAUnbiased", unbiased=True),
    adapted("PathAdamSAGAMemory", path_adam=False),
]
OURS = [cls.__name__.lower() for cls in CLASSES]
OPTIMIZERS.update(zip(OURS, CLASSES, strict=True))
OPTIMIZERS.update({name: Wrapped for name in ("adamw", "adamp", "asgd", "lion")}, sgd=WrappedOnePath)

COMPILED = OURS[:2]
WRAPPERS = ("lookahead", "orthograd", "schedulefree", "trac")
WHOLE_FILES = ("test_wrapper_optimizers.py", "test_lr_schedulers.py")
EXCUSED = {
    "TestBasicParameterValidation::test_learning_rate": "expects an exception type of pytorch_optimizer",
    "TestMagma::test_magma_masks_parameters_and_updates_base_state": "looks for SGD's entry momentum_buffer",
    "TestPCGrad::test_checkpoint_hooks_and_resume": "clears SGD's entry momentum_buffer",
    "TestOrthoGrad::test_foreach_update": "expects SGD's step for a gradient that is not 1",
    "TestSAM::test_checkpoint_resume": "compares Adam's entry exp_avg",
}


def pytest_configure(config: pytest.Config) -> None:
    recipes = importlib.import_module("tests.recipes")  # the suite's own, whose modules are imported after this
    recipe = {"lr": 5e-1, "weight_decay": 1e-3}
    recipes.OPTIMIZER_RECIPES.extend((name, recipe, 10) for name in OURS)
    recipes.COMPILE_SUPPORTED_OPTIMIZERS.extend((name, recipe, 10) for name in COMPILED)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that PathAdamSAGA takes part in, but those excused; an excuse for no test is an error."""
    ours = [item for item in items if _takes_part(item)]
    excused = [item for item in ours if any(name in item.nodeid for name in EXCUSED)]
    idle = [name for name in EXCUSED if not any(name in item.nodeid for item in excused)]
    if idle:
        raise pytest.UsageError(f"excused tests that the suite does not have: {idle}")
    kept = [item for item in ours if item not in excused]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _takes_part(item: pytest.Item) -> bool:
    if item.path.name in WHOLE_FILES:
        return True
    arguments = item.callspec.params.values() if hasattr(item, "callspec") else ()  # type: ignore[attr-defined]
    names = [argument[0] if isinstance(argument, tuple) and argument else argument for argument in arguments]
    return any(isinstance(name, str) and name in {*OURS, *WRAPPERS} for name in names)
