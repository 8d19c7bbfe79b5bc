"""Joint time-frequency scattering, one differentiable path at a time."""

from .cascade import FirstLayer
from .figures import draw_distribution
from .graphs import GraphedPathLoss
from .loss import JTFSPathLoss, PreparedTarget, path_distance
from .paths import Path
from .taylor import PathTaylor, taylor_signals
from .transform import JTFSPath

__all__ = [
    "FirstLayer",
    "GraphedPathLoss",
    "JTFSPath",
    "JTFSPathLoss",
    "Path",
    "PathTaylor",
    "PreparedTarget",
    "draw_distribution",
    "path_distance",
    "taylor_signals",
]
