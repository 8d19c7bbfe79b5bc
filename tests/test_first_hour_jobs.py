"""Each job of a new user's first hour runs, does what it says, and is short."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib", reason="pictures need matplotlib")
pytest.importorskip("auraloss", reason="two jobs compare with spectrograms")
import tests.support.first_hour_jobs as jobs

JOBS = [name for name in vars(jobs) if inspect.isfunction(getattr(jobs, name)) and name[0] != "_"]
MOST_LINES = 15


@pytest.mark.parametrize("name", [n for n in JOBS if getattr(jobs, n).__module__ == jobs.__name__])
def test_short(name: str) -> None:
    (function,) = ast.parse(inspect.getsource(getattr(jobs, name))).body
    assert isinstance(function, ast.FunctionDef)
    first, last = function.body[1].lineno, function.body[-1].end_lineno  # after the docstring
    assert last is not None
    assert last - first + 1 <= MOST_LINES + 2 * (name == "swap_into_a_training_loop")


def test_swap_into_a_training_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder, synth, sounds = jobs.make_things()
    before = [p.detach().clone() for p in encoder.parameters()]
    scrapl = jobs.swap_into_a_training_loop(encoder, synth, sounds, tmp_path)
    assert scrapl.step == 3
    assert (tmp_path / "run.pt").stat().st_size > 1000
    assert "running estimate" in capsys.readouterr().out
    assert any(not torch.equal(p, q) for p, q in zip(encoder.parameters(), before, strict=True))


def test_compose_a_loss() -> None:
    encoder, synth, sounds = jobs.make_things()
    stereo = [x[:, None].expand(-1, 2, -1).contiguous() for x in sounds]
    full, optimizer = jobs.compose_a_loss(
        torch.nn.Sequential(StereoToMono(), encoder), lambda theta: synth(theta)[:, None].repeat(1, 2, 1), stereo
    )
    assert full.isfinite()
    visited = next(iter(optimizer.state.values()))["step"]
    assert visited.max() == 3  # one tick for each step of four paths
    assert 4 <= (visited > 0).sum() <= 12


class StereoToMono(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


def test_find_important_paths(capsys: pytest.CaptureFixture[str]) -> None:
    encoder, synth, sounds = jobs.make_things()
    found, sampler = jobs.find_important_paths(encoder, synth, sounds[0])
    assert float(found.probs.sum()) == pytest.approx(1)
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert sampler.n_paths == len(found.probs)


def test_property_tests() -> None:
    jobs.property_test_a_sampler_and_an_estimator()


def test_look_at_features(tmp_path: Path) -> None:
    sounds = jobs.make_things()[2]
    features, distance = jobs.look_at_features(sounds[0][0], sounds[1][0], tmp_path / "features.png")
    assert features.values.ndim == 1
    assert 0 < distance < 1
    assert (tmp_path / "features.png").stat().st_size > 10_000


def test_train_on_another_family() -> None:
    model, x = torch.nn.Linear(4096, 4096), torch.randn(5, 2, 4096)
    optimizer = jobs.train_on_another_family(model, [(part, part.flip(-1)) for part in x])
    assert (optimizer.state[model.weight]["step"] > 0).all()


def test_choose_a_transform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, synth, _ = jobs.make_things()
    jtfs, sweep = jobs.choose_a_transform(
        lambda theta: synth(theta[None])[0], torch.tensor([0.5, 0.5]), tmp_path / "sweep.png"
    )
    rates = [path.rate for path in jtfs.paths]
    assert min(rates) <= 2
    assert max(rates) >= 20
    assert sweep.shares["chosen"] >= sweep.shares["J=6"]
    assert "visit each path" in capsys.readouterr().out


def test_come_from_scrapl_loss() -> None:
    encoder, synth, sounds = jobs.make_things()
    scrapl = jobs.come_from_scrapl_loss(encoder, synth, sounds)
    assert (scrapl.step, scrapl.jtfs.n_paths) == (3, 63)
