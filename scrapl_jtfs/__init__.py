"""Joint time-frequency scattering, one differentiable path at a time.

These equations of the SCRAPL paper are in this package, once literally and once fast; those of the optimizer and
of theta-importance are in ``scrapl_optim``.

=====================  ================================  ===================================================
Paper                  Reads as the paper                Runs fast
=====================  ================================  ===================================================
(1): phi_p(x)          ``reference.ReferenceJTFS``       ``JTFSPath``, in ``_transform.scattering``
(2), (3): L_p, L       ``reference.ReferenceJTFS.loss``  ``PathLoss``, ``path_distance``
(11): s and its slope  ``taylor.PathTaylor``, docstring  ``_transform.taylor_layer``
=====================  ================================  ===================================================
"""

from __future__ import annotations

from typing import Any

from scrapl_jtfs._describe.description import Description
from scrapl_jtfs._transform.first_layer import FirstLayer
from scrapl_jtfs.alignment import measure_alignment
from scrapl_jtfs.any_path_table import AnyPathTable
from scrapl_jtfs.features import Features, Scalogram, relative_distance
from scrapl_jtfs.figures import (
    draw_alignment,
    draw_coefficients,
    draw_curves,
    draw_distribution,
    draw_rate_scale,
    draw_scalogram,
    draw_sweep,
)
from scrapl_jtfs.image_scattering import ImagePath, ImagePathTable, ImageScattering
from scrapl_jtfs.importance import Importance, importance
from scrapl_jtfs.loss import JTFSPathLoss, PathLoss, path_distance
from scrapl_jtfs.path_table import PathTable
from scrapl_jtfs.path_transform import PathTransform, check_path_transform
from scrapl_jtfs.paths import Path
from scrapl_jtfs.prepared_target import PreparedTarget
from scrapl_jtfs.resynthesis import (
    Resynthesis,
    ResynthesisProgress,
    TextureQuality,
    measure_texture,
    resynthesize,
)
from scrapl_jtfs.scrapl import SCRAPL
from scrapl_jtfs.sweep import Sweep, sweep_control
from scrapl_jtfs.taylor import PathTaylor, taylor_signals
from scrapl_jtfs.time_scattering import TimePath, TimePathTable, TimeScattering
from scrapl_jtfs.transform import JTFSPath
from scrapl_optim._deprecation import moved

__all__ = [
    "SCRAPL",
    "AnyPathTable",
    "Description",
    "Features",
    "FirstLayer",
    "ImagePath",
    "ImagePathTable",
    "ImageScattering",
    "Importance",
    "JTFSPath",
    "JTFSPathLoss",
    "Path",
    "PathLoss",
    "PathTable",
    "PathTaylor",
    "PathTransform",
    "PreparedTarget",
    "Resynthesis",
    "ResynthesisProgress",
    "Scalogram",
    "Sweep",
    "TextureQuality",
    "TimePath",
    "TimePathTable",
    "TimeScattering",
    "check_path_transform",
    "draw_alignment",
    "draw_coefficients",
    "draw_curves",
    "draw_distribution",
    "draw_rate_scale",
    "draw_scalogram",
    "draw_sweep",
    "importance",
    "measure_alignment",
    "measure_texture",
    "path_distance",
    "relative_distance",
    "resynthesize",
    "sweep_control",
    "taylor_signals",
]


def __getattr__(name: str) -> Any:
    return moved(__name__, name, {"GraphedPathLoss": "scrapl_jtfs.experimental"})
