"""Answers are compared before anything is timed: a fast wrong optimizer is no contender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.records import AnswersDiffer, relative_distance
from benchmarks.optimizer.contenders import OURS, PathAdam, ScraplLoss
from benchmarks.optimizer.models import make_parameters
from scrapl_optim.reference import ReferencePathAdamSAGA

_SHAPES = [(32, 16, 3, 3), (32,), (1,), (5, 7)]  # the first is large enough for int8 rows
_N_PATHS, _N_STEPS, _LR = 5, 60, 1e-2
# Relative 2-norms. Rounding of the rows is not an error: it is bounded here so as to catch something broken.
_TWIN_TOLERANCES = {"bfloat16": 2e-2, "int8": 1e-1}
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Answer:
    """A relative 2-norm distance; a tolerance of None only informs."""

    what: str
    distance: float
    tolerance: float | None

    def check(self) -> Answer:
        """Raises AnswersDiffer beyond the tolerance; not a number is beyond it."""
        if self.tolerance is not None and not self.distance <= self.tolerance:
            raise AnswersDiffer(f"{self.what}: {self.distance:.2e}, more than {self.tolerance:.0e}")
        return self


def check_ours() -> list[Answer]:
    """PathAdamSAGA with one path against AdamW, and each variant against the float64 twin.

    Raises:
        AnswersDiffer: they disagree.
    """
    answers = [Answer("weights of float32, one path / AdamW with eps=0", _distance_to_adamw(), 1e-6)]
    for name, settings in OURS.items():
        what = f"displacement of {name}, {_N_PATHS} paths / float64 twin"
        answers.append(Answer(what, _distance_to_twin(settings), _TWIN_TOLERANCES.get(name, _TOLERANCE)))
    return [answer.check() for answer in answers]


def check_peer() -> list[Answer]:
    """scrapl-loss against ours, after the algebra that differs.

    Its eps (1e-8 outside the root, gradients times 1e8) is set to 0 and its clock (one ahead of the number of
    steps) to the number of steps. It divides the sum of its memory by the number of paths drawn less one,
    the present one included, which on a revisit is one less than the paper's card Gamma: that difference is added.

    Raises:
        AnswersDiffer: they disagree.
        ImportError: it is not installed.
    """
    distances = {
        "direction of scrapl-loss, P-Adam alone / saga=0": (_distance_to_peer(saga=False), _TOLERANCE),
        "direction of scrapl-loss, P-Adam and P-SAGA / float32": (_distance_to_peer(saga=True), _TOLERANCE),
        "its hooks in a backward / called on gradients": (_distance_of_backward(), 0.0),
        "direction of scrapl-loss as it comes, P-Adam alone / saga=0": (_distance_to_peer(False, True), None),
    }
    return [Answer(what, distance, tolerance).check() for what, (distance, tolerance) in distances.items()]


def _schedule() -> Iterator[tuple[int, list[Tensor]]]:
    """Paths with gradients of one sign on average, as a loss has that is being minimised."""
    draws, generator = np.random.default_rng(1), torch.Generator().manual_seed(2)
    means = [torch.randn((_N_PATHS, *shape), generator=generator) for shape in _SHAPES]
    for path in draws.integers(_N_PATHS, size=_N_STEPS).tolist():
        yield path, [1e-6 * (m[path] + torch.randn(m[path].shape, generator=generator)) for m in means]


def _flat(tensors: list[Tensor]) -> np.ndarray:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).double().numpy()


def _set_gradients(params: list[Tensor], gradients: list[Tensor]) -> None:
    for parameter, gradient in zip(params, gradients, strict=True):
        parameter.grad = gradient.clone()


def _distance_to_adamw() -> float:
    ours, theirs = make_parameters(_SHAPES), make_parameters(_SHAPES)
    contender = PathAdam(ours, 1, lr=_LR)
    adamw = torch.optim.AdamW(theirs, lr=_LR, eps=0.0, foreach=True)
    for _, gradients in _schedule():
        _set_gradients(ours, gradients)
        _set_gradients(theirs, gradients)
        contender.step(0)
        adamw.step()
    return relative_distance(_flat(ours), _flat(theirs))


def _distance_to_twin(settings: dict[str, Any]) -> float:
    params = make_parameters(_SHAPES)
    start = _flat(params)
    # Raw gradients are tiny: without P-Adam the rate makes up for it.
    lr = _LR if settings.get("path_adam", True) else 1e6 * _LR
    contender = PathAdam(params, _N_PATHS, lr=lr, weight_decay=0.0, **settings)
    options = {key: settings[key] for key in ("path_adam", "saga") if key in settings}
    twin = ReferencePathAdamSAGA(start, _N_PATHS, lr, **options)
    for path, gradients in _schedule():
        _set_gradients(params, gradients)
        contender.step(path)
        twin.step(path, _flat(gradients))
    return relative_distance(_flat(params) - start, twin.w - start)


def _distance_to_peer(saga: bool, as_it_comes: bool = False) -> float:
    """Largest over steps. Ours steps from zero weights at a rate of 1: minus the weights is the direction."""
    params = make_parameters(_SHAPES)
    ours = PathAdam(params, _N_PATHS, lr=1.0, weight_decay=0.0, saga=float(saga))
    peer = ScraplLoss(make_parameters(_SHAPES), _N_PATHS, use_p_saga=saga)
    if not as_it_comes:
        peer.loss.p_adam_eps, peer.loss.scrapl_t = 0.0, -1
    largest, drawn = 0.0, set()
    for path, gradients in _schedule():
        _set_gradients(params, gradients)
        with torch.no_grad():
            torch._foreach_zero_(params)
        ours.step(path)
        memory = [rows.double().sum(0) for rows in peer.loss.prev_path_grads.buffers()]
        peer.announce(path)
        found = _flat(peer.hooked([gradient.clone() for gradient in gradients]))
        divisors = max(1, len(peer.loss.path_counts) - 1), max(1, len(drawn))
        drawn.add(path)
        expected = -_flat(params)
        if saga:
            expected += _flat(memory) * (1 / divisors[0] - 1 / divisors[1])
        largest = max(largest, relative_distance(found, expected))
    return largest


def _distance_of_backward() -> float:
    """Compare calling the hooks with a backward, which must do the same floating-point operations."""
    params = make_parameters(_SHAPES)
    attached, called = ScraplLoss(params, _N_PATHS), ScraplLoss(make_parameters(_SHAPES), _N_PATHS)
    largest = 0.0
    for path, gradients in _schedule():
        attached.announce(path)
        called.announce(path)
        for parameter in params:
            parameter.grad = None
        products = [(p * gradient).sum() for p, gradient in zip(params, gradients, strict=True)]
        torch.stack(products).sum().backward()
        found = _flat([p.grad for p in params if p.grad is not None])
        largest = max(largest, relative_distance(found, _flat(called.hooked([g.clone() for g in gradients]))))
    return largest
