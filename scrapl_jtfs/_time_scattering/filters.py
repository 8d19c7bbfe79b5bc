"""The filters of time scattering: those of the JTFS along time, and the average that is order 0."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache, partial

from scrapl_jtfs._transform.even_filters import EVEN
from scrapl_jtfs._transform.filter_design import REFLECTED, first_order_filters, second_order_filters
from scrapl_jtfs._transform.filters import Filters, TimeAverage
from scrapl_jtfs._transform.geometry import Boundary, Geometry, Support, make_geometry
from scrapl_jtfs.paths import Banks


class TimeFilters(Filters):
    """All filters of one transform.

    Args:
        geometry: sizes along time; those along log-frequency have no part in it.
        banks: the wavelets.
        n2s: the second-order wavelets that are heard.
    """

    average: TimeAverage

    def __init__(self, geometry: Geometry, banks: Banks, n2s: Collection[int]) -> None:
        sampling = EVEN if geometry.boundary == "even" else REFLECTED
        average = cache(partial(sampling.time_average, geometry))
        psi1 = first_order_filters(geometry, banks, sampling, None, average)
        psi2 = second_order_filters(geometry, banks, sampling, None, average, n2s)
        super().__init__(sampling.ends(geometry), psi1, psi2, ())
        self.average = average(geometry.n_padded, geometry.n_padded)  # of the signal


def make_time_geometry(
    n_samples: int, J: int, Q: int | tuple[int, int], T: Support, boundary: Boundary
) -> Geometry:
    """Check the settings of time scattering and work out its sizes.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a value is out of range; the message names it and the remedy.
    """
    return make_geometry(n_samples, J, Q, J_fr=1, Q_fr=1, T=T, F=0, boundary=boundary)
