"""The transform and the literal reference against kymatio's coefficients, filters and each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_jtfs import reference as literal
from scrapl_jtfs.reference import ReferenceJTFS
from tests.support import kymatio_filters

# Short signals on purpose, whose averages hear reflections.
pytestmark = pytest.mark.filterwarnings("ignore:T = .* is more than an eighth")

REFERENCES = sorted((Path(__file__).parent / "reference").glob("*.npz"))


def reference_name(key: np.ndarray) -> str:
    """Name of a path in a reference file: n_fr at order 1, n2_nfr at order 2."""
    return "_".join(str(index) for index in key if index >= 0)


def load(path: Path) -> tuple[JTFSPath, dict[str, np.ndarray]]:
    """Read a reference file and build its transform."""
    with np.load(path) as file:
        data = dict(file)
    c = json.loads(str(data["config"]))
    return JTFSPath(c["shape"], c["J"], tuple(c["Q"]), c["J_fr"], c["Q_fr"], c["T"], c["F"], orders=(1, 2)), data


@pytest.fixture(params=REFERENCES, ids=lambda path: path.stem)
def reference(request: pytest.FixtureRequest) -> tuple[JTFSPath, dict[str, np.ndarray]]:
    return load(request.param)


def test_there_are_references() -> None:
    assert len(REFERENCES) == 5


def test_paths_are_kymatios_in_its_order(reference) -> None:
    jtfs, data = reference
    keys = [(p.n_fr, -1) if p.order == 1 else (p.n2, p.n_fr) for p in jtfs.paths]
    assert keys == [tuple(key) for key in data["keys"].tolist()]


def test_metadata_is_kymatios() -> None:
    # kymatio gives none without averaging: three of the five files hold it.
    checked = 0
    for path in REFERENCES:
        jtfs, data = load(path)
        if "meta_xi" not in data:
            assert 0 in (json.loads(str(data["config"]))[name] for name in "TF")
            continue
        second = [p for p in jtfs.paths if p.order == 2]
        rates = data["meta_xi"][-len(second) :, 1]
        np.testing.assert_allclose([p.rate for p in second], rates, rtol=1e-12)
        scales = np.abs(data["meta_xi_fr"]) * jtfs.geometry.Q[0]
        np.testing.assert_allclose([p.scale for p in jtfs.paths], scales, rtol=1e-12)
        assert [p.spin for p in jtfs.paths] == data["meta_spin"].astype(int).tolist()
        checked += 1
    assert checked == 3


def test_coefficients_are_kymatios(reference) -> None:
    jtfs, data = reference
    x = torch.from_numpy(data["x"])
    for coefficients, key in zip(jtfs.full(x), data["keys"], strict=True):
        expected = data[f"S_{reference_name(key)}"]
        assert coefficients.shape == expected.shape
        error = np.abs(coefficients.numpy() - expected).max() / np.abs(expected).max()
        assert error < 1e-5, f"path {key}: {error:.1e}"


def test_losses_and_gradients_are_kymatios(reference) -> None:
    jtfs, data = reference
    names = [reference_name(key) for key in data["keys"]]
    checked = [name for name in names if f"grad_{name}" in data]
    assert len(checked) >= 4
    for name in checked:
        x = torch.from_numpy(data["x"][0]).requires_grad_()
        path_idx = names.index(name)
        loss = (jtfs(x, path_idx) - jtfs(torch.from_numpy(data["x"][1]), path_idx)).square().sum()
        (gradient,) = torch.autograd.grad(loss, x)
        expected = data[f"grad_{name}"]
        assert loss.item() == pytest.approx(float(data[f"loss_{name}"]), rel=1e-4)
        assert np.linalg.norm(gradient.numpy() - expected) < 1e-4 * np.linalg.norm(expected)


def test_the_reference_is_kymatios(reference) -> None:
    _, data = reference
    c = json.loads(str(data["config"]))
    slow = ReferenceJTFS(c["shape"], c["J"], tuple(c["Q"]), c["J_fr"], c["Q_fr"], c["T"], c["F"], orders=(1, 2))
    assert slow.paths == [(None, a) if b < 0 else (a, b) for a, b in data["keys"].tolist()]
    x = torch.from_numpy(data["x"]).double()
    for path_idx, key in enumerate(data["keys"]):
        name = reference_name(key)
        expected = data[f"S_{name}"]
        coefficients = slow(x, path_idx).numpy()
        assert coefficients.shape == expected.shape
        assert np.abs(coefficients - expected).max() < 2e-6 * np.abs(expected).max(), name
        if f"grad_{name}" in data:
            signal = x[0].clone().requires_grad_()
            loss = slow.loss(signal, x[1], path_idx) / len(slow.paths)
            (gradient,) = torch.autograd.grad(loss, signal)
            assert loss.item() == pytest.approx(float(data[f"loss_{name}"]), rel=1e-5)
            apart = np.linalg.norm(gradient.numpy() - data[f"grad_{name}"])
            assert apart < 2e-5 * np.linalg.norm(data[f"grad_{name}"])


@pytest.mark.parametrize(("J", "Q"), [(1, 1), (5, 1), (6, 8), (12, 2), (3, 4), (2, 24)])
def test_filters_of_the_reference_are_kymatios(J: int, Q: int) -> None:
    bank = literal.wavelets(J, Q)
    np.testing.assert_allclose([(w.xi, w.sigma) for w in bank], kymatio_filters.wavelets(J, Q), rtol=1e-14)
    assert [w.j for w in bank] == [kymatio_filters.scale(w.xi, w.sigma) for w in bank]
    for n in (2**J * 4, 2**J * 3 + 10):
        for psi in bank:
            for w in (psi, psi._replace(xi=-psi.xi)):
                expected = kymatio_filters.morlet(n, w.xi, w.sigma)
                np.testing.assert_allclose(literal.morlet(n, w).numpy(), expected, rtol=0, atol=1e-14)
            expected = kymatio_filters.unit_l1(kymatio_filters.gauss(n, 0.0, psi.sigma))
            np.testing.assert_allclose(literal.gauss(n, psi.sigma).numpy(), expected, rtol=0, atol=1e-14)


CONFIGS = [
    (1024, 6, (8, 1), 2, 1, 64, 4),
    (900, 6, (4, 2), 2, 2, 16, 1),
    (512, 5, (6, 1), 3, 1, 100, 8),
    (700, 7, (3, 1), 2, 1, 3, 2),
    (512, 5, (6, 1), 2, 1, 32, 16),
    (128, 7, (6, 1), 1, 2, 128, 48),
    (256, 6, (4, 1), 1, 2, 2, 28),
    (40, 3, (1, 4), 1, 2, 1, 1),  # bands that fill the circle
    (453, 7, (1, 1), 1, 2, 372, 2),
    (500, 6, (4, 1), 2, 1, 0, 2),
    (500, 6, (4, 2), 2, 1, "global", 3.5),
    (500, 6, (4, 1), 2, 2, 20.5, "global"),
    (500, 6, (4, 1), 2, 2, 0, 0),
    (512, 6, (4, 1), 2, 1, "global", "global"),
    (512, 6, (4, 1), 2, 1, None, None),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize(("cut", "tolerance"), [(0.0, 1e-11), (None, 5e-7)], ids=["uncut", "default"])
@pytest.mark.parametrize("boundary", ["reflect", "even"])
def test_float64_equals_the_reference(
    config, cut, tolerance, boundary: Literal["reflect", "even"], monkeypatch: pytest.MonkeyPatch
) -> None:
    if cut is not None:
        monkeypatch.setattr("scrapl_jtfs._transform.filter_design._NEGLIGIBLE_WEIGHT", cut)
    slow = ReferenceJTFS(*config, orders=(1, 2), boundary=boundary)
    jtfs = JTFSPath(*config, orders=(1, 2), boundary=boundary).double()
    assert [(p.n2, p.n_fr) for p in jtfs.paths] == slow.paths
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, config[0])))
    for p in range(0, jtfs.n_paths, 2):
        expected, actual = slow(x, p), jtfs(x, p)
        assert actual.shape == expected.shape
        torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.max()))


@pytest.mark.parametrize("config", CONFIGS[:2] + CONFIGS[-4:], ids=str)
@pytest.mark.parametrize("boundary", ["reflect", "even"])
def test_gradients_equal_the_references(
    config, boundary: Literal["reflect", "even"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapl_jtfs._transform.filter_design._NEGLIGIBLE_WEIGHT", 0.0)
    slow = ReferenceJTFS(*config, boundary=boundary)
    loss_fn = JTFSPathLoss(JTFSPath(*config, boundary=boundary).double())
    generator = np.random.default_rng(1)
    # A wideband sound, as the gradient through sub-bands empty but for rounding is noise.
    x, y = (torch.from_numpy(generator.standard_normal(config[0])).requires_grad_(on) for on in (True, False))
    for p in range(0, len(slow.paths), 5):
        expected, actual = slow.loss(x, y, p), loss_fn(x, y, p)
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=0)
        slopes = [torch.autograd.grad(loss, x)[0] for loss in (actual, expected)]
        torch.testing.assert_close(*slopes, rtol=0, atol=1e-9 * float(slopes[1].abs().max()))


@pytest.mark.parametrize(
    ("settings", "n_paths"),
    [
        (dict(n_samples=32768, J=12, Q=(8, 2), J_fr=3, Q_fr=2, T=4096, F=8), 315),
        (dict(n_samples=44100, J=12, Q=(8, 2), J_fr=5, Q_fr=2, T=2048, F=1), 483),
    ],
    ids=["granular", "TR-808"],
)
def test_number_of_paths_in_the_paper(settings, n_paths) -> None:
    jtfs = JTFSPath(**settings)
    assert jtfs.n_paths == n_paths
    assert [p.index for p in jtfs.paths] == list(range(n_paths))
    assert {p.order for p in jtfs.paths} == {2}


@pytest.mark.parametrize("orders", [(2,), (1,), (1, 2)])
def test_global_averages_are_means_of_the_unaveraged(orders) -> None:
    settings: dict[str, Any] = dict(n_samples=1024, J=6, Q=(6, 1), J_fr=2, Q_fr=1, orders=orders)
    x = torch.randn(2, 1024, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = JTFSPath(**settings, T=0, F=0).double().full(x)
    both = JTFSPath(**settings, T="global", F="global").double().full(x)
    for a, b in zip(plain, both, strict=True):
        torch.testing.assert_close(b, a.mean((-2, -1), keepdim=True), rtol=1e-12, atol=0)
