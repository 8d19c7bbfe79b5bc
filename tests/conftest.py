"""One thread per worker: pytest-xdist already takes every core."""

import torch

torch.set_num_threads(1)
