"""What one path of each family costs beside its full tree and beside kymatio's transform of the same coefficients.

`python -m benchmarks.families` (a few minutes) writes benchmarks/results/families.json and prints a table. Answers
are compared before anything is timed. Each round then takes every piece of work of every family once, in an order
of its own; ratios are those within a round. Times are the processor's, on one thread, which other processes delay
less than the clock's.

A further family is one more entry of :data:`FAMILIES`.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import AnswersDiffer, BenchmarkError, format_table
from scrapl_jtfs import ImageScattering, PathTransform, TimeScattering
from scrapl_jtfs.commands.command_line import say

# Of coefficients from kymatio's and of their gradients, relative to the largest of a path and of all, in float32.
_TOLERANCE, _GRADIENT_TOLERANCE = 1e-5, 1e-3
# Of single paths from those of the full tree.
_SINGLE_TOLERANCE = 1e-6
_KINDS = ("forward", "step")
# Paths whose mean stands for all, evenly spaced: taking each of them takes a minute a round.
_N_PATHS = 40

Peer = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Family:
    """A family of paths, and kymatio's transform with the same coefficients.

    Args:
        description: for people.
        batch: signals at once.
        transform: builds ours, in float32.
        peer: builds kymatio's, given ours: from signals to the coefficients of each path, in its order and shape.
    """

    description: str
    batch: int
    transform: Callable[[], PathTransform]
    peer: Callable[[Any], Peer]


def kymatio_along_time(ours: TimeScattering) -> Peer:
    """Build kymatio's Scattering1D, whose filters at stride 2**k regain the factor 2**k that 0.3.0 loses."""
    from kymatio.scattering1d.frontend.torch_frontend import ScatteringTorch1D

    build: Any = ScatteringTorch1D  # which says that Q is an int
    scattering = build(ours.geometry.J, ours.geometry.n_samples, ours.geometry.Q)
    for one in (scattering.phi_f, *scattering.psi1_f, *scattering.psi2_f):
        for k, response in enumerate(one["levels"]):
            response.mul_(2**k)
    if ours.by == "pair":
        return lambda x: scattering(x).unbind(1)
    places = {tuple(int(n) for n in key): place for place, key in enumerate(scattering.meta()["key"])}
    after = [() if path.n2 is None else (path.n2,) for path in ours.paths]
    rows = [
        torch.tensor([places[(n1, *n2)] for n1 in path.n1] or [0])
        for path, n2 in zip(ours.paths, after, strict=True)
    ]

    def by_second(x: Tensor) -> list[Tensor]:
        coefficients = scattering(x)
        return [coefficients.index_select(1, some) for some in rows]

    return by_second


def kymatio_of_images(ours: ImageScattering) -> Peer:
    """Build kymatio's Scattering2D, from a module that imports with any SciPy."""
    from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D

    g = ours.geometry
    scattering = ScatteringTorch2D(g.J, g.shape, g.L, g.max_order)
    return lambda x: scattering(x).unbind(1)


FAMILIES: dict[str, Family] = {
    "time, pairs of wavelets": Family(
        "TimeScattering(16384, J=10, Q=(8, 1)): a path is a pair of wavelets, (frames,)",
        4,
        lambda: TimeScattering(16384, 10, (8, 1)),
        kymatio_along_time,
    ),
    "time, second-order wavelets": Family(
        "TimeScattering(16384, J=10, Q=(8, 1), by='second'): a path is a wavelet n2 with all n1, (rows, frames)",
        4,
        lambda: TimeScattering(16384, 10, (8, 1), by="second"),
        kymatio_along_time,
    ),
    "images": Family(
        "ImageScattering((64, 64), J=3): a path is one wavelet or two, (frames down, frames across)",
        4,
        lambda: ImageScattering((64, 64), 3),
        kymatio_of_images,
    ),
}
# The same, small.
QUICK: dict[str, Family] = {
    "time, pairs of wavelets": Family(
        "TimeScattering(1024, J=6, Q=(4, 1))", 2, lambda: TimeScattering(1024, 6, (4, 1)), kymatio_along_time
    ),
    "time, second-order wavelets": Family(
        "TimeScattering(1024, J=6, Q=(4, 1), by='second')",
        2,
        lambda: TimeScattering(1024, 6, (4, 1), by="second"),
        kymatio_along_time,
    ),
    "images": Family(
        "ImageScattering((16, 16), J=2, L=4)", 2, lambda: ImageScattering((16, 16), 2, 4), kymatio_of_images
    ),
}


