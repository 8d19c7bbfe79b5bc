"""The lines of the report, each with what is wanted and what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks.harness.records import Metric
from benchmarks.importance.contenders import EVEN, OURS, PEER
from benchmarks.importance.summary import (
    Place,
    distribution,
    inside,
    mass_ratio,
    path_seconds,
    relative_differences,
    total_variation,
)

_STEPS = 20
_SETTLED = 1e-3  # twenty steps that are this close to many more have converged


def all_metrics(results: dict[str, Any]) -> list[Metric]:
    """Metrics of the sections that were measured."""
    rows: list[Metric] = []
    if results.get("agreement"):
        rows += _agreement(results["agreement"])
    whole = [found for found in results.get("whole", []) if found["records"]]
    for found in whole:
        rows += _whole(found)
    if whole:
        products = float(np.mean([n for found in whole for n in _numbers(found["records"], PEER, "n_products")]))
        subspace = [s for s in map(_subspace_products, results.get("sized", [])) if s is not None]
        for sized in results.get("sized", []):
            rows += _sized(sized, products, subspace[0] if subspace else math.nan)
    rows += [row for record in results.get("mass", []) for row in _mass(record)]
    return rows


def _curvature(records: list[dict[str, Any]], key: str) -> list[list[float]]:
    return [record[key]["values"]["curvature"][0] for record in records]


def _numbers(records: list[dict[str, Any]], side: str, key: str) -> list[float]:
    return [float(n) for record in records for n in record[side]["values"][key][0]]


def _agreement(records: list[dict[str, Any]]) -> list[Metric]:
    crossed, few, many, ours = (_curvature(records, k) for k in ("crossed", "steps_20", "steps_long", "ours"))
    settled = relative_differences(few, many) <= _SETTLED
    apart = relative_differences(few, crossed)
    residuals = _numbers(records, "crossed", "residual")
    rows = [
        Metric("agreement: values compared", len(apart)),
        Metric("agreement: of these settled after scrapl-loss's 20 steps", int(settled.sum())),
        Metric("agreement: scrapl-loss's 20 steps from ours with its transform, all values: largest", apart.max()),
        Metric("agreement: many steps from ours with its transform: largest",
             relative_differences(many, crossed).max()),
        Metric("agreement: our residuals there: largest", max(residuals)),
        Metric("agreement: ours with our transform from ours with its: largest",
             relative_differences(ours, crossed).max()),
        Metric("agreement: the same, its padding taken off: largest",
             relative_differences(ours, _curvature(records, "unpadded")).max()),
        Metric("agreement: the same, and our filters rounded to float32, as its are: largest",
             relative_differences(*(_curvature(records, k) for k in ("rounded", "unpadded"))).max(), "<=", 0.01),
    ]  # fmt: skip
    if "even" in records[0]:
        even, backward = (_curvature(records, key) for key in ("even", "even_backward"))
        name = "agreement: even boundary, Taylor series from double backward passes: largest"
        rows.append(Metric(name, relative_differences(even, backward).max(), "<=", 0.01))
        name = "agreement: even boundary from kymatio's: largest"
        rows.append(Metric(name, relative_differences(even, ours).max()))
    if settled.any():
        name = "agreement: scrapl-loss's 20 steps from ours with its transform, settled values: largest"
        rows.insert(2, Metric(name, apart[settled].max(), "<=", 0.01))
    return rows


def _whole(found: dict[str, Any]) -> list[Metric]:
    records, runs, alone = found["records"], found[OURS], found["one_by_one"]
    peer = {key: sum(r[PEER][key] for r in records) for key in ("seconds", "cpu")}
    ours = {key: float(np.median([run[key] for run in runs])) for key in ("seconds", "cpu")}
    name = f"{found['name']} (P={found['n_paths']}, U={found['n_controls']}, batch {found['batch']})"
    values = runs[0]["values"]
    rows = [
        Metric(f"{name}: scrapl-loss's time over ours, whole pi", peer["seconds"] / ours["seconds"], ">=", 50),
        Metric(f"{name}: the same in processor time", peer["cpu"] / ours["cpu"]),
        Metric(f"{name}: ours, s, median", ours["seconds"]),
        Metric(f"{name}: ours, s, fastest", min(run["seconds"] for run in runs)),
        Metric(f"{name}: ours, s, slowest", max(run["seconds"] for run in runs)),
        Metric(f"{name}: share of s and H", median(_stages(run)[0] / run["cpu"] for run in runs)),
        Metric(f"{name}: ours value by value, s", alone["seconds"]),
        Metric(f"{name}: scrapl-loss, s", peer["seconds"]),
        Metric(f"{name}: scrapl-loss's products per value, mean", mean(_numbers(records, PEER, "n_products"))),
        Metric(f"{name}: our residuals, largest", np.max(values["residual"]), "<=", 0.01),
        Metric(f"{name}: our values that needed products of their own", _refined(values)),
        Metric(f"{name}: our values together from one by one: largest",
             relative_differences(values["curvature"], alone["values"]["curvature"]).max()),
        Metric(f"{name}: pi, the same, total variation",
             total_variation(*(distribution(v["curvature"]) for v in (values, alone["values"])))),
    ]  # fmt: skip
    return [*rows, *_distributions(name, found), *_even(name, found, peer["seconds"])]


def _even(name: str, found: dict[str, Any], peer_seconds: float) -> Iterator[Metric]:
    """The whole pi on the even boundary, where it was measured."""
    runs = found.get(EVEN)
    if not runs:
        return
    name, values = f"{name}, even boundary", runs[0]["values"]
    seconds = float(np.median([run["seconds"] for run in runs]))
    derivatives = [median(_stages(run)[0] for run in found[side]) for side in (OURS, EVEN)]
    pis = [distribution(found[side][0]["values"]["curvature"]) for side in (OURS, EVEN)]
    yield Metric(f"{name}: scrapl-loss's time over ours, whole pi", peer_seconds / seconds, ">=", 50)
    yield Metric(f"{name}: ours, s, median", seconds)
    yield Metric(f"{name}: share of s and H", median(_stages(run)[0] / run["cpu"] for run in runs))
    yield Metric(f"{name}: processor time of s and H, kymatio's boundary over it", derivatives[0] / derivatives[1])
    yield Metric(f"{name}: our residuals, largest", np.max(values["residual"]), "<=", 0.01)
    yield Metric(f"{name}: pi from that of kymatio's boundary, total variation", total_variation(*pis))


def _refined(values: dict[str, Any]) -> int:
    """Count the values that the shared subspace was not enough for."""
    return sum(n > 0 for row in values["n_products"] for n in row)


def _stages(run: dict[str, Any]) -> tuple[float, float]:
    """Processor seconds of s and H (with what comes before) and of the subspace."""
    stages = run["values"]["stages"]
    return stages["derivatives"], stages["subspace"] - stages["derivatives"]


def _distributions(name: str, found: dict[str, Any]) -> list[Metric]:
    """Compare pi of all paths, and among those where both of scrapl-loss's searches stopped by themselves."""
    records = found["records"]
    tables = {OURS: found[OURS][0]["values"]["curvature"]}
    tables |= {side: _curvature(records, side) for side in (PEER, "crossed") if side in records[0]}
    pis = {side: distribution(table) for side, table in tables.items()}
    rows = [
        Metric(f"{name}: pi, scrapl-loss's from ours", total_variation(pis[PEER], pis[OURS])),
        Metric(
            f"{name}: pi, ours from uniform", total_variation(pis[OURS], np.full(len(records), 1 / len(records)))
        ),
    ]
    settled = [i for i, r in enumerate(records) if max(r[PEER]["values"]["n_products"][0]) < _STEPS]
    if "crossed" in pis:
        rows += [
            Metric(f"{name}: pi, scrapl-loss's from ours with its transform, total variation",
                 total_variation(pis[PEER], pis["crossed"])),
            Metric(f"{name}: pi, ours from ours with scrapl-loss's transform",
                 total_variation(pis[OURS], pis["crossed"])),
            Metric(f"{name}: paths where scrapl-loss's steps settled before the 20th", len(settled)),
        ]  # fmt: skip
    if "crossed" in pis and settled:
        among = [distribution([tables[side][i] for i in settled]) for side in (PEER, "crossed")]
        label = f"{name}: pi among those, scrapl-loss's from ours with its transform"
        rows.append(Metric(label, total_variation(*among), "<=", 0.01))
    return rows


