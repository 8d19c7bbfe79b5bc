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
