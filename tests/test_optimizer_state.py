"""What users do to optimizers and models in mid-training, and what must not go wrong silently."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from scrapl_optim.reference import ReferencePathAdamSAGA
from tests.support.optimizer_helpers import (
    assert_bitwise,
    assert_same_snapshot,
    make_params,
    random_paths,
    run,
    set_grads,
    snapshot,
)

P = 4
SHAPES = [(3, 4), (5,), (2, 2)]


def trained(paths: list[int], n_paths: int = P, **kwargs: Any) -> tuple[PathAdamSAGA, list[Parameter]]:
    params = make_params(0, torch.float32, SHAPES)
    optimizer = PathAdamSAGA(params, n_paths, lr=0.01, **kwargs)
    run(optimizer, params, paths)
    return optimizer, params


def go_on(optimizer: PathAdamSAGA, params: list[Parameter], paths: list[int], start: int = 100) -> list[Tensor]:
    for k, path in enumerate(paths):
        set_grads(params, start + k)
        optimizer.step(path_idx=path)
    return [param.detach().clone() for param in params]


def n_clocks(optimizer: PathAdamSAGA) -> int:
    return len({id(state["step"]) for state in optimizer.state.values()})


def test_a_loaded_optimizer_shares_clocks_as_one_that_never_stopped() -> None:
    optimizer, params = trained([0, 1, 2])
    assert n_clocks(optimizer) == 1
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    go_on(optimizer, params, [1])
    assert n_clocks(optimizer) == 1


def test_clocks_that_part_and_agree_again_are_joined() -> None:
    """Equal clocks tell the same time whatever their history; unequal ones stay apart."""
    optimizer, params = trained([0, 1])
    for absent in (0, 1, 2):
        for param in params:
            param.grad = torch.ones_like(param)  # units of rows go by the largest gradient
        params[absent].grad = None
        optimizer.step(path_idx=3)
        assert n_clocks(optimizer) >= 2
    go_on(optimizer, params, [3])
    assert [int(optimizer.state[p]["step"].max()) for p in params] == [5, 5, 5]
    assert n_clocks(optimizer) == 1


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("key", ["step", "scale"])
def test_a_private_copy_of_one_clock_changes_nothing(key: str, grouped: bool) -> None:
    """As after a cast of floating-point state tensors only."""
    optimizer, params = trained([0, 1, 2])
    if grouped:
        params = make_params(0, torch.float32, SHAPES)
        optimizer = PathAdamSAGA([{"params": params[:2]}, {"params": params[2:]}], P, lr=0.01)
        run(optimizer, params, [0, 1, 2])
    twin, twin_params = copy.deepcopy((optimizer, params))
    for state in twin.state.values():
        state[key] = state[key].clone()
    paths = random_paths(P, 6, seed=1)
    assert_bitwise(go_on(optimizer, params, paths), go_on(twin, twin_params, paths))
    saved = copy.deepcopy(twin.state_dict())
    again_params = make_params(0, torch.float32, SHAPES)
    groups = [{"params": again_params[:2]}, {"params": again_params[2:]}] if grouped else again_params
    again = PathAdamSAGA(groups, P, lr=0.01)
    with torch.no_grad():
        for p, q in zip(again_params, twin_params, strict=True):
            p.copy_(q)
    again.load_state_dict(saved)
    assert_bitwise(go_on(twin, twin_params, paths, 200), go_on(again, again_params, paths, 200))


def test_reading_the_state_of_a_parameter_without_one_is_harmless() -> None:
    params = make_params(0, torch.float32, SHAPES)
    optimizer = PathAdamSAGA(params, P)
    assert optimizer.state[params[1]] == {}
    assert optimizer.state_dict()["state"] == {1: {}}
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    set_grads(params, 0)
    params[1].grad = None
    optimizer.step(path_idx=2)
    assert optimizer.state[params[1]] == {}
    copied = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(copied)
    go_on(optimizer, params, [0, 2])


def test_a_stale_state_dict_is_refused() -> None:
    """It shares rows with the optimizer, but not clocks: loading it would mix two times."""
    optimizer, params = trained([0, 1])
    shared, kept = optimizer.state_dict(), copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(shared)  # nothing has happened since
    go_on(optimizer, params, [2, 0])
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match=r"copy\.deepcopy"):
        optimizer.load_state_dict(shared)
    assert_same_snapshot(optimizer, before)
    optimizer.load_state_dict(kept)
    assert int(next(iter(optimizer.state.values()))["step"].max()) == 2


def test_a_cast_model_is_refused_until_the_state_is_cast() -> None:
    optimizer, params = trained([0, 1, 2])
    expected = copy.deepcopy(params)
    for param in params:
        param.grad = None
        param.data = param.data.double()
    set_grads(params, 50)
    with pytest.raises(
        RuntimeError, match=r"torch\.float64 on cpu, but its .* was made .* torch\.float32.*load_state"
    ):
        optimizer.step(path_idx=1)
    assert_bitwise([p.detach() for p in params], [p.detach().double() for p in expected])
    assert int(optimizer.state[params[0]]["step"].max()) == 3
    optimizer.load_state_dict(optimizer.state_dict())
    go_on(optimizer, params, [1, 3])
    assert all(value.dtype == torch.float64 for key, value in optimizer.state[params[0]].items() if key != "step")


def test_a_parameter_of_another_shape_is_refused() -> None:
    optimizer, params = trained([0, 1])
    params[1].grad = None
    params[1].data = torch.zeros(6)
    set_grads(params, 3)
    with pytest.raises(RuntimeError, match=r"\(6,\).*made as \(5,\)"):
        optimizer.step(path_idx=0)


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_setting_data_of_state_tensors(storage: str) -> None:
    """The common way to move an optimizer's state to another device."""
    optimizer, params = trained([0, 1, 2], storage=storage)
    twin, twin_params = copy.deepcopy((optimizer, params))
    for state in optimizer.state.values():
        for value in state.values():
            value.data = value.data.clone()
    paths = random_paths(P, 8, seed=2)
    assert_bitwise(go_on(optimizer, params, paths), go_on(twin, twin_params, paths))
    assert_same_snapshot(optimizer, snapshot(twin))


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
def test_double_precision_has_its_own_range(size: float) -> None:
    param = Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = PathAdamSAGA([param], 2, lr=1.0, weight_decay=0.0)
    twin = ReferencePathAdamSAGA([0.0, 0.0, 0.0], 2, 1.0)
    for k, path in enumerate([0, 1, 0, 1]):
        grad = torch.tensor([1.0, -0.5, 0.1 * k], dtype=torch.float64)
        param.grad = grad * size
        optimizer.step(path_idx=path)
        twin.step(path, grad.numpy())
    torch.testing.assert_close(param.detach(), torch.from_numpy(twin.w), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1e-100, 1e-30, 1.0])
