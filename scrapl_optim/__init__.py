"""Path-wise stochastic optimisation: draw one path per step, remember every path's gradient."""

from scrapl_optim.adaptive import AdaptivePathSampler
from scrapl_optim.checkpoint import load_checkpoint, save_checkpoint
from scrapl_optim.importance import Progress, ThetaImportance, theta_importance
from scrapl_optim.path_adam_saga import PathAdamSAGA
from scrapl_optim.path_log import PathLog
from scrapl_optim.probabilities import load_pi, probabilities, save_pi
from scrapl_optim.sampler import PathSampler

__all__ = [
    "AdaptivePathSampler",
    "PathAdamSAGA",
    "PathLog",
    "PathSampler",
    "Progress",
    "ThetaImportance",
    "load_checkpoint",
    "load_pi",
    "probabilities",
    "save_checkpoint",
    "save_pi",
    "theta_importance",
]
