"""The loop in README runs as it stands, and its figures come from a committed result file."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_loop_runs(capsys) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert re.search(r"full-tree loss: \d", capsys.readouterr().out)


def test_both_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("match", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_sound_matching_table_is_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/sound_matching_small.json").read_text())
    for loss in results["losses"].values():
        row = [f"{loss['test'][key]:.0f}" for key in ("mean", "density", "slope")]
        assert f"| {loss['label']} | {' | '.join(row)} |" in README


SPEED_ROWS = {
    "a step, times cheaper than scrapl-loss's: mean over paths": (
        "step, scrapl-loss / {}, over paths: ratio of means"
    ),
    "the same: median over paths": "step, scrapl-loss / {}, over paths: ratio of medians",
    "a step, in steps of MSS log + linear": "step, {} / mss: mean over paths",
    "costliest path over the mean": "step, {}: costliest path / mean over paths",
    "peak memory of a step over MSS's: largest": "peak memory of a step, {} / mss: largest",
    "15 paths of one n2 over one path: mean": "bundle of one n2 / one path of it, {}: mean over n2",
    "full tree, times cheaper than kymatio's": "full tree, forward and backward, kymatio / {}: time",
    "its peak memory over kymatio's": "full tree, forward and backward, {} / kymatio: memory",
    "Hessian-vector product, times cheaper than scrapl-loss's": (
        "Hessian-vector product, scrapl-loss / {}: ratio of means"
    ),
    "distance of coefficients: median over paths": "relative difference of coefficients, {}: median over paths",
    "the same: largest": "relative difference of coefficients, {}: largest over paths",
    "distance of a path's gradient: largest": "relative difference of the gradient, {}: largest over paths",
}


def test_speed_table_is_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/speed.json").read_text())
    measured = {ratio["name"]: ratio["measured"] for ratio in results["ratios"]}
    for label, name in SPEED_ROWS.items():
        values = [measured.get(name.format(contender)) for contender in ("exact", "compact", "compact-3")]
        cells = ["" if value is None else f"{value:.2g}" for value in values]
        assert f"| {label} | {' | '.join(cells)} |" in README
