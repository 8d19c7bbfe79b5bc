"""PathAdamSAGA in floating point: gradients of any size, one scale beside another, sums that must not drift."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from scrapl_optim.reference import ReferencePathAdamSAGA
from scrapl_optim.testing import assert_matches_twin
from tests.support.optimizer_helpers import assert_bitwise, make_params, random_gradients, random_paths, run
from tests.support.optimizer_variants import N_PATHS, PATHS, VARIANTS, Variant

every_p_adam_variant = pytest.mark.parametrize("variant", [v for v in VARIANTS if v.path_adam], ids=str)

# ---------------------------------------------------------------- the scale of the loss


@pytest.mark.parametrize("foreach", [None, False, True])
@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_update_does_not_depend_on_the_scale_in_float32(foreach: bool | None, storage: str, scale: float) -> None:
    """Low-bit storage rounds values, and those do not depend on the scale but for its own rounding."""
    paths = [*random_paths(315, 60), 3, 4, 3, 4, 4, 4, 3]
    plain, scaled = make_params(2, torch.float32), make_params(2, torch.float32)
    kwargs = {"lr": 0.01, "foreach": foreach, "storage": storage}
    run(PathAdamSAGA(plain, 315, **kwargs), plain, paths)
    run(PathAdamSAGA(scaled, 315, **kwargs), scaled, paths, scale=scale)
    for p, q in zip(plain, scaled, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-5, atol=2e-6 if storage == "float32" else 2e-3)


@every_p_adam_variant
@pytest.mark.parametrize("exponent", [-100, 60])
def test_a_power_of_two_is_exact(variant: Variant, exponent: int) -> None:
    """P-Adam divides by the size of the gradient."""
    results = []
    for scale in (1.0, 2.0**exponent):
        params = make_params(2, torch.float32, [(67, 71), (5,)])
        run(PathAdamSAGA(params, N_PATHS, **variant.kwargs(lr=0.01)), params, PATHS, scale=scale)
        results.append(params)
    assert_bitwise(results[1], results[0])


class Rescaled(ReferencePathAdamSAGA):
    """Algorithm 1 of gradients in units of ``size``, whose squares neither overflow nor vanish."""

    def __init__(self, w: npt.ArrayLike, size: float, **kwargs: Any) -> None:
        super().__init__(w, **kwargs)
        self.size = size

    def step(self, p: int, g: npt.ArrayLike, weight: float = 1.0) -> None:
        super().step(p, np.asarray(g) / self.size, weight)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
def test_double_precision_has_its_own_range(size: float) -> None:
    assert_matches_twin(
        lambda params: PathAdamSAGA(params, 2, lr=1.0, weight_decay=0.0),
        lambda w: Rescaled(w, size, n_paths=2, lr=1.0),
        [[size, -0.5 * size, 0.1 * k * size] for k in range(4)],
        [0, 1, 0, 1],
        rtol=1e-9,
    )


# ---------------------------------------------------------------- scales that differ


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(
    "sizes",
    [
        (1e-30, 1e-30, 1.0, 1.0, 1e15, 1e30, 1.0, 1e-3),
        (1e-42, 1e-42, 1e-38, 1e-25, 1e-12, 1.0, 1e20, 1e38, 1e38),
        (0.0, 0.0, 0.0, 0.0, 1e-25, 1e-25, 1e-25),
    ],
    ids=["up and down", "from subnormal to the largest", "zero first"],
)
def test_gradients_may_change_scale_by_any_amount(storage: str, sizes: tuple[float, ...]) -> None:
    """The literal statement knows no units."""
    shape = (64, 70) if storage == "int8" else (5,)
    shared = {"n_paths": 3, "lr": 0.01, "weight_decay": 0.0}
    assert_matches_twin(
        lambda params: PathAdamSAGA(params, storage=storage, **shared),
        lambda w: ReferencePathAdamSAGA(w, **shared),
        [size * g.clip(-3, 3) for size, g in zip(sizes, random_gradients(len(sizes), *shape), strict=True)],
        [k % 2 for k in range(len(sizes))],
        start=random_gradients(1, *shape, seed=1)[0],
        dtype=torch.float32,
        rtol=0.0,
        atol=2e-6 if storage == "float32" else 5e-3,
    )


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
    shared = {"n_paths": 2, "lr": 1.0, "weight_decay": 0.0, "saga": 0.0}
    assert_matches_twin(
        lambda params: PathAdamSAGA(params, **shared),
        lambda w: ReferencePathAdamSAGA(w, **shared),
        [[1.0, -1.0, small * (1 + k)] for k in range(5)],
        [0, 1, 0, 0, 1],
        shapes=[(2,), (1,)],
        dtype=torch.float32,
        rtol=1e-4,
    )


@every_p_adam_variant
def test_largest_float32_gradients_are_accepted(variant: Variant) -> None:
    param = Parameter(torch.zeros(300))
    options = {"lr": 0.5, "weight_decay": 0.0, "maximize": False, "path_warmup": 0.0}
    optimizer = PathAdamSAGA([param], 2, **variant.kwargs(2, **options))
    largest = torch.finfo(torch.float32).max
    param.grad = torch.full_like(param, largest)
    optimizer.step(path_idx=0)
    torch.testing.assert_close(param.detach(), torch.full_like(param, -0.5))
    param.grad = torch.full_like(param, 1e-38)
    optimizer.step(path_idx=1)
    param.grad = torch.full_like(param, largest)
    optimizer.step(path_idx=1)
    assert param.isfinite().all()


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


def test_zero_gradients_leave_the_parameter() -> None:
    params = make_params(0)
    before = [p.detach().clone() for p in params]
    optimizer = PathAdamSAGA(params, 3, lr=0.1, weight_decay=0.0)
    run(optimizer, params, [0, 1, 0], scale=0.0)
    assert_bitwise(params, before)


# ---------------------------------------------------------------- sums over many steps


@pytest.mark.parametrize("path_adam", [True, False])
def test_many_steps_in_float32_stay_beside_the_paper(path_adam: bool) -> None:
    """The running sum must not drift from the sum that the paper takes at every step."""
    shared = {"n_paths": 7, "lr": 1e-3, "weight_decay": 0.0, "path_adam": path_adam}
    optimizers: list[PathAdamSAGA] = []
    twins: list[ReferencePathAdamSAGA] = []

    def make_optimizer(params: list[Parameter]) -> PathAdamSAGA:
        optimizers.append(PathAdamSAGA(params, **shared))
        return optimizers[0]

    def make_twin(w: npt.NDArray[np.float64]) -> ReferencePathAdamSAGA:
        twins.append(ReferencePathAdamSAGA(w, **shared))
        return twins[0]

    n_steps = 1500  # more than the 1024 after which few rows are summed again
    assert_matches_twin(
        make_optimizer,
        make_twin,
        random_gradients(n_steps, 5),
        random_paths(7, n_steps),
        dtype=torch.float32,
        rtol=2e-5,
    )
    (state,) = optimizers[0].state.values()
    np.testing.assert_allclose(state["saga_sum"].numpy(), twins[0].g_hat.sum(0), atol=1e-5)


@pytest.mark.parametrize("path_adam", [True, False])
@pytest.mark.parametrize(
    ("n_paths", "n_steps", "foreach"), [(3, 2047, True), (3, 2047, False), (65, 3000, True), (65, 3000, False)]
)
def test_sum_follows_its_rows(foreach: bool, path_adam: bool, n_paths: int, n_steps: int) -> None:
    """Few paths: summed again every 1024 steps, many: never. A plain running sum is off by 1e-6 to 4e-6 here."""
    param = Parameter(torch.zeros(64))
    optimizer = PathAdamSAGA([param], n_paths, path_adam=path_adam, foreach=foreach)
    paths = [*range(n_paths), *random_paths(n_paths, n_steps - n_paths)]
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(n_paths, 64, generator=generator)
    for path, noise in zip(paths, torch.randn(n_steps, 64, generator=generator), strict=True):
        param.grad = mean[path] + noise
        optimizer.step(path_idx=path)
    state: dict[str, Tensor] = optimizer.state[param]
    exact = torch.stack([state[f"update.{path}"] for path in range(n_paths)]).double().sum(0)
    assert (state["saga_sum"] - exact).norm() < 5e-7 * exact.norm()
