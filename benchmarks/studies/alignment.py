"""Does a measurement before training rank losses as training does? Alignments of losses beside trained errors.

`python -m benchmarks.studies.alignment` measures, on the synthesizers that the other benchmarks train for, how far
gradients of each loss lead controls to the truth (`scrapl_jtfs.measure_alignment`), and sets the scores beside the
errors of all runs there are results of. It takes a quarter of an hour on a core; nothing is trained.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from auraloss.freq import MultiResolutionSTFTLoss
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata

import scrapl_jtfs
import scrapl_optim
from benchmarks.harness.files import COMMITTED, read_json
from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import format_table
from benchmarks.harness.style import add_title, finish, looks, new_figure, shared_legend
from benchmarks.sound_matching.data import build_synth
from benchmarks.sound_matching.presets import PRESETS, Preset
from benchmarks.studies.adaptive.problems import PROBLEMS
from benchmarks.studies.does_it_help.pi import FOLDER
from benchmarks.studies.does_it_help.problems import VARIANTS
from scrapl_jtfs import JTFSPathLoss
from scrapl_optim import Alignment, aligned_probs

_SCALED = [name for name in PRESETS if name.startswith("scaled")]
MEASURED: dict[str, Preset] = {
    "small": PRESETS["small"],
    "small-chirplet": PROBLEMS["chirplet"],
    **{name: PRESETS[name] for name in _SCALED},
    **VARIANTS,
}
_PAIRS, _SEED = 48, 0


class Loss(NamedTuple):
    """A loss, and how its paths are summed.

    Attributes:
        measured: which slopes: of the "norm" or the "square" of a path, of "two renderings", or of "mss".
        equal_votes: whether paths have equal votes, as in P-Adam, or are summed as they are.
        by_pi: whether equal votes are then weighed by theta-importance, as in a memory weighed by pi.
    """

    measured: str
    equal_votes: bool = True
    by_pi: bool = False


LOSSES = {
    "path": Loss("norm"),
    "path, squared": Loss("square"),
    "path, two renderings": Loss("two renderings"),
    "full tree": Loss("norm", equal_votes=False),
    "full tree, squared": Loss("square", equal_votes=False),
    "path, votes by pi": Loss("norm", by_pi=True),
    "mss": Loss("mss"),
}
# Losses of the arms of the study "does it help?".
_ARMS = {
    "scrapl": "path",
    "squared": "path, squared",
    "two renderings": "path, two renderings",
    "adam": "full tree",
    "full tree": "full tree",
    "mss": "mss",
    "theta-is, memory and clocks by pi": "path, votes by pi",
}


def slopes(preset: Preset, kind: str, n_pairs: int) -> Alignment:
    """Measure a kind of slopes on a problem, on the same pairs and sounds for all kinds."""
    theta, theta_hat = torch.rand(2, n_pairs, 2, generator=torch.Generator().manual_seed(_SEED))
    synth = build_synth(preset)
    if kind == "mss":
        sizes = list(preset.fft_sizes)
        distance = MultiResolutionSTFTLoss(
            sizes, [size // 4 for size in sizes], sizes, w_sc=0.0, w_log_mag=1.0, w_lin_mag=1.0
        )
        return scrapl_optim.measure_alignment(
            synth, lambda x, y, _: distance(x[:, None], y[:, None]), theta, theta_hat, 1, batch_size=1, seed=_SEED
        )
    loss_fn = JTFSPathLoss(preset.transform(), squared=kind != "norm", path_scale=False)
    renderings = 2 if kind == "two renderings" else 1
    return scrapl_jtfs.measure_alignment(synth, loss_fn, theta, theta_hat, renderings=renderings, seed=_SEED)


def scores(alignment: Alignment, equal_votes: bool, probs: Any = None) -> dict[str, list[Any]]:
    """Return both scores of each control, with the interval of the first."""
    return {
        "correlation": alignment.correlation(probs, equal_votes=equal_votes).tolist(),
        "interval": alignment.interval(probs, equal_votes=equal_votes).tolist(),
        "heard": alignment.heard(probs, equal_votes=equal_votes).tolist(),
    }


def measure_problem(preset: Preset, n_pairs: int, pi: Path) -> dict[str, Any]:
    """Measure all losses on a problem, and search a distribution over its paths.

    Args:
        preset: of the problem.
        n_pairs: of controls.
        pi: file of the problem's theta-importance; where it is missing, its votes are not measured.
    """
    kinds, seconds = {}, {}
    for kind in dict.fromkeys(loss.measured for loss in LOSSES.values()):
        start = time.perf_counter()
        kinds[kind] = slopes(preset, kind, n_pairs)
        seconds[kind] = time.perf_counter() - start
    best = aligned_probs(kinds["norm"], seed=_SEED)
    probs = read_json(pi)["pi"] if pi.exists() else None
    return {
        "controls": list(preset.controls),
        "paths": kinds["norm"].n_paths,
        "seconds": seconds,
        "losses": {
            name: scores(kinds[loss.measured], loss.equal_votes, probs if loss.by_pi else None)
            for name, loss in LOSSES.items()
            if probs is not None or not loss.by_pi
        },
        "of_paths": kinds["norm"].of_paths().tolist(),
        "aligned": {
            "pi": best.probs.tolist(),
            "paths": best.n_paths,
            "held_out": float(best.held_out[:, best.n_paths - 1].mean()),
            "held_out_uniform": float(best.held_out[:, -1].mean()),
            **scores(kinds["norm"], True, best.probs),
        },
    }


class Trained(NamedTuple):
    """A cell that was trained with uniform draws.

    Attributes:
        problem: its name.
        loss: the loss.
        errors: mean error of each control over seeds, per mille.
        source: the result file.
    """

    problem: str
    loss: str
    errors: list[float]
    source: str


def trained_cells() -> Iterator[Trained]:
    """Yield what the committed results have of losses that are measured here, with the default draws."""
    seeds = read_json(COMMITTED / "sound_matching_small_seeds.json")["runs"]
    for name, loss in (("scrapl", "path, squared"), ("mss", "mss")):
        tests = [run["test"][name] for run in seeds]
        errors = [statistics.mean(test[control] for test in tests) for control in ("density", "slope")]
        yield Trained("small", loss, errors, "sound_matching_small_seeds")
    chirplet = read_json(COMMITTED / "adaptive.json")["synths"]["chirplet"]
    test = chirplet["arms"]["uniform"]["test"]
    yield Trained("small-chirplet", "path, squared", [test[c]["mean"] for c in chirplet["controls"]], "adaptive")
    study = COMMITTED / "does_it_help.json"
    if study.exists():
        for problem, content in read_json(study)["problems"].items():
            name = problem.removesuffix("-short")
            for arm, summary in content["arms"].items():
                if arm in _ARMS and (problem == name or _ARMS[arm] == "full tree"):
                    errors = [summary["test"][control]["mean"] for control in content["controls"]]
                    yield Trained(name, _ARMS[arm], errors, "does_it_help")


def ranking(problems: dict[str, Any], cells: Sequence[Trained]) -> dict[str, Any]:
    """Return rank correlations of scores and negative errors, over controls of cells and over worst controls."""
    result: dict[str, Any] = {"cells": len(cells)}
    errors = np.array([cell.errors for cell in cells])
    for score in ("correlation", "heard"):
        predicted = np.array([problems[cell.problem]["losses"][cell.loss][score] for cell in cells])
        result[score] = {
            "controls": _rank_correlation(predicted.ravel(), -errors.ravel()),
            "worst control": _rank_correlation(predicted.min(1), -errors.max(1)),
        }
    return result


def choices(problems: dict[str, Any], cells: Sequence[Trained]) -> dict[str, int]:
    """Count how often the one of two losses on a problem that correlates more with a control ends lower on it."""
    right = wrong = 0
    for a, b in combinations(cells, 2):
        if a.problem == b.problem and a.loss != b.loss:
            of_a, of_b = (problems[cell.problem]["losses"][cell.loss]["correlation"] for cell in (a, b))
            signs = (np.array(of_a) - of_b) * (np.array(b.errors) - a.errors)
            right, wrong = right + int((signs > 0).sum()), wrong + int((signs < 0).sum())
    return {"right": right, "wrong": wrong}


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every problem, and rank the cells that were trained."""
    names = ["small"] if options.quick else list(MEASURED)
    n_pairs = 12 if options.quick else _PAIRS
    problems: dict[str, Any] = {}
    for name in names:
        problems[name] = measure_problem(MEASURED[name], n_pairs, options.pi / name / "theta.json")
        print(f"{name}: {sum(problems[name]['seconds'].values()):.0f} s", file=sys.stderr, flush=True)
    cells = [cell for cell in trained_cells() if cell.loss in problems.get(cell.problem, {"losses": ()})["losses"]]
    return {
        "quick": options.quick,
        "pairs": n_pairs,
        **provenance(),
        "problems": problems,
        "trained": [cell._asdict() for cell in cells],
        "ranking": ranking(problems, cells),
        "choices": choices(problems, cells),
    }


