"""theta_importance against dense float64 matrices, closed forms, and what users get wrong."""

from __future__ import annotations

import functools
import json
import multiprocessing as mp
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scrapl_optim import Arnoldi, SharedSubspace, probabilities, theta_importance
from scrapl_optim._importance.derivatives import path_derivatives
from tests.support.importance_toy import EXACT, B, P, Toy, U


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000))
def test_exact_values_are_those_of_the_dense_matrix(seed: int) -> None:
    toy = Toy(seed)
    found = toy.importance()
    torch.testing.assert_close(found.importance, toy.reference(), rtol=1e-6, atol=0)
    assert found.unconverged == []
    share = found.importance / found.importance.sum(1, keepdim=True)
    torch.testing.assert_close(found.probs, share.mean(0))
    assert float(found.probs.sum()) == pytest.approx(1)


@pytest.mark.parametrize("max_graphs", [0, 1, 2])
@pytest.mark.parametrize("max_basis", [4, 20])
def test_memory_settings_change_nothing(max_graphs: int, max_basis: int) -> None:
    reference = Toy().importance()
    found = Toy().importance(replace(EXACT, max_graphs=max_graphs, max_basis=max_basis))
    torch.testing.assert_close(found.importance, reference.importance, rtol=1e-8, atol=0)


def test_one_batch_of_all_examples_and_batches_that_sum() -> None:
    toy = Toy(n_batches=2)
    both = toy.importance()
    toy.batches = [torch.cat(toy.batches)]
    torch.testing.assert_close(toy.importance().importance * 2, both.importance)


def test_the_scale_of_a_loss_scales_its_importance() -> None:
    toy = Toy()
    plain = toy.importance()
    loss = toy.loss
    toy.loss = lambda sound, batch, path: 1e-30 * loss(sound, batch, path)  # type: ignore[method-assign]
    tiny = toy.importance()
    torch.testing.assert_close(tiny.importance, plain.importance * 1e-30, rtol=1e-6, atol=0)
    torch.testing.assert_close(tiny.probs, plain.probs)


def test_float32_encoder_with_float64_losses() -> None:
    """The encoder in single precision; slopes and Hessians stay in double."""
    double = Toy().importance()
    toy = Toy()
    toy.encoder.float()
    found = theta_importance(
        lambda batch: toy.encoder(batch.float()),
        toy.synth,
        toy.loss,
        toy.batches,
        toy.encoder.parameters(),
        P,
        method=Arnoldi(tolerance=1e-4),
    )
    torch.testing.assert_close(found.importance, double.importance, rtol=1e-3, atol=0)


def test_unconverged_values_are_named_with_their_residual() -> None:
    found = Toy().importance(replace(EXACT, max_products=2))
    assert set(found.unconverged) == {(p, u) for p in range(P) for u in range(U)}
    assert bool((found.residual > 1e-10).all())
    assert bool((found.n_products == 2).all())


@pytest.mark.filterwarnings("ignore:theta_importance with a method's name")
def test_surrogate_is_what_it_is_called() -> None:
    toy = Toy()
    found = toy.importance("control_curvature")
    for p in range(P):
        expected = torch.zeros(U, dtype=torch.float64)
        for batch in toy.batches:
            theta = toy.encoder(batch).detach()
            hessian = torch.autograd.functional.hessian(
                lambda t, batch=batch, p=p: toy.loss(toy.synth(t, batch), batch, p), theta
            )
            for u in range(U):
                expected[u] += sum(hessian[b, u, b, u] for b in range(B))  # type: ignore[call-overload]
        torch.testing.assert_close(found.importance[:, p], expected.abs())
    assert bool((found.n_products == 0).all())


def flat_gradient(value: Tensor, params: list[Tensor]) -> Tensor:
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, params, retain_graph=True)])


