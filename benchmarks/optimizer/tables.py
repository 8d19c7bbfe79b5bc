"""Ratios from the content of a result file, and the table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.harness.records import Metric, Records, format_table, quotient
from benchmarks.optimizer.contenders import OURS, PEER

_STEP_OVER_ADAM = 1.5
_DRIFT = 1e-6


def median_seconds(results: dict[str, Any], **fields: Any) -> float | None:
    """Median of one record of timing, None where it was not measured."""
    found = Records(results["timings"]).where(**fields).records
    return found[0]["seconds"]["median"] if found else None


def all_ratios(results: dict[str, Any]) -> list[Metric]:
    """Every ratio of a result file, those with a bound first."""
    ratios = [*_to_adam(results), *_over_paths(results), *_to_peer(results), *_drift(results)]
    return sorted(ratios, key=lambda ratio: ratio.wanted is None)


def _cases(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Kind, model, P, threads and allocator of every case, in the order they were measured."""
    keys = ("kind", "model", "n_paths", "threads", "allocator")
    return [
        dict(zip(keys, values, strict=True))
        for values in dict.fromkeys(tuple(r[key] for key in keys) for r in results["timings"])
    ]


def _label(case: dict[str, Any]) -> str:
    parts = [case["model"], f"P={case['n_paths']}", f"{case['threads']} thread{'s' * (case['threads'] > 1)}"]
    parts += ["default allocator"] * (case["allocator"] == "default")
    parts += [case["kind"]] * (case["kind"] != "steady")
    return ", ".join(parts)


def _to_adam(results: dict[str, Any]) -> Iterator[Metric]:
    """A bound for what the default is and for one thread; first visits allocate and are compared as they are."""
    for case in _cases(results):
        adam = median_seconds(
            results, **{**case, "kind": "steady"} if case["kind"] == "first" else case, contender="adam"
        )
        for name in OURS:
            ours = median_seconds(results, **case, contender=name)
            bounded = name == "float32" and case["kind"] != "first"
            if ours is not None:
                wanted = _STEP_OVER_ADAM if bounded else None
                yield Metric(f"step, {name} / adam: {_label(case)}", quotient(ours, adam), "<=", wanted)


def _over_paths(results: dict[str, Any]) -> Iterator[Metric]:
    """Compare numbers of paths: the costliest P over the cheapest, of those with P-SAGA."""
    for model in dict.fromkeys(record["model"] for record in results["timings"]):
        for name in (*OURS, PEER):
            records = Records(results["timings"]).where(
                kind="steady", threads=1, allocator="retaining", model=model, contender=name
            )
            seconds = [cost for n, cost in records.values("n_paths").items() if n > 1]
            if len(seconds) > 1:
                yield Metric(f"step, {name}, {model}: dearest P / cheapest, P > 1", max(seconds) / min(seconds))


def _to_peer(results: dict[str, Any]) -> Iterator[Metric]:
    for case in _cases(results):
        if case["kind"] != "first":
            peer = median_seconds(results, **case, contender=PEER)
            for name in ("adam", *OURS):
                ours = median_seconds(results, **case, contender=name)
                if peer is not None and ours is not None:
                    yield Metric(f"step, {PEER} / {name}: {_label(case)}", peer / ours)


def _drift(results: dict[str, Any]) -> Iterator[Metric]:
    """The largest over the steps: a sum may drift back."""
    for n_paths, on in dict.fromkeys((record["n_paths"], record["path_adam"]) for record in results["drift"]):
        records = Records(results["drift"]).where(n_paths=n_paths, path_adam=on).records
        label = f"P={n_paths}, P-Adam {'on' if on else 'off'}, {records[-1]['steps']} steps"
        yield Metric(f"drift of the running sum: {label}", max(r["sum"] for r in records), "<=", _DRIFT)


def ratio_table(results: dict[str, Any]) -> str:
    """A line for each case: Adam in ms, each of ours over Adam, scrapl-loss over ours; then what is not met."""
    rows = [["", "adam, ms", *(f"{name}/adam" for name in OURS), "peer/float32", "peer/adam"]]
    for case in _cases(results):
        base = {**case, "kind": "steady"} if case["kind"] == "first" else case
        adam = median_seconds(results, **base, contender="adam")
        cost = {name: median_seconds(results, **case, contender=name) for name in (*OURS, PEER)}
        values = [None if adam is None else 1000 * adam, *(quotient(cost[name], adam) for name in OURS)]
        values += [quotient(cost[PEER], cost["float32"]), quotient(cost[PEER], adam)]
        rows.append([_label(case), *("-" if value is None else f"{value:.3g}" for value in values)])
    lines = [format_table(rows)]
    lines += [f"{r['contender']}, {r['model']}, P={r['n_paths']}: {r['reason']}" for r in results["does_not_fit"]]
    bounded = [ratio for ratio in all_ratios(results) if ratio.wanted is not None]
    failed = [ratio for ratio in bounded if ratio.met is False]
    lines += ["", f"{len(bounded) - len(failed)} of {len(bounded)} bounds are met"]
    lines += [f"NOT MET  {r.name}: {r.measured:.3g}, wanted {r.relation} {r.wanted:g}" for r in failed]
    return "\n".join(lines)
