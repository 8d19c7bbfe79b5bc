"""All cases together: how far distributions are from the authors' and from each other, and tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness.records import format_table
from benchmarks.sound_matching.presets import PRESETS, Preset
from benchmarks.studies.released_pi.compare import (
    coarse_map,
    compare,
    read_released,
    restricted,
    shares,
    summary,
    total_variation,
)
from benchmarks.studies.released_pi.distances import spin_partners
from scrapl_jtfs.paths import Path as TransformPath

Record = dict[str, Any]


class Problem(NamedTuple):
    """What cases of one preset have in common.

    Attributes:
        paths: of its transform.
        released: the authors' pi on these paths, None where it is not at hand.
        covered: the share of their mass that is on these paths.
    """

    paths: Sequence[TransformPath]
    released: np.ndarray | None
    covered: float


def summarize(
    records: Sequence[Record], released: Path | None, presets: dict[str, Preset] = PRESETS
) -> dict[str, Any]:
    """Return the cases with what there is to say of each, pairs of cases of one problem, and the authors' maps.

    Args:
        records: of the cases.
        released: folder of the authors' distributions; None compares with none.
        presets: what the names of presets stand for.
    """
    names = dict.fromkeys(record["case"]["preset"] for record in records)
    problems = {name: _problem(name, presets, released) for name in names}
    return {
        "cases": [_case(record, problems[record["case"]["preset"]]) for record in records],
        "pairs": [_pair(a, b) for a, b in combinations(records, 2) if a["case"]["preset"] == b["case"]["preset"]],
        "released": {
            name: _of_released(problem.released, problem)
            for name, problem in problems.items()
            if problem.released is not None
        },
    }


def _problem(name: str, presets: dict[str, Preset], released: Path | None) -> Problem:
    preset = presets[name]
    paths = preset.transform().paths
    if released is None:
        return Problem(paths, None, 0.0)
    pi = read_released(released, name)
    if len(pi) == len(paths):
        return Problem(paths, pi, 1.0)
    paper = presets[name.replace("scaled", "paper")]
    pi = restricted(pi, paper.transform().paths, paths, paper.n_samples / preset.n_samples)
    return Problem(paths, pi / pi.sum(), round(float(pi.sum()), 4))


def _case(record: Record, problem: Problem) -> Record:
    """Return a case with summaries of its distributions, and their distances."""
    exact = record["pi"]["norm"].get("eigenvalue", record["pi"]["norm"]["mean slope"])
    distributions: dict[str, dict[str, Any]] = {}
    for loss, by_number in record["pi"].items():
        distributions[loss] = {}
        for number, values in by_number.items():
            pi = np.array(values)
            about: dict[str, Any] = summary(pi, problem.paths)
            about["from_the_norms_eigenvalues"] = round(total_variation(pi, np.array(exact)), 4)
            halves = record["halves"][loss].get(number)
            if halves:
                about["halves_apart"] = round(total_variation(*np.array(halves)), 4)
            if problem.released is not None:
                about["beside_released"] = compare(pi, problem.released)
            distributions[loss][number] = about
    kept = {
        key: record[key] for key in ("case", "n_paths", "controls", "slope_over_rms", "seconds", "hash", "date")
    }
    best = np.array(exact)
    return {
        **kept,
        "residuals": record.get("residuals"),
        "distributions": distributions,
        "by_rate": shares(best, problem.paths, lambda path: path.rate),
        "map": coarse_map(best, problem.paths),
        "pi": exact,
    }


def _pair(a: Record, b: Record) -> Record:
    """Return how far apart two cases of one problem are, by the numbers that both have."""
    apart = {
        loss: {number: compare(np.array(values), np.array(b["pi"][loss][number]))
               for number, values in by_number.items() if number in b["pi"][loss]}
        for loss, by_number in a["pi"].items()
    }  # fmt: skip
    return {"cases": [a["case"]["name"], b["case"]["name"]], "apart": apart}


def _of_released(pi: np.ndarray, problem: Problem) -> Record:
    """Return figures that follow from the authors' pi; the numbers themselves stay where they are."""
    return {
        "covered": problem.covered,
        **summary(pi, problem.paths),
        "from_its_mirror_in_spin": round(total_variation(pi, pi[spin_partners(problem.paths)]), 4),
        "by_rate": shares(pi, problem.paths, lambda path: path.rate),
        "map": coarse_map(pi, problem.paths),
    }


def table(results: dict[str, Any]) -> str:
    """Format a line for each distribution of each case, then the pairs."""
    rows = [["case", "loss", "pi from", "eff. paths", "1/sum pi^2", "rising", "halves", "eigenvalues", "released"]]
    for case in results["cases"]:
        for loss, by_number in case["distributions"].items():
            for number, about in by_number.items():
                rows.append([case["case"]["name"], loss, number, *_cells(about)])
    pairs = [["pair", "pi from", "total variation", "Spearman"]]
    for pair in results["pairs"]:
        for number, apart in pair["apart"]["norm"].items():
            cells = [f"{apart['total_variation']:.2f}", f"{apart['spearman']:.2f}"]
            pairs.append([" | ".join(pair["cases"]), number, *cells])
    about = (
        "halves, eigenvalues, released: total variation to the other half, to the norm's eigenvalues, to theirs"
    )
    return f"{format_table(rows)}\n{about}\n\n{format_table(pairs)}"


def _cells(about: dict[str, Any]) -> list[str]:
    halves, released = about.get("halves_apart"), about.get("beside_released")
    return [
        f"{about['exp_entropy']:.0f}",
        f"{about['one_over_sum_of_squares']:.0f}",
        f"{about['rising']:.2f}",
        "-" if halves is None else f"{halves:.2f}",
        f"{about['from_the_norms_eigenvalues']:.2f}",
        "-" if released is None else f"{released['total_variation']:.2f}",
    ]
