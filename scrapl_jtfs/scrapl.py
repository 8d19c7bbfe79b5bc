"""SCRAPL: transform, path loss, sampler and optimizer in one object, which gives them the path of each step."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT

from scrapl_jtfs._scrapl.units import Bounds, as_plain, choose_paths, choose_probabilities, make_units
from scrapl_jtfs._transform.geometry import Boundary, Support
from scrapl_jtfs._validation import PathIndices
from scrapl_jtfs.any_path_table import as_table
from scrapl_jtfs.loss import JTFSPathLoss, PathLoss, Signals
from scrapl_jtfs.prepared_target import PreparedTarget
from scrapl_jtfs.transform import JTFSPath
from scrapl_optim import PathAdamSAGA, PathLog, PathSampler
from scrapl_optim._deprecation import rename_arguments

# The SCRAPL that announces its paths to an optimizer.
_OWNERS: weakref.WeakKeyDictionary[Optimizer, weakref.ref[Any]] = weakref.WeakKeyDictionary()


class SCRAPL(nn.Module):
    r"""Scattering loss on one random path per optimizer step, with its transform, its sampler and its optimizer.

    ::

        scrapl = SCRAPL(16000, J=12, Q=(8, 2), J_fr=3, T="global", sample_rate=16000, rates=(2, 50))
        optimizer = scrapl.optimizer(model.parameters(), lr=5e-4)
        for x in batches:
            loss = scrapl(model(x), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    In training mode, a call draws the path of the next optimizer step, computes the loss on it and announces it to
    the optimizer. The path stays the same until the optimizer has stepped: all micro-batches of an accumulated
    step have one path, and a step that GradScaler skips is repeated with the same path. In evaluation mode
    (``scrapl.eval()``), and by :meth:`full`, the loss is computed on all paths. The state dict holds the number of
    steps. With it and the optimizer's state dict, a resumed run draws the paths that the unbroken one would have
    drawn. The path is a function of seed and step, hence the same on every rank.

    With :math:`U` units of sampling, the set :math:`b` of paths in one of them, and :math:`P` paths in all, the
    loss of a step is

    .. math:: L_b(x) = \frac{U}{P} \sum_{p \in b} L_p(x) , \qquad \frac{1}{U} \sum_b L_b = L ,

    where :math:`L_p` is the loss of :class:`JTFSPathLoss`. A unit is a path (:math:`U = P`, :math:`L_b = L_p`) or,
    with ``unit="rate"``, all paths of one rate, which share most of their cost and one row in the optimizer.

    The object holds no gradients and no hooks into them; hooks of the optimizer tell it when a step is done.

    Args:
        n_samples: N, samples of the signals.
        J: octaves in time; this and the next ten are arguments of :class:`JTFSPath`, which says more of each.
        Q: wavelets per octave of the first and second order.
        J_fr: octaves along log-frequency.
        Q_fr: wavelets per octave along log-frequency.
        T: support in samples of the average along time.
        F: support in first-order wavelets of the average along log-frequency.
        sample_rate: in Hz, for the rates of paths.
        orders: orders of the paths, 1, 2 or both.
        samples_per_bandwidth: density of the samples of sub-bands; None for kymatio's.
        smoothing: eps of smooth moduli.
        memory: bytes that each layer may spend on sub-bands.
        boundary: continuation of signals at their ends, "reflect" or "even", as in :class:`JTFSPath`.
        p: order of the norm; this and the next three are arguments of :class:`JTFSPathLoss`.
        squared: True for the square of the norm (the paper), False for the norm (scrapl-loss).
        log1p_eps: compare log(1 + coefficients / log1p_eps); None compares the coefficients.
        relative_eps: compare relative to each target's norm, with this added in squares; None for absolute.
        rates: (lowest, highest) rate in Hz of the paths to draw; None for a bound that is not there.
        scales: the same for scales in cycles per octave.
        spins: draw only paths of these spins: 1 (rising), -1 (falling), 0, or several.
        paths: draw only these path ids.
        unit: unit of sampling: a ``"path"``, or a bundle of all drawn paths of one ``"rate"``, ``"scale"`` or
            ``"spin"``.
        probs: (P,) :math:`\pi`, a probability for each path, or a file of :func:`scrapl_optim.save_probs`; uniform
            if None. The probability of a bundle is the sum over its paths.
        seed: of the draws; this and the next two are arguments of :class:`scrapl_optim.PathSampler`.
        min_prob_frac: floor of the probabilities, as a fraction of the uniform one.
        cover_first: True to draw each unit once before any is drawn again.
        unbiased: True to weight updates by the inverse of the probability, see
            :class:`scrapl_optim.PathAdamSAGA`.

    These arguments make a JTFS; :meth:`from_transform` takes any path transform.

    The former names of ``samples_per_bandwidth`` and ``probs``, ``oversampling`` and ``pi``, work for one more
    release.

    Attributes:
        loss_fn: the :class:`JTFSPathLoss`, or the :class:`PathLoss` of another transform.
        sampler: the :class:`scrapl_optim.PathSampler`, over units.
        units: the path ids of each unit.
        kept: the ids of the paths that are drawn.
        log: the :class:`scrapl_optim.PathLog` of the losses of all steps: ``scrapl.log.estimate()`` estimates
            :meth:`full`, and ``print(scrapl.log.report())`` names problems of the training.
        step: number of optimizer steps that are done.

    Raises:
        TypeError, ValueError: an argument is out of its domain, or no path is left to draw.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import SCRAPL
        >>> model = torch.nn.Linear(2048, 2048)
        >>> scrapl = SCRAPL(2048, J=8, Q=(8, 1), J_fr=2, sample_rate=2048, rates=(4, 100))
        >>> optimizer = scrapl.optimizer(model.parameters(), lr=1e-3)
        >>> x = torch.randn(2, 2048)
        >>> for _ in range(3):
        ...     loss = scrapl(model(x), x)
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        >>> scrapl.step, len(scrapl.kept), scrapl.n_paths
        (3, 35, 42)

    Source: SCRAPL, Algorithm 1, Equation 3.
    """

    @rename_arguments(oversampling="samples_per_bandwidth", pi="probs")
    def __init__(
        self,
        n_samples: int,
        J: int,
        Q: int | Sequence[int],
        J_fr: int,
        Q_fr: int = 1,
        T: Support = None,
        F: Support = None,
        *,
        sample_rate: float = 1.0,
        orders: Collection[int] = (2,),
        samples_per_bandwidth: float | None = None,
        smoothing: float = 0.0,
        memory: int | None = None,
        boundary: Boundary = "reflect",
        p: float = 2.0,
        squared: bool = True,
        log1p_eps: float | None = None,
        relative_eps: float | None = None,
        rates: Bounds | None = None,
        scales: Bounds | None = None,
        spins: int | Sequence[int] | None = None,
        paths: Sequence[int] | None = None,
        unit: str = "path",
        probs: str | Sequence[float] | Tensor | None = None,
        seed: int = 0,
        min_prob_frac: float = 0.0,
        cover_first: bool = False,
        unbiased: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(unbiased, bool):
            raise TypeError(f"Invalid unbiased: {unbiased!r}; expected True or False")
        jtfs = JTFSPath(
            n_samples,
            J,
            as_plain(Q),
            J_fr,
            Q_fr,
            T,
            F,
            sample_rate=sample_rate,
            orders=as_plain(orders),
            samples_per_bandwidth=samples_per_bandwidth,
            smoothing=smoothing,
            memory=memory,
            boundary=boundary,
        )
        loss_fn = JTFSPathLoss(jtfs, p=p, squared=squared, log1p_eps=log1p_eps, relative_eps=relative_eps)
        rates, scales, spins, paths, probs = map(as_plain, (rates, scales, spins, paths, probs))
        self._set_up(
            loss_fn,
            {"rates": rates, "scales": scales, "spins": spins, "paths": paths},
            choose_paths(jtfs.paths, rates, scales, spins, paths),
            unit,
            (probs, seed, min_prob_frac, cover_first, unbiased),
        )

    @classmethod
    def from_transform(
        cls,
        transform: Any,
        *,
        p: float = 2.0,
        squared: bool = True,
        log1p_eps: float | None = None,
        relative_eps: float | None = None,
        paths: PathIndices | Iterable[Any] | None = None,
        unit: str = "path",
        probs: str | Sequence[float] | Tensor | None = None,
        seed: int = 0,
        min_prob_frac: float = 0.0,
        cover_first: bool = False,
        unbiased: bool = False,
    ) -> SCRAPL:
        """Return a SCRAPL on any path transform: of signals, of images, learnable, or a :class:`JTFSPath`.

        Args:
            transform: the path transform: a :class:`PathTransform`, or whatever has its members.
            p: order of the norm; this and the next three are arguments of :class:`PathLoss`.
            squared: True for the square of the norm (the paper), False for the norm.
            log1p_eps: compare log(1 + coefficients / log1p_eps); None compares the coefficients.
            relative_eps: compare relative to each target's norm, with this added in squares; None for absolute.
            paths: draw only these: ids, such as ``transform.paths.where(...)``, or paths of its table.
            unit: unit of sampling: a ``"path"``, or a bundle of all drawn paths of one value of this attribute of
                the table's entries.
            probs: (P,) a probability for each path, or a file of them; uniform if None.
            seed: of the draws; this and the next three are those of :class:`SCRAPL`.
            min_prob_frac: floor of the probabilities, as a fraction of the uniform one.
            cover_first: True to draw each unit once before any is drawn again.
            unbiased: True to weight updates by the inverse of the probability.

        Raises:
            TypeError, ValueError: the transform does not meet the protocol, an argument is out of its domain, or
                no path is left to draw.

        Example:
            >>> import torch
            >>> from scrapl_jtfs import SCRAPL, ImageScattering
            >>> scattering = ImageScattering((32, 32), J=3, L=4)
            >>> scrapl = SCRAPL.from_transform(scattering, paths=scattering.paths.where(order=2), log1p_eps=1e-3)
            >>> model = torch.nn.Conv2d(1, 1, 5, padding=2)
            >>> optimizer = scrapl.optimizer(model.parameters(), lr=1e-3)
            >>> x, y = torch.rand(2, 4, 1, 32, 32)
            >>> scrapl(model(x), y).backward()
            >>> optimizer.step()
            >>> scrapl.step, len(scrapl.kept), scrapl.n_paths
            (1, 48, 61)
        """
        kind = JTFSPathLoss if isinstance(transform, JTFSPath) else PathLoss
        loss_fn = kind(transform, p=p, squared=squared, log1p_eps=log1p_eps, relative_eps=relative_eps)
        table = as_table(transform.paths)
        chosen = tuple(range(len(table))) if paths is None else table.ids(paths)
        scrapl = cls.__new__(cls)
        nn.Module.__init__(scrapl)
        drawn = (as_plain(probs), seed, min_prob_frac, cover_first, unbiased)
        scrapl._set_up(loss_fn, {"paths": None if paths is None else chosen}, chosen, unit, drawn)
        return scrapl

    def _set_up(
        self,
        loss_fn: PathLoss,
        choices: dict[str, Any],
        chosen: tuple[int, ...],
        unit: str,
        drawn: tuple[Any, int, float, bool, bool],
    ) -> None:
        """Choose paths, units and their distribution.

        Args:
            loss_fn: the loss.
            choices: arguments that chose the paths, to be shown.
            chosen: ids of the paths to draw.
            unit: unit of sampling.
            drawn: probs, seed, min_prob_frac, cover_first and unbiased.
        """
        probs, seed, min_prob_frac, cover_first, unbiased = drawn
        if not isinstance(unbiased, bool):
            raise TypeError(f"Invalid unbiased: {unbiased!r}; expected True or False")
        self.loss_fn = loss_fn
        self._choices = {name: value for name, value in choices.items() if value is not None}
        distribution = choose_probabilities(loss_fn.n_paths, probs, chosen, min_prob_frac)
        self.kept = tuple(p for p in chosen if distribution[p] > 0)
        self.unit = unit
        self.units = make_units(as_table(loss_fn.paths), self.kept, unit)
        self.sampler = PathSampler(
            [float(sum(distribution[list(members)])) for members in self.units], seed=seed, cover_first=cover_first
        )
        self.unbiased = unbiased
        self.log = PathLog(len(self.units), probs=self.sampler.probs)
        self.step = 0
        self._losses: list[Tensor] = []
        self._optimizer: weakref.ref[Optimizer] | None = None
        self._watched: tuple[weakref.ref[Optimizer], ...] = ()  # optimizers whose steps run this object's hooks

    @property
    def transform(self) -> Any:
        """The path transform."""
        return self.loss_fn.transform

    @property
    def jtfs(self) -> JTFSPath:
        """The transform, where it is a :class:`JTFSPath`."""
        return self.loss_fn.jtfs  # type: ignore[return-value]

    @property
    def n_paths(self) -> int:
        """U, the number of units of sampling, which the optimizer calls paths: P, or the number of bundles."""
        return len(self.units)

    @property
    def n_drawn(self) -> int:
        """Number of units that can be drawn: of the kept paths, or of their bundles."""
        return len(self.sampler.paths)

    @property
    def path(self) -> int:
        """The unit of the next optimizer step: a path id, or the number of a bundle."""
        return self.sampler(self.step)

    @property
    def path_ids(self) -> tuple[int, ...]:
        """The ids of the paths in that unit."""
        return self.units[self.path]

    def optimizer(self, params: ParamsT, lr: float | Tensor = 1e-4, **options: Any) -> PathAdamSAGA:
        """Return a new PathAdamSAGA for these parameters, attached, with the right number of paths.

        Args:
            params: parameters, named parameters or parameter groups.
            lr: learning rate.
            options: other arguments of :class:`scrapl_optim.PathAdamSAGA`.

        Raises:
            TypeError: ``n_paths`` or ``unbiased`` is among the options: both are this object's.
        """
        for name in ("n_paths", "unbiased"):
            if name in options:
                raise TypeError(
                    f"Invalid {name}: {options[name]!r}; expected no such option, since SCRAPL knows it"
                    + ("; pass unbiased to SCRAPL" if name == "unbiased" else "")
                )
        optimizer = PathAdamSAGA(params, self.n_paths, lr, unbiased=self.unbiased, **options)
        self.attach(optimizer)
        return optimizer

    def attach(self, optimizer: Optimizer) -> None:
        """Let the steps of an optimizer determine when the path changes, and announce paths to a PathAdamSAGA.

        This is for an optimizer that was made elsewhere: any of torch's, or a PathAdamSAGA, also one that was
        copied or unpickled and thereby lost its hooks. An optimizer that was attached before is released; a
        further step of it raises an error.

        Args:
            optimizer: the inner optimizer, if a trainer wraps it.

        Raises:
            TypeError: it is no optimizer, or a trainer's wrapper.
            ValueError: it is a PathAdamSAGA of another number of paths or another ``unbiased``, or it is attached
                to another SCRAPL.
        """
        if not isinstance(optimizer, Optimizer) or not hasattr(optimizer, "_optimizer_step_pre_hooks"):
            raise TypeError(
                f"Invalid optimizer: {type(optimizer).__name__}; expected a torch.optim.Optimizer, the inner one "
                "where a trainer wraps it"
            )
        if isinstance(optimizer, PathAdamSAGA):
            n_paths = optimizer.defaults["n_paths"]
            unbiased = all(group["unbiased"] for group in optimizer.param_groups)
            if (n_paths, unbiased) != (self.n_paths, self.unbiased):
                raise ValueError(
                    f"Invalid optimizer: n_paths={n_paths}, unbiased={unbiased}; expected "
                    f"n_paths={self.n_paths}, unbiased={self.unbiased}; make it with scrapl.optimizer(params)"
                )
            self._check_alone(optimizer)
        self._optimizer = weakref.ref(optimizer)
        if any(ref() is optimizer for ref in self._watched):
            return
        self._watched = (*(ref for ref in self._watched if ref() is not None), self._optimizer)
        before, after = _step_hooks(weakref.ref(self))
        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)

    def _check_alone(self, optimizer: PathAdamSAGA) -> None:
        owner = _OWNERS.get(optimizer, lambda: None)()
        if owner is not None and owner is not self and owner._attached() is optimizer:
            raise ValueError(
                "Invalid optimizer: it is attached to another SCRAPL, and a step has one path; expected an "
                "optimizer of its own; for several transforms use their path losses, with optimizer.add_path"
            )
        _OWNERS[optimizer] = weakref.ref(self)

    def _attached(self) -> Optimizer | None:
        return None if self._optimizer is None else self._optimizer()

    @torch._disable_dynamo
    def forward(self, x: Signals, target: Tensor | PreparedTarget) -> Tensor:
        """Compute the loss on the path of this step, or in evaluation mode on all paths.

        Args:
            x: signals, differentiated: (batch, n_samples), (batch, channels, n_samples), ..., or images; or, from
                a synthesizer with randomness, a list of two or more independent renderings of the same controls,
                whose variance is then no part of the loss (see :class:`PathLoss`).
            target: signals of the same shape, or the result of ``loss_fn.prepare``; never differentiated.

        Returns:
            A scalar.

        Raises:
            RuntimeError: no optimizer is attached in training mode, so that nothing tells when a step is done.
        """
        if not self.training:
            return self.full(x, target)
        optimizer = self._attached()
        if optimizer is None:
            raise RuntimeError(
                "Invalid call in training mode: no optimizer is attached; expected one whose steps tell when the "
                "path changes; make one with scrapl.optimizer(model.parameters(), lr=...), or call "
                "scrapl.attach(optimizer); for all paths call scrapl.eval() or scrapl.full(x, target)"
            )
        unit = self.path
        weight = self.sampler.weight(unit) if self.unbiased else None
        loss = self.unit_loss(x, target, unit)
        if loss.requires_grad:
            self._losses.append(loss.detach())
        if isinstance(optimizer, PathAdamSAGA):
            optimizer.set_path(unit, weight)
            return loss
        return loss if weight is None else weight * loss

    def unit_loss(self, x: Signals, target: Tensor | PreparedTarget, unit: int) -> Tensor:
        """Compute L_b, the loss of one unit, without a draw and without an announcement.

        Raises:
            IndexError: there is no such unit.
        """
        if not 0 <= unit < self.n_paths:
            raise IndexError(f"Invalid unit: {unit}; expected an integer from 0 to {self.n_paths - 1}")
        members = self.units[unit]
        if len(members) == 1 and self.n_paths == self.loss_fn.n_paths:
            return self.loss_fn(x, target, members[0])
        return self.loss_fn(x, target, members) * (self.n_paths * len(members) / self.loss_fn.n_paths)

    def full(self, x: Signals, target: Tensor | PreparedTarget) -> Tensor:
        """Compute the share of the kept paths in the loss on all paths."""
        return self.loss_fn.full(x, target, paths=self.kept)

    def _log_step(self, unit: int) -> None:
        """Log the mean over the calls of a step, scaled so that its mean over units is the loss on kept paths."""
        if self._losses:
            mean = torch.stack(self._losses).mean()
            self.log.update(unit, mean * (self.n_drawn / self.n_paths))
            self._losses.clear()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the number of steps and the log, for ``state_dict``."""
        return {"step": self.step, "log": self.log.state_dict()}

    def set_extra_state(self, state: Any) -> None:
        """Load the number of steps, and the log if there is one, from a state dict.

        Raises:
            ValueError: the state has no number of steps, or the log of other paths.
        """
        step = state.get("step") if isinstance(state, dict) else None
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise ValueError(f"Invalid state of SCRAPL: {state!r}; expected what state_dict() gave")
        if "log" in state:
            self.log.load_state_dict(state["log"])
        self.step = step

    def __getstate__(self) -> dict[str, Any]:
        # A copy has its own steps; it must not announce paths to the optimizer of the original.
        return {**self.__dict__, "_optimizer": None, "_watched": (), "_losses": []}

    def extra_repr(self) -> str:
        """Show what is drawn in ``repr``."""
        chosen = "".join(f"{name}={value!r}, " for name, value in self._choices.items())
        return (
            f"{chosen}unit={self.unit!r}, kept={len(self.kept)} of {self.loss_fn.n_paths} paths, "
            f"n_paths={self.n_paths}, unbiased={self.unbiased}, step={self.step}"
        )


def _step_hooks(owner: weakref.ref[SCRAPL]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the hooks before and after each step of an attached optimizer, which keep no object alive."""

    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        scrapl = owner()
        attached = None if scrapl is None else scrapl._attached()
        if attached is not None and attached is not optimizer:
            raise RuntimeError(
                "Invalid optimizer: another one was attached to this SCRAPL later; expected a single one; put all "
                "parameters into groups of one optimizer, or give each a SCRAPL of its own"
            )

    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        scrapl = owner()
        if scrapl is not None and scrapl._attached() is optimizer:
            drawn = scrapl.path
            scrapl.step += 1
            scrapl._log_step(drawn)

    return before, after