@pytest.mark.filterwarnings("ignore:theta_importance with a method's name")
def test_gauss_newton_leaves_out_the_encoders_curvature() -> None:
    toy = Toy(3)
    params = list(toy.encoder.parameters())
    n_weights = sum(weights.numel() for weights in params)
    found = toy.importance("gauss_newton")
    for p in range(P):
        for u in range(U):
            matrix = np.zeros((n_weights, n_weights))
            for batch in toy.batches:
                theta = toy.encoder(batch)
                rows = [[flat_gradient(theta[b, v], params) for v in range(U)] for b in range(B)]
                hessian = torch.autograd.functional.hessian(
                    lambda t, batch=batch, p=p: toy.loss(toy.synth(t, batch), batch, p), theta.detach()
                )
                for b in range(B):
                    pulled = sum(float(hessian[b, u, b, v]) * rows[b][v] for v in range(U))  # type: ignore[call-overload]
                    matrix += torch.outer(torch.as_tensor(pulled), rows[b][u]).numpy()
            assert float(found.importance[u, p]) == pytest.approx(
                np.abs(np.linalg.eigvals(matrix)).max(), rel=1e-6
            )


def test_path_derivatives_are_the_hessian_of_each_example() -> None:
    toy = Toy()
    batch, theta = toy.batches[0], toy.encoder(toy.batches[0]).detach()

    def loss(t: Tensor) -> Tensor:
        return toy.loss(toy.synth(t, batch), batch, 2)

    full = torch.autograd.functional.hessian(loss, theta)
    found = path_derivatives(loss, theta)
    for b in range(B):
        torch.testing.assert_close(found.hessian[b], full[b, :, b])  # type: ignore[call-overload]


def test_same_seed_same_result_and_shares_make_the_whole(tmp_path: Path) -> None:
    whole = Toy().importance()
    assert torch.equal(Toy().importance().importance, whole.importance)
    for rank in (0, 2):
        Toy().importance(folder=tmp_path, rank=rank, world_size=3)
    part = Toy().importance(folder=tmp_path, rank=1, world_size=3)
    assert torch.equal(part.importance, whole.importance)
    assert torch.equal(part.probs, whole.probs)
    some = Toy().importance(paths=[2, 0])
    assert torch.equal(some.importance[:, [0, 2]], whole.importance[:, [0, 2]])
    with pytest.raises(RuntimeError, match=r"2 paths have none yet \(first: \[1, 3\]\)"):
        _ = some.probs


class Killed(BaseException):
    pass


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    done = []

    def stop(state) -> None:
        done.append(state.done)
        if state.done == 3:
            raise Killed

    with pytest.raises(Killed):
        Toy().importance(folder=tmp_path, progress=stop)
    toy, computed = Toy(), []
    loss = toy.loss
    toy.loss = lambda s, b, p: computed.append(p) or loss(s, b, p)  # type: ignore[method-assign, func-returns-value]
    found = toy.importance(folder=tmp_path, check=False)
    assert set(computed) == {2, 3}  # the derivatives of path 1 were kept
    assert torch.equal(found.importance, Toy().importance().importance)
    computed.clear()
    toy.importance(folder=tmp_path, check=False)
    assert computed == []


def _work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    Toy().importance(folder=folder, rank=rank, world_size=2)


