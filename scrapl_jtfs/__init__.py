"""Joint time-frequency scattering, one differentiable path at a time."""

from .cascade import FirstLayer
from .features import Features, Scalogram, relative_distance
from .figures import draw_distribution
from .graphs import GraphedPathLoss
from .loss import JTFSPathLoss, PreparedTarget, path_distance
from .path_table import PathTable
from .paths import Path
from .scrapl import SCRAPL
from .taylor import PathTaylor, taylor_signals
from .transform import JTFSPath

__all__ = [
    "SCRAPL",
    "Features",
    "FirstLayer",
    "GraphedPathLoss",
    "JTFSPath",
    "JTFSPathLoss",
    "Path",
    "PathTable",
    "PathTaylor",
    "PreparedTarget",
    "Scalogram",
    "draw_distribution",
    "path_distance",
    "relative_distance",
    "taylor_signals",
]
