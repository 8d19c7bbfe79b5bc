"""Formats of the rows of a path: in full, in bfloat16, or in 8 bits per entry.

A row is two tensors shaped like the parameter: ``update``, the last P-Adam update of the path (the SAGA
memory), and ``rms``, the root of its second moment in units of the row. Each has a :class:`Format`, which
keeps it in one or two tensors.

    float32    update and rms in the dtype of the arithmetic                     8     bytes per parameter
    bfloat16   both rounded to 8 significant bits                                4
    int8       update: multiples of the block's largest entry / 127              2.03
               rms: 4 bits after the leading one, 4 of exponent below the block's largest

Rounding is stochastic: up or down with probabilities that leave the mean unchanged. A moment changes by a
small part of itself at each visit, which rounding to nearest can lose for good. The random bits are a hash of
the value, the step and the path: nothing is stored, and a resumed run rounds alike.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional
from torch import Tensor

_BLOCK = 256
# Smaller tensors and vectors stay in full: they hardly count, and a block needs entries to share its scale.
_SMALLEST_QUANTIZED = 4096
_SHORTEST_BLOCK = 16

_ROUNDED = {"bfloat16": True, "bfloat16-nearest": False, "int8": True, "int8-nearest": False}
STABLE_STORAGES = ("float32", "bfloat16", "int8")
STORAGES = tuple(f"{name}{place}" for name in ("float32", *_ROUNDED) for place in ("", "-host"))

_LOG_BITS = 19  # of the 23 bits of float32 after the leading one, those that the logarithmic code leaves out


class ExperimentalStorage(str):
    """The name of a storage that was asked for through :mod:`scrapl_optim.experimental`."""

    __slots__ = ()


class Format(ABC):
    """A way to keep a tensor in parts, whose names are the tensor's name and a suffix.

    Attributes:
        suffixes: suffixes of the parts.
        dtype: dtype of the first part; ``None`` for that of the arithmetic.
        whole: True where the only part is the tensor itself, so that writing to it is keeping.
        elementwise: True for parts that can be cut and joined anywhere; others can be cut only between entries of
            the first dimension.
    """

    suffixes: tuple[str, ...] = ("",)
    dtype: torch.dtype | None = None
    whole = False
    elementwise = True

    @abstractmethod
    def allocate(self, like: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Return parts that hold zeros, shaped and sharded as ``like``, for arithmetic in ``dtype``."""

    @abstractmethod
    def decode(self, parts: list[Tensor], dtype: torch.dtype) -> Tensor:
        """Return what the parts hold, in ``dtype``; new memory unless ``whole``."""

    @abstractmethod
    def encode(self, parts: list[Tensor], value: Tensor, salt: int | Tensor) -> None:
        """Keep ``value``; ``salt``, a 32-bit integer (or 0-dim tensor), chooses the random bits."""


class Whole(Format):
    """The tensor itself, in the dtype of the arithmetic."""

    whole = True

    def allocate(self, like: Tensor, dtype: torch.dtype) -> list[Tensor]:
        return [torch.zeros_like(like, dtype=dtype, memory_format=torch.contiguous_format)]

    def decode(self, parts: list[Tensor], dtype: torch.dtype) -> Tensor:
        return parts[0]

    def encode(self, parts: list[Tensor], value: Tensor, salt: int | Tensor) -> None:
        if value is not parts[0]:
            parts[0].copy_(value)


class BFloat16(Format):
    """The upper 16 bits of float32."""

    dtype = torch.bfloat16

    def __init__(self, stochastic: bool = True) -> None:
        self.stochastic = stochastic

    def allocate(self, like: Tensor, dtype: torch.dtype) -> list[Tensor]:
        return [torch.zeros_like(like, dtype=self.dtype, memory_format=torch.contiguous_format)]

    def decode(self, parts: list[Tensor], dtype: torch.dtype) -> Tensor:
        return parts[0].to(dtype)

    def encode(self, parts: list[Tensor], value: Tensor, salt: int | Tensor) -> None:
        bits = value.float().view(torch.int32)
        rounded = (bits + _dither(bits, salt, 16, self.stochastic)).bitwise_and_(-(2**16))
        parts[0].copy_(rounded.view(torch.float32))


class LinearInt8(Format):
    """Multiples of 1/127 of the largest absolute value of a block, which is kept in float32."""

    suffixes = ("", "_scale")
    dtype = torch.int8
    elementwise = False

    def __init__(self, stochastic: bool = True) -> None:
        self.stochastic = stochastic

    def allocate(self, like: Tensor, dtype: torch.dtype) -> list[Tensor]:
        return _allocate_blocks(like, torch.int8, torch.float32)

    def decode(self, parts: list[Tensor], dtype: torch.dtype) -> Tensor:
        codes, scale = parts
        return (
            (_blocks(codes.to(dtype)) * scale.to(dtype).unsqueeze(-1))
            .flatten(1)[:, : _row_length(codes)]
            .reshape(codes.shape)
        )

    def encode(self, parts: list[Tensor], value: Tensor, salt: int | Tensor) -> None:
        codes, scale = parts
        blocks = _blocks(value.float())
        scale.copy_(blocks.abs().amax(-1) / 127)
        steps = blocks / scale.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(-1)
        dither = _dither(blocks.view(torch.int32), salt, 24, self.stochastic)
        steps.add_(dither, alpha=2.0**-24).floor_().clamp_(-127, 127)
        codes.copy_(_unblock(steps, codes))


