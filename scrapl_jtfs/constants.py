"""All constants of one transform by name: bands, averages and matrices, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import operators as ops
from .decimation import decimation_correction, decimation_factors, decimation_window
from .geometry import Geometry
from .paths import Banks, Path


@dataclass(frozen=True)
class Constants:
    """What the paths of a transform need.

    Args:
        geometry: settings of the transform.
        tensors: every array by name, float64; complex ones as pairs of real numbers on the last axis.
        first: first-order filters, from high to low frequency; arrays "psi1_{first n1}".
        second: second-order filters by n2; arrays "psi2_{n2}".
        frequential: filters along log-frequency by n_fr; arrays "psi_fr_{n_fr}" and "phi_fr_{n_fr}".
        rows: rows along log-frequency by (n_fr, n_rows): those computed, and how many leave the low-pass.
        mirrors: for each n_fr that of the same filter with the opposite spin, where there is one.
        averages: what is done along time, by name; arrays "phi_{name}"; besides, "window_{factor}" and
            "correction_{length}_{factor}" serve :class:`LowSpectrum`.
        after_first: names of the averages of order 1, one for each of ``first``.
        after_second: names of the averages of order 2, by n2.
    """

    geometry: Geometry
    tensors: dict[str, Tensor]
    first: tuple[ops.FirstOrder, ...]
    second: dict[int, ops.SecondOrder]
    frequential: tuple[ops.FrequentialFilter, ...]
    rows: dict[tuple[int, int], tuple[slice, int]]
    mirrors: dict[int, int]
    averages: dict[str, ops.TimeAverage]
    after_first: tuple[str, ...]
    after_second: dict[int, str]


def make_constants(
    geometry: Geometry, banks: Banks, paths: Sequence[Path], samples_per_bandwidth: float | None
) -> Constants:
    """Work out what the paths need, at kymatio's lengths or at those of a compact transform."""

    def exact_length(j: int) -> int:
        return geometry.n_padded >> geometry.time.stride_of(j)

    first = ops.first_order_filters(geometry, banks, samples_per_bandwidth)
    second = {
        n2: ops.second_order_filter(geometry, banks, n2, samples_per_bandwidth)
        for n2 in sorted({path.n2 for path in paths if path.n2 is not None})
    }
    frequential = tuple(ops.frequential_filters(geometry, banks, samples_per_bandwidth))
    mirrors = _mirrors(frequential)
    rows: dict[tuple[int, int], tuple[slice, int]] = {}
    for n_fr, n_rows in {(path.n_fr, path.n_rows) for path in paths}:
        # One of a pair decides for both, which are computed together; rounding could tell their rows apart.
        psi_fr = frequential[min(n_fr, mirrors.get(n_fr, n_fr))]
        rows[n_fr, n_rows] = psi_fr.rows_in(n_rows), psi_fr.rows_out(n_rows)
    averages: dict[str, ops.TimeAverage] = {}
    after_first: list[str] = []
    if any(path.order == 1 for path in paths):
        for f in first:
            after_first.append(f"first_{f.first}")
            exact = exact_length(banks.first[f.first].j)
            averages[after_first[-1]] = ops.local_time_average(geometry, exact, f.length)
    after_second: dict[int, str] = {}
    for n2, psi in second.items():
        exact = exact_length(banks.second[n2].j)
        after_second[n2] = f"second_{exact}_{psi.length}"
        if after_second[n2] not in averages:
            averages[after_second[n2]] = ops.time_average(geometry, exact, psi.length)
    tensors = {f"psi1_{f.first}": f.response for f in first}
    tensors |= {f"psi2_{n2}": psi.response for n2, psi in second.items()}
    for n_fr, psi_fr in enumerate(frequential):
        tensors[f"psi_fr_{n_fr}"] = psi_fr.matrix
        if psi_fr.lowpass is not None:
            tensors[f"phi_fr_{n_fr}"] = psi_fr.lowpass
    for length in {f.length for f in first}:
        for factor in decimation_factors(length):
            tensors[f"window_{factor}"] = torch.from_numpy(decimation_window(factor))
            correction = torch.from_numpy(decimation_correction(length, factor))
            tensors[f"correction_{length}_{factor}"] = torch.view_as_real(correction)
    for name, average in averages.items():
        constant = average.response if average.matrix is None else average.matrix
        if constant is not None:
            tensors[f"phi_{name}"] = constant
    return Constants(
        geometry,
        tensors,
        first,
        second,
        frequential,
        rows,
        mirrors,
        averages,
        tuple(after_first),
        after_second,
    )


def _mirrors(frequential: Sequence[ops.FrequentialFilter]) -> dict[int, int]:
    """Pair the filters of opposite spin that are conjugate to rounding (if aliased, they need not be)."""
    half = len(frequential) // 2
    pairs: dict[int, int] = {}
    for up, down in zip(range(1, half + 1), range(half + 1, len(frequential)), strict=True):
        a, b = frequential[up].matrix, frequential[down].matrix
        if a.shape == b.shape and torch.allclose(a, b * b.new_tensor([1.0, -1.0]), rtol=0.0, atol=1e-13):
            pairs |= {up: down, down: up}
    return pairs
