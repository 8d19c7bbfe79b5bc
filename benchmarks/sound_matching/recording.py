"""python -m benchmarks.sound_matching.recording FILE --mode granular|texture --out runs/NAME"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .provenance import check_configuration
from .recording_audio import MIN_SAMPLES, Recording, read_recording
from .recording_fit import (
    FITS,
    FitSettings,
    Grains,
    History,
    Model,
    Target,
    Waveform,
    descend,
    eval_seeds,
    fall_doubts,
    make_jtfs,
)
from .recording_report import Match, write_match

__all__ = ["main", "match"]

_VERSION = 1  # raise it when the same settings give another result
_MAX_SECONDS = 60.0


def match(
    file: Path,
    mode: str,
    out: Path,
    *,
    steps: int | None = None,
    seconds: float = 2.0,
    start: float = 0.0,
    rate: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Match one recording and write match.wav, target.wav, report.png and result.json into `out`.

    Args:
        file: WAV, FLAC or another file that libsndfile knows.
        mode: "granular" fits the two parameters of the granular synthesizer, "texture" a waveform from noise.
        out: folder, new or with an earlier result of the same settings.
        steps: of gradient descent, one JTFS path each; None for the mode's own.
        seconds: length to match; the power of two of samples nearest to it is taken.
        start: where in the recording, in seconds.
        rate: working sample rate in Hz; None for the mode's own.
        seed: of noise, grains and paths.

    Returns:
        The content of result.json.

    Raises:
        ValueError: a setting is out of range, the recording cannot be used, or `out` belongs to other settings.
        ImportError: soundfile is not installed.
    """
    settings = fit_settings(mode, steps, rate)
    if not (0 < seconds <= _MAX_SECONDS and 0 <= start < math.inf and 0 <= seed < 2**31):
        raise ValueError(
            f"seconds must be in (0, {_MAX_SECONDS:g}], start at least 0 and seed in [0, 2^31), "
            f"got seconds={seconds:g}, start={start:g}, seed={seed}"
        )
    recording = read_recording(file, settings.sample_rate, seconds, start)
    configuration = {
        "version": _VERSION,
        "file": file.name,
        "sha256": recording.sha256,
        "mode": mode,
        "steps": settings.steps,
        "seconds": seconds,
        "start": start,
        "rate": settings.sample_rate,
        "seed": seed,
    }
    check_configuration(out, configuration)
    fit = fit_texture if mode == "texture" else fit_granular
    return write_match(out, fit(configuration, recording, settings, seed))


def fit_settings(mode: str, steps: int | None, rate: int | None) -> FitSettings:
    """The settings of a mode, with some of the user's own."""
    if mode not in FITS:
        raise ValueError(f"mode must be one of {', '.join(FITS)}, got {mode!r}")
    default = FITS[mode]
    changed = replace(
        default,
        steps=default.steps if steps is None else steps,
        sample_rate=default.sample_rate if rate is None else rate,
    )
    if changed.steps < 1 or not 2 * MIN_SAMPLES <= changed.sample_rate <= 96000:
        raise ValueError(
            f"steps must be positive and rate between {2 * MIN_SAMPLES} and 96000 Hz, "
            f"got steps={changed.steps}, rate={changed.sample_rate}"
        )
    return changed


def fit_texture(configuration: dict[str, Any], recording: Recording, settings: FitSettings, seed: int) -> Match:
    target, model = make_target(recording, settings), Waveform(recording, seed)
    start = model.samples.detach().clone()
    history, seconds = timed_descent(target, model, settings, seed)
    sound = model.samples.detach()
    figures = {
        "n_paths": target.jtfs.n_paths,
        "median_path_error_start": target.median_path_error(start[None, None]),
        "median_path_error_match": target.median_path_error(sound[None, None]),
        "seconds": seconds,
    }
    return Match(configuration, recording, start, sound, history, figures)


