"""Description of a transform, worked out from its table of paths before the first step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from scrapl_jtfs._describe.description import Description
from scrapl_jtfs._describe.long_average import is_too_long
from scrapl_jtfs._describe.step_times import check_computes, time_steps
from scrapl_jtfs._transform.geometry import positive_int
from scrapl_jtfs.paths import Path, make_banks
from scrapl_optim import PathAdamSAGA

if TYPE_CHECKING:
    from scrapl_jtfs._validation import PathIndices
    from scrapl_jtfs.transform import JTFSPath

# The storages of PathAdamSAGA that differ in size.
_STORAGES = ("float32", "bfloat16", "int8")
# A size of a parameter that fills whole blocks of the int8 storage.
_WHOLE_BLOCKS = 2**20


def describe(
    jtfs: JTFSPath,
    steps: int | None = None,
    n_parameters: int | None = None,
    paths: PathIndices | Iterable[Path] | None = None,
    measure: bool = False,
) -> Description:
    """Describe a transform; see :meth:`scrapl_jtfs.JTFSPath.describe`."""
    steps = None if steps is None else positive_int(steps, "steps")
    n_parameters = None if n_parameters is None else positive_int(n_parameters, "n_parameters")
    _check_measure(jtfs, measure)
    ids = range(jtfs.n_paths) if paths is None else jtfs.paths.ids(paths)
    drawn = [jtfs.paths[p] for p in ids]
    geometry = jtfs.geometry
    rates = tuple(sorted({path.rate for path in drawn if path.order == 2}))
    scales = tuple(sorted({path.scale for path in drawn}))
    centres = [psi.xi * jtfs.sample_rate for psi in make_banks(geometry).first]
    total_bytes = None
    if n_parameters is not None:
        total_bytes = {storage: _state_bytes(jtfs, drawn, storage, n_parameters) for storage in _STORAGES}
    return Description(
        n_paths=jtfs.n_paths,
        n_drawn=len(drawn),
        orders=tuple(sorted({path.order for path in drawn})),
        n_samples=geometry.n_samples,
        sample_rate=jtfs.sample_rate,
        rates=rates,
        rates_per_decade=_density(rates, 10.0),
        periods=rates[0] / jtfs.sample_rate * geometry.n_samples if rates else None,
        scales=scales,
        scales_per_octave=_density([scale for scale in scales if scale > 0], 2.0),
        first_order=(min(centres), max(centres)),
        first_order_per_octave=geometry.Q[0],
        averaging=geometry.time.averaging,
        average={"local": geometry.time.support, "global": geometry.n_samples, "none": 0}[geometry.time.averaging],
        is_too_long=is_too_long(geometry),
        cheapest=min(drawn, key=lambda path: path.cost),
        costliest=max(drawn, key=lambda path: path.cost),
        mean_cost=math.fsum(path.cost for path in drawn) / len(drawn),
        measured=time_steps(jtfs, drawn) if measure else None,
        n_rates=len({path.n2 for path in drawn}),
        steps=steps,
        bytes_per_parameter={storage: _bytes_per_parameter(jtfs, drawn, storage) for storage in _STORAGES},
        n_parameters=n_parameters,
        bytes_in_all=total_bytes,
    )


def _check_measure(jtfs: JTFSPath, measure: object) -> None:
    if not isinstance(measure, bool):
        raise TypeError(f"Invalid measure: {measure!r}; expected True or False.")
    if measure:
        check_computes(jtfs)


def _density(values: Sequence[float], factor: float) -> float | None:
    """Return the mean number of values within a factor; they rise, and a single one has no density."""
    if len(values) < 2:
        return None
    return (len(values) - 1) / (math.log(values[-1] / values[0]) / math.log(factor))


def _state_bytes(jtfs: JTFSPath, drawn: Sequence[Path], storage: str, n_parameters: int) -> int:
    """Return the bytes of PathAdamSAGA's state for one matrix, once all these paths were drawn."""
    matrix = nn.Parameter(torch.empty(1, n_parameters, device="meta"))
    return PathAdamSAGA([matrix], jtfs.n_paths, storage=storage).expected_bytes(len(drawn))


def _bytes_per_parameter(jtfs: JTFSPath, drawn: Sequence[Path], storage: str) -> float:
    # The difference of two sizes drops what does not grow with the number of parameters.
    sizes = [_state_bytes(jtfs, drawn, storage, n * _WHOLE_BLOCKS) for n in (1, 2)]
    return (sizes[1] - sizes[0]) / _WHOLE_BLOCKS