def table(results: dict[str, Any]) -> str:
    """Format a line for each problem and loss, with errors where it was trained."""
    trained = {(cell["problem"], cell["loss"]): cell["errors"] for cell in results["trained"]}
    rows = [["problem, loss", "correlation", "heard", "trained"]]
    for problem, content in results["problems"].items():
        for name, values in [*content["losses"].items(), ("aligned pi", content["aligned"])]:
            errors = trained.get((problem, name))
            rows.append([
                f"{problem}, {name}",
                *("  ".join(f"{v:5.2f}" for v in values[score]) for score in ("correlation", "heard")),
                "" if errors is None else "  ".join(f"{e:3.0f}" for e in errors),
            ])  # fmt: skip
    ranks = results["ranking"]
    lines = [
        f"{score}: rank correlation {ranks[score]['controls']:.2f} over controls, "
        f"{ranks[score]['worst control']:.2f} over worst controls of {ranks['cells']} cells"
        for score in ("correlation", "heard")
    ]
    told = results["choices"]
    lines.append(
        f"of two losses on a problem, that of the higher correlation with a control has the lower error "
        f"{told['right']} times of {told['right'] + told['wrong']}"
    )
    return "\n".join([format_table(rows), "", *lines])


def draw(results: dict[str, Any]) -> Figure:
    """Draw errors of each control over both scores."""
    figure = new_figure(4.2)
    styles = looks(LOSSES)
    panels = figure.subplots(1, 2, sharey=True)
    for ax, score in zip(panels, ("correlation", "heard"), strict=True):
        for cell in results["trained"]:
            values = results["problems"][cell["problem"]]["losses"][cell["loss"]][score]
            ax.plot(values, cell["errors"], **styles[cell["loss"]].line(ls="", label=None))
        for name in dict.fromkeys(cell["loss"] for cell in results["trained"]):
            ax.plot([], [], **styles[name].line(ls=""))
        ax.axhline(250, color="0.6", ls="--", lw=1)
        ax.set(xlabel=f"{score} of a control")
        finish(ax, f"rank correlation: {results['ranking'][score]['controls']:.2f}")
    panels[0].set_ylabel("error after training (per mille)")
    shared_legend(figure, panels[:1], columns=3)
    add_title(figure, "Scores before training, errors after it", results)
    return figure


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pi", type=Path, default=FOLDER, help="folder of distributions (default: %(default)s)")


main = Program(
    "benchmarks.studies.alignment",
    "Measure losses before training, and rank them beside the errors of training.",
    measure,
    table,
    draw,
    quick="one problem with a few pairs: to see that it works",
    add_options=_add_options,
)

if __name__ == "__main__":
    sys.exit(main())
