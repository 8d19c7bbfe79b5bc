"""Path-wise stochastic optimisation: draw one path per step, remember every path's gradient."""

from scrapl_optim.checkpoint import load_checkpoint, save_checkpoint
from scrapl_optim.path_adam_saga import PathAdamSAGA
from scrapl_optim.sampler import PathSampler

__all__ = ["PathAdamSAGA", "PathSampler", "load_checkpoint", "save_checkpoint"]
