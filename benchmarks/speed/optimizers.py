"""Steps of the optimizer and of Adam, for counting what they launch; their times are benchmarks.optimizer's."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.optimizer.contenders import build
from benchmarks.optimizer.models import MODELS, make_parameters

_MODEL = MODELS["0.6M"]  # the paper's encoder
_NAMES = {"PathAdamSAGA": "float32", "Adam": "adam"}


def optimizer_steps(n_paths: int, device: torch.device) -> dict[str, Callable[[], None]]:
    """Return steps by name, for gradients of the paper's encoder on a path that was visited before."""
    steps: dict[str, Callable[[], None]] = {}
    for name, contender in _NAMES.items():
        parameters = []
        for made in make_parameters(_MODEL.shapes()):
            parameter = made.detach().to(device).requires_grad_()
            parameter.grad = None if made.grad is None else made.grad.to(device)
            parameters.append(parameter)
        optimizer = build(contender, parameters, n_paths)
        for path in range(2):
            optimizer.step(path)
        steps[name] = lambda optimizer=optimizer: optimizer.step(0)
    return steps
