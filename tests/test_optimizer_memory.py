"""What PathAdamSAGA keeps, where and at what cost: lazy rows, host and device, rows that round, work per step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scrapl_optim import PathAdamSAGA
from tests.support.optimizer_helpers import (
    assert_bitwise,
    make_params,
    random_paths,
    run,
    set_grads,
    snapshot,
)
from tests.support.optimizer_variants import (
    EXACT_VARIANTS,
    N_PATHS,
    PATHS,
    VARIANTS,
    Variant,
    build,
    every_device,
    every_storage,
    every_variant,
    make_zoo,
    state_bytes,
    train,
    zoo_grads,
)


@every_device
@every_variant
def test_rows_exist_for_drawn_paths_only(variant: Variant, device: str) -> None:
    param = Parameter(torch.randn(256, 300, device=device))
    optimizer = PathAdamSAGA([param], 50, **variant.kwargs(50, lr=0.01))
    per_path = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.02}[variant.storage.partition("-")[0]]
    rows = 2 if variant.path_adam else int(variant.saga > 0)
    drawn = [7, 3, 49, 7]
    for k, path in enumerate(drawn):
        param.grad = torch.randn_like(param)
        optimizer.step(path_idx=path)
        n_drawn = len(set(drawn[: k + 1]))
        expected = param.numel() * (n_drawn * rows * per_path + 4 * (variant.saga > 0))
        size = state_bytes(optimizer.state)
        assert expected * 0.98 <= size <= expected * 1.01 + 4096
        # listing every path costs nothing more
        assert state_bytes(optimizer.state_dict()["state"]) <= size + 8 * 50 * 4 + 4096
    listed = {int(key.split(".")[1]) for key in optimizer.state[param] if key.startswith(("update.", "rms."))}
    assert listed == (set(drawn) if rows else set())


@every_storage
@pytest.mark.parametrize("foreach", [None, True])
def test_parameters_that_miss_gradients_hold_no_old_memory(storage: str, foreach: bool | None) -> None:
    """Rows that share memory must not keep the whole of it alive when one of them moves elsewhere."""
    params = make_params(0, torch.float32, [(1000,)] * 20)
    optimizer = PathAdamSAGA(params, 3, storage=storage, foreach=foreach)
    run(optimizer, params, [0, 1, 2])
    size = state_bytes(optimizer.state)
    for k in range(9):
        set_grads(params, k)
        params[2 * k].grad = None
        optimizer.step(path_idx=k % 3)
        assert state_bytes(optimizer.state) <= 1.25 * size


def test_parameters_that_stay_do_not_hold_the_memory_of_those_that_leave() -> None:
    small, big = params = make_params(dtype=torch.float32, shapes=[(10,), (50_000,)])
    optimizer = PathAdamSAGA(params, 20)
    run(optimizer, params, range(20))
    big.grad = None
    optimizer.step(path_idx=0)
    assert state_bytes({small: optimizer.state[small]}) < 20_000


@every_variant
def test_a_step_touches_the_row_of_its_path_only(variant: Variant) -> None:
    optimizer, params = build(variant)
    train(variant, optimizer, params, [0, 1, 2, 3, 4, 0, 1])
    before = snapshot(optimizer)[0]["state"]
    zoo_grads(params, 30)
    optimizer.step(path_idx=2)
    after = optimizer.state_dict()["state"]
    for i, state in before.items():
        touched = {key for key, value in state.items() if not torch.equal(after[i][key], value)}
        assert all(key in ("step", "scale", "visits", "saga_sum") or key.endswith(".2") for key in touched)
        others = torch.arange(N_PATHS) != 2
        assert torch.equal(after[i]["step"][others], state["step"][others])


class _CountOps(TorchDispatchMode):
    """Counts the operations on tensors as large as a parameter."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.count = size, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = tree_leaves((args, kwargs))
        self.count += any(isinstance(leaf, torch.Tensor) and leaf.numel() >= self.size for leaf in leaves)
        return func(*args, **(kwargs or {}))


