"""A test kit for path transforms: one call checks that a family meets the protocol and computes what it says."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from scrapl_jtfs._testing import computation, members, state
from scrapl_jtfs._testing.case import make_case
from scrapl_jtfs._validation import PathIndices

__all__ = ["assert_path_transform"]

# In the order in which a fault is most likely to explain those that come after it.
_CHECKS = (
    members.check_members,
    members.check_texts,
    computation.check_coefficients,
    computation.check_determinism,
    computation.check_batches,
    computation.check_sharing,
    computation.check_optional_members,
    computation.check_float64,
    computation.check_gradients,
    members.check_bad_ids,
    members.check_bad_signals,
    state.check_copies,
    state.check_learning,
    state.check_parameters,
    state.check_state_dict,
)


def assert_path_transform(
    transform: Any, signal: Tensor | None = None, *, paths: PathIndices | None = None, seed: int = 0
) -> None:
    r"""Assert that a transform meets the protocol of :class:`scrapl_jtfs.PathTransform`.

    Checked on copies, of which the caller sees nothing:

    - the members are there, ``paths`` has an entry for each id, and each path another text;
    - coefficients are real tensors of the transform's dtype and device, batch axes first, whatever their number,
      each signal by itself, finite, and the same at each call, in training and in evaluation mode;
    - ``select``, ``full`` and ``stream``, and the optional ``first_layer`` and ``stream_pairs``, give what single
      paths give;
    - gradients are those of finite differences, in float64 where it can be moved there, and agree between single
      paths and several; no call writes to the signal;
    - in float64 coefficients are what they are in float32;
    - ids that are none and signals that do not fit are refused;
    - copies have equal settings; settings change with every parameter that coefficients depend on, and each
      trainable one has a gradient; a state dict restores coefficients.

    Args:
        transform: the path transform; a small one, as all its paths are computed many times.
        signal: one signal, shape ``signal_shape``, on which it is defined and smooth; by default white noise.
        paths: ids of the paths that are looked at one by one, by default up to eight, the first and the last among
            them; what is shared is checked on all.
        seed: of the noise and of the directions of derivatives.

    Raises:
        AssertionError: a check fails; the text says which, where, and what was expected.
        TypeError, ValueError, IndexError: the arguments of this function are wrong.

    Example:
        >>> from scrapl_jtfs import JTFSPath
        >>> from scrapl_jtfs.testing import assert_path_transform
        >>> assert_path_transform(JTFSPath(512, J=5, Q=(4, 1), J_fr=2))
        >>> import torch
        >>> assert_path_transform(torch.nn.Linear(2, 2))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        AssertionError: members: Invalid transform: Linear; expected a path transform; it lacks paths, ...
    """
    case = make_case(transform, signal, paths, seed)
    for check in _CHECKS:
        check(case)
