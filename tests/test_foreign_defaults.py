"""Results do not depend on torch's default device and default dtype, bit for bit."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._device import _device_constructors
from torch.utils.serialization import config

import scrapl_optim
from scrapl_optim import (
    Arnoldi,
    PathAdamSAGA,
    PathSampler,
    SharedSubspace,
    ThetaImportance,
    load_checkpoint,
    load_probs,
    probabilities,
    save_checkpoint,
    save_probs,
    theta_importance,
)
from scrapl_optim._importance.derivatives import PathDerivatives, couples_examples, path_derivatives
from scrapl_optim._importance.eigenvalue import dominant_eigenvalue
from scrapl_optim._importance.encoder import EncoderDerivatives, Example
from scrapl_optim._importance.shared_subspace import Coefficients, Subspace
from scrapl_optim._importance.store import ImportanceStore
from scrapl_optim._importance.surrogates import ControlCurvature, GaussNewton
from scrapl_optim.testing import (
    PathLosses,
    assert_draws_follow,
    assert_matches_twin,
    assert_statistically_unbiased,
    assert_unbiased,
)
from tests.support.foreign_defaults import every_foreign_default
from tests.support.importance_toy import P, Toy, U
from tests.support.optimizer_helpers import assert_bitwise
from tests.support.same_content import assert_same_content

METHODS = [Arnoldi(1e-10, 500), SharedSubspace(1e-10, max_products=500), GaussNewton(), ControlCurvature()]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
LOSSES = PathLosses(centers=((0, 1), (2, 0), (1, 1)), curvatures=((1, 2), (3, 1), (1, 1)))


def assert_same_importance(found: ThetaImportance, expected: ThetaImportance) -> None:
    names = ("importance", "residual", "n_products", "probs")
    assert_bitwise([getattr(found, name) for name in names], [getattr(expected, name) for name in names])
    assert found.unconverged == expected.unconverged


# ---------------------------------------------------------------- theta-importance


@every_method
@every_foreign_default
def test_importance(method: Any, foreign: Callable[[], Any]) -> None:
    expected = Toy().importance(method)
    toy = Toy()
    with foreign():
        found = toy.importance(method)
        pi = found.probs
    assert_same_importance(found, expected)
    assert_bitwise([pi], [expected.probs])
    assert found.importance.device.type == pi.device.type == "cpu"


@every_method
@every_foreign_default
def test_importance_of_a_float32_encoder(method: Any, foreign: Callable[[], Any]) -> None:
    toys = [Toy(), Toy()]
    for toy in toys:
        toy.encoder.float()

    def run(toy: Toy) -> ThetaImportance:
        encoder, params = (lambda batch: toy.encoder(batch.float())), toy.encoder.parameters()
        return theta_importance(encoder, toy.synth, toy.loss, toy.batches, params, P, method=method)

    expected = run(toys[0])
    with foreign():
        found = run(toys[1])
    assert_same_importance(found, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"method": SharedSubspace(1e-6, max_size=3)},  # completed path by path
        {"method": SharedSubspace(split_batch=lambda batch: batch.split(1), max_graphs=100)},
        {"method": Arnoldi(max_basis=4, max_graphs=0)},
        {"method": Arnoldi(), "paths": [2, 0], "rank": 0, "world_size": 2, "seed": 7},
    ],
    ids=["small subspace", "split", "small basis", "share"],
)
@every_foreign_default
def test_importance_with_options(options: dict[str, Any], foreign: Callable[[], Any]) -> None:
    expected = Toy().importance(**options)
    toy = Toy()
    with foreign():
        found = toy.importance(**options)
    assert_bitwise([found.residual.nan_to_num(-1.0)], [expected.residual.nan_to_num(-1.0)])
    assert_bitwise([found.importance.nan_to_num(-1.0)], [expected.importance.nan_to_num(-1.0)])


@every_method
@every_foreign_default
def test_importance_goes_on_from_a_folder(method: Any, foreign: Callable[[], Any], tmp_path: Path) -> None:
    """A folder of one default is claimed under another, and derivatives are read back as they were."""
    expected = Toy().importance(method, folder=tmp_path)
    toy = Toy()
    for value in tmp_path.glob("path_*"):
        value.unlink()
    with foreign():
        found = toy.importance(method, folder=tmp_path)
    assert_same_importance(found, expected)
    assert_same_importance(Toy().importance(method, folder=tmp_path), expected)


@every_foreign_default
def test_given_derivatives_are_checked_alike(foreign: Callable[[], Any]) -> None:
    toy = Toy(3)

    def derivatives(factor: float, theta: Tensor, batch: Tensor, paths: list[int]) -> Any:
        for p in paths:
            found = path_derivatives(lambda t, p=p: toy.loss(toy.synth(t, batch), batch, p), theta)
            yield p, found.slope, factor * found.hessian

    expected = toy.importance(derivatives=functools.partial(derivatives, 1.0))
    with foreign():
        found = toy.importance(derivatives=functools.partial(derivatives, 1.0))
        with pytest.raises(RuntimeError, match="hessian of path 0 is off"):
            toy.importance(derivatives=functools.partial(derivatives, 1.1))
    assert_same_importance(found, expected)


@every_foreign_default
def test_coupled_examples_are_found_with_the_generator_given(foreign: Callable[[], Any]) -> None:
    theta = torch.tensor([[0.3, -1.0], [0.2, 0.9], [-0.7, 0.4]], dtype=torch.float64)
    with foreign():
        assert couples_examples(lambda t: t.norm(), theta, torch.Generator("cpu").manual_seed(0))
        assert not couples_examples(lambda t: t.sin().mean(), theta, torch.Generator("cpu").manual_seed(0))


@every_foreign_default
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_products_and_eigenvalues(dtype: torch.dtype, foreign: Callable[[], Any]) -> None:
    toy = Toy(1)
    toy.encoder.to(dtype)
    batch = toy.batches[0].to(dtype)
    params = list(toy.encoder.parameters())
    n_weights = sum(param.numel() for param in params)
    vector = torch.linspace(-1, 1, n_weights, dtype=dtype)
    slope, hessian = torch.ones(3, U, dtype=torch.float64), torch.ones(3, U, U, dtype=torch.float64)
    coefficients = Coefficients(np.ones((2, 3)), np.stack([np.ones((3, U)), -np.ones((3, U))]))

    def numbers() -> list[Tensor]:
        encoder, examples = EncoderDerivatives(toy.encoder, params, 2), [Example(batch, b) for b in range(3)]
        gradients = torch.stack([torch.stack([encoder.gradient(e, u) for u in range(U)]) for e in examples])
        product = encoder.matrix([batch], [PathDerivatives(slope, hessian)], 0)
        found = dominant_eigenvalue(product, vector)
        encoder.forget()
        sub = Subspace(encoder, examples, gradients, 0, coefficients, tolerance=1e-4, max_size=8, seed=3)
        grown = list(sub.grow())
        values = [found.value, *(sub.value(p)[0] for p in range(2)), sub.refined(1, 30, 8).value]
        kept = torch.from_numpy(np.array([*values, *grown, found.residual, sub.size], dtype=complex))
        of_example = encoder.hessian_product(examples[1], 1, vector)
        encoder.forget()
        return [product(vector), of_example, gradients, kept]

    expected = numbers()
    with foreign():
        found = numbers()
    assert_bitwise(found, expected)


@every_foreign_default
def test_a_store_on_its_own(foreign: Callable[[], Any], tmp_path: Path) -> None:
    with foreign():
        empty = ImportanceStore(None, 2, 3).table()
        store = ImportanceStore(tmp_path, 2, 3)
        ones = PathDerivatives(torch.ones(2, 2, device="cpu"), torch.ones(2, 2, 2, device="cpu"))
        store.put_derivatives(1, [ones])
        (read,) = store.derivatives(1) or []
    assert empty["importance"].isnan().all()
    assert empty["residual"].isnan().all()
    assert not empty["n_products"].any()
    assert_bitwise([empty["importance"][:0]], [torch.zeros(0, 3, dtype=torch.float64)])
    assert_bitwise(read, [torch.ones(2, 2, dtype=torch.float64), torch.ones(2, 2, 2, dtype=torch.float64)])


# ---------------------------------------------------------------- distributions, sampler


@every_foreign_default
def test_distributions_and_draws(foreign: Callable[[], Any], tmp_path: Path) -> None:
    importance = torch.tensor([[1.0, 3.0, 2.0], [1.0, 1.0, 5.0]])

    def numbers() -> list[Any]:
        pi = probabilities(importance)
        save_probs(pi, tmp_path / "pi.pt")
        sampler = PathSampler(load_probs(tmp_path / "pi.pt"), seed=4, min_prob_frac=0.25)
        draws = [sampler(step) for step in range(50)]
        return [pi, torch.from_numpy(np.array(sampler.probs)), torch.from_numpy(np.array(draws))]

    expected = numbers()
    with foreign():
        found = numbers()
    assert_bitwise(found, expected)


# ---------------------------------------------------------------- the kit


def verdict(call: Callable[[], Any]) -> str:
    try:
        return repr(call())
    except (AssertionError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


@every_foreign_default
def test_assertions_of_the_kit(foreign: Callable[[], Any]) -> None:
    """They pass on what is right, fail on what is wrong, and their numbers are the same."""
    w = torch.tensor([1.0, -1.0], dtype=torch.float64)
    gradients = torch.stack([LOSSES.gradient(w, p) for p in range(3)])
    rows, target = [row.numpy() for row in gradients], LOSSES.full_gradient(w)
    probs, sampler = [0.2, 0.3, 0.5], PathSampler([0.2, 0.3, 0.5], seed=1)

    def draw(i: int) -> Any:
        return gradients[np.random.default_rng(i).integers(3)]

    def verdicts() -> list[str]:
        bounds = (-10.0, 10.0)
        calls: list[Callable[[], Any]] = [
            lambda: assert_unbiased(lambda p: gradients[p] / (3 * probs[p]), probs, target),
            lambda: assert_unbiased(lambda p: rows[p], probs, target),
            lambda: assert_unbiased(lambda p: 2 * p, [0.5, 0.5], 1),
            lambda: assert_draws_follow(sampler, probs, 300),
            lambda: assert_draws_follow(sampler, [0.8, 0.1, 0.1], 300),
            lambda: assert_statistically_unbiased(draw, target, 400, bounds=bounds),
            lambda: assert_statistically_unbiased(draw, target + 20, 400, bounds=(-50.0, 50.0)),
            lambda: assert_statistically_unbiased(draw, target, 2000, false_alarm=0.1),
            lambda: assert_statistically_unbiased(lambda i: 1.0 * (i == 7), 0.0, 3000, false_alarm=0.1),
            lambda: LOSSES.loss(w, 1).item(),
            lambda: LOSSES.full_gradient(w).tolist(),
            lambda: LOSSES.gradient(w.float(), 1).dtype,
        ]
        return [verdict(call) for call in calls]

    expected = verdicts()
    with foreign():
        found = verdicts()
    assert found == expected
    failed = [text.startswith(("AssertionError: ", "ValueError: ")) for text in expected]
    assert failed == [False, True, False, False, True, False, True, False, True, False, False, False]


class GradientDescent:
    def __init__(self, w: Any) -> None:
        self.w = w

    def step(self, p: int, gradient: Any) -> None:
        self.w = self.w - 0.1 * gradient


@every_foreign_default
@pytest.mark.parametrize("losses", [LOSSES, [[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]], ids=["losses", "gradients"])
@pytest.mark.parametrize("start", [None, [3.0, 4.0]])
def test_twins(losses: Any, start: Any, foreign: Callable[[], Any]) -> None:
    def plain(optimizer: Any, p: int) -> None:
        optimizer.step()

    with foreign():
        assert_matches_twin(
            lambda w: torch.optim.SGD(w, lr=0.1), GradientDescent, losses, [0, 1, 1], step=plain, start=start
        )
        with pytest.raises(AssertionError, match="parts from its twin at step 1 of 3"):
            assert_matches_twin(
                lambda w: torch.optim.SGD(w, lr=0.2), GradientDescent, losses, [0, 1, 1], step=plain, start=start
            )


# ---------------------------------------------------------------- checkpoints


def checkpoint_state() -> dict[str, Any]:
    """Tensors of every layout and of the dtypes of a training state."""
    dense = torch.arange(6.0).view(2, 3)
    dtypes = (torch.float64, torch.bfloat16, torch.int8, torch.int64, torch.complex64, torch.bool)
    return {
        "dense": dense,
        "dtypes": [dense.to(dtype) for dtype in dtypes],
        "parameter": torch.nn.Parameter(dense.clone()),
        "coo": dense.to_sparse(),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "empty": torch.ones(0, 3),
        "scalar": torch.tensor(0.1),
        "view": torch.ones(1).expand(4),
        "step": 7,
        "lr": 0.1,
    }


@pytest.mark.filterwarnings("ignore:Sparse")
@every_foreign_default
@pytest.mark.parametrize("map_location", [None, "cpu"])
def test_checkpoints(foreign: Callable[[], Any], map_location: str | None, tmp_path: Path) -> None:
    state, path = checkpoint_state(), tmp_path / "checkpoint.pt"
    with foreign():
        save_checkpoint(state, path)
    saved_there = load_checkpoint(path)
    save_checkpoint(state, path)
    with foreign():
        loaded_there = load_checkpoint(path, map_location=map_location)
    assert_same_content(saved_there, state)
    assert_same_content(loaded_there, state)


def test_checkpoints_go_where_map_location_says(tmp_path: Path) -> None:
    save_checkpoint({"w": torch.ones(2)}, tmp_path / "c.pt")
    with torch.device("cpu"):
        assert load_checkpoint(tmp_path / "c.pt", map_location="meta")["w"].is_meta


def test_checkpoints_load_where_files_are_mapped_by_default(tmp_path: Path) -> None:
    save_checkpoint({"w": torch.ones(2)}, tmp_path / "c.pt")
    with config.patch({"load.mmap": True}):  # type: ignore[attr-defined]
        assert_bitwise([load_checkpoint(tmp_path / "c.pt")["w"]], [torch.ones(2)])


@every_foreign_default
def test_training_resumes(foreign: Callable[[], Any], tmp_path: Path) -> None:
    """Steps, checkpoint and resume under the default, beside the same steps without."""

    def train(w: torch.nn.Parameter, grads: Tensor) -> None:
        optimizer = PathAdamSAGA([w], n_paths=3, lr=0.1)
        for k in range(4):
            w.grad = grads[k].clone()
            optimizer.step(path_idx=k % 3)
        save_checkpoint({"w": w, "optimizer": optimizer.state_dict()}, tmp_path / "c.pt")
        state = load_checkpoint(tmp_path / "c.pt")
        w.data.copy_(state["w"])
        resumed = PathAdamSAGA([w], n_paths=3, lr=0.3)
        resumed.load_state_dict(state["optimizer"])
        for k in range(4, 8):
            w.grad = grads[k].clone()
            resumed.step(path_idx=k % 3)

    grads = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    first, second = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    train(first, grads)
    with foreign():
        train(second, grads)
    assert_bitwise([second], [first])


# ---------------------------------------------------------------- the source


def calls_without(keyword: str, functions: set[str]) -> list[str]:
    """Return where the package calls one of these functions of torch and leaves the keyword to the default."""
    found = []
    for file in sorted(Path(scrapl_optim.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner, name = node.func.value, node.func.attr
            is_torch = isinstance(owner, ast.Name) and owner.id == "torch"
            if is_torch and name in functions and keyword not in {k.arg for k in node.keywords}:
                found.append(f"{file.name}:{node.lineno} torch.{name}")
    return found


@pytest.mark.parametrize("keyword", ["device", "dtype"])
def test_every_tensor_made_by_the_package_names_its_device_and_dtype(keyword: str) -> None:
    assert calls_without(keyword, {function.__name__ for function in _device_constructors()}) == []
