"""The call of theta_importance with names of methods and loose options, which works for one release."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from scrapl_jtfs import Importance
from scrapl_optim import Arnoldi, Progress, SharedSubspace, ThetaImportance, theta_importance
from tests.support.importance_toy import P, Toy


def split(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return batch.split(1)


def derivatives_of(toy: Toy) -> Any:
    def derivatives(theta: torch.Tensor, batch: torch.Tensor, paths: list[int]) -> Any:
        for p in paths:
            slope, hessian = torch.zeros_like(theta), torch.zeros(*theta.shape, theta.shape[1], dtype=theta.dtype)
            for b in range(len(theta)):
                one = slice(b, b + 1)

                def loss(t: torch.Tensor, p: int = p, b: int = b, one: slice = one) -> torch.Tensor:
                    whole = torch.cat([theta[:b], t[None], theta[b + 1 :]])
                    return toy.loss(toy.synth(whole, batch), batch, p)

                slope[b] = torch.as_tensor(torch.autograd.functional.jacobian(loss, theta[b]))
                hessian[b] = torch.as_tensor(torch.autograd.functional.hessian(loss, theta[b]))
            yield p, slope, hessian

    return derivatives


def call(toy: Toy, **options: Any) -> ThetaImportance:
    weights = toy.encoder.parameters()
    return theta_importance(toy.encoder, toy.synth, toy.loss, toy.batches, weights, P, **options)


CALLS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a name": ({"method": "exact"}, {}, r"method=Arnoldi\(\)"),
    "loose options": (
        {"tolerance": 1e-6, "max_products": 30, "max_basis": 5, "max_graphs": 0},
        {"method": Arnoldi(1e-6, 30, 5, 0)},
        r"method=Arnoldi\(tolerance=1e-06, max_products=30, max_basis=5, max_graphs=0\)",
    ),
    "another method's option": ({"max_subspace": 9, "split": split}, {}, r"method=Arnoldi\(\)"),
    "a subspace": (
        {"method": "shared_subspace", "tolerance": 1e-5, "max_subspace": 7, "split": split, "max_graphs": 6},
        {"method": SharedSubspace(1e-5, 7, split, max_graphs=6)},
        r"method=SharedSubspace\(tolerance=1e-05, max_size=7, split_batch=\.\.\., max_graphs=6\)",
    ),
    "a share": ({"share": (1, 3)}, {"rank": 1, "world_size": 3}, "rank=1, world_size=3"),
}


@pytest.mark.parametrize("name", CALLS)
def test_old_calls_give_the_numbers_of_the_new_ones_that_they_name(name: str) -> None:
    old, new, message = CALLS[name]
    with pytest.warns(DeprecationWarning, match=message) as caught:
        found = call(Toy(hidden=8), **old)
    assert [warning.filename for warning in caught] == [__file__]
    expected = call(Toy(hidden=8), **new)
    for field in ("importance", "residual", "n_products"):
        torch.testing.assert_close(getattr(found, field), getattr(expected, field), rtol=0, atol=0, equal_nan=True)
    assert (found.tolerance, found.method) == (expected.tolerance, expected.method)


def test_curvature_is_derivatives_now() -> None:
    toy = Toy(3)
    with pytest.warns(DeprecationWarning, match=r"derivatives=\.\.\.") as caught:
        found = call(toy, curvature=derivatives_of(toy))
    assert [warning.filename for warning in caught] == [__file__]
    assert torch.equal(found.importance, call(toy, derivatives=derivatives_of(toy)).importance)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": Arnoldi(1e-4), "tolerance": 1e-3}, TypeError, r"tolerance: given with method=Arnoldi\("),
        ({"curvature": split, "derivatives": split}, TypeError, "curvature: given with derivatives"),
        ({"tolerence": 1e-3}, TypeError, "unexpected keyword argument 'tolerence'"),
        ({"method": "exakt"}, ValueError, "Invalid method: 'exakt'"),
        ({"max_subspace": None}, TypeError, "max_size"),
        ({"max_basis": 1}, ValueError, "max_basis: 1"),
        ({"split": []}, TypeError, "split_batch"),
        ({"share": 1}, TypeError, "Invalid share: 1; expected rank"),
    ],
)
def test_wrong_old_calls(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(Toy(), **options)


def test_new_calls_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = call(Toy(), method=SharedSubspace(), rank=0, world_size=1)
        assert found.probs.sum() == pytest.approx(1)


def test_old_names_of_results() -> None:
    found = call(Toy())
    with pytest.warns(DeprecationWarning, match=r"use ThetaImportance\.importance") as caught:
        assert found.curvature is found.importance  # type: ignore[attr-defined]
    arguments: dict[str, Any] = {name: getattr(found, name) for name in ("residual", "n_products", "tolerance")}
    with pytest.warns(DeprecationWarning, match=r"use ThetaImportance\(importance=") as built:
        again = ThetaImportance(method="exact", **{"curvature": found.importance, **arguments})
    state = Progress(1, 2, "values")
    with pytest.warns(DeprecationWarning, match=r"use Progress\.eigenvalue") as progress:
        assert state.found is None
    assert {w.filename for w in [*caught, *built, *progress]} == {__file__}
    assert again.importance is found.importance


@pytest.mark.parametrize("method", [Arnoldi(1e-10, 500), SharedSubspace(1e-10, max_products=500)])
def test_a_folder_of_an_older_version_goes_on(method: Any, tmp_path: Path) -> None:
    """It was written by commit c03e9e3: values are taken as they are, derivatives are not computed again."""
    reference = Path(__file__).parent / "reference" / f"importance_{method.label}_c03e9e3.json"
    files = json.loads(reference.read_text())
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    toy, computed = Toy(), []
    loss = toy.loss
    toy.loss = lambda s, b, p: computed.append(p) or loss(s, b, p)  # type: ignore[method-assign, func-returns-value]
    found = toy.importance(method, folder=tmp_path, check=False)
    assert computed == []
    for p, row in enumerate(found.importance.T.tolist()):
        for u, value in enumerate(row):
            assert value == abs(complex(*files[f"path_{p:05d}_control_{u:03d}.json"]["value"]))
    for file in tmp_path.glob("path_*"):
        file.unlink()
    again = toy.importance(method, folder=tmp_path, check=False)
    assert computed == []
    torch.testing.assert_close(again.importance, found.importance, rtol=1e-6, atol=0)


def test_results_pickled_under_old_names() -> None:
    """A pickle holds the attributes by name: those of the version before are found under the new names."""
    c = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    rest = {"residual": c * 0, "tolerance": 1e-3}
    state = {"curvature": c, "n_products": c, "method": "exact", **rest}
    found = _unpickled(ThetaImportance, state)
    assert found.importance is c
    assert found.probs.tolist() == [0.25, 0.75]
    for again in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert torch.equal(again.importance, c)
    of_jtfs = _unpickled(Importance, {"pi": c[0] / 4, "curvature": c, "n_examples": 2, "halves": None, **rest})
    assert of_jtfs.importance is c
    assert of_jtfs.probs.tolist() == [0.25, 0.75]
    assert not of_jtfs.unconverged


def _unpickled(cls: type, state: dict[str, Any]) -> Any:
    """Return an object as pickle makes one, without a call of its constructor."""
    found = object.__new__(cls)
    found.__setstate__(state)
    return found
