"""Path-wise stochastic optimisation: draw one path per step, remember every path's gradient.

The equations of the SCRAPL paper are in these modules:

==================  ======================================  =====================================
Paper               Reads as the paper                      Runs fast
==================  ======================================  =====================================
Algorithm 1         ``reference.Algorithm1``                ``path_adam_saga.PathAdamSAGA``
(6), (7), (8)       ``reference.Algorithm1.p_adam``         ``_path_adam_saga.algorithm``
(9)                 ``reference.Algorithm1.step``           ``_path_adam_saga.algorithm``
draw of p from pi   ``sampler.PathSampler``                 the same
(10), pi            ``probabilities.probabilities``         the same
(11), s and H       ``_importance.derivatives``             ``scrapl_jtfs.taylor``
(12), M and C       ``_importance.encoder``                 ``_importance.shared_subspace``
==================  ======================================  =====================================
"""

from scrapl_optim.adaptive import AdaptivePathSampler
from scrapl_optim.checkpoint import load_checkpoint, save_checkpoint
from scrapl_optim.importance import Arnoldi, Progress, SharedSubspace, ThetaImportance, theta_importance
from scrapl_optim.path_adam_saga import PathAdamSAGA
from scrapl_optim.path_log import PathLog
from scrapl_optim.probabilities import load_pi, probabilities, save_pi
from scrapl_optim.sampler import PathSampler

__all__ = [
    "AdaptivePathSampler",
    "Arnoldi",
    "PathAdamSAGA",
    "PathLog",
    "PathSampler",
    "Progress",
    "SharedSubspace",
    "ThetaImportance",
    "load_checkpoint",
    "load_pi",
    "probabilities",
    "save_checkpoint",
    "save_pi",
    "theta_importance",
]
