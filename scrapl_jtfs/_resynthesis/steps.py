"""The report of a descent after each of its steps."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Step(NamedTuple):
    """The state of a descent.

    Attributes:
        u: (rows, *signal_shape) what is optimised, as it is now.
        errors: (rows,) relative errors of the signals, float64; None where this step did not compute them.
    """

    u: Tensor
    errors: Tensor | None
