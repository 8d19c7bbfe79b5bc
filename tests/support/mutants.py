"""Mistakes one can make in an estimator over paths, put into this package for a while, and what the kit says.

``python -m tests.support.mutants`` prints a table of the mutants with the counter-examples that hypothesis
shrinks to.
Each property holds for the package as it is, and fails under its mutants.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_optim import PathAdamSAGA, PathSampler
from scrapl_optim._path_adam_saga import algorithm, chunks
from scrapl_optim.reference import ReferencePathAdamSAGA
from scrapl_optim.testing import (
    PathLosses,
    assert_draws_follow,
    assert_matches_twin,
    assert_unbiased,
    distributions,
    path_losses,
    path_sequences,
    seeds,
)

modest = settings(
    print_blob=False,  # what hypothesis adds where it sees CI is not for people
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)


# Of a change that is the difference of two weights of up to a hundred or so.
ROUNDING = 1e-13


def with_distribution(losses: PathLosses) -> st.SearchStrategy[tuple[PathLosses, Any]]:
    return st.tuples(st.just(losses), distributions(losses.n_paths, losses.n_paths))


def with_sequence(losses: PathLosses) -> st.SearchStrategy[tuple[PathLosses, list[int]]]:
    return st.tuples(st.just(losses), path_sequences(losses.n_paths, max_size=12))


def with_both(losses: PathLosses) -> st.SearchStrategy[tuple[PathLosses, Any, list[int]]]:
    P = losses.n_paths
    return st.tuples(st.just(losses), distributions(P, P), path_sequences(P, max_size=8))


families = path_losses(max_paths=3, max_weights=2)


def weighted_gradient() -> None:
    """The gradient of the drawn path times its weight is the full gradient on average."""

    @modest
    @given(families.flatmap(with_distribution))
    def check(case: tuple[PathLosses, Any]) -> None:
        losses, pi = case
        w, sampler = torch.ones(losses.n_weights, dtype=torch.float64), PathSampler(pi)
        assert_unbiased(lambda p: sampler.weight(p) * losses.gradient(w, p), pi, losses.full_gradient(w))

    check()


def trained(losses: PathLosses, history: list[int], **kwargs: Any) -> tuple[PathAdamSAGA, Parameter]:
    """An optimizer that went through ``history`` from weights of one, and its parameter."""
    param = Parameter(torch.ones(losses.n_weights, dtype=torch.float64))
    optimizer = PathAdamSAGA([param], losses.n_paths, lr=0.1, weight_decay=0.0, foreach=False, **kwargs)
    for path in history:
        param.grad = losses.gradient(param, path)
        optimizer.step(path_idx=path)
    return optimizer, param


def change_of(optimizer: PathAdamSAGA, losses: PathLosses, path: int, weight: float | None) -> Tensor:
    """What a step on a path would change: that of a copy."""
    branch = copy.deepcopy(optimizer)
    (param,) = branch.param_groups[0]["params"]
    before = param.detach().clone()
    param.grad = losses.gradient(param, path)
    branch.step(path_idx=path, weight=weight)
    return param.detach() - before


def unbiased_step() -> None:
    """A weighted SAGA step without P-Adam is one of full gradient descent on average, from any state."""

    @modest
    @given(families.flatmap(with_both))
    def check(case: tuple[PathLosses, Any, list[int]]) -> None:
        losses, pi, history = case
        optimizer, param = trained(losses, history, path_adam=False, unbiased=True)
        sampler = PathSampler(pi)
        assert_unbiased(
            lambda p: change_of(optimizer, losses, p, sampler.weight(p)),
            pi,
            -0.1 * losses.full_gradient(param.detach()),
            atol=ROUNDING,
        )

    check()


def algorithm_1() -> None:
    """The paper's update is that of its literal twin."""

    @modest
    @given(families.flatmap(with_sequence), st.booleans())
    def check(case: tuple[PathLosses, list[int]], path_adam: bool) -> None:
        losses, paths = case
        shared = {"n_paths": losses.n_paths, "lr": 0.1, "weight_decay": 0.0, "path_adam": path_adam}
        assert_matches_twin(
            lambda params: PathAdamSAGA(params, foreach=False, **shared),
            lambda w: ReferencePathAdamSAGA(w, **shared),
            losses,
            paths,
        )

    check()


