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


STEP = "step, {} / {}: {}, P={}, 1 thread{}"
OPTIMIZER_ROWS = {
    "a step, in steps of Adam": ("float32", "adam", 315, ", default allocator"),
    "the same, freed memory kept": ("float32", "adam", 315, ""),
    "the same, caches swept before each step": ("float32", "adam", 315, ", evicted"),
    'with `storage="bfloat16"`, in steps of Adam': ("bfloat16", "adam", 315, ", default allocator"),
    'with `storage="int8"`, in steps of Adam': ("int8", "adam", 315, ", default allocator"),
    "scrapl-loss's hooks, in our steps, 315 paths": ("scrapl-loss", "float32", 315, ""),
    "the same, 1024 paths": ("scrapl-loss", "float32", 1024, ""),
}


def test_optimizer_tables_are_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/optimizer.json").read_text())
    measured = {ratio["name"]: ratio["measured"] for ratio in results["ratios"]}
    for label, (contender, peer, n_paths, kind) in OPTIMIZER_ROWS.items():
        names = [STEP.format(contender, peer, model, n_paths, kind) for model in ("0.1M", "0.6M", "3M", "10M")]
        cells = [f"{measured[name]:.2g}" if name in measured else "" for name in names]
        assert any(cells)
        assert f"| {label} | {' | '.join(cells)} |" in README
    sizes = {(row["contender"], row["drawn"]): row["bytes_per_parameter"] for row in results["state"]}
    for contender in ("float32", "bfloat16", "int8", "scrapl-loss"):
        cells = [f"{sizes[contender, drawn]:.0f}" for drawn in (1, 100, 315)]
        assert re.search(rf"\| .*{contender}.* \| {' [|] '.join(cells)} \|", README)
    assert {row["steps"] for row in results["drift"]} >= {100_000}
    assert f"at most {max(row['sum'] for row in results['drift']):.1e} off" in README


def test_storage_table_is_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/storage.json").read_text())
    for name in ("float32", "bfloat16", "int8", "bfloat16-nearest", "int8-nearest"):
        arm = results["arms"][name]
        test, difference = arm["test"]["mean"], arm["minus_reference"]["mean"]
        assert test["n"] == 5
        error = f"{test['mean']:.1f} ± {test['standard_error']:.1f}"
        change = f"{difference['mean']:+.1f} ± {difference['standard_error']:.1f}" if name != "float32" else ""
        assert f'| `"{name}"` | {error} | {change} | {arm["state_bytes_per_parameter"]:.0f} |' in README
    nudged = results["arms"]["float32-nudged"]["minus_reference"]["mean"]
    assert f"{nudged['mean']:.1f} ± {nudged['standard_error']:.1f} above" in README
    last = [row for row in results["rounding"] if row["visits"] == 10_000]
    bias = {row["storage"]: row["rms_bias"] for row in last if row["gradients"] == "constant mean"}
    assert f"{bias['bfloat16-nearest']:.0%} (bfloat16) and {bias['int8-nearest']:.0%} (int8)" in README
    assert f"off by {bias['bfloat16']:.2%} and {bias['int8']:.1%}" in README
