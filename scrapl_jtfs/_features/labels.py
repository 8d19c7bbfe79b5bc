"""Units and labels of rows and frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from scrapl_jtfs.paths import rate_unit

if TYPE_CHECKING:
    from xarray import DataArray


def units(sample_rate: float) -> tuple[str, str]:
    """Return the units of frequency and time; a transform without a sample rate has one of 1."""
    return rate_unit(sample_rate), "samples" if sample_rate == 1 else "s"


def extent(axis: Tensor, unit: str) -> str:
    """Return the ends of an axis as text."""
    first, last = float(axis[0]), float(axis[-1])
    return f"({first:.4g} {unit})" if len(axis) == 1 else f"({first:.4g} to {last:.4g} {unit})"


def axis_coordinates(frequencies: Tensor | None, times: Tensor | None, sample_rate: float) -> dict[str, Any]:
    """Return the coordinates of rows and frames for xarray, of those axes that there are."""
    coords: dict[str, Any] = {}
    hertz, second = units(sample_rate)
    if frequencies is not None:
        coords["row"] = ("row", frequencies.numpy(), {"units": hertz, "long_name": "frequency"})
    if times is not None:
        coords["frame"] = ("frame", times.numpy(), {"units": second, "long_name": "time"})
    return coords


def labelled(values: Tensor, dims: Sequence[str], coords: dict[str, Any], name: str) -> DataArray:
    """Return the values as an xarray.DataArray; axes before the named ones are those of a batch.

    Raises:
        ImportError: xarray is not installed.
    """
    try:
        from xarray import DataArray
    except ImportError as error:
        raise ImportError("to_xarray needs the package xarray: pip install 'scrapl-jtfs[labels]'") from error
    return DataArray(
        values.numpy(), dims=[*_batch_names(values.ndim - len(dims)), *dims], coords=coords, name=name
    )


def _batch_names(n: int) -> Iterator[str]:
    return (f"batch_{i}" if n > 1 else "batch" for i in range(n))
