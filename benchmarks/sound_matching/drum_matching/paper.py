"""The paper's Tables 4, 8 and 9: means and half widths of 95% intervals, over 40 seeds (the full tree: 4)."""

from __future__ import annotations

from typing import NamedTuple

SETTINGS = ("micro", "meso")
"""Aligned matches, and matches that are shifted in training by up to 46 ms either way."""


class Published(NamedTuple):
    """A number of the paper.

    Attributes:
        mean: over seeds; the paper does not name the unit.
        reach: half the width of its 95% interval.
    """

    mean: float
    reach: float


REFERENCE = "scrapl"
"""The loss that the others are compared with: P-Adam and P-SAGA, paths drawn uniformly."""

UNTRAINED = "untrained"
"""The encoder with its initial weights: where all losses begin."""

# Its "SCRAPL" is with theta-importance.
LABELS = {
    "full_tree": "JTFS",
    "scrapl": "SCRAPL (no θ-IS)",
    "theta_is": "SCRAPL",
    "mss_linear": "MSS Lin.",
    "mss": "MSS L+L",
    "mss_revisited": "MSS Rev.",
    "mss_random": "MSS Rand.",
}
"""The paper's names of its methods, by those of our losses, in its order."""

_Rows = dict[str, tuple[float, ...]]

# A row is micro, its reach, meso, its reach, for each of three metrics.
_TABLE_4: _Rows = {
    "full_tree": (617, 46, 622, 45, 490, 28, 523, 17, 0.781, 0.069, 1.04, 0.15),
    "scrapl": (862, 36, 944, 48, 1140, 48, 1250, 51, 2.75, 0.39, 2.85, 0.38),
    "theta_is": (857, 42, 879, 42, 1050, 50, 1110, 52, 2.43, 0.22, 2.42, 0.22),
    "mss_linear": (611, 15, 724, 37, 779, 31, 1470, 83, 1.22, 0.082, 3.33, 0.46),
    "mss": (596, 19, 615, 18, 1260, 58, 1390, 49, 2.14, 0.39, 3.01, 0.40),
    "mss_revisited": (637, 16, 797, 20, 870, 23, 1250, 27, 2.02, 0.37, 2.21, 0.34),
    "mss_random": (682, 25, 700, 26, 1410, 87, 1500, 59, 7.03, 2.2, 6.65, 1.7),
}
_TABLE_8: _Rows = {
    "full_tree": (137, 10, 158, 20, 859, 68, 819, 96, 1200, 87, 1090, 110),
    "scrapl": (389, 41, 460, 60, 1020, 100, 992, 110, 1800, 170, 1990, 180),
    "theta_is": (374, 39, 377, 32, 1000, 120, 1080, 120, 1750, 270, 1820, 220),
    "mss_linear": (381, 12, 2510, 480, 902, 27, 2350, 310, 962, 43, 3620, 680),
    "mss": (492, 44, 1080, 91, 928, 65, 1380, 76, 916, 50, 1320, 150),
    "mss_revisited": (330, 21, 808, 40, 1070, 49, 1540, 53, 1390, 62, 2640, 96),
    "mss_random": (584, 75, 1030, 89, 1200, 100, 1350, 99, 1690, 120, 1950, 140),
}
_TABLE_9: _Rows = {
    "full_tree": (315, 22, 355, 110, 614, 51, 617, 71, 527, 31, 718, 190),
    "scrapl": (1810, 190, 2210, 210, 1530, 170, 1860, 170, 2620, 310, 3300, 370),
    "theta_is": (1810, 160, 1740, 170, 1490, 120, 1470, 140, 2540, 290, 2480, 290),
    "mss_linear": (357, 12, 1120, 260, 654, 18, 1110, 160, 472, 17, 1500, 350),
    "mss": (389, 42, 466, 45, 563, 22, 597, 24, 565, 29, 644, 51),
    "mss_revisited": (279, 12, 494, 22, 589, 21, 801, 29, 552, 22, 846, 29),
    "mss_random": (453, 21, 485, 24, 660, 27, 640, 35, 594, 30, 658, 33),
}

# Metrics of each table, by our names; the third of Table 4 is over EnCodec, which is not among our embeddings.
TABLES: dict[str, tuple[str, ...]] = {
    "Table 4: audio distances": ("mss", "jtfs", "frechet"),
    "Table 8: transients": ("transient_loudness", "transient_centroid", "transient_flatness"),
    "Table 9: decays": ("decay_loudness", "decay_centroid", "decay_flatness"),
}
"""Metrics of each of the paper's tables, by our names; "frechet" is any Frechet distance."""


def _published() -> dict[str, dict[str, dict[str, Published]]]:
    found: dict[str, dict[str, dict[str, Published]]] = {}
    for metrics, rows in zip(TABLES.values(), (_TABLE_4, _TABLE_8, _TABLE_9), strict=True):
        for k, metric in enumerate(metrics):
            found[metric] = {
                setting: {arm: Published(*row[4 * k + 2 * s : 4 * k + 2 * s + 2]) for arm, row in rows.items()}
                for s, setting in enumerate(SETTINGS)
            }
    return found


PUBLISHED = _published()
"""The paper's numbers by metric, setting and loss."""
