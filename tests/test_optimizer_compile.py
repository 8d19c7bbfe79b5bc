"""torch.compile of the step: few graphs whatever the path, the visit and the learning rate; the same results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from tests.support.optimizer_helpers import assert_bitwise, make_params, set_grads
from tests.support.optimizer_variants import BY_PROBS, STORAGES, VARIANTS, WARM, Variant

N_PATHS = 24
SHAPES = [(70, 70), (5,), ()]
# every path once, then twice as often as dynamo would take to give up on a function (8 recompilations)
PATHS = [*range(N_PATHS), *range(0, N_PATHS, 2), 3, 3, 3]


@pytest.fixture(autouse=True)
def _strict_dynamo() -> Iterator[None]:
    """Dynamo gives up on a function silently after 8 recompilations; here that is an error."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield
    torch._dynamo.reset()


def train_both(variant: Variant, backend: Any, paths: list[int], **kwargs: Any) -> tuple[Any, Any, list[int]]:
    """Train with a compiled and an ordinary step; the graphs counted after each step come third."""
    counter = CompileCounterWithBackend(backend)
    results, counts = [], []
    for compiled in (True, False):
        params = make_params(0, torch.float32, SHAPES)
        optimizer = PathAdamSAGA(params, N_PATHS, **variant.kwargs(N_PATHS, lr=0.01, **kwargs))
        step = torch.compile(optimizer.step, backend=counter) if compiled else optimizer.step
        for k, path in enumerate(paths):
            set_grads(params, k, scale=10.0 ** (k % 5))
            optimizer.param_groups[0]["lr"] = 0.01 / (k + 1)
            step(path_idx=path, weight=variant.weight(path))
            if compiled:
                counts.append(counter.frame_count)
        results.append(params)
    return results[0], results[1], counts


@pytest.mark.parametrize(
    "variant", [Variant(storage=s) for s in STORAGES] + VARIANTS[1:3] + BY_PROBS + WARM, ids=str
)
def test_graphs_are_few_and_results_equal(variant: Variant) -> None:
    compiled, plain, counts = train_both(variant, "eager", PATHS)
    assert counts[0] >= 1
    assert counts[-1] <= 8
    assert counts[-1] == counts[11]  # a dozen paths and learning rates in, all is compiled that ever will be
    if not variant.is_exact:
        variant.assert_close(compiled, plain, 0.05, 1)
    else:
        for p, q in zip(compiled, plain, strict=True):
            largest = float(q.detach().abs().max())
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-5 * max(1.0, largest))


def test_functionalised_graphs_give_the_same() -> None:
    compiled, plain, counts = train_both(Variant(storage="bfloat16"), "aot_eager", PATHS[:12])
    assert counts[-1] <= 8
    for p, q in zip(compiled, plain, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_inductor() -> None:
    compiled, plain, counts = train_both(Variant(), "inductor", [0, 1, 0, 2, 3, 1])
    assert 1 <= counts[-1] <= 8
    for p, q in zip(compiled, plain, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_path_may_be_a_tensor_or_announced() -> None:
    results = []
    for way in ("int", "tensor", "announced"):
        torch._dynamo.reset()
        (param,) = make_params(0, torch.float32, [(7, 3)])
        optimizer = PathAdamSAGA([param], N_PATHS, lr=0.01)
        step = torch.compile(optimizer.step, backend="eager")
        for k, path in enumerate([0, 4, 2, 4, 11, 12, 13, 14, 15, 16, 17, 18]):
            set_grads([param], k)
            if way == "announced":
                optimizer.set_path(path)
                step()
            else:
                step(path_idx=torch.tensor(path) if way == "tensor" else path)
        results.append([param])
    assert_bitwise(results[1], results[0])
    assert_bitwise(results[2], results[0])


def test_whole_training_step_compiles() -> None:
    """Forward, backward and step in one compiled function, as users write it."""
    results = []
    for compiled in (True, False):
        torch._dynamo.reset()
        param = Parameter(torch.linspace(-1, 1, 12).reshape(4, 3))
        optimizer = PathAdamSAGA([param], N_PATHS, lr=0.01)

        def training_step(path: int, p: Parameter = param, opt: PathAdamSAGA = optimizer) -> torch.Tensor:
            opt.zero_grad()
            loss = (p**2).sum() + p[0].sum()
            loss.backward()
            opt.step(path_idx=path)
            return loss

        function = torch.compile(training_step, backend="eager") if compiled else training_step
        for path in (3, 1, 3, 0, 5, 6):
            function(path)
        results.append(param)
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


def test_a_step_of_several_paths_is_not_compiled_and_right() -> None:
    results = []
    for compiled in (True, False):
        torch._dynamo.reset()
        params = make_params(0, torch.float32, SHAPES)
        optimizer = PathAdamSAGA(params, N_PATHS, lr=0.01)
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for k in range(4):
            for path in (k, k + 3)[: 1 + k % 2]:
                set_grads(params, k + path)
                optimizer.add_path(path)
            step()
        results.append([p.detach().clone() for p in params])
    for p, q in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
