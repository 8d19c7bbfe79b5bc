"""Joint time-frequency scattering, one differentiable path at a time."""

from .loss import JTFSPathLoss, PreparedTarget, path_distance
from .paths import Path
from .transform import JTFSPath

__all__ = ["JTFSPath", "JTFSPathLoss", "Path", "PreparedTarget", "path_distance"]
