"""The shared subspace against dense matrices, and what users get wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, hessian

from scrapl_optim import Arnoldi, SharedSubspace, theta_importance
from scrapl_optim._importance.derivatives import path_derivatives
from scrapl_optim._importance.encoder import EncoderDerivatives, Example
from scrapl_optim._importance.shared_subspace import Coefficients, Subspace
from tests.support.importance_toy import P, Toy, U

TIGHT = SharedSubspace(tolerance=1e-5, max_products=60)


def derivatives_of(toy: Toy, factor: float = 1.0) -> Any:
    def derivatives(theta: Tensor, batch: Tensor, paths: list[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        for p in paths:
            found = path_derivatives(lambda t, p=p: toy.loss(toy.synth(t, batch), batch, p), theta)
            yield p, found.slope, factor * found.hessian

    return derivatives


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 10_000))
def test_values_are_those_of_the_dense_matrix(seed: int) -> None:
    toy = Toy(seed, hidden=8)
    found = toy.importance(TIGHT)
    assert found.unconverged == []
    torch.testing.assert_close(found.importance, toy.reference(), rtol=1e-4, atol=0)


def test_a_subspace_too_small_is_completed_path_by_path() -> None:
    toy = Toy(1, hidden=12)
    whole, small = toy.importance(TIGHT), toy.importance(replace(TIGHT, max_size=6))
    assert int((whole.n_products == 0).sum()) == P * U
    assert int((small.n_products > 0).sum()) > P
    torch.testing.assert_close(small.importance, whole.importance, rtol=1e-4, atol=0)


def test_splitting_batches_changes_nothing() -> None:
    toy = Toy(2)
    apart = toy.importance(replace(TIGHT, split_batch=lambda batch: batch.split(1), max_graphs=100))
    torch.testing.assert_close(apart.importance, toy.importance(TIGHT).importance, rtol=1e-7, atol=0)


@pytest.mark.parametrize("split", [lambda batch: batch.flip(0).split(1), lambda batch: [batch[:1]]])
def test_a_wrong_split_is_named(split: Any) -> None:
    with pytest.raises(ValueError, match="Invalid split_batch: it does not cut"):
        Toy().importance(replace(TIGHT, split_batch=split))


@pytest.mark.parametrize("method", [Arnoldi(1e-5), SharedSubspace(1e-5)])
def test_given_derivatives_take_the_place_of_double_backward_passes(method: Any) -> None:
    toy = Toy(3)
    expected = toy.importance(method)
    found = toy.importance(method, derivatives=derivatives_of(toy))
    torch.testing.assert_close(found.importance, expected.importance, rtol=1e-9, atol=0)


def test_wrong_derivatives_are_named() -> None:
    toy = Toy(3)
    with pytest.raises(RuntimeError, match=r"Invalid derivatives: the hessian of path 0 is off by"):
        toy.importance(derivatives=derivatives_of(toy, 1.1))

    def shuffled(theta: Tensor, batch: Tensor, paths: list[int]) -> Any:
        return derivatives_of(toy)(theta, batch, paths[::-1])

    with pytest.raises(ValueError, match="expected the order of paths"):
        toy.importance(derivatives=shuffled)


def test_float32_encoder_and_paths_without_effect() -> None:
    toy = Toy(4, hidden=8)
    exact = toy.importance()
    toy.encoder = toy.encoder.float()
    encoder, loss = toy.encoder, toy.loss
    found = theta_importance(
        lambda batch: encoder(batch.float()),
        toy.synth,
        lambda sound, batch, p: 0.0 * sound.sum() if p == 2 else loss(sound, batch, p),
        toy.batches,
        encoder.parameters(),
        P,
        method=SharedSubspace(),
    )
    assert found.importance[:, 2].tolist() == [0, 0]
    assert found.unconverged == []
    others = [0, 1, 3]
    torch.testing.assert_close(found.importance[:, others], exact.importance[:, others], rtol=2e-3, atol=0)


def test_shares_agree_within_the_tolerance_and_a_resumed_run_to_the_digit(tmp_path: Path) -> None:
    toy = Toy(5)
    whole = toy.importance(TIGHT, folder=tmp_path / "whole")
    toy.importance(TIGHT, folder=tmp_path / "shared", rank=0, world_size=2)
    last = toy.importance(TIGHT, folder=tmp_path / "shared", rank=1, world_size=2)
    torch.testing.assert_close(last.importance, whole.importance, rtol=1e-4, atol=0)
    torch.testing.assert_close(last.probs, whole.probs, rtol=1e-4, atol=0)
    for name in ("path_00001_control_000.json", "derivatives_00002.json"):
        (tmp_path / "whole" / name).unlink()
    again = toy.importance(TIGHT, folder=tmp_path / "whole")
    assert torch.equal(again.importance, whole.importance)
    assert torch.equal(again.residual, whole.residual)


def test_processes_in_excess_of_the_paths_have_nothing_to_do() -> None:
    toy = Toy(5)
    whole = toy.importance(TIGHT)
    parts = [toy.importance(TIGHT, rank=rank, world_size=P + 2).importance for rank in range(P + 2)]
    assert [int(part.isfinite().sum()) for part in parts] == [U] * P + [0, 0]
    torch.testing.assert_close(torch.stack(parts).nansum(0), whole.importance, rtol=1e-4, atol=0)


def subspace(toy: Toy, **options: Any) -> tuple[Subspace, Coefficients]:
    examples = [Example(batch, b) for batch in toy.batches for b in range(len(batch))]
    encoder = EncoderDerivatives(toy.encoder, list(toy.encoder.parameters()), 2)
    gradients = torch.stack([torch.stack([encoder.gradient(e, u) for u in range(U)]) for e in examples])
    generator = np.random.default_rng(0)
    n = len(examples)
    coefficients = Coefficients(generator.standard_normal((P, n)), generator.standard_normal((P, n, U)))
    options = {"tolerance": 1e-3, "max_size": 40, "seed": 0, **options}
    return Subspace(encoder, examples, gradients, 1, coefficients, **options), coefficients


def dense(toy: Toy, coefficients: Coefficients, path: int, u: int) -> np.ndarray:
    """The transposed matrix, by torch.func, example by example."""
    weights = {k: v.detach() for k, v in toy.encoder.named_parameters()}
    sizes = [v.numel() for v in weights.values()]
    flat = torch.cat([v.reshape(-1) for v in weights.values()])
    total = torch.zeros(len(flat), len(flat), dtype=torch.float64)
    examples = [batch[b : b + 1] for batch in toy.batches for b in range(len(batch))]
    for e, example in enumerate(examples):

        def theta(w: Tensor, v: int, example: Tensor = example) -> Tensor:
            parts = {k: p.view_as(x) for (k, x), p in zip(weights.items(), w.split(sizes), strict=True)}
            return functional_call(toy.encoder, parts, (example,))[0, v]

        gradients = [torch.func.grad(theta)(flat, v) for v in range(U)]
        total += coefficients.slope[path, e] * hessian(theta)(flat, u)
        ranged = sum(float(coefficients.hessian[path, e, v]) * gradients[v] for v in range(U))
        total += torch.outer(torch.as_tensor(ranged), gradients[u])
    return total.numpy()


def test_any_coefficients_and_sketched_residuals() -> None:
    toy = Toy(7, hidden=10)
    sub, coefficients = subspace(toy)
    shares = list(sub.grow())
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert sub.size <= 40
    for p in range(P):
        expected = np.abs(np.linalg.eigvals(dense(toy, coefficients, p, 1))).max()
        assert abs(sub.value(p)[0]) == pytest.approx(expected, rel=1e-3)
    sub, coefficients = subspace(toy, max_size=8)
    list(sub.grow())
    for p in range(P):
        value, residual, x = sub.value(p)
        basis = sub._basis[: sub.size].numpy()
        exact = np.linalg.norm(dense(toy, coefficients, p, 1) @ (x @ basis) - value * (x @ basis)) / abs(value)
        assert residual == pytest.approx(exact, rel=0.2)


def test_complex_eigenvalues() -> None:
    """With controls w.x and w.Rx, R a rotation by 90 degrees, and H_12 = 1 the matrix is near R: values +-i."""
    weights = torch.linspace(-1, 1, 8, dtype=torch.float64).requires_grad_()
    x = torch.cat([torch.eye(2), torch.zeros(2, 6)], 1).double()
    turned = torch.stack([x[1], -x[0]])

    def encoder(batch: Tensor) -> Tensor:
        wx = batch @ weights
        return torch.stack([wx + 0.1 * wx**3 + 0.01 * weights.square().sum(), turned @ weights], 1)

    products, examples = EncoderDerivatives(encoder, [weights], 2), [Example(x, 0), Example(x, 1)]
    gradients = torch.stack([torch.stack([products.gradient(e, u) for u in range(2)]) for e in examples])
    coefficients = Coefficients(np.array([[0.1, 0.2]]), np.array([[[0.0, 1.0], [0.0, 1.0]]]))
    sub = Subspace(products, examples, gradients, 0, coefficients, tolerance=1e-8, max_size=8, seed=0)
    list(sub.grow())
    matrix = sum(
        float(coefficients.slope[0, e])
        * hessian(lambda w, e=e: 0.1 * (w @ x[e]) ** 3 + 0.01 * w.square().sum())(weights.detach())
        + torch.outer(gradients[e, 1], gradients[e, 0])
        for e in range(2)
    )
    values = np.linalg.eigvals(torch.as_tensor(matrix).numpy())
    expected = values[np.abs(values).argmax()]
    value, residual, _ = sub.value(0)
    assert abs(expected.imag) > 0.5
    assert abs(value) == pytest.approx(abs(expected), rel=1e-6)
    assert residual < 1e-8
    sub = Subspace(products, examples, gradients, 0, coefficients, tolerance=1e-8, max_size=2, seed=0)
    list(sub.grow())
    assert abs(sub.refined(0, 60, 8).value) == pytest.approx(abs(expected), rel=1e-6)


def test_non_finite_encoder_is_named() -> None:
    toy = Toy()
    inner = toy.encoder

    class Broken(torch.nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            found = inner(batch)
            return found + (found - found.detach()).abs().sqrt()  # NaN second derivatives

    toy.encoder = Broken()
    toy.encoder.inner = inner
    with pytest.raises(FloatingPointError, match=r"look into the encoder, by control 0"):
        toy.importance(TIGHT)
