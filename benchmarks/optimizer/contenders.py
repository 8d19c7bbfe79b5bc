"""The contenders behind one interface. scrapl-loss is imported late: it lives in an environment of its own."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

PEER = "scrapl-loss"
OURS: dict[str, dict[str, Any]] = {
    "float32": {"storage": "float32"},
    "bfloat16": {"storage": "bfloat16"},
    "int8": {"storage": "int8"},
    "saga=0": {"saga": 0.0},
    "path_adam=False": {"path_adam": False},
}
TORCH: dict[str, dict[str, Any]] = {
    "adam": {"foreach": True},
    "adamw": {"foreach": True},
    "sgd": {"foreach": True, "momentum": 0.9},
}
CONTENDERS = ("adam", "adamw", "sgd", *OURS, PEER)

_LR = 1e-4
# The smallest transform it builds in no time: its paths are not computed here, only their number is used.
_TRANSFORM = {"shape": 2048, "J": 6, "Q1": 4, "Q2": 1, "J_fr": 2, "Q_fr": 1, "T": 256, "F": 4}


class Contender(Protocol):
    """An optimizer of parameters that have gradients."""

    def prepare(self, path: int) -> None:
        """Do what comes before a step and is not timed."""
        ...

    def step(self, path: int) -> None:
        """Take the step, which is timed."""
        ...

    def state(self) -> Iterable[Tensor]:
        """Every tensor it keeps between steps, gradients and parameters not counted."""
        ...


def _state_of(optimizer: Optimizer) -> Iterator[Tensor]:
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))


class TorchOptimizer:
    """An optimizer of torch.optim, which knows no paths."""

    def __init__(self, name: str, params: Sequence[Tensor]) -> None:
        makers: dict[str, Callable[..., Optimizer]] = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "sgd": torch.optim.SGD,
        }
        self.optimizer = makers[name](params, lr=_LR, **TORCH[name])

    def prepare(self, path: int) -> None:
        pass

    def step(self, path: int) -> None:
        self.optimizer.step()

    def state(self) -> Iterator[Tensor]:
        return _state_of(self.optimizer)


class PathAdam:
    """PathAdamSAGA, weight decay and check of finite gradients included (its defaults)."""

    def __init__(self, params: Sequence[Tensor], n_paths: int, **settings: Any) -> None:
        from scrapl_optim import PathAdamSAGA

        self.optimizer = PathAdamSAGA(params, n_paths, lr=settings.pop("lr", _LR), **settings)

    def prepare(self, path: int) -> None:
        pass

    def step(self, path: int) -> None:
        self.optimizer.step(path_idx=path)

    def state(self) -> Iterator[Tensor]:
        return _state_of(self.optimizer)


class ScraplLoss:
    """scrapl-loss's gradient hooks, then the plain SGD that applies what they return (no weight decay).

    Args:
        params: leaves; hooks are attached to them.
        n_paths: put in the place of the number its transform has, before the state is allocated.
        settings: attributes to set, such as ``use_p_saga``.

    Raises:
        ImportError: it is not installed.
    """

    def __init__(self, params: Sequence[Tensor], n_paths: int, **settings: Any) -> None:
        scrapl: Any = importlib.import_module("scrapl")
        for name in ("scrapl", "scrapl.scrapl_loss"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.params = list(params)
        self.loss = scrapl.SCRAPLLoss(**_TRANSFORM)
        self.loss.n_paths = n_paths
        for name, value in settings.items():
            if not hasattr(self.loss, name):
                raise ValueError(f"SCRAPLLoss has no attribute {name}; its version is not the one expected, 0.1.0")
            setattr(self.loss, name, value)
        self.loss.attach_params(self.params)
        self.optimizer = torch.optim.SGD(self.params, lr=_LR)
        self._gradients: list[Tensor] = [p.grad for p in self.params if p.grad is not None]
        self._fresh: list[Tensor] = []

    def draw_all(self) -> None:
        """All paths drawn before: its state is allocated as zero pages, which are cheap to read until written."""
        for tensor in self.state():
            tensor.zero_()
        for path in range(self.loss.n_paths):
            self.loss.path_counts[path] += 1

    def announce(self, path: int) -> None:
        """Do what its forward does for the hooks."""
        self.loss.curr_path_idx = path
        self.loss.path_counts[path] += 1
        self.loss.scrapl_t += 1

    def hooked(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return what backward leaves in `.grad`. Gradients change in place: hooks multiply by grad_mult."""
        with torch.no_grad():
            return [self.loss.grad_hook(gradient, param_idx=i) for i, gradient in enumerate(gradients)]

    def prepare(self, path: int) -> None:
        self.announce(path)
        self._fresh = [gradient.clone() for gradient in self._gradients]

    def step(self, path: int) -> None:
        for parameter, gradient in zip(self.params, self.hooked(self._fresh), strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def state(self) -> Iterator[Tensor]:
        for tensors in (self.loss.p_adam_m, self.loss.p_adam_v, self.loss.prev_path_grads):
            yield from tensors.buffers()


def build(name: str, params: Sequence[Tensor], n_paths: int) -> Contender:
    """Build a contender.

    Raises:
        ImportError: its package is not installed.
        ValueError: an unknown name.
    """
    if name in TORCH:
        return TorchOptimizer(name, params)
    if name in OURS:
        return PathAdam(params, n_paths, **OURS[name])
    if name == PEER:
        return ScraplLoss(params, n_paths)
    raise ValueError(f"unknown contender {name!r}: choose among {', '.join(CONTENDERS)}")


def unique_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind some tensors, each counted once and whole."""
    storages = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