def floored_draws() -> None:
    """A sampler with a floor f draws from f / S + (1 - f) pi on the S paths where pi is not zero."""

    @modest
    @given(distributions(max_paths=4, smallest=0.0), st.sampled_from([0.0, 0.5, 1.0]), seeds())
    def check(pi: Any, floor: float, seed: int) -> None:
        sampler = PathSampler(pi, min_prob_frac=floor, seed=seed)
        assert_draws_follow(sampler, floor / np.count_nonzero(pi) * (pi > 0) + (1 - floor) * pi, n_steps=1000)

    check()


def path_loss_gradient() -> None:
    """The weighted gradient of a JTFS path loss is that of the full tree, the sum over paths, on average."""
    jtfs = JTFSPath(32, J=3, Q=(1, 1), J_fr=1, T=4).double()
    loss_fn = JTFSPathLoss(jtfs)
    known: dict[int, tuple[list[Tensor], Tensor]] = {}

    def gradients(seed: int) -> tuple[list[Tensor], Tensor]:
        if seed not in known:
            generator = torch.Generator().manual_seed(seed)
            x, y = torch.randn(2, 32, dtype=torch.float64, generator=generator)
            x.requires_grad_()
            by_path = [gradient_of(loss_fn(x, y, p), x) for p in range(jtfs.n_paths)]
            whole = sum((a - b).square().sum() for p in range(jtfs.n_paths) for a, b in [(jtfs(x, p), jtfs(y, p))])
            known[seed] = by_path, gradient_of(whole, x)
        return known[seed]

    @modest
    @given(st.integers(0, 3), distributions(jtfs.n_paths, jtfs.n_paths))
    def check(signal_seed: int, pi: Any) -> None:
        by_path, whole = gradients(signal_seed)
        sampler = PathSampler(pi)
        assert_unbiased(lambda p: sampler.weight(p) * by_path[p], pi, whole)

    check()


def gradient_of(loss: Any, x: Tensor) -> Tensor:
    """A loss without a graph pulls nowhere."""
    return torch.autograd.grad(loss, x)[0] if loss.requires_grad else torch.zeros_like(x)


def weight_forgotten() -> AbstractContextManager[Any]:
    return mock.patch.object(PathSampler, "weight", return_value=1.0)


def mean_over(count: Callable[[Any, int], int]) -> Callable[[], AbstractContextManager[Any]]:
    """The memory is divided by ``count(visit, P)``."""
    original = chunks.coefficients

    def mutated(group: dict[str, Any], visit: Any, *rest: Any) -> Any:
        n_counted = max(1, count(visit, group["n_paths"]))
        return original(group, visit, *rest)._replace(saga_over_n=group["saga"] / n_counted)

    return lambda: mock.patch.object(chunks, "coefficients", mutated)


def clock_one_early() -> AbstractContextManager[Any]:
    original = algorithm.ema_weight

    def mutated(beta: float, visit: Any, n_paths: int) -> float:
        return original(beta, visit._replace(tau=max(0, visit.tau - 1)), n_paths)

    return mock.patch.object(algorithm, "ema_weight", mutated)


def floor_before_normalising() -> AbstractContextManager[Any]:
    original = PathSampler.__init__

    def mutated(self: PathSampler, probs: Any = None, *, min_prob_frac: float = 0.0, **kwargs: Any) -> None:
        original(self, probs, **kwargs)
        floor = min_prob_frac / np.count_nonzero(self._probs)
        shares = np.where(self._probs > 0, np.maximum(self._probs, floor), 0.0)
        self._set_probs(shares / shares.sum())

    return mock.patch.object(PathSampler, "__init__", mutated)


def floor_for_excluded_paths() -> AbstractContextManager[Any]:
    original = PathSampler.__init__

    def mutated(self: PathSampler, probs: Any = None, *, min_prob_frac: float = 0.0, **kwargs: Any) -> None:
        original(self, probs, **kwargs)
        self._set_probs(min_prob_frac / self.n_paths + (1 - min_prob_frac) * self._probs)

    return mock.patch.object(PathSampler, "__init__", mutated)


