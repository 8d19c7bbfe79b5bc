"""Progress bar with an estimate of the time left from typical steps."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

__all__ = ["Progress", "rough_duration"]

# The first steps of a sitting do not count, as they fill caches and allocators.
_WARM_UP = 16
# There is an estimate after this many steps that count.
_ENOUGH = 16
# The latest steps that count span some epochs with their validations, but not the load of ten minutes ago.
_WINDOW = 256


def rough_duration(seconds: float) -> str:
    """Return a duration with the precision of an estimate.

    >>> [rough_duration(s) for s in (0.2, 42, 300, 9000)]
    ['1 s', '42 s', '5 min', '2.5 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


class Progress:
    """Progress bar on stderr, used as a context manager.

    Args:
        total: number of steps, including those of earlier sittings.
        done: number of steps of earlier sittings.
        label: text before the bar.
        unit: name of the steps.
        disable: True to draw nothing; None to draw only if stderr is a terminal.
        clock: function that returns seconds.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        *,
        label: str = "",
        unit: str = "steps",
        disable: bool | None = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.done, self.total = done, total
        self._clock, self._note = clock, ""
        self._sitting = 0
        self._times: deque[float] = deque(maxlen=_WINDOW + 1)
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            disable=disable,
            dynamic_ncols=True,
            # Every step may draw; an interval in steps, as tqdm would choose, stalls when steps become slow.
            miniters=1,
            mininterval=0.1 if sys.stderr.isatty() else 30,
            unit=unit,
            bar_format="{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit} [{elapsed}{postfix}]",
        )

    def step(self) -> None:
        """Count a step."""
        self.done += 1
        self._sitting += 1
        if self._sitting >= _WARM_UP:
            self._times.append(self._clock())
        self._describe()
        self._bar.update()

    def note(self, text: str) -> None:
        """Show a text after the bar from the next step on."""
        self._note = text
        self._describe()

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds for the steps that are left; None before there are enough steps."""
        counted = len(self._times) - 1
        if counted < _ENOUGH:
            return None
        return (self._times[-1] - self._times[0]) / counted * (self.total - self.done)

    def _describe(self) -> None:
        left = self.seconds_left
        parts = [] if left is None or self.done >= self.total else [f"about {rough_duration(left)} left"]
        self._bar.set_postfix_str(", ".join([*parts, *([self._note] if self._note else [])]), refresh=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