class Contest:
    """The work of one family: paths one by one, the full tree, and kymatio's.

    Args:
        family: what is compared.
    """

    def __init__(self, family: Family) -> None:
        self.transform = family.transform()
        self.peer = family.peer(self.transform)
        shape = (family.batch, *self.transform.signal_shape)
        self.x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        n = self.transform.n_paths
        self.paths = sorted({round(p) for p in np.linspace(0, n - 1, min(n, _N_PATHS)).tolist()})

    def work(self) -> dict[str, Callable[[], Sequence[Tensor]]]:
        """From the name of a contender to the coefficients that it computes; "path 3" is one path."""
        paths = {f"path {p}": lambda p=p: [self.transform(self.x, p)] for p in self.paths}
        return {**paths, "full": lambda: self.transform.full(self.x), "kymatio": lambda: self.peer(self.x)}

    def check(self) -> dict[str, float]:
        """Compare the answers of all; returns the largest differences.

        Raises:
            AnswersDiffer: one is more than rounding explains.
        """
        ours, expected = self.transform.full(self.x), self.peer(self.x)
        # Along one random direction of coefficients for all.
        weights = [torch.randn(phi.shape, generator=torch.Generator().manual_seed(1)) for phi in ours]
        gradients = []
        for outputs in (ours, expected):
            terms = [(weight * phi).sum() for weight, phi in zip(weights, outputs, strict=True)]
            gradients.append(torch.autograd.grad(torch.stack(terms).sum(), self.x)[0])
        found = {
            "coefficients, full from kymatio": max(map(_difference, ours, expected)),
            "gradient, full from kymatio": _difference(*gradients),
            "coefficients, path from full": max(
                _difference(self.transform(self.x, p), ours[p]) for p in self.paths
            ),
        }
        limits = (_TOLERANCE, _GRADIENT_TOLERANCE, _SINGLE_TOLERANCE)
        for (name, value), limit in zip(found.items(), limits, strict=True):
            if not value <= limit:
                raise AnswersDiffer(f"{name}: a relative difference of {value:.2g}, more than {limit:g}")
        return found

    def seconds(self, name: str, kind: str) -> float:
        """Time a contender: "forward" without a graph, "step" with the gradient of the energy."""
        compute = self.work()[name]

        def forward() -> None:
            with torch.no_grad():
                compute()

        def step() -> None:
            torch.autograd.grad(torch.stack([phi.square().sum() for phi in compute()]).sum(), self.x)

        run = forward if kind == "forward" else step
        started = time.process_time()
        run()
        return time.process_time() - started


