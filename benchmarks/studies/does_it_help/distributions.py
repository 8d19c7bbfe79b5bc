"""Where the distributions of the arms come from: files of pi for each problem, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.files import read_json
from benchmarks.studies.does_it_help.arms import Arm
from scrapl_optim.probabilities import as_distribution


class MissingDistribution(ValueError):
    """The pi of an arm was not computed."""


class Distribution(NamedTuple):
    """A distribution of paths.

    Attributes:
        pi: its probabilities.
        about: where they come from, for the result file.
    """

    pi: list[float]
    about: dict[str, object]


def load_distribution(folder: Path, problem: str, arm: Arm, n_paths: int) -> Distribution | None:
    """Return the pi of an arm on a problem, None where draws are uniform.

    Raises:
        MissingDistribution: there is no file of it.
        ValueError: the file does not hold a distribution over the paths.
    """
    if arm.pi == "uniform":
        return None
    path = folder / problem / f"{arm.pi}.json"
    if not path.exists():
        raise MissingDistribution(
            f"Invalid pi: no file {path}; expected one for the arm {arm.name!r}; run python -m "
            "benchmarks.studies.does_it_help.pi, for the released one with --released DIR"
        )
    content = read_json(path)
    pi = as_distribution(content["pi"], n_paths)
    return Distribution(pi.tolist(), {key: value for key, value in content.items() if key not in _LONG})


_LONG = ("pi", "importance", "halves")
