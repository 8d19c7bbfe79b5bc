"""The ratios that the package was written for, each with what is wanted and what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.harness.records import Metric, Records, exponent, n_log_n, quotient
from benchmarks.speed.answers import worst
from benchmarks.speed.contenders import LITERAL, OURS

_PEER, _MSS, _KYMATIO, _FINE = "scrapl-loss", "mss", "kymatio", "compact-3"


def all_ratios(results: dict[str, Any]) -> list[Metric]:
    """Every ratio of a result file, measured or not."""
    timings, memory = Records(results["timings"]), Records(results["memory"])
    paper = {"n_samples": results["configuration"]["n_samples"], "batch": 4, "threads": 1}
    parts: list[Callable[[], Iterator[Metric]]] = [
        lambda: _construction(timings.where(section="construction")),
        lambda: _against_peer(timings.where(section="paths", **paper)),
        lambda: _within(timings.where(section="paths", kind="step", **paper)),
        lambda: _bundles(timings.where(section="bundles", **paper)),
        lambda: _tree(timings.where(section="tree"), memory.where(kind="tree")),
        lambda: _products(timings.where(section="hvp", **paper)),
        lambda: _memory(memory.where(kind="step")),
        lambda: _accuracy(results["answers"]),
        lambda: _calls(Records(results.get("dispatches", []))),
        lambda: _sizes(timings.where(section="sizes", kind="step")),
        lambda: _threads(timings),
    ]
    ratios = [ratio for part in parts for ratio in part()]
    # The finer compact transform takes part in some sections only.
    return [ratio for ratio in ratios if ratio.measured is not None or _FINE not in ratio.name]


def _shared(a: Records, b: Records) -> list[tuple[float, float]]:
    """Values of the paths that both have."""
    first, second = a.values("path"), b.values("path")
    return [(first[path], second[path]) for path in first if path in second]


def _construction(timings: Records) -> Iterator[Metric]:
    for n_samples in timings.values("n_samples"):
        mine = timings.where(n_samples=n_samples)
        for name in OURS:
            for peer in (_KYMATIO, _PEER):
                seconds = [mine.where(contender=c).mean("contender") for c in (peer, name)]
                yield Metric(f"construction, {peer} / {name}: {n_samples} samples", quotient(*seconds), ">=", 5.0)


def _against_peer(timings: Records) -> Iterator[Metric]:
    wanted: dict[str, tuple[float, float | None]] = {
        "exact": (9.0, 5.5),
        "compact": (20.0, 13.0),
        "compact-3": (20.0, 13.0),
        "even": (13.0, None),
        "even-compact": (28.0, None),
    }
    for name in OURS:
        mean, median = wanted[name]
        for kind in ("step", "forward"):
            records = timings.where(kind=kind)
            pairs = np.array(_shared(records.where(contender=_PEER), records.where(contender=name))).reshape(-1, 2)
            peer, ours = pairs.T
            values: list[float | None] = [None] * 3
            if len(pairs):
                values = [
                    float(peer.mean() / ours.mean()),
                    float(np.median(peer) / np.median(ours)),
                    float(np.median(peer / ours)),
                ]
            bounds = (mean, median, median) if kind == "step" else (None, None, None)
            what = ("ratio of means", "ratio of medians", "median of ratios")
            for text, bound, value in zip(what, bounds, values, strict=True):
                yield Metric(f"{kind}, {_PEER} / {name}, over paths: {text}", value, ">=", bound)


def _within(steps: Records) -> Iterator[Metric]:
    mss = steps.where(contender=_MSS).mean()
    bounds = {"exact": 1.1, "compact": 1.1, "compact-3": 1.1, "even": 0.75, "even-compact": 0.35}
    for name in (*OURS, _PEER):
        mine = steps.where(contender=name)
        cost = quotient(mine.mean(), mss)
        yield Metric(f"step, {name} / {_MSS}: mean over paths", cost, "<=", bounds.get(name))
    for name in (*OURS, _PEER):
        costs = list(steps.where(contender=name).values("path").values())
        costliest = max(costs) / float(np.mean(costs)) if costs else None
        bound = None if name == _PEER else 2.0
        yield Metric(f"step, {name}: costliest path / mean over paths", costliest, "<=", bound)


def _bundles(timings: Records) -> Iterator[Metric]:
    for name in OURS:
        mine = timings.where(contender=name, kind="step")
        single = mine.where(n_paths=1).values("n2")
        together = {n2: cost for n2, cost in _bundle_costs(mine).items() if n2 in single}
        ratios = {n2: cost / single[n2] for n2, cost in together.items()}
        mean = float(np.mean(list(ratios.values()))) if ratios else None
        yield Metric(f"bundle of one n2 / one path of it, {name}: mean over n2", mean, "<=", 3.0)
        for n2, ratio in ratios.items():
            yield Metric(f"bundle of one n2 / one path of it, {name}: n2 = {n2}", ratio)


def _bundle_costs(records: Records) -> dict[int, float]:
    return Records([record for record in records.records if record["n_paths"] > 1]).values("n2")


def _tree(timings: Records, memory: Records) -> Iterator[Metric]:
    for name in OURS:
        seconds = [timings.where(contender=c).mean("contender") for c in (_KYMATIO, name)]
        bound = 60.0 if name == "even-compact" else 20.0
        yield Metric(
            f"full tree, forward and backward, {_KYMATIO} / {name}: time", quotient(*seconds), ">=", bound
        )
        sizes = [memory.where(contender=c).mean("contender") for c in (name, _KYMATIO)]
        yield Metric(f"full tree, forward and backward, {name} / {_KYMATIO}: memory", quotient(*sizes), "<=", 0.2)


def _products(timings: Records) -> Iterator[Metric]:
    for name in OURS:
        pairs = _shared(timings.where(contender=_PEER), timings.where(contender=name))
        peer, ours = (float(np.mean(side)) for side in zip(*pairs, strict=True)) if pairs else (None, None)
        yield Metric(f"Hessian-vector product, {_PEER} / {name}: ratio of means", quotient(peer, ours), ">=", 4.0)


def _memory(memory: Records) -> Iterator[Metric]:
    mss = memory.where(contender=_MSS).mean("contender")
    bounds = {"compact": 1.5, "compact-3": 1.5, "exact": 3.0, "even": 3.0, "even-compact": 0.8}
    for name in (*OURS, _PEER):
        sizes = memory.where(contender=name, n_paths=1).values("n2")
        largest = max(sizes.values(), default=None)
        yield Metric(
            f"peak memory of a step, {name} / {_MSS}: largest", quotient(largest, mss), "<=", bounds.get(name)
        )
        for n2, size in sizes.items():
            yield Metric(f"peak memory of a step, {name} / {_MSS}: n2 = {n2}", quotient(size, mss))
    for name in OURS:
        for n2, size in _bundle_costs(memory.where(contender=name)).items():
            yield Metric(f"peak memory of a bundle, {name} / {_MSS}: n2 = {n2}", quotient(size, mss))


def _accuracy(answers: Sequence[dict[str, Any]]) -> Iterator[Metric]:
    """Each of ours beside what it should equal but for rates; then how far the even boundary is from kymatio's."""
    held_to = {"exact": (_PEER, _KYMATIO), "compact": ("exact",), "compact-3": ("exact",)}
    held_to |= {"even": (LITERAL,), "even-compact": ("even",)}
    for name, references in held_to.items():
        bound = 3e-4 if "compact" in name else 1e-4
        for statistic in ("largest", "median"):
            value = worst(answers, name, references, "coefficients", statistic)
            yield Metric(
                f"relative difference of coefficients, {name}: {statistic} over paths", value, "<=", bound
            )
        for what in ("gradient", "product"):
            value = worst(answers, name, references, what)
            yield Metric(f"relative difference of the {what}, {name}: largest over paths", value)
    for name in ("even", "even-compact"):
        for what, statistic in (("coefficients", "largest"), ("coefficients", "median"), ("gradient", "largest")):
            value = worst(answers, name, ("exact",), what, statistic)
            yield Metric(f"distance of {what} to kymatio's boundary, {name}: {statistic} over paths", value)


