"""Fit a waveform to a recording, with :func:`scrapl_jtfs.resynthesize`."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from scrapl_jtfs.commands._match.fit import History, Target
from scrapl_jtfs.commands.progress import Progress
from scrapl_jtfs.resynthesis import ResynthesisProgress, resynthesize

__all__ = ["METHODS", "TEXTURE", "Fitted", "Method", "TextureSettings", "fit_waveform"]

Method = Literal["paths", "lbfgs"]
# Steps of each method by default.
METHODS: dict[Method, int] = {"paths": 1000, "lbfgs": 100}


class TextureSettings(NamedTuple):
    """Settings of a resynthesis.

    Attributes:
        steps: number of steps.
        sample_rate: working sample rate in Hz.
        invariant: True to average over the whole signal, False over half a second.
        method: "paths" for one random path a step, "lbfgs" for all paths in each.
    """

    steps: int
    sample_rate: int
    invariant: bool
    method: Method = "paths"


# The figures behind the learning rate and the draws are in benchmarks/results/recordings.json.
TEXTURE = TextureSettings(METHODS["paths"], 16384, False)


class Fitted(NamedTuple):
    """A waveform before and after its fit.

    Attributes:
        start: (N,) noise that it began with.
        sound: (N,) waveform.
        history: course of the fit.
    """

    start: Tensor
    sound: Tensor
    history: History


class _Course:
    """Callback of a resynthesis that keeps its course and moves a bar."""

    def __init__(self, bar: Progress) -> None:
        self.history = History()
        self.start: Tensor | None = None
        self.last: ResynthesisProgress | None = None
        self._bar = bar

    def __call__(self, state: ResynthesisProgress) -> None:
        if self.last is None:
            self.start = state.signals()
        else:
            self._bar.step()
        if self.last is None or state.errors is not self.last.errors:
            self.history.curve.append((state.step, [float(state.errors)]))
        self._bar.note(f"error {float(state.errors):.3f}")
        self.last, self.history.done = state, state.step


def fit_waveform(target: Target, samples: Tensor, settings: TextureSettings, seed: int) -> Fitted:
    """Fit a waveform, from noise with the magnitude spectrum of the samples (N,); ctrl-C ends it early."""
    with Progress(settings.steps, disable=None) as bar:
        course = _Course(bar)
        try:
            resynthesize(
                target.jtfs, samples, method=settings.method, steps=settings.steps, seed=seed, callback=course
            )
        except KeyboardInterrupt:
            course.history.interrupted = True
            if course.last is None:  # there is nothing to keep
                raise
    if course.start is None or course.last is None:
        raise RuntimeError("Invalid fit: no step; expected the start at least; report it")
    sound, history = course.last.signals(), course.history
    if history.curve[-1][0] != history.done:
        history.curve.append((history.done, target.relative_error(sound[None, None]).tolist()))
    return Fitted(course.start, sound, history)
