"""Calls of ATen that a piece of work makes: what a GPU would launch and move, and where its host would wait.

Counting needs no GPU. On the device "meta", which has shapes and no numbers, it also sees tensors that cross over
to the host or from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_WITHOUT_KERNEL = ("aten::_unsafe_view", "aten::empty", "aten::new_empty")


class Dispatches(TorchDispatchMode):
    """A count of the calls under it, those of backward passes included.

    Attributes:
        launches: calls that compute or copy, one kernel or a few each.
        views: calls that do neither.
        bytes: of all tensors that launched calls read or write, each once for each call.
        waits: names of calls for whose results the host of a GPU would wait, with how often.
        crossings: names of calls that read tensors of one device and write another's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.views = self.bytes = 0
        self.waits: Counter[str] = Counter()
        self.crossings: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None):
        result = func(*args, **(kwargs or {}))
        given = _tensors((args, kwargs))
        # By identity, since what a call changes in place or writes to comes back as its result.
        tensors = list({id(tensor): tensor for tensor in (*given, *_tensors(result))}.values())
        if func.is_view or func.name().startswith(_WITHOUT_KERNEL):
            self.views += 1
        else:
            self.launches += 1
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        self.waits[func.name()] += _waits(func, given)
        # A number on the host is an argument of the kernel.
        self.crossings[func.name()] += len({tensor.device for tensor in tensors if tensor.dim()}) > 1
        return result

    def record(self) -> dict[str, Any]:
        """Return the counts as a result file holds them."""
        waits, crossings = +self.waits, +self.crossings  # what was met once at least
        counts = {"launches": self.launches, "views": self.views, "bytes": self.bytes}
        return {**counts, "waits": dict(waits), "crossings": dict(crossings)}


def count_dispatches(run: Callable[[], object]) -> dict[str, Any]:
    """Return the counts of one run, which is made once before: constants may be computed then."""
    run()
    with Dispatches() as dispatches:
        run()
    return dispatches.record()


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _waits(func: Any, given: list[Tensor]) -> bool:
    """Tell if the host needs numbers: for a result of its own, or for how long the result is."""
    if torch.Tag.data_dependent_output in func.tags:
        return True
    if func.name().startswith("aten::index"):  # of numbers it is as long as these; a mask's are counted first
        return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in given[1:])
    return torch.Tag.dynamic_output_shape in func.tags
