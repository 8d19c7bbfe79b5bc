"""The benchmark of theta-importance: figures from measurements, tables, and our side on a tiny problem."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.harness.files import tuples
from benchmarks.importance.__main__ import main
from benchmarks.importance.conductor import evenly
from benchmarks.importance.contenders import EVEN, OURS, PEER, TRANSFORMS, Ours
from benchmarks.importance.plan import make_plan
from benchmarks.importance.problem import (
    SCALES,
    Drum,
    Scale,
    Standardize,
    make_audio,
    make_batches,
    make_encoder,
    make_synth,
)
from benchmarks.importance.summary import (
    Place,
    distribution,
    inside,
    mass_ratio,
    path_seconds,
    relative_differences,
    total_variation,
)
from benchmarks.importance.tables import all_metrics
from benchmarks.importance.worker import ImportanceSession
from benchmarks.sound_matching.front_end import LogCQT


def test_distribution_averages_what_each_control_gives() -> None:
    np.testing.assert_allclose(distribution([[1.0, 1.0], [3.0, 1.0]]), [0.375, 0.625])


def test_total_variation_is_half_the_absolute_difference() -> None:
    assert total_variation(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.5, 0.25])) == 0.25


def test_differences_are_relative_to_what_is_expected() -> None:
    np.testing.assert_allclose(relative_differences([[1.1, 2.0]], [[1.0, 4.0]]), [0.1, 0.5])


@pytest.mark.parametrize(
    ("rate", "scale", "expected"),
    [
        (4.0, 1.0, True),
        (4.0, 4.1, False),  # 0.98 oct/s, half an octave below 2 is 1.41
        (4.0, 2.5, True),  # 1.6 oct/s
        (1.0, 0.4, False),  # in FM but half an octave below 2.8 Hz is 1.98
        (2.0, 0.5, True),
        (11.0, 3.0, True),  # half an octave above 8.4 Hz is 11.9
        (12.0, 3.5, False),
        (4.0, 0.0, False),  # the low-pass has no place
    ],
)
def test_inside_is_wider_by_half_a_spacing(rate: float, scale: float, expected: bool) -> None:
    assert inside(Place(rate, scale, 1), (2.8, 8.4), (2.0, 4.0), (1, 1)) is expected


def test_inside_with_more_wavelets_per_octave_is_narrower() -> None:
    place = Place(2.0, 0.5, -1)
    assert inside(place, (2.8, 8.4), (2.0, 4.0), (1, 1))
    assert not inside(place, (2.8, 8.4), (2.0, 4.0), (2, 2))


def test_mass_ratio_is_one_for_uniform_and_counts_what_is_inside() -> None:
    assert mass_ratio([0.25] * 4, [True, False, False, True]) == pytest.approx(1.0)
    assert mass_ratio([0.7, 0.1, 0.1, 0.1], [True, False, False, False]) == pytest.approx(2.8)
    with pytest.raises(ValueError, match="no path"):
        mass_ratio([1.0], [False])


def test_seconds_of_a_path_follow_from_its_pieces() -> None:
    assert path_seconds({"graph": 3.0, "products": [1.0, 9.0, 1.0]}, 2, 20) == pytest.approx(3.0 + 2 * 20 * 1.0)


def test_evenly_takes_middles() -> None:
    assert evenly(9, 3) == [1, 4, 7]
    assert evenly(3, None) == [0, 1, 2]


def _reply(curvature: list[list[float]], seconds: float, products: int, residual: float = 1e-3) -> dict[str, Any]:
    shape = [[1] * len(row) for row in curvature]
    values = {
        "curvature": curvature,
        "residual": [[residual for _ in row] for row in shape],
        "n_products": [[products for _ in row] for row in shape],
        "stages": {"derivatives": 0.1 * seconds, "subspace": 0.4 * seconds, "values": 0.5 * seconds},
    }
    return {"values": values, "seconds": seconds, "cpu": seconds / 2}


def _results() -> dict[str, Any]:
    agreement = {
        "path": 0,
        "crossed": _reply([[1.0, 2.0]], 1, 8),
        "unpadded": _reply([[1.0, 2.25]], 1, 8),
        "rounded": _reply([[1.0, 2.24]], 1, 8),
        "steps_20": _reply([[1.005, 1.0]], 1, 20),
        "steps_long": _reply([[1.005, 1.9]], 1, 60),
        "ours": _reply([[1.0, 2.2]], 1, 8),
        "even": _reply([[1.1, 2.2]], 1, 8),
        "even_backward": _reply([[1.1, 2.1]], 1, 8),
    }
    values = ([[1.0, 1.0]], [[3.0, 1.0]])
    records = [{"path": p, PEER: _reply(c, 60.0, 20), "crossed": _reply(c, 1.0, 10)} for p, c in enumerate(values)]
    ours = [[1.0, 1.0], [3.0, 1.0]]
    whole = {"name": "small", "n_paths": 2, "n_controls": 2, "batch": 3, "records": records}
    whole |= {OURS: [_reply(ours, t, 0) for t in (1.0, 2.0, 9.0)]}
    whole |= {EVEN: [_reply([[1.0, 3.0], [3.0, 1.0]], t, 0) for t in (0.5, 1.0, 2.0)]}
    whole["one_by_one"] = _reply([[1.0, 1.0], [3.0, 1.1]], 30.0, 10)
    pieces = {"examples": 4, "once": 4.0, "derivatives": [1.0, 3.0], "products": [0.1]}
    sized = {"name": "paper", "n_controls": 2, "batch": 32, "n_paths": 36, "measured_batch": 4, OURS: pieces}
    sized |= {PEER: [{"path": 0, "graph": 10.0, "products": [1.0]}], "whole": _reply(ours, 40.0, 0)}
    sized |= {EVEN: {**pieces, "once": 2.0, "derivatives": [0.5, 1.5]}, "whole_even": _reply(ours, 30.0, 0)}
    drum = {key: value for key, value in sized.items() if not key.startswith("whole")}
    drum |= {"name": "drum", "n_controls": 14}
    mass = {"am": [2.8, 8.4], "fm": [2.0, 4.0], "per_octave": [1, 1], **_reply([[3.0, 3.0], [1.0, 1.0]], 1, 8)}
    mass["places"] = [{"rate": 4.0, "scale": 1.0, "spin": 1}, {"rate": 4.0, "scale": 0.0, "spin": 0}]
    return {
        "agreement": [agreement],
        "whole": [whole],
        "sized": [sized, drum],
        "mass": [mass],
        "machine": {"cpu": "abacus"},
        "date": "2026-11-21T00:00:00",
        "quick": True,
    }


def test_rows_of_hand_made_results() -> None:
    rows = {row.name: row for row in all_metrics(_results())}
    found = {name: row.measured for name, row in rows.items()}
    assert found["agreement: of these settled after scrapl-loss's 20 steps"] == 1
    settled = rows["agreement: scrapl-loss's 20 steps from ours with its transform, settled values: largest"]
    assert settled.measured == pytest.approx(0.005)
    assert settled.met
    assert found["agreement: the same, its padding taken off: largest"] == pytest.approx(0.05 / 2.25)
    name = "agreement: the same, and our filters rounded to float32, as its are: largest"
    assert found[name] == pytest.approx(0.01 / 2.25)
    assert rows[name].met
    name = "agreement: even boundary, Taylor series from double backward passes: largest"
    assert found[name] == pytest.approx(0.1 / 2.1)
    assert rows[name].met is False
    assert found["agreement: even boundary from kymatio's: largest"] == pytest.approx(0.1)
    name = "small (P=2, U=2, batch 3), even boundary"
    assert found[f"{name}: scrapl-loss's time over ours, whole pi"] == pytest.approx(120.0)
    assert found[f"{name}: processor time of s and H, kymatio's boundary over it"] == pytest.approx(2.0)
    assert found[f"{name}: pi from that of kymatio's boundary, total variation"] == pytest.approx(0.125)
    name = "small (P=2, U=2, batch 3)"
    assert found[f"{name}: scrapl-loss's time over ours, whole pi"] == pytest.approx(60.0)
    assert found[f"{name}: pi, ours from uniform"] == pytest.approx(0.125)
    assert found[f"{name}: share of s and H"] == pytest.approx(0.2)  # of processor time, half the wall clock
    assert found[f"{name}: our values together from one by one: largest"] == pytest.approx(0.1 / 1.1)
    name = "paper (P=36, U=2, batch 4)"
    assert found[f"{name}: scrapl-loss's time, from pieces, over ours, measured"] == pytest.approx(50 * 36 / 40)
    assert found[f"{name}: extrapolated to batch 32: ours, hours"] == pytest.approx(8 * 40 / 3600)
    assert found[f"{name}: extrapolated to batch 32: scrapl-loss, hours"] == pytest.approx(8 * 50 * 36 / 3600)
    per_example = (0.4 - 0.1) * 40 / (0.1 * 2 * 4)
    assert found[f"{name}: products of one example per control and example"] == pytest.approx(per_example)
    name = "paper (P=36, U=2, batch 4), even boundary"
    assert found[f"{name}: scrapl-loss's time, from pieces, over ours, measured"] == pytest.approx(50 * 36 / 30)
    assert found[f"{name}: share of s and H"] == pytest.approx(0.2)
    even = 2.0 + 36 * 1.0 + 14 * 4 * per_example * 0.1
    assert found["drum (P=36, U=14, batch 4), even boundary: ours, from pieces, s"] == pytest.approx(even)
    drum = 4.0 + 36 * 2.0 + 14 * 4 * per_example * 0.1
    assert found["drum (P=36, U=14, batch 4): ours, from pieces, s"] == pytest.approx(drum)
    assert found["mass: AM 2.8 to 8.4 Hz, FM 2 to 4 oct/s: pi's inside over uniform's"] == pytest.approx(1.5)


def test_earlier_files_have_no_even_boundary() -> None:
    results = _results()
    for record in (*results["agreement"], *results["whole"], *results["sized"]):
        for key in (EVEN, "even", "even_backward", "whole_even"):
            record.pop(key, None)
    names = [row.name for row in all_metrics(results)]
    assert len(names) > 30
    assert not any("even boundary" in name for name in names)


def test_pi_is_compared_among_paths_that_settled() -> None:
    results = _results()
    for record, products in zip(results["whole"][0]["records"], (7, 20), strict=True):
        record[PEER]["values"]["n_products"] = [[3, products]]
    found = {row.name: row.measured for row in all_metrics(results)}
    assert found["small (P=2, U=2, batch 3): paths where scrapl-loss's steps settled before the 20th"] == 1
    assert found["small (P=2, U=2, batch 3): pi among those, scrapl-loss's from ours with its transform"] == 0.0


def test_results_are_written_with_table_and_figure(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main.report(tmp_path, _results())
    assert (tmp_path / "importance.png").read_bytes()[:4] == b"\x89PNG"
    assert ">= 50" in capsys.readouterr().out


def test_scales_survive_json() -> None:
    for scale in (*SCALES.values(), *make_plan(quick=True).mass):
        assert Scale(**tuples(json.loads(json.dumps(asdict(scale))))) == scale


def test_encoders_have_the_papers_sizes() -> None:
    sizes = {name: sum(p.numel() for p in make_encoder(SCALES[name]).parameters()) for name in ("paper", "tr808")}
    assert sizes == {"paper": 604_169, "tr808": 723_353}


def test_initial_weights_do_not_depend_on_the_default_dtype() -> None:
    expected = make_encoder(SCALES["tiny"]).state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        found = make_encoder(SCALES["tiny"]).state_dict()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in expected.items():
        assert torch.equal(found[name], value)


def test_normalisation_written_out_is_group_norm() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Standardize()(x), torch.nn.GroupNorm(1, 3, affine=False).double()(x))


def test_drum_depends_on_each_control_and_waits_for_its_onset() -> None:
    theta = torch.full((1, 14), 0.5, dtype=torch.float64)
    drum, shift = Drum(8192, 44100), torch.zeros(1, dtype=torch.float64)
    sound = drum(theta, shift)
    moved = drum(theta + 1e-3 * torch.eye(14, dtype=torch.float64), shift.expand(14))
    assert bool(((moved - sound).norm(dim=1) > 1e-4).all())
    assert float(sound[:, :3500].abs().max()) < 1e-4 < float(sound.abs().max())


def test_targets_and_matches_have_other_onsets() -> None:
    scale = SCALES["tiny"]
    halves = make_batches(scale, torch.zeros(scale.batch, 1, 36, 65), size=2)
    assert [batch.first for batch in halves] == [0, 2]
    torch.testing.assert_close(torch.cat([batch.audio for batch in halves]), make_audio(scale))
    silent = torch.full((2, 2), 0.5, dtype=torch.float64)
    assert make_synth(scale)(silent, halves[0].shift).shape == (2, scale.n_samples)


@pytest.fixture(scope="module")
def spectrogram() -> torch.Tensor:
    scale = SCALES["tiny"]
    return LogCQT(scale.sample_rate, octaves=3, hop=scale.hop)(make_audio(scale).float())


def test_our_side_on_a_tiny_problem(spectrogram: torch.Tensor, tmp_path: Any) -> None:
    scale = SCALES["tiny"]
    file = tmp_path / "spectrogram.npy"
    np.save(file, spectrogram.numpy())
    session = ImportanceSession("ours")
    assert session.handle({"do": "build", "scale": asdict(scale), "spectrogram": str(file)}) == {"n_paths": 35}
    reply = session.handle({"do": "values", "paths": [3, 20], "options": {"tolerance": 1e-2}})
    curvature = np.array(reply["values"]["curvature"])
    assert curvature.shape == (2, 2)
    assert bool((curvature > 0).all())
    assert bool((np.array(reply["values"]["residual"]) <= 1e-2).all())
    apart = session.handle({"do": "values", "paths": [3, 20], "options": {"tolerance": 1e-5, "together": False}})
    np.testing.assert_allclose(curvature, np.array(apart["values"]["curvature"]), rtol=1e-2)
    assert reply["values"]["stages"]["derivatives"] <= reply["values"]["stages"]["subspace"]
    pieces = session.handle({"do": "pieces", "paths": [3, 8], "options": {"n_products": 2}})["pieces"]
    assert len(pieces["products"]) == len(pieces["derivatives"]) == 2
    assert pieces["once"] > 0
    with pytest.raises(ValueError, match="Invalid request"):
        session.handle({"do": "dance"})


def test_the_even_boundary_has_the_derivatives_of_double_backward_passes(
    spectrogram: torch.Tensor, tmp_path: Any
) -> None:
    scale = SCALES["tiny"]
    file = tmp_path / "spectrogram.npy"
    np.save(file, spectrogram.numpy())
    session = ImportanceSession(EVEN)
    session.handle({"do": "build", "scale": asdict(scale), "spectrogram": str(file)})
    options = {"tolerance": 1e-5, "together": False}
    replies = [
        session.handle({"do": "values", "paths": [20], "options": {**options, "taylor": taylor}})
        for taylor in (True, False)
    ]
    taylor, backward = (np.array(reply["values"]["curvature"]) for reply in replies)
    np.testing.assert_allclose(taylor, backward, rtol=1e-3)
    ours = np.array(Ours(scale, spectrogram, transform=TRANSFORMS[OURS]).values([20], tolerance=1e-5).curvature)
    assert np.abs(taylor / ours - 1).max() > 1e-2  # it is another boundary


def test_cutting_the_batch_adds_matrices(spectrogram: torch.Tensor) -> None:
    """Each chunk's loss is a mean over its own examples, so that the sum is twice as large for two halves."""
    scale = SCALES["tiny"]
    whole = Ours(scale, spectrogram).values([20], tolerance=1e-6)
    halves = Ours(scale, spectrogram, size=2).values([20], tolerance=1e-6)
    np.testing.assert_allclose(np.array(halves.curvature), 2 * np.array(whole.curvature), rtol=1e-4)
