"""Warning of averages along time that are long compared with the signal."""

from __future__ import annotations

import sys
import warnings

from scrapl_jtfs._transform.geometry import Geometry

# A longer average than this share of the signal is mostly about the signal's reflection at its ends. (An even
# continuation has averages continue the moduli of each path, not those of the opposite spin.)
LEAST_AVERAGES = 8

_PACKAGES = ("scrapl_jtfs", "scrapl_optim")  # whose frames lie between a caller and the check


def is_too_long(geometry: Geometry) -> bool:
    """Tell if a local average along time hears too much of a reflection: more than an eighth of the signal."""
    is_reflected = geometry.boundary == "reflect" and geometry.time.averaging == "local"
    return is_reflected and geometry.time.support * LEAST_AVERAGES > geometry.n_samples


def consequence(n_samples: int) -> str:
    """Return what a local average that is too long does to coefficients, and the remedy."""
    shorter = f", or T up to {n_samples // LEAST_AVERAGES}" if n_samples >= LEAST_AVERAGES else ""
    return (
        "it hears the signal's reflection, in which rising patterns fall, and hardly tells their direction; use "
        f"T='global'{shorter}"
    )


def percent(part: float, whole: float) -> str:
    """Return a share as text."""
    return f"{100 * part / whole:.3g} %"


def warn_of_long_average(geometry: Geometry) -> None:
    """Warn of an average for which :func:`is_too_long` is true, at the line that called these packages."""
    if not is_too_long(geometry):
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _PACKAGES:
        level, frame = level + 1, frame.f_back
    support, n_samples = geometry.time.support, geometry.n_samples
    warnings.warn(
        f"T = {support:.10g} samples, {percent(support, n_samples)} of the {n_samples} of the signal, is more "
        f"than an eighth: {consequence(n_samples)}.",
        UserWarning,
        stacklevel=level,
    )