def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    workers = [context.Process(target=_work, args=(rank, tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert torch.equal(Toy().importance(folder=tmp_path).importance, Toy().importance().importance)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("change", ["weights", "data", "tolerance"])
def test_a_folder_of_another_run_is_refused(tmp_path: Path, change: str) -> None:
    Toy().importance(folder=tmp_path)
    toy = Toy()
    if change == "weights":
        next(toy.encoder.parameters()).data[0, 0] += 1e-3
    elif change == "data":
        toy.batches[1] = toy.batches[1] + 1
    name = {"weights": "weights", "data": "controls", "tolerance": "tolerance"}[change]
    with pytest.raises(ValueError, match=name):
        toy.importance(Arnoldi() if change == "tolerance" else EXACT, folder=tmp_path)


def test_a_damaged_value_is_computed_again(tmp_path: Path) -> None:
    whole = Toy().importance(folder=tmp_path)
    file = tmp_path / "path_00002_control_001.json"
    assert json.loads(file.read_text())["converged"] is True
    file.write_text('{"value": [1.0')
    assert torch.equal(Toy().importance(folder=tmp_path).importance, whole.importance)


def test_progress_bar(capsys: pytest.CaptureFixture) -> None:
    Toy().importance(progress=True)
    assert f"{P * U}/{P * U}" in capsys.readouterr().err
    Toy().importance()
    assert capsys.readouterr().err == ""


class Noisy(nn.Module):
    def forward(self, theta: Tensor, batch: Tensor) -> Tensor:
        return theta + 1e-6 * torch.rand_like(theta)


def dropout_encoder(toy: Toy) -> None:
    toy.encoder = nn.Sequential(toy.encoder, nn.Dropout(0.5))


def batch_norm_encoder(toy: Toy) -> None:
    toy.encoder = nn.Sequential(nn.BatchNorm1d(3).double(), toy.encoder)


def random_synth(toy: Toy) -> None:
    toy.synth = Noisy()  # type: ignore[method-assign]


def random_encoder(toy: Toy) -> None:
    encoder = toy.encoder
    toy.encoder = type("E", (nn.Module,), {"forward": lambda self, x: encoder(x + 1e-9 * torch.rand_like(x))})()
    toy.encoder.inner = encoder


def idle_weights(toy: Toy) -> None:
    toy.encoder = type("E", (nn.Sequential,), {"forward": lambda self, x: nn.Sequential(*list(self)[:4])(x)})(
        *toy.encoder, nn.Linear(7, 7).double()
    )


def norm_over_the_batch(toy: Toy) -> None:
    toy.loss = lambda s, b, p: (s @ toy.mixes[p] - 1).norm()  # type: ignore[method-assign]


def infinite_curvature(toy: Toy) -> None:
    loss = toy.loss
    toy.loss = lambda s, b, p: loss(s, b, p) if p != 2 else (s * 0).norm()  # type: ignore[method-assign]


def other_controls(toy: Toy) -> None:
    encoder = toy.encoder
    cut = {"forward": lambda self, x: encoder(x)[:, : 1 + int(bool((x == toy.batches[0]).all()))]}
    toy.encoder = type("E", (nn.Module,), cut)()
    toy.encoder.inner = encoder


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (dropout_encoder, RuntimeError, r"encoder: its layer '1' \(Dropout\).*eval\(\)"),
        (batch_norm_encoder, RuntimeError, r"encoder: its layer '0' \(BatchNorm1d\)"),
        (random_synth, RuntimeError, "Invalid synthesizer: it is not deterministic"),
        (random_encoder, RuntimeError, "Invalid encoder: it is not deterministic"),
        (idle_weights, RuntimeError, r"do not reach the controls: 4 of shape \(7, 7\)"),
        (norm_over_the_batch, RuntimeError, "path 0 couples the examples"),
        (infinite_curvature, FloatingPointError, "path 2"),
        (other_controls, ValueError, "returned 2 for the first batch and 1"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_makes_the_result_meaningless_is_named(fault, error, message: str) -> None:
    toy = Toy()
    fault(toy)
    with pytest.raises(error, match=message):
        toy.importance()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "exakt"}, ValueError, "Invalid method: 'exakt'"),
        ({"method": Arnoldi}, TypeError, r"Invalid method: .*expected Arnoldi\(...\)"),
        ({"method": None}, TypeError, "Invalid method: None"),
        ({"paths": [4]}, ValueError, r"Invalid paths: \[4\]"),
        ({"paths": []}, ValueError, "Invalid paths: empty"),
        ({"paths": "01"}, TypeError, "Invalid paths: '01'; expected a sequence"),
        ({"world_size": 1.5}, TypeError, "world_size"),
        ({"seed": 0.5}, TypeError, "Invalid seed: .*; expected an integer"),
        ({"derivatives": 1}, TypeError, "derivatives"),
        ({"dtype": torch.int64}, TypeError, "Invalid dtype: torch.int64"),
        ({"folder": 3}, TypeError, "Invalid folder: .*; expected a string"),
        ({"check": "yes"}, TypeError, "Invalid check: .*; expected True or False"),
        ({"progress": 2}, TypeError, "Invalid progress: .*; expected True or False"),
        ({"rank": 2, "world_size": 2}, ValueError, "Invalid rank: 2"),
        ({"paths": [0.5]}, TypeError, "float"),
    ],
)
def test_bad_arguments(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Toy().importance(**arguments)


@pytest.mark.parametrize("method", [Arnoldi, SharedSubspace])
@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"tolerance": float("nan")}, ValueError, "Invalid tolerance: nan"),
        ({"tolerance": 0}, ValueError, "Invalid tolerance: 0"),
        ({"tolerance": "1e-3"}, TypeError, "tolerance"),
        ({"max_products": 0}, ValueError, "Invalid max_products: 0; expected an integer of at least 1"),
        ({"max_basis": 3}, ValueError, "Invalid max_basis: 3"),
        ({"max_basis": 4.5}, TypeError, "max_basis"),
        ({"max_graphs": -1}, ValueError, "Invalid max_graphs: -1"),
    ],
)
def test_bad_options_of_both_methods(method: Any, option: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        method(**option)


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"max_size": None}, TypeError, "max_size"),
        ({"max_size": 0}, ValueError, "Invalid max_size: 0"),
        ({"split_batch": []}, TypeError, "split_batch"),
    ],
)
def test_bad_options_of_a_subspace(option: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SharedSubspace(**option)


def test_options_are_compared_shown_and_never_change() -> None:
    method: Any = Arnoldi(tolerance=np.float64(1e-2), max_basis=np.int64(8))  # type: ignore[arg-type]
    assert method == Arnoldi(1e-2, max_basis=8)
    assert repr(method) == "Arnoldi(tolerance=0.01, max_products=60, max_basis=8, max_graphs=1)"
    with pytest.raises(AttributeError):
        method.tolerance = 1.0


@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        (0, None, TypeError, "Invalid encoder: .*; expected a callable"),
        (1, "synth", TypeError, "Invalid synth: .*; expected a callable"),
        (2, 0, TypeError, "Invalid path_loss: .*; expected a callable"),
        (3, None, TypeError, "Invalid batches: None; expected a sequence"),
        (3, torch.zeros(2, 3), TypeError, r"a single batch is \[batch\]"),
        (3, [], ValueError, "Invalid batches: empty"),
        (4, None, TypeError, "Invalid params: None; expected a sequence"),
        (4, "weights", TypeError, "Invalid params"),
        (4, [1.0], TypeError, "Invalid params: a float"),
        (4, [torch.zeros(2), torch.zeros(2).double()], ValueError, "several dtypes"),
        (5, None, TypeError, "Invalid n_paths: .*; expected an integer"),
        (5, 1.5, TypeError, "Invalid n_paths: .*; expected an integer"),
        (5, 0, ValueError, "Invalid n_paths: .*; expected at least 1"),
        (5, 10**9, ValueError, "Invalid n_paths: .*; expected at least 1"),
    ],
)
def test_bad_problems(place: int, value: object, error: type[Exception], message: str) -> None:
    toy = Toy()
    arguments: list = [toy.encoder, toy.synth, toy.loss, toy.batches, list(toy.encoder.parameters()), P]
    arguments[place] = value
    with pytest.raises(error, match=message):
        theta_importance(*arguments)


