"""python -m benchmarks.studies.accuracy.boundary [--quick] [--out FOLDER]: the ends of signals.

Each sound is the middle half of a longer one, so that it is known how it goes on. Scale bars tell what a distance
from kymatio's coefficients means: those of the sound in other surroundings, or cut one sample earlier.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.studies.accuracy.measures import PAPER, Answer, Settings, compare, path_ids
from benchmarks.studies.accuracy.plots import draw_boundary
from benchmarks.studies.accuracy.signals import LONG_SOUNDS, Makers, Pair
from benchmarks.studies.accuracy.tables import boundary_table
from scrapl_jtfs import JTFSPath

KYMATIO, GOING_ON = "kymatio", "going on"
_QUICK = Settings(8192, 10, 1024)
# Bytes of a layer: enough to compute none again for the gradient of each path.
_MEMORY = 2**30

Record = dict[str, Any]
Coefficients = Callable[[Tensor, Sequence[int]], list[Tensor]]
"""From a long sound (2 N), of which the middle half is transformed, and path ids to (rows, frames) of each."""


def middle(z: Tensor) -> Tensor:
    """Return the middle half of the last axis."""
    quarter = z.shape[-1] // 4
    return z[..., quarter:-quarter]


def ends_repeated(z: Tensor) -> Tensor:
    """Surround the middle half as the even continuation does: by itself backwards, its last samples repeated."""
    first, second = middle(z).chunk(2, dim=-1)
    return torch.cat([first.flip(-1), first, second, second.flip(-1)], dim=-1)


def zeros(z: Tensor) -> Tensor:
    """Surround the middle half with silence."""
    quarter = z.shape[-1] // 4
    return pad(middle(z), (quarter, quarter))


def one_sample_earlier(z: Tensor) -> Tensor:
    """Return as many samples as the middle half has, from one sample before it on."""
    return middle(z.roll(1, -1))


def transforms(settings: Settings) -> dict[str, Coefficients]:
    """Return kymatio's transform, ours with other ends or rates, and, where T is local, other surroundings."""
    build = partial(settings.build, memory=_MEMORY)
    exact = build()
    options: dict[str, dict[str, Any]] = {
        "even": {"boundary": "even"},
        "2": {"samples_per_bandwidth": 2.0},
        "3": {"samples_per_bandwidth": 3.0},
        "even, 2": {"boundary": "even", "samples_per_bandwidth": 2.0},
    }
    ours = {name: build(**option) for name, option in options.items()}

    def of_middle(jtfs: JTFSPath, z: Tensor, paths: Sequence[int]) -> list[Tensor]:
        return jtfs.select(middle(z), paths)

    found: dict[str, Coefficients] = {
        KYMATIO: partial(of_middle, exact),
        **{name: partial(of_middle, jtfs) for name, jtfs in ours.items()},
        "one sample earlier": lambda z, paths: exact.select(one_sample_earlier(z), paths),
    }
    return found if settings.T == "global" else {**found, **_surrounded(settings)}


def _surrounded(settings: Settings) -> dict[str, Coefficients]:
    """Return kymatio's transform of other surroundings: the middle frames of that of twice the length."""
    long = replace(settings, n_samples=2 * settings.n_samples).build(memory=_MEMORY)

    def surrounded(change: Callable[[Tensor], Tensor], z: Tensor, paths: Sequence[int]) -> list[Tensor]:
        return [middle(u) for u in long.select(change(z), paths)]

    return {
        "ends repeated": partial(surrounded, ends_repeated),
        "zeros": partial(surrounded, zeros),
        GOING_ON: partial(surrounded, lambda z: z),
    }


