"""The study of released distributions: what it derives from squared distances, its distances, and a quick run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.sound_matching.presets import PRESETS
from benchmarks.studies.released_pi.__main__ import CASES, _small, main
from benchmarks.studies.released_pi.cases import Case, Problem, build_problem, with_fixed_width
from benchmarks.studies.released_pi.compare import (
    coarse_map,
    compare,
    rank_correlation,
    restricted,
    summary,
    total_variation,
)
from benchmarks.studies.released_pi.distances import (
    Distances,
    gathered,
    norms,
    spin_partners,
    squared_distances,
    with_reflections,
)
from benchmarks.studies.released_pi.search import distribution, eigenvalues, mean_slopes
from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_optim import Arnoldi, theta_importance

pytestmark = pytest.mark.study
LO_LO = PRESETS["paper-chirplet-lo-lo"]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return build_problem(Case("toy", LO_LO.name, 3), _small(LO_LO))


@pytest.fixture(scope="module")
def squared(problem: Problem) -> Distances:
    return squared_distances(problem)


def test_derivatives_of_norms_are_those_of_the_loss(problem: Problem, squared: Distances) -> None:
    found = norms(squared)
    loss = JTFSPathLoss(problem.jtfs, squared=False, path_scale=False, reduction="sum")
    for p in range(0, problem.jtfs.n_paths, 7):

        def value(theta: Tensor, p: int = p) -> Tensor:
            return loss(problem.play(theta, slice(0, 3)), problem.sounds, p)

        theta = problem.controls.clone().requires_grad_()
        (slope,) = torch.autograd.grad(value(theta), theta, create_graph=True)
        hessian = torch.stack(
            [torch.autograd.grad(slope[:, u].sum(), theta, retain_graph=True)[0] for u in (0, 1)], 1
        )
        assert float(value(problem.controls)) == pytest.approx(found.value[p].sum(), rel=1e-9)
        np.testing.assert_allclose(
            found.slope[p], slope.detach(), rtol=1e-6, atol=1e-9 * np.abs(found.slope).max()
        )
        np.testing.assert_allclose(found.hessian[p], hessian, rtol=1e-5, atol=1e-8 * np.abs(found.hessian).max())


def test_reflections_are_heard_by_the_paths_of_the_other_spin() -> None:
    """Play chirplets backwards: a rising one falls, and each path hears what its partner heard."""
    preset = replace(_small(LO_LO), J=6, T=64)
    forwards = build_problem(Case("toy", preset.name, 2), preset)
    backwards = forwards._replace(
        sounds=forwards.sounds.flip(-1), synth=lambda theta, seeds: forwards.synth(theta, seeds).flip(-1)
    )
    here, there = squared_distances(forwards), squared_distances(backwards)
    partners = spin_partners(forwards.jtfs.paths)
    loud = here.value[partners] > 1e-2 * here.value.max()
    # Frames lie at other fractions of their spacing.
    np.testing.assert_allclose(there.value[loud], here.value[partners][loud], rtol=0.05)
    both = with_reflections(here, forwards.jtfs.paths)
    np.testing.assert_array_equal(both.value, here.value + here.value[partners])
    np.testing.assert_array_equal(both.slope, both.slope[partners])


def test_partners_have_the_other_spin() -> None:
    paths = JTFSPath(2048, J=7, Q=(4, 1), J_fr=2, Q_fr=1, sample_rate=2048).paths
    partners = spin_partners(paths)
    for path, partner in zip(paths, partners, strict=True):
        other = paths[partner]
        assert (other.spin, other.rate, other.scale) == (-path.spin, path.rate, path.scale)
    assert [partners[p] for p in partners] == list(range(len(paths)))


def test_a_fixed_width_leaves_sounds_and_takes_its_part_of_the_derivative() -> None:
    preset = _small(LO_LO)
    problem = build_problem(Case("toy", preset.name, 2), preset)
    synth, seeds = problem.synth, problem.seeds
    theta = problem.controls.clone().requires_grad_()
    fixed = with_fixed_width(synth)(theta, seeds)  # type: ignore[arg-type]
    torch.testing.assert_close(fixed, synth(theta, seeds))
    # By central differences, with the window divided out: the quotient of two sounds at neighbouring FM rates is
    # that of the rest times that of Gaussian windows, which is known.
    h, v = 1e-6, torch.randn(fixed.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (slope,) = torch.autograd.grad((fixed * v).sum(), theta)
    (whole,) = torch.autograd.grad((synth(theta, seeds) * v).sum(), theta)
    torch.testing.assert_close(slope[:, 0], whole[:, 0])  # AM has no part in the window
    with torch.no_grad():
        sides = []
        for sign in (1, -1):
            moved = theta + sign * h * torch.tensor([0.0, 1.0])
            sides.append(synth(moved, seeds) / _window(synth, moved, seeds) * _window(synth, theta, seeds))
        expected = ((sides[0] - sides[1]) / (2 * h) * v).sum(1)
    torch.testing.assert_close(slope[:, 1], expected, rtol=1e-6, atol=1e-6)
    assert (slope[:, 1] - whole[:, 1]).abs().min() > 1e-3 * whole[:, 1].abs().max()


def _window(synth: object, theta: Tensor, seeds: list[int]) -> Tensor:
    from benchmarks.sound_matching.synths.chirplets import draw_shifts

    low, high = synth.fm  # type: ignore[attr-defined]
    time = torch.arange(synth.n_samples) - draw_shifts(seeds, synth.max_shift)[:, None]  # type: ignore[attr-defined]
    time = (time - synth.n_samples / 2) / synth.sample_rate  # type: ignore[attr-defined]
    return torch.exp(-0.5 * (time * low * (high / low) ** theta[:, 1:] / 0.2).square())


def test_eigenvalues_are_those_of_theta_importance(problem: Problem, squared: Distances) -> None:
    encoder = problem.encoder
    loss = JTFSPathLoss(problem.jtfs, squared=False, path_scale=False, reduction="sum")
    paths = [3, 11, 20]
    exact = theta_importance(
        lambda batch: encoder.double()(problem.features),
        lambda theta, batch: problem.play(theta, slice(0, 3)),
        lambda sound, batch, p: loss(sound, problem.sounds, p),
        [None], encoder.double().parameters(), problem.jtfs.n_paths, method=Arnoldi(1e-4), paths=paths,
    )  # fmt: skip
    (found,) = eigenvalues(problem, [norms(squared)], n_heard=3, tolerance=1e-3)
    np.testing.assert_allclose(found.values[:, paths], exact.importance[:, paths], rtol=0.01)
    assert found.residual < 0.05


def test_examples_are_gathered_under_those_that_are_heard(squared: Distances) -> None:
    two = gathered(squared, 2)
    np.testing.assert_allclose(two.slope[:, 0], squared.slope[:, [0, 2]].sum(1))
    np.testing.assert_allclose(two.slope[:, 1], squared.slope[:, 1])
    np.testing.assert_allclose(mean_slopes(two), np.abs(squared.slope.sum(1)).T)
    assert squared.of(slice(1, None)).hessian[:, 0].any() == False  # noqa: E712


def test_distances_between_distributions() -> None:
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.25, 0.25, 0.25, 0.25])
    assert total_variation(p, q) == pytest.approx(0.3)
    assert rank_correlation(p, p**2) == 1.0
    assert rank_correlation(p, -p) == -1.0
    assert rank_correlation(p, q) == 0.0
    assert compare(p, q)["mass_on_the_paths_of_90_percent"] == 0.75
    paths = JTFSPath(1024, J=5, Q=(4, 1), J_fr=2, T=64, sample_rate=1024).paths
    uniform = np.full(len(paths), 1 / len(paths))
    about = summary(uniform, paths)
    assert about["exp_entropy"] == about["one_over_sum_of_squares"] == len(paths)
    assert (
        about["rising"] == about["falling"] == pytest.approx(sum(p.spin > 0 for p in paths) / len(paths), abs=1e-3)
    )
    assert set(np.ravel(coarse_map(uniform, paths)["octaves"])) <= {0.0, -4.0}  # no path lies in some cells
    importance = np.array([[1.0, 3.0], [2.0, 2.0]])
    np.testing.assert_allclose(distribution(importance), [0.375, 0.625])


def test_paths_of_shorter_sounds_are_found_among_those_of_the_papers() -> None:
    ours, theirs = PRESETS["scaled"].transform().paths, PRESETS["paper"].transform().paths
    index = np.arange(len(theirs), dtype=float)
    for path, other in zip(ours, restricted(index, theirs, ours, 8.0), strict=True):
        assert theirs[int(other)].rate == pytest.approx(path.rate / 8, rel=1e-3)
        assert (theirs[int(other)].spin, theirs[int(other)].scale) == (path.spin, pytest.approx(path.scale))


def test_a_quick_run_measures_and_goes_on(tmp_path: Path) -> None:
    options = ["--quick", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path), "--cases"]
    assert main([*options, CASES[0].name, CASES[1].name]) == 0
    results = json.loads((tmp_path / "released_pi.json").read_text())
    assert [case["case"]["name"] for case in results["cases"]] == [CASES[0].name, CASES[1].name]
    for case in results["cases"]:
        assert sum(case["pi"]) == pytest.approx(1, abs=1e-4)
        for by_number in case["distributions"].values():
            assert set(by_number) == {"eigenvalue", "mean slope", "rms slope", "mean curvature"}
            assert all(1 <= about["exp_entropy"] <= len(case["pi"]) for about in by_number.values())
    assert (tmp_path / "released_pi.png").exists()
    dates = [case["date"] for case in results["cases"]]
    assert main([*options, CASES[0].name]) == 0
    assert json.loads((tmp_path / "released_pi.json").read_text())["cases"][0]["date"] == dates[0]
    assert main([*options, "no such case"]) == 2


def test_released_distributions_are_read(tmp_path: Path) -> None:
    from benchmarks.studies.released_pi.compare import read_released

    (tmp_path / "chirplet_am_lo_fm_med.json").write_text(json.dumps({"pi": [0.25, 0.75]}))
    assert read_released(tmp_path, "paper-chirplet-lo-med").tolist() == [0.25, 0.75]
    with pytest.raises(ValueError, match=r"granular\.json does not exist"):
        read_released(tmp_path, "paper")
    assert math.isclose(sum(read_released(tmp_path, "scaled-chirplet-lo-med")), 1.0)