def test_a_loss_that_ignores_the_controls_has_no_importance() -> None:
    toy = Toy()
    loss = toy.loss
    toy.loss = lambda s, b, p: loss(s, b, p) if p else b.mean()  # type: ignore[method-assign]
    found = toy.importance()
    assert bool((found.importance[:, 0] == 0).all())
    assert float(found.probs[0]) == 0
    with pytest.raises(ValueError, match=r"controls \[0, 1\]"):
        probabilities(torch.zeros(2, 3))


def test_gradients_of_the_user_are_left_alone() -> None:
    toy = Toy()
    marks = [torch.ones_like(param) for param in toy.encoder.parameters()]
    for param, mark in zip(toy.encoder.parameters(), marks, strict=True):
        param.grad = mark
    state = torch.get_rng_state()
    toy.importance()
    assert torch.equal(torch.get_rng_state(), state)
    for param, mark in zip(toy.encoder.parameters(), marks, strict=True):
        assert param.grad is mark
        assert bool((mark == 1).all())


@pytest.mark.parametrize(
    ("place", "function", "message"),
    [
        (0, lambda: None, r"Invalid encoder: it takes \(\) .*; expected one to be called as encoder\(batch\)"),
        (1, lambda theta: theta, r"too many .*called as synth\(theta, batch\); .* lambda theta, batch: \.\.\."),
        (1, nn.Identity(), r"called as synth\(theta, batch\)"),
        (1, lambda theta, batch, gain: theta, r"missing .*'gain'.*called as synth\(theta, batch\)"),
        (2, lambda sound, batch: sound, r"called as path_loss\(sound, batch, path_idx\)"),
        (2, lambda sound, *, batch, path_idx: sound, r"called as path_loss\(sound, batch, path_idx\)"),
    ],
)
def test_functions_of_other_arguments(place: int, function: object, message: str) -> None:
    toy = Toy()
    arguments: list = [toy.encoder, toy.synth, toy.loss, toy.batches, list(toy.encoder.parameters()), P]
    arguments[place] = function
    with pytest.raises(TypeError, match=message):
        theta_importance(*arguments)


