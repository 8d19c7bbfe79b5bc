"""Joint time-frequency scattering, one differentiable path at a time."""

from .cascade import FirstLayer
from .describe import Description
from .features import Features, Scalogram, relative_distance
from .figures import (
    draw_coefficients,
    draw_curves,
    draw_distribution,
    draw_rate_scale,
    draw_scalogram,
    draw_sweep,
)
from .graphs import GraphedPathLoss
from .importance import Importance, importance
from .loss import JTFSPathLoss, PreparedTarget, path_distance
from .path_table import PathTable
from .paths import Path
from .scrapl import SCRAPL
from .sweep import Sweep, sweep_control
from .taylor import PathTaylor, taylor_signals
from .transform import JTFSPath

__all__ = [
    "SCRAPL",
    "Description",
    "Features",
    "FirstLayer",
    "GraphedPathLoss",
    "Importance",
    "JTFSPath",
    "JTFSPathLoss",
    "Path",
    "PathTable",
    "PathTaylor",
    "PreparedTarget",
    "Scalogram",
    "Sweep",
    "draw_coefficients",
    "draw_curves",
    "draw_distribution",
    "draw_rate_scale",
    "draw_scalogram",
    "draw_sweep",
    "importance",
    "path_distance",
    "relative_distance",
    "sweep_control",
    "taylor_signals",
]
