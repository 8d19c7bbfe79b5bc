"""The protocol of a path transform: signals in, the coefficients of one path out, and a table of the paths."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from scrapl_jtfs._settings import default_settings
from scrapl_jtfs._validation import PathIndices, as_batch, as_path_index, is_entry
from scrapl_jtfs.any_path_table import as_table

# Members that whatever takes a path transform asks for, in the order in which a lack of them is named.
_MEMBERS = ("paths", "signal_shape", "n_paths", "dtype", "device", "settings", "select", "full", "stream")

_Transform = TypeVar("_Transform")
_Own = TypeVar("_Own", bound="PathTransform")


class PathTransform(nn.Module, ABC):
    r"""A family of transforms :math:`\phi_0, \ldots, \phi_{P-1}` of signals, of which one can be had by itself.

    A subclass sets ``paths`` and ``signal_shape`` and defines :meth:`forward`; the other members have defaults,
    which it may override to share work between paths. Losses, prepared targets, SCRAPL and whatever else takes a
    path transform ask for these members, and not for this class.

    Optional members let losses share more, where a transform has them: ``first_layer(x)`` computes what all paths
    of signals share, which :meth:`forward`, :meth:`select`, :meth:`full` and :meth:`stream` then take in place of
    ``x``; ``stream_pairs(x, target, path_indices)`` yields (path_idx, coefficients of x, of the target), each path
    once in any order, computed together; where x is a list of renderings, its coefficients are a tuple with one
    entry for each. No gradient flows to the target.

    Attributes:
        paths: a sequence with an entry for each path, in order: an entry has its id as ``index``, and its ``str``
            says in units what the path listens to. An :class:`AnyPathTable` can be chosen from.
        signal_shape: the last axes of a signal: ``(n_samples,)``, or ``(height, width)`` of an image.

    Example:
        Averages of the magnitudes of frames, with a path for each length of frame:

        >>> from dataclasses import dataclass
        >>> import torch
        >>> from torch import Tensor
        >>> from scrapl_jtfs import PathTransform
        >>> @dataclass(frozen=True)
        ... class Frame:
        ...     index: int
        ...     samples: int
        ...     def __str__(self) -> str:
        ...         return f"path {self.index}: frames of {self.samples} samples"
        >>> class Spectra(PathTransform):
        ...     def __init__(self, n_samples: int) -> None:
        ...         super().__init__()
        ...         self.signal_shape = (n_samples,)
        ...         self.paths = [Frame(p, 32 * 2**p) for p in range(4)]
        ...     def forward(self, x: Tensor, path_idx: int) -> Tensor:
        ...         path = self.paths[self.checked_index(path_idx)]
        ...         frames = self.checked_signal(x).unfold(-1, path.samples, path.samples // 2)
        ...         return torch.fft.rfft(frames).abs().mean(-2)
        >>> spectra = Spectra(2048)
        >>> [tuple(phi.shape) for phi in spectra.full(torch.randn(3, 2048))]
        [(3, 17), (3, 33), (3, 65), (3, 129)]
    """

    paths: Any  # a Sequence, whose type each subclass narrows
    signal_shape: tuple[int, ...]

    # Modules that are a transform's own, no parts that a user put in: what moves its tensors alone moves theirs.
    _OWN: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        # Follows the module's dtype and device where a subclass has no tensors of its own.
        self._like: Tensor
        self.register_buffer("_like", torch.empty(0), persistent=False)

    def _apply(self: _Own, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Own:
        super()._apply(fn, recurse)
        if not recurse:
            for name in self._OWN:
                getattr(self, name)._apply(fn)
        return self

    def _to_default_device(self) -> None:
        """Move what was made on the CPU to torch's default device, as modules of torch are made there."""
        device = torch.empty(0).device
        if device.type != "cpu":
            self.to(device)

    @abstractmethod
    def forward(self, x: Any, path_idx: int) -> Tensor:
        """Compute the coefficients of one path.

        It must be a function of the signal and the tensors of the module alone, the same in training and in
        evaluation mode, each signal of a batch by itself.

        Args:
            x: real signals ``(..., *signal_shape)`` of the transform's dtype and device.
            path_idx: path id p, from 0 to P - 1.

        Returns:
            Real coefficients: the batch axes of ``x``, then those of the path, none or several.
        """

    def select(self, x: Any, path_indices: PathIndices) -> list[Tensor]:
        """Compute several paths, by default one after the other.

        Args:
            x: as in :meth:`forward`.
            path_indices: path ids, in any order: a list, a range, a one-dimensional array or tensor of integers.

        Returns:
            Their coefficients in that order.
        """
        indices = as_table(self.paths).indices(path_indices)
        coefficients = {p: self(x, p) for p in dict.fromkeys(indices)}
        return [coefficients[p] for p in indices]

    def full(self, x: Any) -> list[Tensor]:
        """Compute every path: a list in the order of ``paths``."""
        return self.select(x, range(self.n_paths))

    def stream(self, x: Any) -> Iterator[tuple[int, Tensor]]:
        """Yield (path_idx, coefficients) for every path, so that a caller need not hold them all.

        An override may yield them in the order that shares most; by default it is that of ids.
        """
        for p in range(self.n_paths):
            yield p, self(x, p)

    def stack(self, x: Any, path_indices: PathIndices | None = None) -> Tensor:
        """Compute paths of one shape as one tensor.

        Args:
            x: as in :meth:`forward`.
            path_indices: as in :meth:`select`, by default all.

        Returns:
            ``(..., paths, *axes of a path)``, in the order of the ids.

        Raises:
            ValueError: no path is named, or two differ in shape.

        Example:
            >>> import torch
            >>> from scrapl_jtfs import TimeScattering
            >>> scattering = TimeScattering(2048, J=6, Q=(8, 1), T="global")
            >>> scattering.stack(torch.randn(4, 2048), [0, 5, 9]).shape
            torch.Size([4, 3, 1])
        """
        ids = as_table(self.paths).indices(range(self.n_paths) if path_indices is None else path_indices)
        if not ids:
            raise ValueError("Invalid path_indices: none; expected one path or more")
        found = self.select(x, ids)
        for path, coefficients in zip(ids, found, strict=True):
            if coefficients.shape != found[0].shape:
                raise ValueError(
                    f"Invalid path_indices: path {ids[0]} has coefficients {tuple(found[0].shape)}, path {path} "
                    f"{tuple(coefficients.shape)}; expected paths of one shape; choose such paths, or take a "
                    "list, select(x, path_indices)"
                )
        n_batch = x.ndim - len(self.signal_shape) if isinstance(x, Tensor) else len(x.batch_shape)
        return torch.stack(found, n_batch)

    @property
    def n_paths(self) -> int:
        """P, the number of paths."""
        return len(self.paths)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the transform, and of the signals expected."""
        return self._like.dtype

    @property
    def device(self) -> torch.device:
        """Device of the transform, and of the signals expected."""
        return self._like.device

    @property
    def settings(self) -> Any:
        """All that coefficients depend on, but dtype and device: where it is equal, coefficients are.

        By default the class, the plain attributes and the contents of all parameters and buffers, which are read
        anew each time. A transform that learns has other settings after each step, and its prepared targets are
        computed anew. Where filters follow from a few arguments, override it with these, in a dict by their names:
        nothing need be read then, and a copy in another dtype has equal settings.
        """
        return default_settings(self)

    def checked_index(self, path_idx: Any) -> int:
        """Return a path id as an int.

        Raises:
            TypeError: not an integer.
            IndexError: not from 0 to P - 1.
        """
        return as_path_index(path_idx, self.n_paths, "select(x, path_indices)")

    def checked_signal(self, x: Any, name: str = "x") -> Tensor:
        """Return signals ``(..., *signal_shape)`` of the transform's dtype; half precision is converted.

        Args:
            x: the signals.
            name: what the caller calls them, for messages.

        Raises:
            TypeError: not a dense tensor of real floating-point numbers.
            ValueError: of other last axes, another dtype or device than the transform, or none at all.
        """
        return as_batch(x, tuple(self.signal_shape), self.dtype, self.device, name)


def check_path_transform(transform: _Transform, name: str = "transform") -> _Transform:
    """Return what it is given if it has the members of a path transform, whatever its class.

    Args:
        transform: the object.
        name: what the caller calls it, for messages.

    Raises:
        TypeError: it lacks a member, or one is of another kind.
        ValueError: there are no paths, or an entry's ``index`` is not its place in the table.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, check_path_transform
        >>> jtfs = check_path_transform(JTFSPath(2048, J=7, Q=(8, 1), J_fr=2))
        >>> jtfs.signal_shape
        (2048,)
        >>> check_path_transform(torch.nn.Linear(2, 3))
        Traceback (most recent call last):
        TypeError: Invalid transform: Linear; expected a path transform; it lacks paths, signal_shape, n_paths, \
dtype, device, settings, select, full and stream; derive it from scrapl_jtfs.PathTransform
    """
    kind = type(transform).__name__
    if isinstance(transform, type):
        raise TypeError(
            f"Invalid {name}: the class {transform.__name__}; expected a path transform; make one: "
            f"{transform.__name__}(...)"
        )
    lacks = [member for member in _MEMBERS if not hasattr(transform, member)]
    if not callable(transform):
        lacks.append("forward")
    if lacks:
        raise TypeError(
            f"Invalid {name}: {kind}; expected a path transform; it lacks {_listed(lacks)}; derive it from "
            "scrapl_jtfs.PathTransform"
        )
    _check_kinds(transform, name)
    _check_table(transform, name)
    return transform


def as_signals(transform: Any, x: Any, name: str = "x") -> Tensor:
    """Return signals that fit a path transform, in its own words where it has them; half precision is converted.

    Raises:
        TypeError, ValueError: as :meth:`PathTransform.checked_signal`.
    """
    if isinstance(transform, PathTransform):
        return transform.checked_signal(x, name)
    return as_batch(x, tuple(transform.signal_shape), transform.dtype, transform.device, name)


def check_coefficients(transform: Any, coefficients: Tensor, signal_shape: torch.Size) -> None:
    """Raise ValueError unless coefficients are real and have the batch axes of their signals first.

    Args:
        transform: what made them.
        coefficients: those of one path.
        signal_shape: shape of the signals, batch axes included.
    """
    kind = type(transform).__name__
    if not coefficients.is_floating_point():
        remedy = (
            "return their modulus, or torch.view_as_real of them" if coefficients.is_complex() else "convert them"
        )
        raise ValueError(
            f"Invalid transform: {kind} makes coefficients of {coefficients.dtype}; expected real floating-point "
            f"numbers; {remedy}"
        )
    batch_shape = signal_shape[: len(signal_shape) - len(transform.signal_shape)]
    if coefficients.shape[: len(batch_shape)] != batch_shape:
        raise ValueError(
            f"Invalid transform: {kind} makes coefficients of shape {tuple(coefficients.shape)} for signals "
            f"{tuple(signal_shape)}; expected the batch axes {tuple(batch_shape)} first; see "
            "scrapl_jtfs.testing.assert_path_transform"
        )


def _check_kinds(transform: Any, name: str) -> None:
    kind, shape = type(transform).__name__, transform.signal_shape
    if not isinstance(shape, tuple) or not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise TypeError(
            f"Invalid {name}: {kind} with signal_shape={shape!r}; expected the last axes of a signal, such as "
            "(n_samples,) or (height, width); make it a tuple of positive integers"
        )
    if not isinstance(transform.dtype, torch.dtype) or not transform.dtype.is_floating_point:
        raise TypeError(
            f"Invalid {name}: {kind} with dtype={transform.dtype!r}; expected a real floating-point torch.dtype"
        )
    if not isinstance(transform.device, torch.device):
        raise TypeError(f"Invalid {name}: {kind} with device={transform.device!r}; expected a torch.device")


def _check_table(transform: Any, name: str) -> None:
    kind, paths, n_paths = type(transform).__name__, transform.paths, transform.n_paths
    if not hasattr(paths, "__len__") or not hasattr(paths, "__getitem__"):
        raise TypeError(
            f"Invalid {name}: {kind} with paths of type {type(paths).__name__}; expected a sequence with an entry "
            "for each path; make it a list or a tuple"
        )
    if len(paths) == 0 or len(paths) != n_paths:
        raise ValueError(
            f"Invalid {name}: {kind} with {len(paths)} paths and n_paths={n_paths!r}; expected one entry for each "
            "of one or more paths"
        )
    for place in range(n_paths):
        if not is_entry(paths[place]):
            raise TypeError(
                f"Invalid {name}: {kind} whose paths[{place}] is a {type(paths[place]).__name__} without a path "
                f"id; expected an entry with index={place}, and a str() that says what it listens to"
            )
        if paths[place].index != place:
            raise ValueError(
                f"Invalid {name}: {kind} whose paths[{place}] has index={paths[place].index}; expected all paths "
                "in the order of their ids"
            )


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
