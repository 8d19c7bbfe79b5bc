"""The study of image textures: the synthesizer, the circular control, what arms compare, a quick run, the page."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks.studies.image_textures.__main__ import main
from benchmarks.studies.image_textures.arms import ARMS, REFERENCE, Objective, path_distance, spectral_distance
from benchmarks.studies.image_textures.encoder import Encoder
from benchmarks.studies.image_textures.importance import measured_importance
from benchmarks.studies.image_textures.tables import page_rows
from benchmarks.studies.image_textures.textures import SIZE, errors, random_controls, random_grains, render

ROOT = Path(__file__).parents[1]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_grain_is_the_formula() -> None:
    """A sum over the pixels of a literal Gabor function, for the first grain alone."""
    theta, grains = torch.tensor([[0.3, 0.4, 0.2]], dtype=torch.float64), random_grains(1, generator())
    n = 4 * 16 ** float(theta[0, 2])
    wavelength, angle = 3 * (10 / 3) ** float(theta[0, 1]), math.pi * float(theta[0, 0])
    expected = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    for k, (place, phase) in enumerate(zip(grains.places[0].double(), grains.phases[0].double(), strict=True)):
        weight = 1 / (1 + math.exp(-(n - k - 0.5) / (0.1 * n)))
        for row in range(0, SIZE, 7):
            for column in range(0, SIZE, 7):
                down, right = row - float(place[0]), column - float(place[1])
                along = right * math.cos(angle) - down * math.sin(angle)  # up is against the rows
                envelope = math.exp(-(down**2 + right**2) / (2 * (wavelength / 2) ** 2))
                wave = math.cos(2 * math.pi / wavelength * along + float(phase))
                expected[row, column] += 0.4 * weight * envelope * wave
    found = render(theta, grains)[0]
    torch.testing.assert_close(found[::7, ::7], expected[::7, ::7], rtol=1e-9, atol=1e-12)


def test_textures_are_differentiable_in_every_control() -> None:
    grains = random_grains(2, generator())
    theta = random_controls(2, generator(1)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda theta: render(theta, grains)[:, ::5, ::5], theta)


def test_the_orientation_is_circular() -> None:
    theta = torch.tensor([[0.98, 0.5, 0.5], [0.02, 0.5, 0.5]])
    distance = errors(theta[:1], theta[1:])
    torch.testing.assert_close(distance, torch.tensor([[0.04, 0.0, 0.0]]))
    assert float(errors(torch.rand(999, 3), torch.rand(999, 3))[:, 0].max()) <= 0.5


def test_chance_is_250_in_every_control() -> None:
    theta = random_controls(200_000, generator())
    middle = torch.full_like(theta, 0.5)
    torch.testing.assert_close(errors(middle, theta).mean(0), torch.full((3,), 0.25), atol=2e-3, rtol=0)


def test_two_renderings_leave_the_variance_out() -> None:
    """The mean over draws of the inner product is the square of the mean's distance."""
    draws = torch.tensor([1.0, 3.0])[:, None, None]
    target = torch.tensor([0.5])[:, None, None]
    pairs = [path_distance([a[None], b[None]], target) for a in draws for b in draws]
    assert float(torch.stack(pairs).mean()) == pytest.approx((2.0 - 0.5) ** 2)
    alone = [path_distance([a[None]], target) for a in draws]
    assert float(torch.stack(alone).mean()) == pytest.approx((2.0 - 0.5) ** 2 + 1.0)


def test_random_paths_are_unbiased_for_the_full_tree() -> None:
    found, target = (render(random_controls(2, generator(k)), random_grains(2, generator(k + 9))) for k in (0, 1))
    full, path = (Objective(ARMS[name], Encoder(), 1e-3, 0) for name in ("full tree", REFERENCE))
    theta = torch.zeros(2, 3)
    whole = full.loss(theta, theta, lambda: found, target, 0)
    n_paths = path.scattering.n_paths
    path.sampler = lambda step: step  # type: ignore[assignment]
    single = [path.loss(theta, theta, lambda: found, target, p) for p in range(n_paths)]
    torch.testing.assert_close(torch.stack(single).mean(), whole)


def test_spectra_of_a_shifted_texture_are_nearer_on_average_than_in_place() -> None:
    x = render(random_controls(4, generator()), random_grains(4, generator()))
    shifted = x.roll((8, 8), (1, 2))
    assert float(spectral_distance(x, x, in_place=True)) == 0.0
    apart = {in_place: float(spectral_distance(x, shifted, in_place)) for in_place in (False, True)}
    assert 0 < apart[False] < apart[True]


@pytest.mark.study
def test_importance_converges() -> None:
    found = measured_importance(2)
    assert not found.unconverged
    assert float(found.probs.sum()) == pytest.approx(1.0)


@pytest.mark.study
def test_a_quick_run_has_every_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    assert main(["--quick", "--seeds", "2", "--parallel", "1", *folders]) == 0
    results = json.loads((tmp_path / "image_textures.json").read_text())
    assert list(results["arms"]) == list(ARMS)
    assert {arm["test"]["mean"]["n"] for arm in results["arms"].values()} == {2}
    assert "minus_reference" not in results["arms"][REFERENCE]
    printed = capsys.readouterr().out
    assert all(name in printed for name in ARMS)


def test_the_page_quotes_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/image_textures.json").read_text())
    page = (ROOT / "notebooks/pages/does_it_help.md").read_text()
    section = page[page.index("## Image textures") :].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert rows[1:] == page_rows(results)
    told, arms = " ".join(section.split()), results["arms"]
    means = {name: f"{arm['test']['mean']['mean']:.0f}" for name, arm in arms.items()}
    three = [means[name] for name in ("full tree, log", "spectra", "controls")]
    assert "as averaged spectra do ({}, {} and {})".format(*three) in told
    assert f"there logarithms change nothing ({means['log']})" in told
    assert f"no better than uniform draws ({means['theta-is, weighted']})" in told
    assert f"that five seeds can tell ({means['two renderings']})" in told
    verdicts = {
        name: arm["minus_reference"]["mean"]["verdict"] for name, arm in arms.items() if "minus_reference" in arm
    }
    undecided = [name for name, verdict in verdicts.items() if verdict == "no difference seen"]
    assert undecided == ["theta-is, weighted", "two renderings", "log"]
    assert all(change > 0 for change in arms["theta-is"]["minus_reference"]["mean"]["differences"].values())
