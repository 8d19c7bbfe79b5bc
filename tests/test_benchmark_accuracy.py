"""The accuracy study: its sounds, distances and fits against closed forms. Nothing is timed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.harness.records import relative_distance
from benchmarks.studies.accuracy import __main__ as program
from benchmarks.studies.accuracy import boundary, studies
from benchmarks.studies.accuracy.boundary import (
    ends_repeated,
    frame_distances,
    long_answers,
    middle,
    one_sample_earlier,
    share_at_the_ends,
    study_boundary,
    transforms,
    zeros,
)
from benchmarks.studies.accuracy.measures import Answer, Settings, answers, compare, path_ids
from benchmarks.studies.accuracy.signals import CLEAN_SOUNDS, LONG_SOUNDS, SOUNDS, noisy, normalized, pink_noise
from benchmarks.studies.accuracy.studies import Selection, rounded_answers, study_compact, study_smoothing
from benchmarks.studies.accuracy.training import Arm, fit, gradient_errors, make_task, study_gradients, summary

TINY = Settings(2048, 8, 256)
pytestmark = pytest.mark.study


@pytest.mark.parametrize("sound", [*SOUNDS, *CLEAN_SOUNDS])
def test_sounds_are_pairs_of_unit_rms_and_differ(sound: str) -> None:
    x, y = {**SOUNDS, **CLEAN_SOUNDS}[sound](2048)
    assert x.shape == y.shape == (2048,)
    assert x.dtype == torch.float64
    for z in (x, y):
        assert z.square().mean().sqrt().item() == pytest.approx(1.0, rel=0.1)
    assert (x - y).norm() > 0.1 * x.norm()


def test_noise_has_its_level_and_its_colour() -> None:
    tone = normalized(torch.sin(0.3 * torch.arange(65536.0, dtype=torch.float64)))
    x, y = noisy((tone, tone), -60.0)
    assert (x - tone).square().mean().sqrt().item() == pytest.approx(1e-3, rel=0.02)
    assert not torch.equal(x, y)
    power = torch.fft.rfft(pink_noise(65536, 0)).abs().square()
    octaves = [power[2**k : 2 ** (k + 1)].sum().item() for k in range(9, 15)]
    assert max(octaves) / min(octaves) == pytest.approx(1.0, abs=0.15)  # equal energy in every octave


def test_distances_are_those_of_made_up_answers() -> None:
    def made_up(*scales: float) -> list[Answer]:
        return [Answer(s * torch.ones(2, 2), s, s * torch.ones(3)) for s in scales]

    found = compare(made_up(1.1, 2.0, 4.0), made_up(1.0, 2.0, 2.0))
    for what in ("coefficients", "gradient", "value"):
        errors = found[what]
        assert errors.median == pytest.approx(0.1)
        assert errors.largest == pytest.approx(1.0)
        assert errors.together == pytest.approx(math.sqrt((0.01 + 4.0) / 9.0))


def test_gradients_of_parameters_are_compared_one_by_one() -> None:
    wanted = torch.tensor([[[3.0, 4.0]], [[6.0, 8.0]]])
    found = wanted + torch.tensor([[[0.0, 0.0]], [[0.0, 5.0]]])
    errors = gradient_errors(found, wanted)
    assert errors["largest"] == pytest.approx(0.5)
    assert errors["percentile_90"] == pytest.approx(0.45)
    assert errors["together"] == pytest.approx(5.0 / math.sqrt(125.0))


def test_other_rounding_is_the_same_transform() -> None:
    jtfs = TINY.build(smoothing=1e-3)
    pair = SOUNDS["white noise"](TINY.n_samples)
    for errors in compare(rounded_answers(jtfs, pair, [0, 50]), answers(jtfs, pair, [0, 50])).values():
        assert 0.0 < errors.largest < 1e-10


def test_the_second_layer_has_an_eps_of_its_own() -> None:
    """The scalogram of noise is not small, its modulations are: eps in layer 2 changes most."""
    pair = SOUNDS["white noise"](TINY.n_samples)
    found = {s: answers(TINY.build(s, smoothing=1e-3), pair, [50])[0] for s in (0.0, 0.5, 1.0)}
    sharp = answers(TINY.build(), pair, [50])[0]
    errors = [relative_distance(found[s].coefficients, sharp.coefficients) for s in (0.0, 0.5, 1.0)]
    assert 0.0 < errors[0] < 0.1 * errors[1] < 0.1 * errors[2]


def test_studies_cover_what_they_were_asked_for() -> None:
    selection = Selection(TINY, samples_per_bandwidth=(2.0, 4.0), smoothing=(0.0, 1e-3), every=9)
    compact = list(study_compact(selection))
    variants = {(row["sound"], row["variant"]) for row in compact}
    assert variants == {(s, v) for s in SOUNDS for v in ("float64, other rounding", "float32", 2.0, 4.0)}
    noise = {row["variant"]: row["coefficients"]["together"] for row in compact if row["sound"] == "white noise"}
    assert noise["float64, other rounding"] < noise["float32"] < noise[4.0] < noise[2.0]
    smoothing = list(study_smoothing(selection))
    assert len(smoothing) == 3 * len(CLEAN_SOUNDS)
    rounding = {
        row["smoothing"]: row["gradient"]["together"]
        for row in smoothing
        if row["against"] == "float64" and row["sound"] == "clean chirp"
    }
    assert rounding[1e-3] < 0.01 * rounding[0.0]


def test_a_fit_from_the_solution_stays_and_the_reference_differs_from_itself_by_nothing() -> None:
    task = make_task(2, TINY)
    solved = replace(task, start=task.goal, shift=torch.zeros(2, dtype=torch.float64))
    found = fit([solved], Arm(dtype=torch.float64), steps=2, lr=1e-3)
    assert found.errors.shape == (3, 2, 2)
    assert found.errors.max() < 2e-3
    assert found.converged == 1.0
    row = summary(found, found)
    assert (row["paired_mean"], row["paired_largest"], row["steps"]) == (0.0, 0.0, 2)


def test_starts_of_a_batch_do_not_interact() -> None:
    task = make_task(3, TINY)
    alone = replace(task, start=task.start[:1], goal=task.goal[:1], shift=task.shift[:1])
    arm = Arm(dtype=torch.float64)
    together, one = fit([task], arm, steps=3), fit([alone], arm, steps=3)
    torch.testing.assert_close(together.errors[:, :1], one.errors, rtol=1e-6, atol=1e-9)


def test_gradients_are_measured_against_oneself_and_against_the_exact_transform() -> None:
    rows = list(study_gradients(make_task(2, TINY), [Arm(), Arm(1e-4, samples_per_bandwidth=2.0)], every=6))
    assert [(row["arm"], row["against"]) for row in rows] == [
        ("eps 0, float32", "itself in float64"),
        ("eps 0.0001, float32, 2 samples per bandwidth", "itself in float64"),
        ("eps 0.0001, float64, 2 samples per bandwidth", "exact, eps 0"),
    ]
    assert all(0.0 < row["median"] <= row["percentile_90"] <= row["largest"] for row in rows)


def test_results_are_written_with_where_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    selection = Selection(TINY, samples_per_bandwidth=(2.0,), smoothing=(0.0, 1e-3), every=12)
    for name in ("SOUNDS", "CLEAN_SOUNDS"):
        monkeypatch.setattr(studies, name, {"white noise": SOUNDS["white noise"]})
    monkeypatch.setattr(program, "SMALL", TINY)
    monkeypatch.setattr(program, "LAYERS", replace(selection, second=(0.0,)))
    monkeypatch.setattr(program, "quick", lambda asked: replace(selection, second=asked.second))
    monkeypatch.setattr(program, "train", partial(lambda run, *_: run(1, 2, 1, [0.0]), program.train))
    assert program.main(["--quick", "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "accuracy.json").read_text())
    assert results["quick"]
    assert {"date", "machine", "versions"} < results.keys()
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    for table in ("COMPACT", "SMOOTHING", "LAYERS", "PARAMETERS", "TRAINING"):
        assert table in printed


def test_long_sounds_have_the_sound_in_their_middle() -> None:
    for name, make in LONG_SOUNDS.items():
        x, y = make(2048)
        assert x.shape == y.shape == (4096,)
        assert (middle(x) - middle(y)).norm() > 0.1 * middle(x).norm(), name
    for name in ("drum, silence", "silence, drum, silence"):
        x, _ = LONG_SOUNDS[name](2048)
        assert not middle(x)[1024:].any()
        assert middle(x)[:256].any() == (name == "drum, silence")
        assert middle(x)[:1024].abs().argmax() < 512  # struck, then decaying


def test_surroundings_are_by_index() -> None:
    z = torch.arange(8.0)
    assert middle(z).tolist() == [2, 3, 4, 5]
    assert ends_repeated(z).tolist() == [3, 2, 2, 3, 4, 5, 5, 4]
    assert zeros(z).tolist() == [0, 0, 2, 3, 4, 5, 0, 0]
    assert one_sample_earlier(z).tolist() == [1, 2, 3, 4]


def test_distances_by_frame_and_at_the_ends_are_those_of_made_up_coefficients() -> None:
    b = torch.full((2, 4), 2.0)
    a = b + torch.tensor([[3.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert frame_distances([a], [b]) == pytest.approx([3 / 8**0.5, 0.0, 1 / 8**0.5, 0.0])
    assert share_at_the_ends([a], [b]) == pytest.approx(0.9)
    assert share_at_the_ends([b], [b]) is None
    assert share_at_the_ends([a[:, :1]], [b[:, :1]]) is None


def test_surrounded_by_its_reflection_a_sound_has_kymatios_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that distances of other surroundings are those of the surroundings."""

    def reflected(z: torch.Tensor) -> torch.Tensor:
        x = middle(z)[None]
        return torch.nn.functional.pad(x, (x.shape[-1] // 2, x.shape[-1] // 2), mode="reflect")[0]

    monkeypatch.setattr(boundary, "zeros", reflected)
    contenders, paths = transforms(TINY), path_ids(TINY.build())[::4]
    pair = LONG_SOUNDS["white noise"](TINY.n_samples)
    found, expected = (long_answers(contenders[name], pair, paths) for name in ("zeros", "kymatio"))
    errors = compare(found, expected)
    # The seam of kymatio's padding stands 2.5 standard deviations of the slowest wavelets from the ends.
    tail = math.erfc(2.5 / 2**0.5)
    assert errors["coefficients"].median < 0.2 * tail
    assert errors["coefficients"].largest < 2 * tail


def test_the_even_boundary_repeats_the_ends_and_keeps_the_spin() -> None:
    """Without a spin it is kymatio's transform of the sound with its ends repeated; with one, averages differ."""
    contenders = transforms(TINY)
    jtfs = TINY.build()
    pair = LONG_SOUNDS["white noise"](TINY.n_samples)
    n2 = path_ids(jtfs)[len(path_ids(jtfs)) // 2]
    alike = {path.n_fr: i for i, path in enumerate(jtfs.paths) if path.n2 == jtfs.paths[n2].n2}
    even, repeated = (
        long_answers(contenders[name], pair, [alike[0], alike[3]]) for name in ("even", "ends repeated")
    )
    spinless, spun = (
        relative_distance(a.coefficients, b.coefficients) for a, b in zip(even, repeated, strict=True)
    )
    assert spinless < 0.1 * spun


def test_boundary_study_covers_what_it_was_asked_for() -> None:
    sounds = {name: LONG_SOUNDS[name] for name in ("white noise", "silence, drum, silence")}
    rows = list(study_boundary(TINY, sounds, every=4))
    found = {(row["sound"], row["against"], row["variant"]): row for row in rows}
    variants = [*transforms(TINY), "even, no spin"][1:]
    assert set(found) == {
        *((sound, "kymatio", variant) for sound in sounds for variant in variants),
        *((sound, "going on", variant) for sound in sounds for variant in ("kymatio", "even")),
    }
    noise = found["white noise", "kymatio", "even"]
    assert len(noise["frames"]) == 8
    assert noise["at_the_ends"]["coefficients"] > 0.7
    assert noise["coefficients"]["median"] < found["white noise", "kymatio", "zeros"]["coefficients"]["median"]
    # Nothing sounds at the ends, nor beyond them.
    drum = found["silence, drum, silence", "kymatio", "zeros"]
    going_on = found["silence, drum, silence", "kymatio", "going on"]
    assert drum["coefficients"] == going_on["coefficients"]


def test_boundary_results_are_written_with_where_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds = {"white noise": LONG_SOUNDS["white noise"]}
    monkeypatch.setattr(boundary, "_QUICK", TINY)
    monkeypatch.setattr(boundary, "study_boundary", partial(study_boundary, sounds=sounds))
    assert boundary.main(["--quick", "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "boundary.json").read_text())
    assert {"date", "machine", "versions", "quick"} < results.keys()
    assert {row["T"] for row in results["boundary"]} == {256, "global"}
    assert (tmp_path / "boundary.png").read_bytes().startswith(b"\x89PNG")
    assert "BOUNDARY" in capsys.readouterr().out
