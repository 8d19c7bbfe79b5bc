"""The lines of the report, each with what is wanted and what was measured."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .conductor import OURS, PEER
from .summary import (
    Place,
    distribution,
    inside,
    mass_ratio,
    path_seconds,
    relative_differences,
    spread,
    total_variation,
)

__all__ = ["all_rows"]

_STEPS = 20
_SETTLED = 1e-3  # twenty steps that are this close to many more have converged


def all_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the sections that were measured."""
    rows: list[dict[str, Any]] = []
    if results.get("agreement"):
        rows += _agreement(results["agreement"])
    if results.get("small", {}).get("records"):
        rows += _small(results["small"])
        for sized in results.get("sized", []):
            rows += _sized(sized, results["small"])
    rows += [row for record in results.get("mass", []) for row in _mass(record)]
    return rows


def _row(name: str, measured: float | np.floating[Any], wanted: str = "") -> dict[str, Any]:
    """``wanted`` is a bound such as "<= 0.01"."""
    met = None
    if wanted:
        bound = float(wanted.split()[1])
        met = bool(measured <= bound if wanted.startswith("<") else measured >= bound)
    return {"name": name, "measured": float(measured), "wanted": wanted, "met": met}


def _curvature(records: list[dict[str, Any]], key: str) -> list[list[float]]:
    return [record[key]["values"]["curvature"][0] for record in records]


def _numbers(records: list[dict[str, Any]], side: str, key: str) -> list[float]:
    return [float(n) for record in records for n in record[side]["values"][key][0]]


