"""The ratios that the package was written for, each with what is wanted and what was measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .answers import worst
from .contenders import OURS
from .summary import Records, exponent, n_log_n

__all__ = ["Ratio", "all_ratios", "format_ratios", "quotient"]

_PEER, _MSS, _KYMATIO, _FINE = "scrapl-loss", "mss", "kymatio", "compact-3"


@dataclass(frozen=True)
class Ratio:
    """One line of the table.

    Args:
        name: what is compared.
        relation: "<=", ">=", or "" where nothing is wanted.
        wanted: the bound.
        measured: None where it was not measured.
    """

    name: str
    relation: str
    wanted: float | None
    measured: float | None

    @property
    def met(self) -> bool | None:
        if self.measured is None or self.wanted is None:
            return None
        return self.measured <= self.wanted if self.relation == "<=" else self.measured >= self.wanted


def quotient(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


def all_ratios(results: dict[str, Any]) -> list[Ratio]:
    """Every ratio of a result file, measured or not."""
    timings, memory = Records(results["timings"]), Records(results["memory"])
    paper = {"n_samples": results["configuration"]["n_samples"], "batch": 4, "threads": 1}
    parts: list[Callable[[], Iterator[Ratio]]] = [
        lambda: _against_peer(timings.where(section="paths", **paper)),
        lambda: _within(timings.where(section="paths", kind="step", **paper)),
        lambda: _bundles(timings.where(section="bundles", **paper)),
        lambda: _tree(timings.where(section="tree"), memory.where(kind="tree")),
        lambda: _products(timings.where(section="hvp", **paper)),
        lambda: _memory(memory.where(kind="step")),
        lambda: _accuracy(results["answers"]),
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


def _against_peer(timings: Records) -> Iterator[Ratio]:
    wanted = {"exact": (9.0, 5.5), "compact": (20.0, 13.0), "compact-3": (20.0, 13.0)}
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
                relation = ">=" if bound else ""
                yield Ratio(f"{kind}, {_PEER} / {name}, over paths: {text}", relation, bound, value)


def _within(steps: Records) -> Iterator[Ratio]:
    mss = steps.where(contender=_MSS).mean()
    for name in (*OURS, _PEER):
        mine = steps.where(contender=name)
        bound = 1.1 if name.startswith("compact") else None
        yield Ratio(
            f"step, {name} / {_MSS}: mean over paths", "<=" if bound else "", bound, quotient(mine.mean(), mss)
        )
    for name in (*OURS, _PEER):
        costs = list(steps.where(contender=name).values("path").values())
        costliest = max(costs) / float(np.mean(costs)) if costs else None
        bound = None if name == _PEER else 2.0
        yield Ratio(f"step, {name}: costliest path / mean over paths", "<=" if bound else "", bound, costliest)


def _bundles(timings: Records) -> Iterator[Ratio]:
    for name in OURS:
        mine = timings.where(contender=name, kind="step")
        single = mine.where(n_paths=1).values("n2")
        together = {n2: cost for n2, cost in _bundle_costs(mine).items() if n2 in single}
        ratios = {n2: cost / single[n2] for n2, cost in together.items()}
        mean = float(np.mean(list(ratios.values()))) if ratios else None
        yield Ratio(f"bundle of one n2 / one path of it, {name}: mean over n2", "<=", 3.0, mean)
        for n2, ratio in ratios.items():
            yield Ratio(f"bundle of one n2 / one path of it, {name}: n2 = {n2}", "", None, ratio)


def _bundle_costs(records: Records) -> dict[int, float]:
    return Records([record for record in records.records if record["n_paths"] > 1]).values("n2")


def _tree(timings: Records, memory: Records) -> Iterator[Ratio]:
    for name in OURS:
        seconds = [timings.where(contender=c).mean("contender") for c in (_KYMATIO, name)]
        yield Ratio(f"full tree, forward and backward, {_KYMATIO} / {name}: time", ">=", 20.0, quotient(*seconds))
        sizes = [memory.where(contender=c).mean("contender") for c in (name, _KYMATIO)]
        yield Ratio(f"full tree, forward and backward, {name} / {_KYMATIO}: memory", "<=", 0.2, quotient(*sizes))


def _products(timings: Records) -> Iterator[Ratio]:
    for name in OURS:
        pairs = _shared(timings.where(contender=_PEER), timings.where(contender=name))
        peer, ours = (float(np.mean(side)) for side in zip(*pairs, strict=True)) if pairs else (None, None)
        yield Ratio(f"Hessian-vector product, {_PEER} / {name}: ratio of means", ">=", 4.0, quotient(peer, ours))


def _memory(memory: Records) -> Iterator[Ratio]:
    mss = memory.where(contender=_MSS).mean("contender")
    bounds = {"compact": 1.5, "compact-3": 1.5, "exact": 3.0}
    for name in (*OURS, _PEER):
        sizes = memory.where(contender=name, n_paths=1).values("n2")
        largest = max(sizes.values(), default=None)
        bound = bounds.get(name)
        yield Ratio(
            f"peak memory of a step, {name} / {_MSS}: largest",
            "<=" if bound else "",
            bound,
            quotient(largest, mss),
        )
        for n2, size in sizes.items():
            yield Ratio(f"peak memory of a step, {name} / {_MSS}: n2 = {n2}", "", None, quotient(size, mss))
    for name in OURS:
        for n2, size in _bundle_costs(memory.where(contender=name)).items():
            yield Ratio(f"peak memory of a bundle, {name} / {_MSS}: n2 = {n2}", "", None, quotient(size, mss))


def _accuracy(answers: Sequence[dict[str, Any]]) -> Iterator[Ratio]:
    differences = list(answers)
    for contender, bound in (("exact", 1e-4), ("compact", 3e-4), ("compact-3", 3e-4)):
        for statistic in ("largest", "median"):
            value = worst(differences, contender, "coefficients", statistic)
            name = f"relative difference of coefficients, {contender}: {statistic} over paths"
            yield Ratio(name, "<=", bound, value)
        for what in ("gradient", "product"):
            value = worst(differences, contender, what)
            yield Ratio(f"relative difference of the {what}, {contender}: largest over paths", "", None, value)


def _sizes(timings: Records) -> Iterator[Ratio]:
    for name in (*OURS, _PEER, _MSS):
        costs = timings.where(contender=name, batch=4).values("n_samples")
        value = exponent([n_log_n(n) for n in costs], list(costs.values())) if len(costs) > 1 else None
        yield Ratio(f"cost of a step ~ (N log2 N) ** a, {name}: a", "", None, value)
    for name in (*OURS, _PEER, _MSS):
        costs = timings.where(contender=name, n_samples=32768).values("batch")
        value = exponent(list(costs), list(costs.values())) if len(costs) > 1 else None
        yield Ratio(f"cost of a step ~ batch ** a, {name}: a", "", None, value)


def _threads(timings: Records) -> Iterator[Ratio]:
    """Each contender against itself with one thread, then against the peer with two."""
    double = timings.where(section="threads", threads=2)
    single = timings.where(section="paths", kind="step", threads=1)
    means = {}
    for name in (*OURS, _PEER, _MSS):
        pairs = _shared(single.where(contender=name), double.where(contender=name))
        one, two = (float(np.mean(side)) for side in zip(*pairs, strict=True)) if pairs else (None, None)
        means[name] = two
        yield Ratio(f"step, one thread / two, {name}", "", None, quotient(one, two))
    for name in OURS:
        yield Ratio(f"step with two threads, {_PEER} / {name}", "", None, quotient(means[_PEER], means[name]))


def format_ratios(ratios: Sequence[Ratio]) -> str:
    """A table for the terminal: what, wanted, measured, and whether it is met; those without a bound come last."""
    ratios = sorted(ratios, key=lambda ratio: ratio.wanted is None)
    width = max(len(ratio.name) for ratio in ratios)
    lines = [f"{'':{width}}  {'wanted':>9}  {'measured':>9}"]
    for ratio in ratios:
        wanted = f"{ratio.relation} {ratio.wanted:.4g}" if ratio.wanted is not None else ""
        measured = "-" if ratio.measured is None else f"{ratio.measured:.3g}"
        verdict = {True: "met", False: "NOT MET", None: ""}[ratio.met]
        lines.append(f"{ratio.name:{width}}  {wanted:>9}  {measured:>9}  {verdict}".rstrip())
    return "\n".join(lines)
