"""Path-wise stochastic optimisation: draw one path per step, remember every path's gradient.

The equations of the SCRAPL paper are in these modules, once literally and once fast:

======================  ======================================  ===================================================
Paper                   Reads as the paper                      Runs fast
======================  ======================================  ===================================================
Algorithm 1             ``reference.Algorithm1``                ``path_adam_saga.PathAdamSAGA``
(6), (7), (8): P-Adam   ``reference.Algorithm1.p_adam``         ``_path_adam_saga.algorithm.update_in_place``
(9): P-SAGA             ``reference.Algorithm1.step``           ``_path_adam_saga.algorithm.update_in_place``
draw of p from pi       ``sampler.PathSampler``                 the same
(10): pi                ``probabilities.probabilities``         the same
(11): s                 ``reference.importance_matrix``         ``_importance.derivatives``, ``scrapl_jtfs.taylor``
(12): C                 ``reference.importances``               ``importance.theta_importance``
======================  ======================================  ===================================================
"""

from __future__ import annotations

from typing import Any

from scrapl_optim._deprecation import moved
from scrapl_optim.alignment import AlignedProbs, Alignment, aligned_probs, measure_alignment
from scrapl_optim.checkpoint import load_checkpoint, save_checkpoint
from scrapl_optim.importance import Arnoldi, Progress, SharedSubspace, ThetaImportance, theta_importance
from scrapl_optim.path_adam_saga import PathAdamSAGA
from scrapl_optim.path_log import PathLog
from scrapl_optim.probabilities import load_pi as load_pi  # deprecated, as is save_pi
from scrapl_optim.probabilities import load_probs, probabilities, save_probs
from scrapl_optim.probabilities import save_pi as save_pi
from scrapl_optim.sampler import PathSampler

__all__ = [
    "AlignedProbs",
    "Alignment",
    "Arnoldi",
    "PathAdamSAGA",
    "PathLog",
    "PathSampler",
    "Progress",
    "SharedSubspace",
    "ThetaImportance",
    "aligned_probs",
    "load_checkpoint",
    "load_probs",
    "measure_alignment",
    "probabilities",
    "save_checkpoint",
    "save_probs",
    "theta_importance",
]


def __getattr__(name: str) -> Any:
    return moved(__name__, name, {"AdaptivePathSampler": "scrapl_optim.experimental"})
