"""A progress bar that moves with the steps and estimates the rest from steps that are typical."""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

__all__ = ["Progress", "rough_duration"]

_WARM_UP = 16  # steps of a sitting that do not count: caches, constants and allocators fill
_ENOUGH = 16  # steps that must count before there is an estimate
_WINDOW = 256  # steps that count: some epochs with their validations, but not the load of ten minutes ago


def rough_duration(seconds: float) -> str:
    """A duration with the precision of an estimate.

    >>> [rough_duration(s) for s in (0.2, 42, 300, 9000)]
    ['1 s', '42 s', '5 min', '2.5 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


class Progress:
    """A bar over steps on stderr, used as a context manager.

    Args:
        total: steps, those of earlier sittings included.
        done: steps of earlier sittings.
        label: what is trained.
        unit: what a step is.
        disable: draw nothing; None where stderr is no terminal.
        clock: seconds, for tests.
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
            # every step may draw: an interval in steps, tqdm's habit, stands still when steps become slow
            miniters=1,
            mininterval=0.1 if sys.stderr.isatty() else 30,
            unit=unit,
            bar_format="{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit} [{elapsed}{postfix}]",
        )

    def step(self) -> None:
        """Count a step that is done."""
        self.done += 1
        self._sitting += 1
        if self._sitting >= _WARM_UP:
            self._times.append(self._clock())
        self._describe()
        self._bar.update()

    def note(self, text: str) -> None:
        """Show `text` behind the bar from the next step on."""
        self._note = text
        self._describe()

    @property
    def seconds_left(self) -> float | None:
        """Estimate for the steps that are left, from the mean of the latest; None before it can be trusted."""
        counted = len(self._times) - 1
        if counted < _ENOUGH:
            return None
        return (self._times[-1] - self._times[0]) / counted * (self.total - self.done)

    def _describe(self) -> None:
        left = self.seconds_left
        parts = [] if left is None or self.done >= self.total else [f"about {rough_duration(left)} left"]
        self._bar.set_postfix_str(", ".join([*parts, *([self._note] if self._note else [])]), refresh=False)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