def scale_dropped() -> AbstractContextManager[Any]:
    original = JTFSPathLoss._distance

    def mutated(self: JTFSPathLoss, a: Tensor, b: Tensor, n_axes: int = 2) -> Tensor:
        return original(self, a, b, n_axes) / self.jtfs.n_paths

    return mock.patch.object(JTFSPathLoss, "_distance", mutated)


def arguments_swapped() -> AbstractContextManager[Any]:
    """Without its graph, as the loss refuses a target that alone requires a gradient."""
    original = JTFSPathLoss.forward

    def mutated(self: JTFSPathLoss, x: Tensor, target: Tensor, path_idx: int) -> Tensor:
        return original(self, target, x.detach(), path_idx)

    return mock.patch.object(JTFSPathLoss, "forward", mutated)


def gradient_of_the_target() -> AbstractContextManager[Any]:
    """The value is right, for the distance is symmetric; its graph leads to the other argument."""
    original = JTFSPathLoss.forward

    def mutated(self: JTFSPathLoss, x: Tensor, target: Tensor, path_idx: int) -> Tensor:
        return original(self, target + (x - x.detach()), x.detach(), path_idx)

    return mock.patch.object(JTFSPathLoss, "forward", mutated)


@contextmanager
def memory_updated_first() -> Iterator[None]:
    original = chunks.update_in_place

    def mutated(slot: Any, *rest: Any) -> None:
        if slot.saga_sum is not None and not slot.rms:
            slot.saga_sum.add_(slot.grad - slot.update[0])
            slot.update[0].copy_(slot.grad)
        original(slot, *rest)

    with mock.patch.object(chunks, "update_in_place", mutated):
        yield


class Mutant(NamedTuple):
    """A mistake, the property that must fail under it, and how to make it for a while."""

    name: str
    check: Callable[[], None]
    mutation: Callable[[], AbstractContextManager[Any]]


CHECKS = [weighted_gradient, unbiased_step, algorithm_1, floored_draws, path_loss_gradient]
MUTANTS = [
    Mutant("importance weight forgotten: estimator", weighted_gradient, weight_forgotten),
    Mutant("importance weight forgotten: PathAdamSAGA", unbiased_step, weight_forgotten),
    Mutant("SAGA mean over P, not the visited (paper)", algorithm_1, mean_over(lambda visit, P: P)),
    Mutant("SAGA mean over the visited, not P (unbiased)", unbiased_step, mean_over(lambda v, P: v.n_visited)),
    Mutant("clock of the last visit one early", algorithm_1, clock_one_early),
    Mutant("floor applied before normalising", floored_draws, floor_before_normalising),
    Mutant("floor for excluded paths, too", floored_draws, floor_for_excluded_paths),
    Mutant("path scale P dropped from the loss", path_loss_gradient, scale_dropped),
    Mutant("input and target swapped", path_loss_gradient, arguments_swapped),
    Mutant("graph through the target", path_loss_gradient, gradient_of_the_target),
    Mutant("memory updated before it is used (unbiased)", unbiased_step, memory_updated_first),
    Mutant("memory updated before it is used (paper)", algorithm_1, memory_updated_first),
]


class CounterExample(NamedTuple):
    """What hypothesis shrank to: the arguments of the property, and the kit's message."""

    arguments: str
    message: str


def counter_example(mutant: Mutant) -> CounterExample | None:
    """Run the property under the mutation; ``None`` if it holds."""
    with mutant.mutation():
        try:
            mutant.check()
        except AssertionError as error:
            notes = "\n".join(getattr(error, "__notes__", []))
            (arguments,) = re.findall(r"\bcheck\((.*)\)", notes, flags=re.DOTALL)
            return CounterExample(re.sub(r"\s+", " ", arguments).strip(" ,"), str(error))
    return None


def table() -> str:
    """All mutants as a Markdown table."""
    rows = ["| mutant | property | counter-example | what the kit says |", "|---|---|---|---|"]
    for mutant in MUTANTS:
        found = counter_example(mutant)
        arguments, message = ("none: it survived", "") if found is None else found
        says = re.sub(r"(:?)\s*\n\s*", lambda end: ": " if end[1] else "; ", message).replace("|", "\\|")
        rows.append(f"| {mutant.name} | {mutant.check.__name__} | `{arguments}` | {says} |")
    return "\n".join(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table())