@pytest.mark.parametrize("double_first", [False, True])
def test_units_fit_all_dtypes_that_share_a_clock(size: float, double_first: bool) -> None:
    """A unit for tiny gradients in double precision is beyond float32."""
    double, single = Parameter(torch.zeros(2, dtype=torch.float64)), Parameter(torch.zeros(2))
    params = [double, single] if double_first else [single, double]
    optimizer = PathAdamSAGA(params, 2, lr=1.0, weight_decay=0.0, saga=0.0)
    for path in (0, 1, 0):
        double.grad = torch.tensor([size, -size], dtype=torch.float64)
        single.grad = torch.tensor([0.0, size])
        optimizer.step(path_idx=path)
    torch.testing.assert_close(double.detach(), torch.tensor([-3.0, 3.0], dtype=torch.float64))
    expected = -3.0 if size > 1e-45 else 0.0
    torch.testing.assert_close(single.detach(), torch.tensor([0.0, expected]))


@pytest.mark.parametrize("small", [1e-20, 1e-24, 1e-28])
def test_small_entries_beside_large_ones(small: float) -> None:
    params = [Parameter(torch.zeros(2)), Parameter(torch.zeros(1))]
    optimizer = PathAdamSAGA(params, 2, lr=1.0, weight_decay=0.0, saga=0.0)
    twin = ReferencePathAdamSAGA([0.0], 2, 1.0, saga=0.0)
    for k, path in enumerate([0, 1, 0, 0, 1]):
        params[0].grad, params[1].grad = torch.tensor([1.0, -1.0]), torch.tensor([small * (1 + k)])
        optimizer.step(path_idx=path)
        twin.step(path, [1.0 + k])
    assert float(params[1]) == pytest.approx(float(twin.w[0]), rel=1e-4)


def test_subnormal_gradients_and_growth_from_them() -> None:
    param = Parameter(torch.zeros(2))
    optimizer = PathAdamSAGA([param], 2, lr=1.0, weight_decay=0.0)
    twin = ReferencePathAdamSAGA([0.0, 0.0], 2, 1.0)
    for size in (1e-42, 1e-38, 1e-25, 1e-12, 1.0, 1e20, 1e38):
        grad = torch.tensor([size, -size / 3])
        param.grad = grad
        optimizer.step(path_idx=0)
        twin.step(0, grad.double().numpy())
    torch.testing.assert_close(param.detach().double(), torch.from_numpy(twin.w), rtol=1e-4, atol=1e-5)