@every_variant
def test_work_does_not_grow_with_the_number_of_paths(variant: Variant) -> None:
    counts = []
    for n_paths in (4, 40):
        (param,) = make_params(dtype=torch.float32, shapes=[(1000,)])
        optimizer = PathAdamSAGA([param], n_paths, **variant.kwargs(n_paths))
        run(optimizer, [param], [*range(n_paths), 1])
        with _CountOps(1000) as ops:
            optimizer.step(path_idx=1)
        counts.append(ops.count)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.storage.endswith("-host")], ids=str)
@every_device
def test_host_storage_equals_device_storage(variant: Variant, device: str) -> None:
    """Whatever is announced: the path that comes, another one, none, or twice; and a state dict in between."""
    host, params = build(variant, device)
    plain, copies = build(variant, device, storage=variant.storage.removesuffix("-host"))
    for k, path in enumerate([*PATHS, 1, 1, 1, 2, 2]):
        zoo_grads(params, k)
        zoo_grads(copies, k)
        weight = variant.weight(path)
        if k % 4 == 0:
            host.set_path(path, weight=weight)
            host.step()
        elif k % 4 == 1:
            host.set_path((path + 1) % N_PATHS)
            host.step(path_idx=path, weight=weight)
        elif k % 4 == 2:
            host.set_path((path + 2) % N_PATHS)
            host.set_path(path, weight=weight)
            host.set_path(path, weight=weight)
            host.step()
        else:
            host.step(path_idx=path, weight=weight)
        plain.step(path_idx=path, weight=weight)
        if k % 3 == 0:
            host.set_path(path)
            ours, theirs = host.state_dict()["state"], plain.state_dict()["state"]
            for i, state in theirs.items():
                assert set(ours[i]) == set(state)
                assert_bitwise([ours[i][key].to(device) for key in state], [v.to(device) for v in state.values()])
        assert_bitwise(params, copies)
    assert_bitwise(params, copies)


@every_storage
@pytest.mark.parametrize("path_adam", [True, False])
def test_sum_is_that_of_the_rows_as_stored(storage: str, path_adam: bool) -> None:
    """With storage that rounds, a sum updated with unrounded rows would drift away from the rows."""
    variant = Variant(storage=storage, path_adam=path_adam)
    (param,) = make_params(dtype=torch.float32, shapes=[(67, 71)])
    optimizer = PathAdamSAGA([param], N_PATHS, **variant.kwargs(lr=1e-3, weight_decay=0.0))
    run(optimizer, [param], random_paths(N_PATHS, 200, seed=1))
    before = param.detach().double().clone()
    # With a zero gradient and P-Adam off the update is -g^_p + sum / P: the state tells all it needs
    if not path_adam and variant.is_exact:
        state = optimizer.state[param]
        total = sum(state[f"update.{path}"].double() for path in range(N_PATHS))
        torch.testing.assert_close(state["saga_sum"].double(), total, rtol=1e-5, atol=1e-5)
    # Reset every path to a zero gradient: each row, and so their sum, must come back to zero but for rounding
    for path in range(N_PATHS):
        optimizer.param_groups[0]["betas"] = (0.0, 0.0)
        param.grad = torch.zeros_like(param)
        optimizer.step(path_idx=path)
    assert not torch.equal(param.double(), before)
    assert float(optimizer.state[param]["saga_sum"].abs().max()) < 2e-5


@pytest.mark.parametrize("variant", EXACT_VARIANTS, ids=str)
def test_layout_in_memory_does_not_matter(variant: Variant) -> None:
    """A transposed or channels-last parameter trains as its contiguous copy."""
    params = make_zoo()[1:3]
    copies = [Parameter(p.detach().clone(memory_format=torch.contiguous_format)) for p in params]
    optimizers = [PathAdamSAGA(ps, N_PATHS, **variant.kwargs(lr=0.01)) for ps in (params, copies)]
    assert not any(p.is_contiguous() for p in params)
    for k, path in enumerate(PATHS):
        for ps, optimizer in zip((params, copies), optimizers, strict=True):
            zoo_grads(ps, k)
            optimizer.step(path_idx=path)
    for p, q in zip(params, copies, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
