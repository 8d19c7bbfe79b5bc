"""A log of the losses of each path: a loss curve that can be read, visits, and draws that went wrong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scrapl_optim._validation import as_int, as_n_paths, as_number, as_one_path, refuse_paths
from scrapl_optim.probabilities import as_distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Losses on an accelerator wait for each other, so that a step need not wait for them.
_MOST_PENDING = 64
# Points of the curve at most; every second is dropped when there are more.
_MOST_POINTS = 1024
# Draws whose return shows that their sequence started anew.
_PATTERN = 32
# Chance of a warning where nothing is wrong, to be stayed under.
_RARE = 1e-6

_BY_PATH = {
    "visits": np.int64,
    "first_seen": np.int64,
    "last_seen": np.int64,
    "first": np.float64,
    "last": np.float64,
}
_COUNTS = ("updates", "runs", "nonfinite", "stride", "repeated_at")
_SERIES = {"curve": torch.float64, "opening": torch.int64, "latest": torch.int64}


class PathLog:
    r"""Keeps the losses of a training that sees one path per step, whose single losses tell little.

    Losses of paths may differ by a factor of 1000, so that a curve of them shows which path was drawn. The mean of
    the last loss of each path seen so far,

    .. math:: \hat L = \frac{1}{|S|} \sum_{p \in S} \ell_p^{\text{last}} ,

    estimates the mean over all paths, at no cost and whatever distribution they are drawn from. It lags behind: a
    path's loss is as old as its last visit, :math:`P` steps on average. Until every path has been seen, it jumps.

    A loss that is not finite is counted, and the path's last one stays. Losses on an accelerator are read a few at
    a time, or when they are asked for: no step waits for them.

    Args:
        n_paths: the number P of paths.
        probs: probability of each path, such as ``sampler.probs``, where it is not the same for all: paths of
            probability 0 are never missed.
        window: visits whose losses :meth:`rising` compares with as many before.

    Raises:
        TypeError: if an integer is not one.
        ValueError: if a value is out of its domain, or probabilities do not fit the paths.

    Example:
        >>> log = PathLog(n_paths=3)
        >>> for path, loss in [(0, 8.0), (1, 0.5), (0, 4.0)]:
        ...     log.update(path, loss)
        >>> log.estimate()
        2.25
        >>> log.visits
        array([2, 1, 0])
        >>> log.relative(0), log.stalest()
        (0.5, 2)

    With Lightning, for a module that keeps the path of its training step in ``self.path``::

        class LogPaths(lightning.Callback):
            def __init__(self, n_paths):
                self.paths = PathLog(n_paths)

            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                loss = outputs["loss"] * trainer.accumulate_grad_batches  # which Lightning divides by
                self.paths.update(module.path, loss)
                module.log("estimated_full_loss", self.paths.estimate())

            def on_train_end(self, trainer, module):
                print(self.paths.report())

            def state_dict(self):
                return self.paths.state_dict()

            def load_state_dict(self, state_dict):
                self.paths.load_state_dict(state_dict)
    """

    def __init__(
        self, n_paths: SupportsIndex, *, probs: npt.ArrayLike | Tensor | None = None, window: SupportsIndex = 5
    ) -> None:
        refuse_paths(n_paths)
        n = as_n_paths(n_paths)
        self._probs = np.full(n, 1.0 / n) if probs is None else as_distribution(probs, n)
        self._drawable = self._probs > 0
        self._window = as_int(window, "window")
        if not 1 <= self._window <= 1000:
            raise ValueError(f"Invalid window: {self._window}; expected a number of visits from 1 to 1000")
        self._by_path: dict[str, npt.NDArray[Any]] = {
            name: np.full(n, math.nan if kind is np.float64 else 0, kind) for name, kind in _BY_PATH.items()
        }
        self._recent = np.full((n, 2 * self._window), math.nan)
        self._counts = dict.fromkeys(_COUNTS, 0) | {"stride": 1}
        self._curve: list[tuple[float, float]] = []
        self._opening: list[int] = []
        self._latest: list[int] = []
        self._pending: list[tuple[int, Tensor]] = []

    @property
    def n_paths(self) -> int:
        """Number of paths."""
        return self._probs.size

    @property
    def updates(self) -> int:
        """Number of losses it was told."""
        return self._counts["updates"] + len(self._pending)

    @property
    def visits(self) -> npt.NDArray[np.int64]:
        """Number of times that each path was drawn: int64 of shape ``(n_paths,)``, a copy of your own."""
        return self._settled("visits").copy()

    @property
    def ages(self) -> npt.NDArray[np.int64]:
        """Updates since each path was last seen, all of them if it never was: int64 ``(n_paths,)``."""
        return self._counts["updates"] - self._settled("last_seen")

    @property
    def losses(self) -> npt.NDArray[np.float64]:
        """The last loss of each path, NaN where there is none: float64 ``(n_paths,)``, a copy of your own."""
        return self._settled("last").copy()

    @property
    def curve(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Numbers of updates, at most 1024 of them, and what :meth:`estimate` was then."""
        self._settle()
        points = np.array(self._curve, dtype=np.float64).reshape(-1, 2)
        return points[:, 0].astype(np.int64), points[:, 1]

    def update(self, path_idx: SupportsIndex | Tensor, loss: float | Tensor) -> None:
        """Tell the loss of a path; where a step has several paths, once for each.

        Args:
            path_idx: path p.
            loss: a number, or a tensor of one entry, which is copied and cut from its graph.

        Raises:
            TypeError: if the path is not an integer, or the loss not a real number.
            IndexError: if the path does not exist.
            ValueError: if the loss has several entries.
        """
        path = as_one_path(path_idx, self.n_paths)
        if not isinstance(loss, Tensor):
            number = as_number(loss, "loss")
            self._settle()
            self._note(path, number)
            return
        if loss.is_complex() or loss.is_meta or loss.layout is not torch.strided:
            raise TypeError(f"Invalid loss: {loss.dtype}, {loss.layout}, on {loss.device}; expected a real number")
        if loss.numel() != 1:
            raise ValueError(
                f"Invalid loss: shape {tuple(loss.shape)}; expected one number for a path; take its mean()"
            )
        # A copy, as losses are scaled in place, and buffers of graphs used again.
        self._pending.append((path, loss.detach().clone()))
        if loss.device.type == "cpu" or len(self._pending) >= _MOST_PENDING:
            self._settle()

    def estimate(self) -> float:
        """Return the mean of the last losses of the paths seen; NaN before the first.

        Where some paths are never drawn, it times the share of those that are estimates their part of the mean
        over all.
        """
        last = self._settled("last")
        seen = ~np.isnan(last)
        return float(last[seen].mean()) if seen.any() else math.nan

    @overload
    def relative(self, path_idx: None = None) -> npt.NDArray[np.float64]: ...
    @overload
    def relative(self, path_idx: SupportsIndex | Tensor) -> float: ...
    def relative(self, path_idx: SupportsIndex | Tensor | None = None) -> float | npt.NDArray[np.float64]:
        """Return the last loss over the first of a path, or of each; NaN where it was not seen, or began at 0.

        Raises:
            TypeError: if the path is not an integer.
            IndexError: if it does not exist.
        """
        first, last = self._settled("first"), self._settled("last")
        began = ~np.isnan(first) & (first != 0)
        with np.errstate(over="ignore"):
            ratios = np.divide(last, first, out=np.full(self.n_paths, math.nan), where=began)
        return ratios if path_idx is None else float(ratios[as_one_path(path_idx, self.n_paths)])

    def stalest(self) -> int:
        """Return the path, among those that can be drawn, whose last visit is the longest ago."""
        return int(np.where(self._drawable, self.ages, -1).argmax())

    def rising(self) -> tuple[int, ...]:
        r"""Return the paths whose newest ``window`` losses are all above all of as many before.

        Of :math:`w` = ``window`` and as many losses in random order, this holds by chance for one path in
        :math:`\binom{2w}{w}`: 252 for the default of 5.
        """
        self._settle()
        before, newest = self._recent[:, : self._window], self._recent[:, self._window :]
        return tuple(np.flatnonzero(newest.min(1) > before.max(1)).tolist())  # NaN compares as false

    def report(self) -> str:
        """Return in a few lines how the paths stand, and what looks wrong with the draws."""
        visits, ages = self.visits[self._drawable], self.ages
        seen, n = int((visits > 0).sum()), visits.size
        stalest, rising, ratios = self.stalest(), self.rising(), self.relative()
        ratio = f"{np.nanmedian(ratios):.2g}" if not np.isnan(ratios).all() else "unknown"
        when = "never seen" if self._by_path["visits"][stalest] == 0 else f"last seen {ages[stalest]} updates ago"
        lines = [
            f"{self.updates} updates: {seen} of {n} paths seen, {visits.min()} to {visits.max()} visits, mean "
            f"{visits.mean():.3g}",
            f"estimate of the full loss: {self.estimate():.3g}; last over first loss of a path, median: {ratio}",
            f"stalest: path {stalest}, {when}",
            f"rising: {', '.join(map(str, rising)) or 'none'}",
        ]
        return "\n".join(lines + [f"warning: {text}" for text in self.warnings()])

    def warnings(self) -> tuple[str, ...]:
        """Return what looks wrong with draws and losses, each in a sentence; by chance it comes once in 1e6."""
        self._settle()
        texts = [self._stuck(), self._missed(), self._repeated()]
        count = self._counts["nonfinite"]
        texts.append(f"{count} losses were inf or NaN" if count else "")
        return tuple(text for text in texts if text)

    def draw(self, axes: Axes) -> Line2D:
        """Draw the estimate against the number of updates, and when every path had been seen, on matplotlib axes.

        Other values by path, such as ``visits`` and ``relative()``, are arrays to draw as you like.
        """
        x, y = self.curve
        (line,) = axes.plot(x, y)
        began = self._by_path["first_seen"][self._drawable]
        if began.min() > 0:
            axes.axvline(float(began.max()), color="0.6", linestyle=":", label="every path seen")
        axes.set(xlabel="updates", ylabel="full loss, estimated")
        if y.size and (y > 0).all():
            axes.set_yscale("log")
        return line

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` goes on from: tensors on the CPU and integers."""
        self._settle()
        state: dict[str, Any] = {name: torch.from_numpy(array.copy()) for name, array in self._by_path.items()}
        series = {"curve": self._curve, "opening": self._opening, "latest": self._latest}
        state |= {name: torch.tensor(series[name], dtype=dtype, device="cpu") for name, dtype in _SERIES.items()}
        return {**state, "recent": torch.from_numpy(self._recent.copy()), **self._counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            TypeError: if it is no dict, or an entry is of another type.
            ValueError: if entries are missing, or of other paths or another window; nothing has changed then.
        """
        expected = {**self.state_dict(), "curve": None, "opening": None, "latest": None}
        _check_state(state_dict, expected)
        arrays = {name: _as_array(state_dict[name]) for name in _BY_PATH}
        self._recent = _as_array(state_dict["recent"])
        self._by_path, self._pending = arrays, []
        self._counts = {name: int(state_dict[name]) for name in _COUNTS}
        self._curve = [(x, y) for x, y in state_dict["curve"].reshape(-1, 2).tolist()]
        self._opening, self._latest = state_dict["opening"].tolist(), state_dict["latest"].tolist()

    def __repr__(self) -> str:
        seen = int((self.visits > 0).sum())
        return (
            f"PathLog(n_paths={self.n_paths}, updates={self.updates}, seen={seen}, estimate={self.estimate():.3g})"
        )

    def _settled(self, name: str) -> npt.NDArray[Any]:
        self._settle()
        return self._by_path[name]

    def _settle(self) -> None:
        """Read the losses that were left on their device."""
        pending, self._pending = self._pending, []
        for path, loss in pending:
            self._note(path, float(loss.item()))

    def _note(self, path: int, loss: float) -> None:
        by_path, counts = self._by_path, self._counts
        counts["updates"] += 1
        by_path["visits"][path] += 1
        by_path["last_seen"][path] = counts["updates"]
        if by_path["first_seen"][path] == 0:
            by_path["first_seen"][path] = counts["updates"]
        self._note_draw(path)
        if math.isfinite(loss):
            if math.isnan(by_path["first"][path]):
                by_path["first"][path] = loss
            by_path["last"][path] = loss
            recent = self._recent[path]
            recent[:-1] = recent[1:]
            recent[-1] = loss
        else:
            counts["nonfinite"] += 1
        if counts["updates"] % counts["stride"] == 0:
            self._extend_curve()

    def _note_draw(self, path: int) -> None:
        """Follow the sequence of draws; a path that comes again is none, as gradients may be accumulated."""
        if self._latest and self._latest[-1] == path:
            return
        self._counts["runs"] += 1
        self._latest = [*self._latest[1 - _PATTERN :], path]
        if len(self._opening) < _PATTERN:
            self._opening.append(path)
        elif self._latest == self._opening and not self._counts["repeated_at"]:
            self._counts["repeated_at"] = self._counts["updates"]

    def _extend_curve(self) -> None:
        last = self._by_path["last"]
        seen = ~np.isnan(last)
        if seen.any():
            self._curve.append((float(self._counts["updates"]), float(last[seen].mean())))
        if len(self._curve) >= _MOST_POINTS:
            self._curve = self._curve[1::2]
            self._counts["stride"] *= 2

    def _stuck(self) -> str:
        """Return what is wrong with draws of one path alone."""
        path = self._latest[-1] if self._latest else 0
        # One path may have as many updates by accumulation, or because it is the likeliest by far.
        if self._counts["runs"] != 1 or self._counts["updates"] < 2 * _PATTERN or self._probs[path] > 0.5:
            return ""
        return f"all {self._counts['updates']} updates are of path {path}: does the step count up?"

    def _missed(self) -> str:
        """Return what is wrong if more paths were missed than chance would."""
        visits, runs = self._by_path["visits"], self._counts["runs"]
        missed = int((self._drawable & (visits == 0)).sum())
        expected = float(((1 - self._probs[self._drawable]) ** runs).sum())
        if not missed or log_chance_of_missing(missed, expected) > math.log(_RARE):
            return ""
        n = int(self._drawable.sum())
        return (
            f"{n - missed} of {n} paths in {self._counts['updates']} updates, where draws would have missed "
            f"{expected:.2g} instead of {missed}: is the step a batch index, which starts anew with each epoch? "
            "If some paths are drawn seldom or never, use PathLog(n_paths, probs=sampler.probs)"
        )

    def _repeated(self) -> str:
        """Return what is wrong if the draws started anew."""
        at, visits = self._counts["repeated_at"], self._by_path["visits"][self._drawable]
        accumulated = math.ceil(self._counts["updates"] / max(self._counts["runs"], 1))
        in_turn = int(visits.max() - visits.min()) <= accumulated
        if not at or in_turn or self._log_chance_of_opening() > math.log(_RARE):
            return ""
        return (
            f"at update {at} the first {_PATTERN} draws had come again in the same order: is the step a batch "
            "index, or was it 0 again after a restart?"
        )

    def _log_chance_of_opening(self) -> float:
        """Return an upper bound of the log probability that the first draws come again by chance."""
        shares = self._by_path["visits"] / self._counts["updates"]
        total = math.log(self._counts["runs"])
        for before, path in zip([None, *self._opening], self._opening, strict=False):
            others = 1.0 if before is None else 1 - shares[before]
            total += min(0.0, math.log(shares[path] / others))
        return total


def log_chance_of_missing(missed: int, expected: float) -> float:
    r"""Return the logarithm of a bound of the chance to miss that many paths where :math:`\mu` are expected.

    The bound of Chernoff, :math:`e^{m - \mu} (\mu / m)^m` for :math:`m > \mu`, holds here too, since that one path
    is missed makes it less likely that another is.

    Example:
        >>> log_chance_of_missing(2, 2.0)
        0.0
        >>> log_chance_of_missing(54, 0.15) < math.log(1e-6)
        True

    Source: D. Dubhashi and D. Ranjan, "Balls and bins: a study in negative dependence" (1998).
    """
    if missed <= expected:
        return 0.0
    return missed - expected + missed * math.log(expected / missed) if expected > 0 else -math.inf


def _check_state(state: Any, expected: dict[str, Any]) -> None:
    """Raise TypeError or ValueError unless a state has the entries expected, of their shapes and dtypes."""
    if not isinstance(state, dict):
        raise TypeError(f"Invalid state: a {type(state).__name__}; expected a dict as of state_dict()")
    missing = sorted(set(expected) - set(state))
    if missing:
        raise ValueError(f"Invalid state: it lacks {', '.join(missing)}; expected a dict as of state_dict()")
    for name, default in expected.items():
        value = state[name]
        if isinstance(default, int):
            if as_int(value, f"{name} of the state") < (name == "stride"):
                raise ValueError(f"Invalid {name} of the state: {value}; expected a count")
            continue
        dtype = _SERIES[name] if default is None else default.dtype
        if not isinstance(value, Tensor) or value.dtype != dtype:
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"Invalid {name} of the state: {kind}; expected a tensor of {dtype}")
        if default is not None and value.shape != default.shape:
            raise ValueError(
                f"Invalid {name} of the state: shape {tuple(value.shape)}; expected {tuple(default.shape)}; it is "
                "of other paths, or of a log with another window"
            )
        if not _is_sound(name, value, len(expected["visits"])):
            raise ValueError(f"Invalid {name} of the state: {value}; expected what state_dict() gave")


def _is_sound(name: str, value: Tensor, n_paths: int) -> bool:
    """Return whether an entry of a state holds what one can: counts, pairs, or a few paths."""
    if name == "curve":
        return value.numel() % 2 == 0
    if name in ("opening", "latest"):
        return value.ndim == 1 and len(value) <= _PATTERN and bool(((value >= 0) & (value < n_paths)).all())
    return value.is_floating_point() or bool((value >= 0).all())


def _as_array(tensor: Tensor) -> npt.NDArray[Any]:
    return tensor.detach().cpu().numpy().copy()
