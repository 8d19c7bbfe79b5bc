"""theta-importance of drums: computed once for each setting and kept in a file, since runs belong to their pi."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness.files import read_json, write_json
from benchmarks.harness.runs import configuration_hash
from benchmarks.sound_matching.drum_matching.task import DrumTask
from benchmarks.sound_matching.presets import configuration
from benchmarks.sound_matching.theta_pi import compute_pi
from benchmarks.sound_matching.train import Experiment
from scrapl_jtfs.commands.command_line import say, shown
from scrapl_optim import Progress
from scrapl_optim.probabilities import as_distribution

PAPER_EXAMPLES = 16
"""N_IS of Table 12."""

# Seconds between lines that tell how far it is.
_INTERVAL = 60.0


def find_distribution(
    path: Path, task: DrumTask, n_examples: int | None, *, compute: bool
) -> dict[str, Any] | None:
    """Read the pi of a setting, or compute it and keep it; None where there is none and `compute` is False.

    Args:
        path: of its file.
        task: of seed 0, whose training drums and encoder it is computed with.
        n_examples: number of drums; None for as many as the file has, or the paper's 16 where there is none.
        compute: whether to compute what is not there.

    Returns:
        "pi", and where it comes from.

    Raises:
        ValueError: the file is of other settings, sounds or examples, or holds no distribution.
    """
    count = PAPER_EXAMPLES if n_examples is None else n_examples
    if n_examples is None and path.exists():
        count = int(read_json(path).get("n_examples", count))
    decides = {**configuration(task.preset, task.seed, task.identity), "examples": count}
    name = configuration_hash(decides)
    if not path.exists():
        if not compute:
            return None
        say(f"Computing theta-importance of {count} drums into {shown(path)} ...", sys.stderr)
        found = compute_pi(Experiment(task.preset, task.seed, task=task), count, progress=_teller())
        write_json(path, {"hash": name, "n_examples": count, **found})
    content = read_json(path)
    if content.get("hash") != name:
        raise ValueError(
            f"Invalid pi: {shown(path)} is of other settings, sounds or examples; expected one of this study; "
            "move it away, or choose another --runs"
        )
    as_distribution(content["pi"], task.preset.transform().n_paths)
    return content


def about(distribution: dict[str, Any]) -> dict[str, Any]:
    """Return where a distribution comes from, for the result file."""
    return {key: value for key, value in distribution.items() if key != "pi"}


def _teller() -> Callable[[Progress], None]:
    """Return a function that tells on standard error how far it is, once a minute."""
    started = told = time.perf_counter()

    def tell(state: Progress) -> None:
        nonlocal told
        now = time.perf_counter()
        if now - told >= _INTERVAL:
            told = now
            minutes = (now - started) / 60
            say(f"  {state.stage}: {state.done} of {state.total} after {minutes:.0f} min", sys.stderr)

    return tell
