"""Reports of where a run of theta-importance stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from scrapl_optim._deprecation import warn_renamed
from scrapl_optim._importance.eigenvalue import Eigenvalue


class Progress(NamedTuple):
    """The state of a run.

    Attributes:
        done: values of C that are known, those found on disk included; or slopes of a path on a batch of pairs.
        total: values of C that this process is to know; or slopes.
        stage: what was done last: "derivatives" of a path, a larger "subspace", or one of the "values"; "slopes"
            of :func:`scrapl_optim.measure_alignment`.
        path_idx: path of the last derivatives, value or slopes.
        control: control u of the last value, ``None`` at other stages.
        eigenvalue: the last value with its residual, ``None`` at other stages.
    """

    done: int
    total: int
    stage: str
    path_idx: int | None = None
    control: int | None = None
    eigenvalue: Eigenvalue | None = None

    @property
    def found(self) -> Eigenvalue | None:
        """Deprecated name of ``eigenvalue``."""
        warn_renamed("Progress.found", "Progress.eigenvalue")
        return self.eigenvalue


@contextmanager
def reporter(progress: bool | Callable[[Progress], None]) -> Iterator[Callable[[Progress], None]]:
    """Give a function that passes the state of a run on to a callable, a bar or nobody."""
    if callable(progress):
        yield progress
        return
    if not progress:
        yield lambda _: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise RuntimeError(
            "Invalid progress: True; expected tqdm to be installed; pip install tqdm, or pass a callable"
        ) from error
    with tqdm(unit="value") as bar:

        def show(state: Progress) -> None:
            bar.total = state.total
            residual = "" if state.eigenvalue is None else f"{state.eigenvalue.residual:.0e}"
            bar.set_postfix(stage=state.stage, path=state.path_idx, control=state.control, residual=residual)
            bar.update(state.done - bar.n)

        yield show