def _difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference over the largest expected magnitude."""
    return float(((a - b).abs().max() / b.abs().max()).detach())


def measure(families: dict[str, Family], rounds: int) -> dict[str, Any]:
    """Check all, then time all in every round; returns what is in the result file."""
    contests, results = {}, {}
    for name, family in families.items():
        try:
            contest = Contest(family)
        except ImportError as error:
            raise BenchmarkError(
                f"{name} has nothing to be compared with ({error}); pip install kymatio"
            ) from error
        contests[name] = contest
        results[name] = {
            "description": family.description,
            "batch": family.batch,
            "paths": contest.transform.n_paths,
            "timed_paths": len(contest.paths),
            "differences": contest.check(),
        }
        say(f"{name}: answers agree", sys.stderr)
    jobs = [(name, one, kind) for name, contest in contests.items() for one in contest.work() for kind in _KINDS]
    for name, one, kind in jobs:  # to warm up
        contests[name].seconds(one, kind)
    order = random.Random(0)
    timings: list[dict[tuple[str, str, str], float]] = []
    for _ in range(rounds):
        order.shuffle(jobs)
        timings.append({job: contests[job[0]].seconds(job[1], job[2]) for job in jobs})
        say(f"round {len(timings)} of {rounds}", sys.stderr)
    for name, contest in contests.items():
        results[name]["milliseconds"] = _milliseconds(name, contest, timings)
        results[name]["ratios"] = _ratios(results[name]["milliseconds"])
    return results


def _milliseconds(
    name: str, contest: Contest, timings: Sequence[dict[tuple[str, str, str], float]]
) -> dict[str, dict[str, list[float]]]:
    """Return, by kind and contender, the time of each round; that of "path" is the mean over paths."""
    found: dict[str, dict[str, list[float]]] = {}
    for kind in _KINDS:
        of = {one: [1e3 * timing[name, one, kind] for timing in timings] for one in contest.work()}
        singles = np.array([of.pop(f"path {p}") for p in contest.paths])
        found[kind] = {
            one: [round(value, 4) for value in values]
            for one, values in {"path": singles.mean(0).tolist(), **of}.items()
        }
    return found


def _ratios(milliseconds: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Return medians over rounds of the ratios within each."""
    pairs = [("full", "path"), ("kymatio", "path"), ("kymatio", "full")]
    return {
        kind: {
            f"{above} / {below}": round(median(a / b for a, b in zip(of[above], of[below], strict=True)), 2)
            for above, below in pairs
        }
        for kind, of in milliseconds.items()
    }


def table(results: dict[str, Any]) -> str:
    """For the terminal."""
    rows = [["", "path, ms", "full, ms", "kymatio, ms", "full / path", "kymatio / path", "kymatio / full"]]
    for name, family in results["families"].items():
        for kind in _KINDS:
            times = [f"{median(family['milliseconds'][kind][one]):.3g}" for one in ("path", "full", "kymatio")]
            rows.append([f"{name}, {kind}", *times, *(f"{r:.1f}" for r in family["ratios"][kind].values())])
    return format_table(rows)


def page_rows(results: dict[str, Any]) -> list[str]:
    """Return the rows of the table on the page of benchmarks."""
    rows: list[str] = []
    for name, family in results["families"].items():
        for kind in _KINDS:
            ratios = " | ".join(f"{ratio:.1f}" for ratio in family["ratios"][kind].values())
            rows.append(f"| {name} | {family['paths']} | {kind} | {ratios} |")
    return rows


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="in which each piece of work is timed (default: 7)")


def results_of(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and say when and where."""
    if options.rounds < 1:
        raise ValueError(f"Invalid --rounds: {options.rounds}; expected 1 or more")
    load = os.getloadavg()[0]
    unit = (
        "milliseconds of processor time, one thread, a number for each round; those of a path are the mean over "
        "timed_paths of them. Ratios are medians over rounds of the ratio within each. Differences are relative "
        "to the largest magnitude, in float32"
    )
    note = (
        "the work of a round is interleaved in random order, while other processes kept the machine busy. kymatio "
        "is release 0.3.0, in whose Scattering1D filters at stride 2**k have regained the factor 2**k"
    )
    families = measure(QUICK if options.quick else FAMILIES, options.rounds)
    return {
        "unit": unit,
        "note": note,
        "load_average_before": round(load, 2),
        "rounds": options.rounds,
        **provenance(("torch", "numpy", "scrapl-jtfs", "kymatio")),
        "families": families,
    }


main = Program(
    "benchmarks.families",
    "Time one path of each family beside its full tree and beside kymatio.",
    results_of,
    table,
    quick="small transforms, in a few seconds",
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
