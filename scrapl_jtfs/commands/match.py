"""Commands match and resynthesize: fit grains or noise to a recording, by paths of the JTFS."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scrapl_jtfs.commands._match.fit import (
    GRANULAR,
    MAX_STEPS,
    FitSettings,
    Target,
    descend,
    eval_seeds,
    fall_doubts,
)
from scrapl_jtfs.commands._match.models import Grains
from scrapl_jtfs.commands._match.report import PICTURE, Match, draw_report, write_match
from scrapl_jtfs.commands._match.texture import METHODS, TEXTURE, Method, TextureSettings, fit_waveform
from scrapl_jtfs.commands.audio import MAX_RATE, MIN_SAMPLES, Recording, check_excerpt, read_recording
from scrapl_jtfs.commands.command_line import Parser, check_name, named_file, say, set_threads, shown
from scrapl_jtfs.commands.drawing import PictureError
from scrapl_jtfs.commands.files import claimed_folder
from scrapl_jtfs.commands.provenance import check_configuration
from scrapl_jtfs.commands.transforms import make_jtfs

__all__ = ["Job", "match", "match_grains", "prepare", "resynthesize"]

# Raise the version when the same settings give another result.
_VERSION = 3
_MAX_SEED = 2**31
_SLUG_LENGTH = 40
_MODES: dict[str, FitSettings | TextureSettings] = {"texture": TEXTURE, "granular": GRANULAR}


class Job(NamedTuple):
    """Fit that is to be done.

    Attributes:
        configuration: settings that are written to the result's folder.
        recording: recording to be matched.
        settings: settings of the descent.
        out: folder of the result.
    """

    configuration: dict[str, Any]
    recording: Recording
    settings: FitSettings | TextureSettings
    out: Path

    def fit(self) -> Match:
        """Fit the model of this mode; ctrl-C after the first step ends it early."""
        configuration, recording, settings = self.configuration, self.recording, self.settings
        if isinstance(settings, TextureSettings):
            return fit_texture(configuration, recording, settings, configuration["seed"])
        return fit_granular(configuration, recording, settings, configuration["seed"])


def match(
    file: Path,
    mode: str,
    out: Path | None = None,
    *,
    steps: int | None = None,
    seconds: float = 2.0,
    start: float = 0.0,
    rate: int | None = None,
    seed: int = 0,
    method: Method | None = None,
) -> dict[str, Any]:
    """Match one recording and write result.json, match.wav, target.wav and report.png, in this order.

    Args:
        file: WAV, FLAC or another file that libsndfile knows.
        mode: "granular" fits the two parameters of the granular synthesizer, "texture" a waveform from noise.
        out: folder, new or with an earlier result of the same settings; None for a folder in runs/ that no other
            recording and no other settings share.
        steps: number of steps of gradient descent, one JTFS path each, or with the method "lbfgs" all of them;
            None for the default.
        seconds: length to match, which is rounded to a power of two of samples.
        start: beginning of the match in the recording, in seconds.
        rate: working sample rate in Hz; None for the mode's default.
        seed: seed of noise, grains and paths.
        method: of the mode "texture", "paths" (the default) or "lbfgs", as in :func:`scrapl_jtfs.resynthesize`.

    Returns:
        The content of result.json.

    Raises:
        ValueError: a setting is out of range, the recording cannot be used, or `out` belongs to other settings.
        ImportError: soundfile is not installed.
        OSError: `out` cannot be written to.
        PictureError: report.png could not be drawn; everything else is written.
    """
    job = prepare(file, mode, out, steps=steps, seconds=seconds, start=start, rate=rate, seed=seed, method=method)
    with claimed_folder(job.out):
        fitted = job.fit()
        result = write_match(job.out, fitted)
        draw_report(job.out, fitted)
    return result


def prepare(
    file: Path,
    mode: str,
    out: Path | None = None,
    *,
    steps: int | None = None,
    seconds: float = 2.0,
    start: float = 0.0,
    rate: int | None = None,
    seed: int = 0,
    method: Method | None = None,
) -> Job:
    """Check all arguments of :func:`match` and read the recording; this writes nothing."""
    settings = fit_settings(mode, steps, rate, method)
    check_excerpt(seconds, start)
    if not 0 <= seed < _MAX_SEED:
        raise ValueError(f"Invalid seed: {seed}; expected 0 to {_MAX_SEED - 1}")
    if out is not None:
        check_name(out, "--out")
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
    if isinstance(settings, TextureSettings):
        configuration["method"] = settings.method
    folder = default_folder(configuration) if out is None else out
    check_configuration(folder, configuration)
    check_not_overwritten(file, folder)
    return Job(configuration, recording, settings, folder)


def check_not_overwritten(file: Path, folder: Path) -> None:
    """Raise ValueError if the recording is a file that the match would write."""
    for path in (folder / "match.wav", folder / "target.wav"):
        if path.exists() and path.samefile(file):
            raise ValueError(
                f"Invalid --out: {shown(folder)}; expected another folder, as the match would overwrite the "
                f"recording {shown(path)}; name another folder"
            )


def fit_settings(
    mode: str, steps: int | None, rate: int | None, method: Method | None = None
) -> FitSettings | TextureSettings:
    """Return the settings of a mode, some of them replaced by the user's.

    Raises:
        ValueError: the mode or the method is unknown, or a setting is out of range.
    """
    if mode not in _MODES:
        raise ValueError(f"Invalid mode: {mode!r}; expected one of {', '.join(_MODES)}")
    default = with_method(_MODES[mode], method)
    changed = default._replace(
        steps=default.steps if steps is None else steps,
        sample_rate=default.sample_rate if rate is None else rate,
    )
    if not 1 <= changed.steps <= MAX_STEPS:
        raise ValueError(
            f"Invalid steps: {changed.steps}; expected 1 to {MAX_STEPS}; the default is {default.steps}"
        )
    if not 2 * MIN_SAMPLES <= changed.sample_rate <= MAX_RATE:
        raise ValueError(
            f"Invalid rate: {changed.sample_rate}; expected {2 * MIN_SAMPLES} to {MAX_RATE} Hz; the default is "
            f"{default.sample_rate}"
        )
    return changed


def with_method(default: FitSettings | TextureSettings, method: Method | None) -> FitSettings | TextureSettings:
    """Return the default settings of a mode with another method, and as many steps as it takes.

    Raises:
        ValueError: the method is unknown, or the mode has none to choose.
    """
    if method is None:
        return default
    if not isinstance(default, TextureSettings):
        raise ValueError(f"Invalid method: {method!r}; expected none, as grains are matched by paths")
    if method not in METHODS:
        raise ValueError(f"Invalid method: {method!r}; expected one of {', '.join(METHODS)}")
    return default._replace(method=method, steps=METHODS[method])


def default_folder(configuration: dict[str, Any]) -> Path:
    """Return a folder in runs/ for these settings alone, named by the file and a hash of all settings.

    >>> folder = default_folder({"file": "../My rain (1)...wav", "mode": "texture"})
    >>> folder.parent.name, folder.name.rpartition("-")[0]
    ('runs', 'My_rain_1-texture')
    """
    name = re.sub(r"\W+", "_", Path(configuration["file"]).stem).strip("_")[:_SLUG_LENGTH]
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()
    return Path("runs") / f"{name or 'recording'}-{configuration['mode']}-{digest[:8]}"


def fit_texture(
    configuration: dict[str, Any], recording: Recording, settings: TextureSettings, seed: int
) -> Match:
    """Fit a waveform."""
    target = make_target(recording, settings)
    started = time.perf_counter()
    start, sound, history = fit_waveform(target, recording.samples, settings, seed)
    seconds = time.perf_counter() - started
    figures = {
        "n_paths": target.jtfs.n_paths,
        "median_path_error_start": target.median_path_error(start[None, None]),
        "median_path_error_match": target.median_path_error(sound[None, None]),
        "seconds": seconds,
    }
    return Match(configuration, recording, start, sound, history, figures)


def fit_granular(configuration: dict[str, Any], recording: Recording, settings: FitSettings, seed: int) -> Match:
    """Fit density and slope of grains."""
    target, model = make_target(recording, settings), Grains(recording)
    seeds = eval_seeds(seed, settings)
    theta_start, start = model.theta.detach(), model(seeds).detach()
    started = time.perf_counter()
    history = descend(target, model, settings, seed)
    seconds = time.perf_counter() - started
    theta, sound = model.theta.detach(), model(seeds).detach()
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


def make_target(recording: Recording, settings: FitSettings | TextureSettings) -> Target:
    """Return the coefficients of a recording."""
    n = recording.samples.shape[-1]
    return Target(make_jtfs(n, recording.sample_rate, settings.invariant), recording.samples)


def resynthesize(argv: Sequence[str]) -> int:
    """Run the command resynthesize."""
    return command(argv, "texture")


def match_grains(argv: Sequence[str]) -> int:
    """Run the command match."""
    return command(argv, "granular")


def parse_arguments(argv: Sequence[str], mode: str) -> argparse.Namespace:
    """Return the options of the command line of a mode."""
    name, what = {
        "texture": ("resynthesize", "Resynthesise a recording as a texture from noise"),
        "granular": ("match", "Fit the density and slope of a granular synthesizer to a recording"),
    }[mode]
    default = _MODES[mode]
    parser = Parser(
        prog=f"scrapl-jtfs {name}",
        description=f"{what}, by gradient descent on paths of the JTFS. Ctrl-C keeps what there is.",
    )
    parser.add_argument("file", type=named_file, help="WAV, FLAC or another file that libsndfile knows")
    parser.add_argument(
        "--out", type=Path, help="folder for the result (default: one in runs/ for these settings)"
    )
    all_paths = f"; all paths with --method lbfgs (default: {METHODS['lbfgs']})" if mode == "texture" else ""
    parser.add_argument("--steps", type=int, help=f"one JTFS path each (default: {default.steps}){all_paths}")
    parser.add_argument("--seconds", type=float, default=2.0, help="length to match (default: 2)")
    parser.add_argument("--start", type=float, default=0.0, help="where in the recording, in seconds (default: 0)")
    parser.add_argument("--rate", type=int, help=f"working sample rate in Hz (default: {default.sample_rate})")
    parser.add_argument("--seed", type=int, default=0, help="of noise, grains and paths (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1; more rarely help)")
    if mode == "texture":
        parser.add_argument(
            "--method", choices=METHODS, help="paths (default), or lbfgs on all paths in each step"
        )
    return parser.parse_args(argv)


def summary(result: dict[str, Any]) -> str:
    """Return the errors and the parameters of a match as text for the terminal."""
    lines = [
        f"Relative JTFS error {result['error_start']:.3f} -> {result['error_match']:.3f} "
        f"in {result['steps_done']} steps, {result['seconds']:.0f} s"
    ]
    if "theta" in result:
        theta = result["theta"]
        lines.append(
            f"Density {theta['density']:.2f} = {theta['grains_per_second']:.1f} grains per second, "
            f"slope {theta['slope']:.2f} = {theta['octaves_per_second']:+.1f} octaves per second"
        )
    return "\n".join([*lines, *(f"Note: {doubt}" for doubt in result.get("doubts", []))])


def command(argv: Sequence[str], mode: str) -> int:
    """Run one of both commands; return 0, 1 if the picture failed, or 130 after ctrl-C."""
    a = parse_arguments(argv, mode)
    set_threads(a.threads)
    try:
        method = a.method if mode == "texture" else None
        job = prepare(
            a.file,
            mode,
            a.out,
            steps=a.steps,
            seconds=a.seconds,
            start=a.start,
            rate=a.rate,
            seed=a.seed,
            method=method,
        )
        with claimed_folder(job.out):
            return run(job)
    except KeyboardInterrupt:
        say("\nInterrupted before a match was written: there is nothing to keep.", sys.stderr)
        return 130


def run(job: Job) -> int:
    """Fit, write and print; return the exit code."""
    say(f"{shown(job.configuration['file'])}, {job.configuration['mode']}, {job.settings.steps} steps")
    for note in job.recording.notes:
        say(f"  {note}")
    fitted = job.fit()
    result = write_match(job.out, fitted)
    say(summary(result))
    out = shown(job.out)
    say(f"Listen to  {out}/target.wav and {out}/match.wav\nFigures    {out}/result.json")
    return draw(job.out, fitted)


def draw(out: Path, fitted: Match) -> int:
    """Draw the picture after everything else is on the disk; return the exit code."""
    code = 0
    try:
        draw_report(out, fitted)
        say(f"Look at    {shown(out / PICTURE)}")
    except PictureError as error:
        say(f"error: {error}; the match is whole in match.wav and result.json", sys.stderr)
        code = 1
    except KeyboardInterrupt:
        say(f"\nInterrupted while drawing {PICTURE}: the match is whole in match.wav and result.json.", sys.stderr)
        return 130
    if fitted.history.interrupted:
        say(f"Interrupted after {fitted.history.done} steps: this is what there was.", sys.stderr)
        return 130
    return code