def _subspace_products(sized: dict[str, Any]) -> float | None:
    """Products of one example that the subspace took for each control and example."""
    if "whole" not in sized:
        return None
    product = float(np.median(sized[OURS]["products"]))
    return _stages(sized["whole"])[1] / (product * sized["n_controls"] * sized["measured_batch"])


def _sized(sized: dict[str, Any], peer_products: float, subspace_products: float) -> list[Metric]:
    """Both sides at the batch that was measured, and in hours at the paper's; then ours on the even boundary."""
    n_paths, n_controls, batch = sized["n_paths"], sized["n_controls"], sized["measured_batch"]
    peer = n_paths * np.mean([path_seconds(piece, n_controls, peer_products) for piece in sized[PEER]])
    name = f"{sized['name']} (P={n_paths}, U={n_controls}, batch {batch})"
    hours, larger = sized["batch"] / batch / 3600, f"batch {sized['batch']}"
    rows: list[Metric] = []
    for side, whole, label in ((OURS, "whole", name), (EVEN, "whole_even", f"{name}, even boundary")):
        if side not in sized:
            continue
        ours, how = _seconds_of_ours(sized, side, whole, subspace_products)
        rows += [
            Metric(f"{label}: scrapl-loss's time, from pieces, over ours, {how}", peer / ours, ">=", 50),
            Metric(f"{label}: ours, {how}, s", ours),
        ]
        if side == OURS:
            rows.append(Metric(f"{name}: scrapl-loss, from pieces, s", peer))
        rows.append(Metric(f"{label}: extrapolated to {larger}: ours, hours", ours * hours))
        if side == OURS:
            rows.append(Metric(f"{name}: extrapolated to {larger}: scrapl-loss, hours", peer * hours))
        if whole in sized:
            values = sized[whole]["values"]
            rows += [
                Metric(f"{label}: our residuals, largest", np.max(values["residual"]), "<=", 0.01),
                Metric(f"{label}: our values that needed products of their own", _refined(values)),
                Metric(f"{label}: share of s and H", _stages(sized[whole])[0] / sized[whole]["cpu"]),
            ]
    if "whole" in sized:
        rows.append(Metric(f"{name}: products of one example per control and example", subspace_products))
    return rows