def fit_granular(configuration: dict[str, Any], recording: Recording, settings: FitSettings, seed: int) -> Match:
    target, model = make_target(recording, settings), Grains(recording)
    heard = eval_seeds(seed, settings)
    theta_start, start = model.theta.detach(), model(heard).detach()
    history, seconds = timed_descent(target, model, settings, seed)
    theta, sound = model.theta.detach(), model(heard).detach()
    best, synth = history.best, model.synth
    fall = target.fall(start[best], sound[best])
    figures = {
        "n_paths": target.jtfs.n_paths,
        "theta": model.physical(theta[best]),
        "theta_start": model.physical(theta_start[best]),
        "error_fall": {"mean": fall[0], "standard_error": fall[1]},
        "doubts": model.doubts(best) + fall_doubts(*fall),
        "theta_of_all_starts": [model.physical(row) for row in theta],
        "synthesizer": {
            "n_grains": synth.n_grains,
            "grain_seconds": synth.grain_samples / synth.sample_rate,
            "min_pitch": synth.min_pitch,
            "max_pitch": synth.max_pitch,
            "max_slope": synth.max_slope,
        },
        "median_path_error_start": target.median_path_error(start[best][None]),
        "median_path_error_match": target.median_path_error(sound[best][None]),
        "seconds": seconds,
    }
    return Match(configuration, recording, start[best, 0], sound[best, 0], history, figures)


def make_target(recording: Recording, settings: FitSettings) -> Target:
    n = recording.samples.shape[-1]
    return Target(make_jtfs(n, recording.sample_rate, settings.invariant), recording.samples)


def timed_descent(target: Target, model: Model, settings: FitSettings, seed: int) -> tuple[History, float]:
    """The history, and the seconds that it took with its evaluations."""
    started = time.perf_counter()
    history = descend(target, model, settings, seed)
    return history, time.perf_counter() - started


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sound_matching.recording",
        description=(
            "Match a recording by gradient descent on one random JTFS path per step: fit the density and slope of "
            "the granular synthesizer to it, or resynthesise it as a texture from noise. "
            "Ctrl-C keeps what there is."
        ),
    )
    parser.add_argument("file", type=Path, help="WAV, FLAC or another file that libsndfile knows")
    parser.add_argument("--mode", choices=list(FITS), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the result, e.g. runs/NAME")
    defaults = ", ".join(f"{mode} {settings.steps}" for mode, settings in FITS.items())
    parser.add_argument("--steps", type=int, help=f"one JTFS path each (default: {defaults})")
    parser.add_argument("--seconds", type=float, default=2.0, help="length to match (default: 2)")
    parser.add_argument("--start", type=float, default=0.0, help="where in the recording, in seconds (default: 0)")
    rates = ", ".join(f"{mode} {settings.sample_rate}" for mode, settings in FITS.items())
    parser.add_argument("--rate", type=int, help=f"working sample rate in Hz (default: {rates})")
    parser.add_argument("--seed", type=int, default=0, help="of noise, grains and paths (default: 0)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    return parser.parse_args(argv)


def summary(result: dict[str, Any], out: Path) -> str:
    """What the user wants to know, for the terminal."""
    lines = [
        *(f"  {note}" for note in result["recording"]),
        f"Relative JTFS error {result['error_start']:.3f} -> {result['error_match']:.3f} "
        f"in {result['steps_done']} steps, {result['seconds']:.0f} s",
    ]
    if "theta" in result:
        theta = result["theta"]
        lines.append(
            f"Density {theta['density']:.2f} = {theta['grains_per_second']:.1f} grains per second, "
            f"slope {theta['slope']:.2f} = {theta['octaves_per_second']:+.1f} octaves per second"
        )
    lines += [f"Note: {doubt}" for doubt in result.get("doubts", [])]
    lines.append(f"Look at    {out / 'report.png'}")
    lines.append(f"Listen to  {out / 'target.wav'} and {out / 'match.wav'}")
    lines.append(f"Figures    {out / 'result.json'}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 2 for something the user can mend, 130 after ctrl-C."""
    a = parse_arguments(argv)
    if a.threads:
        torch.set_num_threads(a.threads)
    try:
        result = match(
            a.file,
            a.mode,
            a.out,
            steps=a.steps,
            seconds=a.seconds,
            start=a.start,
            rate=a.rate,
            seed=a.seed,
        )
    except KeyboardInterrupt:
        print("\nInterrupted before the first step: there is no match to keep.", file=sys.stderr)
        return 130
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(summary(result, a.out))
    if result["interrupted"]:
        print(f"Interrupted after {result['steps_done']} steps: this is what there was.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
