"""One thread per worker: pytest-xdist already takes every core."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