def _seconds_of_ours(sized: dict[str, Any], side: str, whole: str, subspace_products: float) -> tuple[float, str]:
    """Seconds of the whole pi on one of our boundaries, and where they are from."""
    if whole in sized:
        return sized[whole]["seconds"], "measured"
    pieces = sized[side]
    derivatives = pieces["once"] + sized["n_paths"] * float(np.mean(pieces["derivatives"]))
    product = float(np.median(pieces["products"]))
    return derivatives + sized["n_controls"] * sized["measured_batch"] * subspace_products * product, "from pieces"


def _mass(record: dict[str, Any]) -> Iterator[Metric]:
    pi = distribution(record["values"]["curvature"]).tolist()
    am, fm, per_octave = (tuple(record[key]) for key in ("am", "fm", "per_octave"))
    places = [Place(**place) for place in record["places"]]
    chosen = [inside(place, am, fm, per_octave) for place in places]
    name = f"mass: AM {am[0]:g} to {am[1]:g} Hz, FM {fm[0]:g} to {fm[1]:g} oct/s"
    yield Metric(f"{name}: pi's inside over uniform's", mass_ratio(pi, chosen), ">=", 1)
    yield Metric(f"{name}: paths inside, of {len(pi)}", sum(chosen))
    rising = [c and place.spin > 0 for c, place in zip(chosen, places, strict=True)]
    yield Metric(f"{name}: the same ratio, rising paths alone", mass_ratio(pi, rising))
