"""The bar: it moves with the steps, and its estimate waits until steps are typical."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sound_matching import train
from benchmarks.sound_matching.train import Experiment, checkpoint_path
from scrapl_jtfs.commands import progress
from scrapl_jtfs.commands._match import fit
from scrapl_jtfs.commands.progress import Progress, rough_duration
from tests.support.tiny_preset import TINY


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def take(bar: Progress, clock: Clock, n: int, seconds: float) -> None:
    for _ in range(n):
        clock.now += seconds
        bar.step()


def test_the_first_steps_do_not_count() -> None:
    clock = Clock()
    with Progress(1000, disable=True, clock=clock) as bar:
        take(bar, clock, 16, 20.0)  # 20 seconds each while caches fill
        assert bar.seconds_left is None
        take(bar, clock, 15, 0.1)
        assert bar.seconds_left is None
        take(bar, clock, 1, 0.1)
        assert bar.seconds_left == pytest.approx(0.1 * 968)
        take(bar, clock, 68, 0.1)
        assert bar.seconds_left == pytest.approx(0.1 * 900)


def test_the_estimate_follows_the_load() -> None:
    clock = Clock()
    with Progress(2000, disable=True, clock=clock) as bar:
        take(bar, clock, 500, 2.0)
        assert bar.seconds_left == pytest.approx(2.0 * 1500)
        take(bar, clock, 256, 0.1)  # the other program has ended
        assert bar.seconds_left == pytest.approx(0.1 * 1244)


def test_the_estimate_counts_what_happens_between_steps() -> None:
    clock = Clock()
    with Progress(640, disable=True, clock=clock) as bar:
        for _ in range(5):
            take(bar, clock, 64, 0.1)
            clock.now += 3.2  # validation and checkpoint
        assert bar.seconds_left == pytest.approx(320 * 0.15, rel=0.02)


def test_a_resumed_run_counts_from_where_it_stands() -> None:
    clock = Clock()
    with Progress(1000, 900, disable=True, clock=clock) as bar:
        take(bar, clock, 50, 1.0)
        assert bar.seconds_left == pytest.approx(50.0)


def test_durations_are_rough() -> None:
    said = {0.0: "1 s", 59.6: "60 s", 89.4: "89 s", 90: "2 min", 2700: "45 min", 5399: "90 min", 5400: "1.5 h"}
    assert {seconds: rough_duration(seconds) for seconds in said} == said


def drawn(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> list[str]:
    """States of a bar of 100 steps, a note after each 50, a second each."""
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    with Progress(100, label="SCRAPL ", clock=clock) as bar:
        for _ in range(2):
            take(bar, clock, 50, 1.0)
            bar.note("theta L1 97 per mille")
    return [line.strip() for line in stream.getvalue().split("\r") if line.strip()]


def test_every_step_moves_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(monkeypatch, terminal=True)
    for step in range(1, 101):
        assert any(f" {step}/100 steps" in line for line in lines)
    assert not any("left" in line for line in lines[:31])
    assert "about 50 s left" in next(line for line in lines if " 50/100" in line)
    (line,) = [line for line in lines if " 51/100" in line]
    assert line.startswith("SCRAPL  51%|")
    assert line.endswith("about 49 s left, theta L1 97 per mille]")
    assert "left" not in lines[-1]
    assert lines[-1].endswith("theta L1 97 per mille]")


def test_a_log_file_gets_a_line_each_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 3 <= len(drawn(monkeypatch, terminal=False)) <= 6


class Told(Progress):
    """Remembers what it was told."""

    def __init__(self, total: int, done: int = 0, **options: Any) -> None:
        super().__init__(total, done, **{**options, "disable": True})
        self.events: list[Any] = [(done, total)]
        bars.append(self)

    def step(self) -> None:
        super().step()
        self.events.append(self.done)

    def note(self, text: str) -> None:
        self.events.append("note" if text else "")


bars: list[Told] = []


def test_training_moves_the_bar_with_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars.clear()
    monkeypatch.setattr(train, "Progress", Told)
    experiment = Experiment(TINY, seed=3)
    interrupted = experiment.trainer("p_loss")
    interrupted.run_epoch()
    interrupted.save(checkpoint_path(tmp_path, "p_loss"))
    experiment.trainer("p_loss").run(tmp_path)
    experiment.trainer("mss").run(tmp_path)
    resumed, whole = bars
    assert resumed.events == [(3, 9), 4, 5, 6, "note", 7, 8, 9, "note"]
    assert whole.events == [(0, 9), 1, 2, 3, "note", 4, 5, 6, "note", 7, 8, 9, "note"]


def test_recordings_and_training_share_the_bar() -> None:
    assert fit.Progress is train.Progress is progress.Progress
