"""python -m benchmarks.studies.released_pi --released DIR [--cases NAME ...] [--collect] [--quick]"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.runs import claim_folder, finished_result, finished_results
from benchmarks.sound_matching.presets import PRESETS, Preset
from benchmarks.studies.released_pi.cases import Case
from benchmarks.studies.released_pi.compare import SOURCE
from benchmarks.studies.released_pi.measure import LOSSES, NUMBERS, make_job, measure_case
from benchmarks.studies.released_pi.plots import draw_figure
from benchmarks.studies.released_pi.summarize import summarize, table
from scrapl_jtfs.commands.command_line import say

_LO_LO = "chirplet-lo-lo"
# In the order in which they are measured. Where one example is heard for all, eigenvalues follow the mean slope.
CASES = (
    Case("paper lo-lo, fixed width", f"paper-{_LO_LO}", 4, fixed_width=True),
    Case("paper lo-lo", f"paper-{_LO_LO}", 4),
    Case("scaled lo-lo", f"scaled-{_LO_LO}", 16),
    Case("scaled lo-lo, 4", f"scaled-{_LO_LO}", 4),
    Case("scaled lo-lo, 4, all heard", f"scaled-{_LO_LO}", 4, n_heard=4),
    Case("scaled lo-lo, 4, seed 1", f"scaled-{_LO_LO}", 4, seed=1),
    Case("scaled lo-lo, 4, our encoder", f"scaled-{_LO_LO}", 4, encoder="ours"),
    Case("scaled granular", "scaled", 8),
    Case("scaled lo-lo, 4, our encoder, all heard", f"scaled-{_LO_LO}", 4, n_heard=4, encoder="ours"),
    Case("scaled granular, 4, all heard", "scaled", 4, n_heard=4),
    Case("scaled granular, 4", "scaled", 4),
    Case("paper lo-lo, fixed width, all heard", f"paper-{_LO_LO}", 4, n_heard=4, fixed_width=True),
    Case("paper granular", "paper", 4),
    *(Case(f"paper {name}, fixed width", f"paper-chirplet-{name}", 4, fixed_width=True)
      for name in ("hi-hi", "lo-med", "hi-med")),
    Case("scaled lo-lo, 4, seed 2", f"scaled-{_LO_LO}", 4, seed=2),
    Case("scaled granular, 4, our encoder", "scaled", 4, encoder="ours"),
    Case("scaled granular, 4, seed 1", "scaled", 4, seed=1),
    *(Case(f"scaled {name}", f"scaled-chirplet-{name}", 16) for name in ("lo-med", "hi-med", "hi-hi")),
    Case("scaled lo-lo, other examples", f"scaled-{_LO_LO}", 64, first=64),
    Case("scaled granular, other examples", "scaled", 64, first=64),
)  # fmt: skip


def _small(preset: Preset) -> Preset:
    """Return a preset for a look: a short sound of as much faster rates, few paths, a small encoder."""
    sizes: dict[str, Any] = {"n_samples": 2048, "J": 7, "Q": (4, 1), "J_fr": 2, "Q_fr": 1, "T": 256, "F": 4}
    sizes |= {"channels": 4, "n_blocks": 4, "embedding": 8, "hop": 64}
    if preset.am is not None and preset.fm is not None:
        faster = preset.n_samples / 2048
        sizes |= {name: tuple(faster * rate for rate in getattr(preset, name)) for name in ("am", "fm")}
        sizes["max_shift"] = 64
    return replace(preset, **sizes)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--released", type=Path, help="folder of the authors' distributions, NAME.json with 'pi'")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="of those that the table names (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs/released_pi"), help="folder of what is measured")
    parser.add_argument("--collect", action="store_true", help="measure nothing, report what is finished")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the cases that are not finished, and compare."""
    known = {case.name: case for case in CASES}
    unknown = sorted(set(options.cases or ()) - set(known))
    if unknown:
        raise ValueError(f"Invalid --cases: {', '.join(unknown)}; expected some of {', '.join(known)}")
    cases = [known[name] for name in options.cases or known]
    folder: Path = options.runs
    presets = PRESETS
    if options.quick:
        folder = folder.with_name(folder.name + "-quick")
        cases = [case._replace(n_examples=2, first=0) for case in cases]
        presets = {name: _small(preset) for name, preset in PRESETS.items()}
    jobs = [make_job(folder, case, presets[case.preset]) for case in cases]
    for job in () if options.collect else jobs:
        if finished_result(job) is None:
            claim_folder(job)
            seconds = measure_case(job)["seconds"]
            say(f"{job.label}: {sum(seconds.values()):.0f} s of processor time", sys.stderr)
    # A small transform has other paths than those of the released distributions.
    released = None if options.quick else options.released
    about = {"losses": LOSSES, "numbers": NUMBERS, "released": SOURCE}
    compared = summarize(finished_results(jobs), released, presets)
    return {"about": about, "quick": options.quick, **provenance(), **compared}


main = Program(
    "benchmarks.studies.released_pi",
    "Compare theta-importance with the distributions that the paper's authors released, and take it apart. "
    "Interrupt it at any time: the same command continues with the cases that are not finished.",
    measure,
    table,
    draw_figure,
    quick="two examples of small problems: to see that it works; nothing is compared with what was released",
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
