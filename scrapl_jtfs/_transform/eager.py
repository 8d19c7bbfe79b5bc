"""Methods that torch.compile leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

_Method = TypeVar("_Method", bound=Callable[..., Any])


def eager(method: _Method) -> _Method:
    """Let torch.compile step around a method: complex numbers and hand-written adjoints leave it nothing to gain.

    torch.compiler.disable does the same but imports torch._dynamo at once, which takes a second.
    """
    return cast("_Method", torch._disable_dynamo(method))