def _calls(records: Records) -> Iterator[Metric]:
    """Calls that a GPU would launch and the bytes they touch, which no other process disturbs."""
    for kind, what in (("step", "a step, mean over paths"), ("tree", "the full tree"), ("optimizer", "its step")):
        for name in dict.fromkeys(record["contender"] for record in records.where(kind=kind).records):
            mine = records.where(kind=kind, contender=name).records
            counts = {key: float(np.mean([record[key] for record in mine])) for key in ("launches", "bytes")}
            waits = max(sum(record["waits"].values()) for record in mine)
            yield Metric(f"calls of ATen, {name}, {what}: launches", counts["launches"])
            yield Metric(f"calls of ATen, {name}, {what}: MiB read and written", counts["bytes"] / 2**20)
            yield Metric(f"calls of ATen, {name}, {what}: where a host would wait, largest", waits)


def _sizes(timings: Records) -> Iterator[Metric]:
    for name in (*OURS, _PEER, _MSS):
        costs = timings.where(contender=name, batch=4).values("n_samples")
        value = exponent([n_log_n(n) for n in costs], list(costs.values())) if len(costs) > 1 else None
        yield Metric(f"cost of a step ~ (N log2 N) ** a, {name}: a", value)
    for name in (*OURS, _PEER, _MSS):
        costs = timings.where(contender=name, n_samples=32768).values("batch")
        value = exponent(list(costs), list(costs.values())) if len(costs) > 1 else None
        yield Metric(f"cost of a step ~ batch ** a, {name}: a", value)


def _threads(timings: Records) -> Iterator[Metric]:
    """Each contender against itself with one thread, then against the peer with two."""
    double = timings.where(section="threads", threads=2)
    single = timings.where(section="paths", kind="step", threads=1)
    means = {}
    for name in (*OURS, _PEER, _MSS):
        pairs = _shared(single.where(contender=name), double.where(contender=name))
        one, two = (float(np.mean(side)) for side in zip(*pairs, strict=True)) if pairs else (None, None)
        means[name] = two
        yield Metric(f"step, one thread / two, {name}", quotient(one, two))
    for name in OURS:
        yield Metric(f"step with two threads, {_PEER} / {name}", quotient(means[_PEER], means[name]))