def test_options_of_other_arguments() -> None:
    with pytest.raises(TypeError, match=r"called as derivatives\(theta, batch, paths\)"):
        Toy().importance(derivatives=lambda theta, batch: None)
    with pytest.raises(TypeError, match=r"called as split_batch\(batch\)"):
        SharedSubspace(split_batch=lambda batch, size: None)  # type: ignore[arg-type]


def test_functions_whose_arguments_do_not_show() -> None:
    """Wrappers, defaults and hooks: what may be right is not refused."""
    toy = Toy()

    def importance(synth: Callable[..., Tensor]) -> Tensor:
        weights = toy.encoder.parameters()
        return theta_importance(toy.encoder, synth, toy.loss, toy.batches, weights, P, paths=[0]).importance[:, 0]

    def with_gain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return functools.wraps(function)(lambda theta, batch: function(theta, batch, 1.0))

    class Synth(nn.Module):
        def forward(self, theta: Tensor) -> Tensor:
            return theta.sin()

    module = Synth()
    module.register_forward_pre_hook(lambda _, arguments: arguments[:1])
    synths = [
        with_gain(lambda theta, batch, gain: gain * theta.sin()),
        lambda *arguments: arguments[0].sin(),
        lambda theta, batch=None, gain=1.0: gain * theta.sin(),
        functools.partial(lambda gain, theta, batch: gain * theta.sin(), 1.0),
        module,
    ]
    expected = importance(lambda theta, batch: theta.sin())
    for synth in synths:
        torch.testing.assert_close(importance(synth), expected, rtol=0, atol=0)


def test_paths_as_arrays_tensors_and_ranges() -> None:
    expected = Toy().importance(paths=[0, 2]).importance
    for paths in (np.array([2, 0]), torch.tensor([0, 2, 2]), range(0, 3, 2)):
        torch.testing.assert_close(
            Toy().importance(paths=paths).importance, expected, rtol=0, atol=0, equal_nan=True
        )
    with pytest.raises(TypeError, match=r"Invalid n_paths: a range of 3 entries; .* n_paths=3"):
        theta_importance(Toy().encoder, Toy().synth, Toy().loss, [1], Toy().encoder.parameters(), range(3))  # type: ignore[arg-type]