def test_a_vanishing_second_moment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"betas: \(0\.9, 0\.0\) with eps=0"):
        PathAdamSAGA([Parameter(torch.zeros(1))], 2, betas=(0.9, 0.0))
    PathAdamSAGA([Parameter(torch.zeros(1))], 2, betas=(0.9, 0.0), eps=1e-12)
    PathAdamSAGA([Parameter(torch.zeros(1))], 2, betas=(0.0, 0.0))


@pytest.mark.parametrize("foreach", [None, True, False])
def test_parameters_on_one_memory_both_count(foreach: bool | None) -> None:
    first = Parameter(torch.zeros(3))
    second = Parameter(torch.zeros(3))
    second.data = first.data
    optimizer = PathAdamSAGA([first, second], 2, lr=0.1, weight_decay=0.0, foreach=foreach)
    first.grad, second.grad = torch.tensor([1.0, -1.0, 1.0]), torch.tensor([1.0, 1.0, -1.0])
    optimizer.step(path_idx=0)
    torch.testing.assert_close(first.detach(), torch.tensor([-0.2, 0.0, 0.0]))


def test_parameters_that_stay_do_not_hold_the_memory_of_those_that_leave() -> None:
    small, big = Parameter(torch.zeros(10)), Parameter(torch.zeros(50_000))
    optimizer = PathAdamSAGA([small, big], 20)
    for path in range(20):
        set_grads([small, big], path)
        optimizer.step(path_idx=path)
    big.grad = None
    optimizer.step(path_idx=0)
    storages = {}
    for value in optimizer.state[small].values():
        storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    assert sum(storages.values()) < 20_000


def test_data_that_a_parameter_gave_up_is_freed() -> None:
    optimizer, params = trained([0, 1])
    old = params[0].data.untyped_storage()._weak_ref()
    params[0].data = torch.empty(0)
    assert torch.UntypedStorage._expired(old)
    torch.UntypedStorage._free_weak_ref(old)
    assert len(optimizer.state) == len(params)


def test_conjugate_and_huge_complex_gradients() -> None:
    param, plain = (Parameter(torch.zeros(2, dtype=torch.complex64)) for _ in range(2))
    for p, lazy in ((param, True), (plain, False)):
        optimizer = PathAdamSAGA([p], 2, lr=0.1)
        grad = torch.tensor([1 + 2j, 3 - 1j]).conj()
        p.grad = grad if lazy else grad.resolve_conj()
        assert p.grad is not None
        assert p.grad.is_conj() is lazy
        optimizer.step(path_idx=0)
        p.grad = torch.tensor([3e38 + 3e38j, 1 + 0j])
        optimizer.step(path_idx=1)
    assert_bitwise(param.detach(), plain.detach())
    assert bool(torch.view_as_real(param.detach()).isfinite().all())


def test_an_announced_weight_serves_a_step_that_names_the_same_path() -> None:
    moved = []
    for named in (None, 0, 1):
        param = Parameter(torch.zeros(1))
        optimizer = PathAdamSAGA([param], 2, lr=1.0, weight_decay=0.0, unbiased=True)
        param.grad = torch.ones(1)
        optimizer.set_path(0, weight=4.0)
        optimizer.step(path_idx=named)
        moved.append(float(param))
    assert moved == [-4.0, -4.0, -1.0]


def test_one_path_has_no_weight() -> None:
    optimizer = PathAdamSAGA([Parameter(torch.zeros(1))], 1, unbiased=True)
    with pytest.raises(ValueError, match="n_paths=1"):
        optimizer.set_path(0, weight=2.0)


@pytest.mark.parametrize("hyperparameter", [("lr", torch.ones(2)), ("betas", (0.9, 1.0)), ("weight_decay", None)])
def test_a_wrong_hyperparameter_in_a_group_moves_nothing(hyperparameter: tuple) -> None:
    optimizer, params = trained([0, 1])
    before, weights = snapshot(optimizer), [p.detach().clone() for p in params]
    key, value = hyperparameter
    good, optimizer.param_groups[0][key] = optimizer.param_groups[0][key], value
    set_grads(params, 3)
    with pytest.raises((ValueError, TypeError, RuntimeError, ZeroDivisionError)):
        optimizer.step(path_idx=0)
    optimizer.param_groups[0][key] = good
    assert_same_snapshot(optimizer, before)
    assert_bitwise([p.detach() for p in params], weights)