class LogUInt8(Format):
    """Non-negative numbers in 8 bits on a logarithmic grid: 16 steps to the octave, 3 to 6 % apart.

    Code 255 is the largest number of the block, code 0 lies 16 octaves (a factor of 65 536) below. Anything
    smaller is stored as code 0, which makes a root too large and a step too small: the harmless side. The bits of
    a float32 shifted right by 19 are the number of its step on the grid; ``_top`` keeps that of the block's
    largest.
    """

    suffixes = ("", "_top")
    dtype = torch.uint8
    elementwise = False

    def __init__(self, stochastic: bool = True) -> None:
        self.stochastic = stochastic

    def allocate(self, like: Tensor, dtype: torch.dtype) -> list[Tensor]:
        return _allocate_blocks(like, torch.uint8, torch.int32)

    def decode(self, parts: list[Tensor], dtype: torch.dtype) -> Tensor:
        codes, top = parts
        numbers = _blocks(codes.to(torch.int32)) + (top.to(torch.int32) - 255).unsqueeze(-1)
        values = (numbers.clamp_min_(0) << _LOG_BITS).view(torch.float32)
        return _unblock(values, codes).to(dtype)

    def encode(self, parts: list[Tensor], value: Tensor, salt: int | Tensor) -> None:
        codes, top = parts
        bits = _blocks(value.float()).view(torch.int32)
        numbers = (bits + _dither(bits, salt, _LOG_BITS, self.stochastic)).bitwise_right_shift_(_LOG_BITS)
        largest = numbers.amax(-1)
        top.copy_(largest)
        codes.copy_(_unblock(numbers.sub_((largest - 255).unsqueeze(-1)).clamp_min_(0), codes))


class RowFormat(NamedTuple):
    """The formats of the two tensors of a row; ``host`` is True for rows in host memory."""

    update: Format
    rms: Format
    host: bool = False


_WHOLE = Whole()
_ROW_FORMATS: dict[str, tuple[Format, Format]] = {"float32": (_WHOLE, _WHOLE)}
for _name, _stochastic in _ROUNDED.items():
    _ROW_FORMATS[_name] = (
        (BFloat16(_stochastic), BFloat16(_stochastic))
        if _name.startswith("bfloat16")
        else (LinearInt8(_stochastic), LogUInt8(_stochastic))
    )


def row_format(storage: str, shape: tuple[int, ...]) -> RowFormat:
    """Return the formats in which ``storage`` keeps rows of a (real) parameter of this shape."""
    name = storage.removesuffix("-host")
    length = math.prod(shape[1:])
    if name.startswith("int8") and (math.prod(shape) < _SMALLEST_QUANTIZED or length < _SHORTEST_BLOCK):
        name = "float32"
    return RowFormat(*_ROW_FORMATS[name], host=storage.endswith("-host"))


def salt_of(step: int, path_idx: int, stream: int) -> int:
    """Return 32 well mixed bits, as a signed integer, for a visit of a path (the finaliser of SplitMix64)."""
    z = (step * 0x9E3779B97F4A7C15 + path_idx * 0xD1B54A32D192ED03 + stream * 0x8CB92BA72F3D8DD7) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return ((z ^ (z >> 31)) & 0xFFFFFFFF) - 2**31


def _dither(bits: Tensor, salt: int | Tensor, n_bits: int, stochastic: bool) -> Tensor | int:
    """Return what to add below the ``n_bits``-th bit before cutting there: random bits, or one half.

    A hash of the number itself: equal to the last bit on every device and whatever else is computed.
    """
    if not stochastic:
        return 1 << (n_bits - 1)
    mixed = (bits ^ salt).mul_(-1640531535)  # int32 products wrap around
    mixed.bitwise_xor_(mixed >> 15).mul_(-2048144789)
    return mixed.bitwise_right_shift_(32 - n_bits).bitwise_and_((1 << n_bits) - 1)


def _row_length(tensor: Tensor) -> int:
    return math.prod(tensor.shape[1:])


def _blocks(value: Tensor) -> Tensor:
    """View as (first dimension, blocks, ``_BLOCK``), with zeros after the end of each first-dimension entry.

    Blocks do not reach across entries of the first dimension, so that sharding it (FSDP2) cuts no block.
    """
    rows = value.reshape(value.shape[0], -1)
    if rows.shape[1] % _BLOCK:
        rows = torch.nn.functional.pad(rows, (0, -rows.shape[1] % _BLOCK))
    return rows.unflatten(1, (-1, _BLOCK))


def _unblock(blocks: Tensor, like: Tensor) -> Tensor:
    return blocks.flatten(1)[:, : _row_length(like)].reshape(like.shape)


def _allocate_blocks(like: Tensor, codes: torch.dtype, scale: torch.dtype) -> list[Tensor]:
    n_blocks = -(-_row_length(like) // _BLOCK)
    shape = (like.shape[0], n_blocks)
    return [
        torch.zeros_like(like, dtype=codes, memory_format=torch.contiguous_format),
        wrap_like(like, torch.zeros(local(like).shape[0], n_blocks, dtype=scale, device=like.device), shape),
    ]


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a DTensor, other tensors as they are."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()


def wrap_like(like: Tensor, part: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ``part`` as this rank's part of a tensor of ``shape`` sharded as ``like``.

    Raises:
        RuntimeError: if ``like`` is sharded along another dimension than the first.
    """
    if not hasattr(like, "to_local"):
        return part
    sharded: Any = like
    if any(placement.is_shard() and not placement.is_shard(0) for placement in sharded.placements):
        raise RuntimeError(
            f"Invalid storage: 'int8' for a parameter sharded as {sharded.placements}; expected one sharded along "
            "its first dimension; use storage='bfloat16' or 'float32'"
        )
    stride = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return type(sharded).from_local(
        part, sharded.device_mesh, sharded.placements, run_check=False, shape=torch.Size(shape), stride=stride
    )