def _agreement(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    crossed, few, many, ours = (_curvature(records, k) for k in ("crossed", "steps_20", "steps_long", "ours"))
    settled = relative_differences(few, many) <= _SETTLED
    apart = relative_differences(few, crossed)
    residuals = _numbers(records, "crossed", "residual")
    rows = [
        _row("agreement: values compared", len(apart)),
        _row("agreement: of these settled after scrapl-loss's 20 steps", int(settled.sum())),
        _row("agreement: scrapl-loss's 20 steps from ours with its transform, all values: largest", apart.max()),
        _row("agreement: many steps from ours with its transform: largest",
             relative_differences(many, crossed).max()),
        _row("agreement: our residuals there: largest", max(residuals)),
        _row("agreement: ours with our transform from ours with its: largest",
             relative_differences(ours, crossed).max()),
    ]  # fmt: skip
    if settled.any():
        name = "agreement: scrapl-loss's 20 steps from ours with its transform, settled values: largest"
        rows.insert(2, _row(name, apart[settled].max(), "<= 0.01"))
    return rows


def _small(small: dict[str, Any]) -> list[dict[str, Any]]:
    records = small["records"]
    ours, peer = (spread([r[side]["seconds"] for r in records]) for side in (OURS, PEER))
    cpu = {side: sum(r[side]["cpu"] for r in records) for side in (OURS, PEER)}
    ratios = [r[PEER]["seconds"] / r[OURS]["seconds"] for r in records]
    rows = [
        _row("small: scrapl-loss's time over ours, whole pi", peer["total"] / ours["total"], ">= 50"),
        _row("small: the same in processor time", cpu[PEER] / cpu[OURS]),
        _row("small: the same, median over paths", spread(ratios)["median"]),
        _row("small: the same, first quartile", spread(ratios)["q1"]),
        _row("small: the same, third quartile", spread(ratios)["q3"]),
        _row("small: ours, s", ours["total"]),
        _row("small: scrapl-loss, s", peer["total"]),
        _row("small: our products per value, mean", np.mean(_numbers(records, OURS, "n_products"))),
        _row("small: scrapl-loss's products per value, mean", np.mean(_numbers(records, PEER, "n_products"))),
        _row("small: our residuals, largest", max(_numbers(records, OURS, "residual"))),
    ]
    n_controls = len(records[0][OURS]["values"]["curvature"][0])
    products = float(np.mean(_numbers(records, OURS, "n_products")))
    shares = [piece["derivatives"] / path_seconds(piece, n_controls, products) for piece in small["pieces"]]
    rows.append(_row("small: share of s and H in our time", np.mean(shares)))
    if len(records) == small["n_paths"]:
        rows += _distributions(records)
    return rows


def _distributions(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare pi of all paths, and among those where both of scrapl-loss's searches stopped by themselves."""
    sides = (OURS, PEER, "crossed")
    pis = {side: distribution(_curvature(records, side)) for side in sides}
    uniform = np.full(len(records), 1 / len(records))
    settled = [r for r in records if max(r[PEER]["values"]["n_products"][0]) < _STEPS]
    rows = [
        _row("small: pi, scrapl-loss's from ours with its transform, total variation",
             total_variation(pis[PEER], pis["crossed"])),
        _row("small: pi, scrapl-loss's from ours", total_variation(pis[PEER], pis[OURS])),
        _row("small: pi, ours from ours with scrapl-loss's transform", total_variation(pis[OURS], pis["crossed"])),
        _row("small: pi, ours from uniform", total_variation(pis[OURS], uniform)),
        _row("small: paths where scrapl-loss's steps settled before the 20th", len(settled)),
    ]  # fmt: skip
    if settled:
        among = {side: distribution(_curvature(settled, side)) for side in sides}
        name = "small: pi among those, scrapl-loss's from ours with its transform"
        rows.append(_row(name, total_variation(among[PEER], among["crossed"]), "<= 0.01"))
    return rows


def _sized(sized: dict[str, Any], small: dict[str, Any]) -> list[dict[str, Any]]:
    """The number of products is that of the small problem, or what was met at this size."""
    counts = {side: float(np.mean(_numbers(small["records"], side, "n_products"))) for side in (OURS, PEER)}
    if "whole_path" in sized:
        counts[OURS] = float(np.mean(sized["whole_path"]["values"]["n_products"]))
    n_controls, examples = sized["n_controls"], sized["batch"] / sized["peer_batch"]
    ours = [path_seconds(piece, n_controls, counts[OURS]) for piece in sized[OURS]]
    peer = [path_seconds(piece, n_controls, counts[PEER], examples) for piece in sized[PEER]]
    prefix = f"{sized['name']} (P={sized['n_paths']}, U={n_controls}, batch {sized['batch']}, extrapolated)"
    share = np.mean([piece["derivatives"] / s for piece, s in zip(sized[OURS], ours, strict=True)])
    rows = [
        _row(f"{prefix}: scrapl-loss's time over ours", np.mean(peer) / np.mean(ours), ">= 50"),
        _row(f"{prefix}: ours, hours", np.mean(ours) * sized["n_paths"] / 3600),
        _row(f"{prefix}: scrapl-loss, hours", np.mean(peer) * sized["n_paths"] / 3600),
        _row(f"{prefix}: share of s and H in our time", share),
        _row(f"{prefix}: our products per value", counts[OURS]),
    ]
    if "whole_path" in sized:
        rows.append(_row(f"{prefix}: one path of ours in full, s", sized["whole_path"]["seconds"]))
    return rows


def _mass(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pi = distribution(record["values"]["curvature"]).tolist()
    am, fm, per_octave = (tuple(record[key]) for key in ("am", "fm", "per_octave"))
    places = [Place(**place) for place in record["places"]]
    chosen = [inside(place, am, fm, per_octave) for place in places]
    name = f"mass: AM {am[0]:g} to {am[1]:g} Hz, FM {fm[0]:g} to {fm[1]:g} oct/s"
    yield _row(f"{name}: pi's inside over uniform's", mass_ratio(pi, chosen), ">= 1")
    yield _row(f"{name}: paths inside, of {len(pi)}", sum(chosen))
    rising = [c and place.spin > 0 for c, place in zip(chosen, places, strict=True)]
    yield _row(f"{name}: the same ratio, rising paths alone", mass_ratio(pi, rising))