def long_answers(coefficients: Coefficients, pair: Pair, paths: Sequence[int]) -> list[Answer]:
    """Evaluate paths of a pair of long sounds; gradients are with respect to the middle half of the first."""
    x, y = pair
    x = x.detach().requires_grad_()
    with torch.no_grad():
        targets = coefficients(y, paths)
    found = []
    for ours, target in zip(coefficients(x, paths), targets, strict=True):
        value = (ours - target).square().sum()
        (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
        found.append(Answer(ours.detach(), value.item(), middle(gradient)))
    return found


def frame_distances(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """Return the distance at each frame in units of a path's root mean square frame: median over paths."""
    each = [
        (a - b).square().sum(-2).sqrt() / b.square().sum(-2).mean().sqrt()
        for a, b in zip(found, expected, strict=True)
    ]
    return torch.stack(each).quantile(0.5, dim=0).tolist()


def share_at_the_ends(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float | None:
    """Return the share of the squared distance in the first and last quarter of time: median over paths.

    None where there are fewer than four frames, or no path differs.
    """
    if found[0].shape[-1] < 4:
        return None
    squares = [(a - b).square() for a, b in zip(found, expected, strict=True)]
    shares = [1.0 - (middle(d).sum() / d.sum()).item() for d in squares if d.any()]
    return statistics.median(shares) if shares else None


def _record(keys: Record, found: Sequence[Answer], expected: Sequence[Answer]) -> Record:
    distances = {what: asdict(errors) for what, errors in compare(found, expected).items()}
    coefficients = [a.coefficients for a in found], [a.coefficients for a in expected]
    gradients = [a.gradient for a in found], [a.gradient for a in expected]
    return {
        **keys,
        **distances,
        "frames": frame_distances(*coefficients),
        "at_the_ends": {
            "coefficients": share_at_the_ends(*coefficients),
            "gradient": share_at_the_ends(*gradients),
        },
    }


def study_boundary(settings: Settings, sounds: Makers = LONG_SOUNDS, every: int = 1) -> Iterator[Record]:
    """Distances from kymatio's transform of a sound, and from its transform of the sound as it goes on.

    Records carry `sound`, `T`, `against` ("kymatio" or "going on") and `variant`, and the errors of
    "coefficients", "gradient" and "value" (of the loss), the distance at each of the `frames`, and the share
    `at_the_ends`. The variant "even, no spin" has the paths with n_fr = 0 alone.
    """
    exact = settings.build()
    paths = path_ids(exact)[::every]
    contenders = transforms(settings)
    spinless = [i for i, path in enumerate(paths) if exact.paths[path].n_fr == 0]
    for sound, make in sounds.items():
        x, y = (z / middle(z).square().mean().sqrt() for z in make(settings.n_samples))
        keys = {"sound": sound, "T": settings.T, "against": KYMATIO}
        answers = {name: long_answers(contender, (x, y), paths) for name, contender in contenders.items()}
        kymatio = answers[KYMATIO]
        for name, found in answers.items():
            if name != KYMATIO:
                yield _record({**keys, "variant": name}, found, kymatio)
        some = ([found[i] for i in spinless] for found in (answers["even"], kymatio))
        yield _record({**keys, "variant": "even, no spin"}, *some)
        if GOING_ON in answers:
            for name in (KYMATIO, "even"):
                yield _record({**keys, "against": GOING_ON, "variant": name}, answers[name], answers[GOING_ON])


def measure(is_quick: bool) -> Record:
    """Study local averages and means over the signal."""
    settings = _QUICK if is_quick else PAPER
    studies = (study_boundary(replace(settings, T=T), every=5 if is_quick else 1) for T in (settings.T, "global"))
    return {"boundary": [record for study in studies for record in study]}


main = Program(
    "benchmarks.studies.accuracy.boundary",
    "Measure how far the even boundary is from kymatio's, and what other surroundings of a sound change.",
    lambda options: {"quick": options.quick, **provenance(("torch", "numpy")), **measure(options.quick)},
    lambda results: boundary_table(results["boundary"]),
    draw_boundary,
    quick="a small selection, under thirty seconds",
)

if __name__ == "__main__":
    sys.exit(main())
