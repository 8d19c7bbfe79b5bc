"""No step makes the host of a GPU wait: told by calls of ATen on "meta", and by torch itself where a GPU is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.harness.dispatches import count_dispatches
from benchmarks.speed.cases import Case, Settings
from benchmarks.speed.contenders import OURS, build, work
from benchmarks.speed.cuda import find_sync
from benchmarks.speed.optimizers import optimizer_steps

SMALL = Settings(1024, 6, (4, 1), 2, 1, 256, 4, (128, 64))
CASES = {
    "step": Case("step", SMALL, 2, (3,)),
    "bundle": Case("step", SMALL, 2, (0, 1, 5)),
    "forward": Case("forward", SMALL, 2, (3,)),
    "product": Case("hvp", SMALL, 2, (3,)),
    "tree": Case("tree", SMALL, 2),
}
every_mode = pytest.mark.parametrize("mode", OURS)
every_case = pytest.mark.parametrize("name", CASES)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def job(mode: str, name: str, device: torch.device) -> Callable[[], Tensor]:
    case = CASES[name]
    return work(build(mode, SMALL, device, whole=case.kind == "tree"), case, device)


@every_mode
@every_case
def test_no_call_needs_numbers_on_the_host(mode: str, name: str) -> None:
    # What torch does not dispatch, as tolist() and numpy(), fails on tensors without numbers.
    counts = count_dispatches(job(mode, name, torch.device("meta")))
    assert counts["launches"] > 20
    assert not counts["waits"]
    assert not counts["crossings"]


@needs_gpu
@every_mode
@every_case
def test_no_host_waits_for_a_gpu(mode: str, name: str) -> None:
    run = job(mode, name, torch.device("cuda"))
    run()
    assert find_sync(run, torch.device("cuda")) is None


def test_the_optimizer_reads_one_number() -> None:
    """It tells if all gradients are finite, as the page on memory and speed says."""
    step = optimizer_steps(9, torch.device("cpu"))["PathAdamSAGA"]
    assert count_dispatches(step)["waits"] == {"aten::_local_scalar_dense": 1}


@needs_gpu
def test_the_optimizer_waits_for_that_number_on_a_gpu() -> None:
    found = find_sync(optimizer_steps(9, torch.device("cuda"))["PathAdamSAGA"], torch.device("cuda"))
    assert found is not None


X = torch.arange(6.0).view(2, 3)
WAITING: dict[str, Callable[[], Any]] = {
    "item": lambda: X.sum().item(),
    "condition": lambda: bool((X > 0).all()),
    "nonzero": lambda: X.nonzero(),
    "mask": lambda: X[X > 0],
    "assignment to a mask": lambda: X.clone().__setitem__(X > 9, 0.0),
    "masked_select": lambda: X.masked_select(X > 0),
    "unique": lambda: X.unique(),
    "equal": lambda: torch.equal(X, X),
}


@pytest.mark.parametrize("name", WAITING)
def test_waits_are_seen(name: str) -> None:
    assert count_dispatches(WAITING[name])["waits"]


def test_known_calls_are_counted() -> None:
    index = torch.tensor([1])
    assert count_dispatches(lambda: X[index].T.reshape(3)) == {
        "launches": 1,  # a row of X, read with its index
        "views": 2,  # its transpose and what has another shape
        "bytes": 4 * 6 + 8 * 1 + 4 * 3,
        "waits": {},
        "crossings": {},
    }
    assert count_dispatches(lambda: X.clone().mul_(2.0))["bytes"] == 2 * 24 + 24


def test_backward_passes_are_counted() -> None:
    x = X.clone().requires_grad_()
    forward = count_dispatches(lambda: (x * x).sum())
    both = count_dispatches(lambda: torch.autograd.grad((x * x).sum(), x))
    assert both["launches"] > forward["launches"]


def test_copies_between_devices_are_seen() -> None:
    assert count_dispatches(lambda: X.to("meta"))["crossings"] == {"aten::_to_copy": 1}
