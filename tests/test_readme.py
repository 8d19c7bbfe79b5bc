"""Code in README and on the pages runs as it stands, what they name exists, figures are those of result files."""

from __future__ import annotations

import json
import pkgutil
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.harness.records import plus_minus
from benchmarks.speed.contenders import OURS
from benchmarks.studies.does_it_help.tables import page_rows
from tests.support.pages import PAGES, ROOT, text

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
MOST_LINES = 150
README = TEXTS["README.md"]
# With the lines of paragraphs joined; rows of tables stay.
BENCHMARKS = re.sub(r"(?<![|\n])\n(?![|\n])", " ", TEXTS["notebooks/pages/benchmarks.md"])

_BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
BLOCKS = [(name, language, code) for name, text in TEXTS.items() for language, code in _BLOCK.findall(text)]
PYTHON = [pytest.param(name, code, id=f"{Path(name).stem}-{i}") for i, (name, language, code) in enumerate(BLOCKS)
          if language == "python"]  # fmt: skip
LINKS = [(name, link) for name, text in TEXTS.items() for link in re.findall(r"\]\(([^)\s]+)\)", text)]
QUOTED_NAME = re.compile(r"`(scrapl_jtfs|scrapl_optim)\.([\w.]+)`")


def indented(text: str) -> list[str]:
    """Return what is indented by four spaces and stands between empty lines, outside of fenced blocks."""
    return [textwrap.dedent(block) for block in re.findall(r"(?<=\n\n)(?: {4}.*\n)+(?=\n)", _BLOCK.sub("", text))]


def run(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run code as a reader would who pasted it into a new interpreter; returns its names."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exec(compile(code, "page.md", "exec"), names)
    return names


@pytest.mark.parametrize(("name", "code"), PYTHON)
def test_python_runs_as_it_stands(name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(code, tmp_path, monkeypatch)
    assert {path.name for path in tmp_path.iterdir()} <= set(re.findall(r'"(\S+\.\w+)"', code))


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", TEXTS)
def test_other_blocks_are_no_python(name: str) -> None:
    """Every block without "python" is for a shell, or a diagram, or BibTeX: nothing hides from being run."""
    languages = {language for page, language, _ in BLOCKS if page == name}
    assert languages <= {"python", "bibtex", "{toctree}", "{include}", "{eval-rst}"}
    for block in indented(TEXTS[name]):
        lines = block.splitlines()
        with pytest.raises(SyntaxError):
            compile(block, name, "exec")
        shell = r"(make|pip|python -m|python notebooks/|scrapl-jtfs|jupyter) ?|\s*#"
        is_shell = all(re.match(shell, line) for line in lines if line)
        is_tree = all(re.match(r"\S+/ {2,}", line) for line in lines)
        assert is_shell or is_tree or "─►" in block, block


def test_the_loop_prints_its_losses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = [code for name, _, code in BLOCKS if name == "README.md" and "SCRAPL(" in code]
    run(code, tmp_path, monkeypatch)
    path = r"path \d+: \S+ Hz, \S+ cycles/octave(, rising|, falling)?"
    assert re.fullmatch(
        rf"full-tree loss: \S+\nthe next step: {path}, of \d+ from 2 to 100 Hz\n", capsys.readouterr().out
    )


IMPORTANCE = next(
    code for name, _, code in BLOCKS if name.endswith("theta_importance.md") and "theta_importance(" in code
)
VARIANTS = {
    "as it stands": [],
    "audio (batch, N)": [("theta[:, :1, None]", "theta[:, :1]"), ("theta[:, 1:, None]", "theta[:, 1:]")],
    "an encoder trained in float32": [
        ("\nencoder = encoder.double().eval()\n", "\n"),
        ("\nfound = ", "\nimport copy\nencoder = copy.deepcopy(encoder).double().eval()\nfound = "),
    ],
    "one path after the other": [
        ("SharedSubspace(split_batch=lambda x: x.split(1), ", "Arnoldi("),
        ("PathSampler, SharedSubspace", "Arnoldi, PathSampler"),
    ],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_importance_is_that_of_the_synthesizer(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converged, and largest for paths of the tremolo's rates, 4 to 12 Hz; also as the text says it may vary."""
    code = IMPORTANCE
    for old, new in VARIANTS[variant]:
        assert old in code
        code = code.replace(old, new)
    names = run(code, tmp_path, monkeypatch)
    found, paths = names["found"], names["jtfs"].paths
    assert not found.unconverged
    assert found.residual.max() <= 0.01
    assert names["x"].dtype == torch.float64
    near = torch.tensor([4 / 2**0.5 <= path.rate <= 12 * 2**0.5 for path in paths])
    assert found.probs[near].sum() / near.double().mean() > 1.5  # over uniform
    assert "copy.deepcopy(encoder).double().eval()" in TEXTS["notebooks/pages/theta_importance.md"]


ALL = "\n".join(TEXTS.values())


def test_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    quoted = re.findall(r"`make ([a-z][\w-]*)((?: [A-Z]+=\S+)*)[^`]*`", ALL)
    shown = re.findall(r"^ {4}make ([a-z][\w-]*)((?: [A-Z]+=\S+)*)", ALL, flags=re.MULTILINE)
    assert {"match", "test", "docs", "speed"} <= {target for target, _ in quoted + shown}
    for target, settings in quoted + shown:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
        for name in re.findall(r"([A-Z]+)=", settings):
            assert re.search(rf"^({name} \?=|STRINGS := .*\b{name}\b)", makefile, flags=re.MULTILINE), name
    for module in re.findall(r"`python -m (benchmarks\.[\w.]+)`", ALL):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_extras_are_there() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^\[project.optional-dependencies\]\n(.*?)\n\n", project, flags=re.MULTILINE | re.DOTALL)
    assert listed is not None
    extras = set(re.findall(r"^(\w+) = ", listed[1], flags=re.MULTILINE))
    named = re.findall(r"pip install '\.\[(.+?)\]'", ALL)
    assert set(named) <= extras
    assert set(re.findall(r"'\.\[(.+?)\]'", TEXTS["notebooks/pages/faq.md"])) >= extras - {"test", "audio"}


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page, as its host and the documentation make them of headings."""
    headings = re.findall(r"^#+ (.*)", _BLOCK.sub("", path.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_links_lead_to_files_and_headings() -> None:
    local = [(name, link) for name, link in LINKS if not link.startswith("https://")]
    assert len(local) > 60
    for name, link in local:
        target, _, anchor = link.partition("#")
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.is_file(), f"{name}: {link}"
        assert not anchor or anchor in anchors(path), f"{name}: {link}"


def test_names_are_there() -> None:
    """What is quoted with its package exists: `scrapl_optim.PathSampler`."""
    quoted = QUOTED_NAME.findall(ALL)
    assert len(quoted) > 40
    for package, name in quoted:
        assert pkgutil.resolve_name(f"{package}.{name}") is not None


def test_sound_matching_table_is_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/sound_matching_small.json").read_text())
    for loss in results["losses"].values():
        row = [f"{loss['test'][key]:.0f}" for key in ("mean", "density", "slope")]
        assert f"| {loss['label']} | {' | '.join(row)} |" in BENCHMARKS


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
    "construction, times faster than kymatio's": "construction, kymatio / {}: 32768 samples",
    "the same, 470723 samples": "construction, kymatio / {}: 470723 samples",
    "distance of coefficients: median over paths": "relative difference of coefficients, {}: median over paths",
    "the same: largest": "relative difference of coefficients, {}: largest over paths",
    "distance of a path's gradient: largest": "relative difference of the gradient, {}: largest over paths",
    "distance of coefficients to kymatio's boundary: median over paths": (
        "distance of coefficients to kymatio's boundary, {}: median over paths"
    ),
    "the same: largest over paths": "distance of coefficients to kymatio's boundary, {}: largest over paths",
}


def test_speed_table_is_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/speed.json").read_text())
    measured = {ratio["name"]: ratio["measured"] for ratio in results["ratios"]}
    contenders = [name for name in OURS if f"step, {name} / mss: mean over paths" in measured]
    assert len(contenders) >= 3
    for label, name in SPEED_ROWS.items():
        values = [measured.get(name.format(contender)) for contender in contenders]
        cells = ["" if value is None else f"{value:.2g}" for value in values]
        if any(cells):
            assert f"| {label} | {' | '.join(cells)} |" in BENCHMARKS


def test_shares_of_a_step_are_the_result_files() -> None:
    profiles = json.loads((ROOT / "benchmarks/results/speed_profile.json").read_text())["profiles"]
    shares = {profile["contender"]: profile["shares"] for profile in profiles if profile["path"] == 100}
    small = ("fills and copies", "autograd functions in Python", "everything else")
    exact, compact = (shares[name]["FFT"] for name in ("exact", "even-compact"))
    others = sum(shares["even-compact"][group] for group in small)
    assert f"{exact:.0%} to FFTs in the exact" in BENCHMARKS
    assert f"{compact:.0%} in the even and compact one" in BENCHMARKS
    assert f"operations take {others:.0%}" in BENCHMARKS
    results = json.loads((ROOT / "benchmarks/results/speed.json").read_text())
    measured = {ratio["name"]: ratio["measured"] for ratio in results["ratios"]}
    launches = measured["calls of ATen, even-compact, a step, mean over paths: launches"]
    assert f"{launches:.0f} calls that compute" in BENCHMARKS
    peer = measured["step, scrapl-loss / mss: mean over paths"]
    memory = measured["peak memory of a step, scrapl-loss / mss: largest"]
    assert f"costs {peer:.2g} of MSS in the same run and up to {memory:.0f} times its memory" in BENCHMARKS


BOUNDARY_ROWS = {
    "`samples_per_bandwidth=2`": "2",
    "`samples_per_bandwidth=3`": "3",
    '`boundary="even"`': "even",
    '`boundary="even", samples_per_bandwidth=2`': "even, 2",
    "kymatio's, the ends repeated": "ends repeated",
    "kymatio's, cut one sample earlier": "one sample earlier",
    "kymatio's, as the sound goes on": "going on",
    "kymatio's, in silence": "zeros",
}


def test_boundary_table_is_the_result_file() -> None:
    page = text("memory_and_speed")
    results = json.loads((ROOT / "benchmarks/results/boundary.json").read_text())["boundary"]
    found = {(row["sound"], row["T"], row["against"], row["variant"]): row for row in results}

    def distance(sound: str, variant: str, what: str, T: int | str = 4096, against: str = "kymatio") -> str:
        return f"{found[sound, T, against, variant][what]['median']:.1g}"

    speed = json.loads((ROOT / "benchmarks/results/speed.json").read_text())["ratios"]
    modes = {"2": "compact", "3": "compact-3", "even": "even", "even, 2": "even-compact"}
    costs = {ratio["name"]: f"{ratio['measured']:.2g}" for ratio in speed if ratio["measured"] is not None}
    assert f"| exact | {costs['step, exact / mss: mean over paths']} |" in page
    for label, variant in BOUNDARY_ROWS.items():
        cost = costs[f"step, {modes[variant]} / mss: mean over paths"] if variant in modes else ""
        cells = [
            f"{distance(sound, variant, 'coefficients')}, {distance(sound, variant, 'gradient')}"
            for sound in ("white noise", "granular", "drum, silence", "silence, drum, silence")
        ]
        row = f"| {label} | {cost} | {' | '.join(cells)} |"
        assert " ".join(row.split()) in page
    noise = found["white noise", 4096, "kymatio", "even"]
    largest, share = noise["coefficients"]["largest"], noise["at_the_ends"]["coefficients"]
    assert f"{distance('white noise', 'even', 'coefficients')} in the median path, {largest:.1g} at most" in page
    assert f"{share:.0%} of the squared distance" in page
    going_on = distance("white noise", "even", "coefficients", against="going on")
    assert f"the even boundary is {going_on} from" in page
    spinless = distance("white noise", "even, no spin", "coefficients")
    assert f"without a spin differ by {spinless}" in page
    drums = [distance(f"{before}drum, silence", "even", "coefficients", "global") for before in ("", "silence, ")]
    assert "it is {} (after silence {})".format(*drums) in page
    means = [distance("white noise", "even", what, "global") for what in ("coefficients", "gradient")]
    assert "{} (coefficients) and {} (gradients)".format(*means) in page


def test_training_in_each_mode_is_the_result_file() -> None:
    page = text("memory_and_speed")
    results = json.loads((ROOT / "benchmarks/results/modes.json").read_text())["arms"]
    exact, even = (results[mode] for mode in ("exact", "even-compact"))
    assert exact["test"]["mean"]["n"] == even["test"]["mean"]["n"] == even["minus_reference"]["mean"]["n"] == 5
    ends = [plus_minus(arm["test"]["mean"], "standard_error") for arm in (exact, even)]
    assert f"ends at {ends[0]} in the exact mode and at {ends[1]} with" in page
    reach = (even["interval95"][1] - even["interval95"][0]) / 2
    assert f"difference {even['minus_reference']['mean']['mean']:+.1f} ± {reach:.1f}, 95% interval" in page
    assert even["verdict"] == "no difference seen"
    worst = max(exact["runs"], key=lambda run: run["test"]["mean"])
    same = next(run for run in even["runs"] if run["seed"] == worst["seed"])
    assert "at {:.0f} exact, ends at {:.0f} with both".format(*(r["test"]["mean"] for r in (worst, same))) in page


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
        assert f"| {label} | {' | '.join(cells)} |" in BENCHMARKS
    sizes = {(row["contender"], row["drawn"]): row["bytes_per_parameter"] for row in results["state"]}
    for contender in ("float32", "bfloat16", "int8", "scrapl-loss"):
        cells = [f"{sizes[contender, drawn]:.0f}" for drawn in (1, 100, 315)]
        assert re.search(rf"\| .*{contender}.* \| {' [|] '.join(cells)} \|", BENCHMARKS)
    assert {row["steps"] for row in results["drift"]} >= {100_000}
    assert f"at most {max(row['sum'] for row in results['drift']):.1e} off" in BENCHMARKS


def test_storage_table_is_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/storage.json").read_text())
    for name in ("float32", "bfloat16", "int8", "bfloat16-nearest", "int8-nearest"):
        arm = results["arms"][name]
        test, difference = arm["test"]["mean"], arm["minus_reference"]["mean"]
        assert test["n"] == 5
        error = f"{test['mean']:.1f} ± {test['standard_error']:.1f}"
        change = f"{difference['mean']:+.1f} ± {difference['standard_error']:.1f}" if name != "float32" else ""
        assert f'| `"{name}"` | {error} | {change} | {arm["state_bytes_per_parameter"]:.0f} |' in BENCHMARKS
    nudged = results["arms"]["float32-nudged"]["minus_reference"]["mean"]
    assert f"{nudged['mean']:.1f} ± {nudged['standard_error']:.1f} above" in BENCHMARKS
    last = [row for row in results["rounding"] if row["visits"] == 10_000]
    bias = {row["storage"]: row["rms_bias"] for row in last if row["gradients"] == "constant mean"}
    assert f"{bias['bfloat16-nearest']:.0%} (bfloat16) and {bias['int8-nearest']:.0%} (int8)" in BENCHMARKS
    assert f"off by {bias['bfloat16']:.2%} and {bias['int8']:.1%}" in BENCHMARKS


def readable(seconds: float) -> str:
    """Seconds, or hours where they are many."""
    return f"{seconds:.3g} s" if seconds < 3600 else f"{seconds / 3600:.3g} h"


def importance_rows(name: str = "importance") -> dict[str, float]:
    results = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    return {row["name"]: row["measured"] for row in results["table"]}


def test_importance_table_is_the_result_file() -> None:
    found = importance_rows()
    for label, name in (
        ("chirplet of 1 s, 63 paths, 3 examples", "small (P=63, U=2, batch 3)"),
        ("chirplet of 4 s, 81 paths, 2 examples", "slow (P=81, U=2, batch 2)"),
    ):
        ratio = found[f"{name}: scrapl-loss's time over ours, whole pi"]
        even = found[f"{name}, even boundary: scrapl-loss's time over ours, whole pi"]
        ours, peer = (readable(found[f"{name}: {side}"]) for side in ("ours, s, median", "scrapl-loss, s"))
        assert f"| {label} | {ratio:.0f} | {even:.0f} | {ours} | {peer} |" in BENCHMARKS
        assert found[f"{name}: our residuals, largest"] <= 0.01
    for label, name, how, star in (
        (
            "the paper's transform and encoder, 315 paths, 4 examples",
            "paper (P=315, U=2, batch 4)",
            "measured",
            "",
        ),
        ("a drum of 14 controls, 483 paths, 1 example", "tr808 (P=483, U=14, batch 1)", "from pieces", "*"),
    ):
        ratio = found[f"{name}: scrapl-loss's time, from pieces, over ours, {how}"]
        even = found[f"{name}, even boundary: scrapl-loss's time, from pieces, over ours, {how}"]
        ours, peer = (
            readable(found[f"{name}: {side}"]) for side in (f"ours, {how}, s", "scrapl-loss, from pieces, s")
        )
        assert f"| {label} | {ratio:.0f}* | {even:.0f}* | {ours}{star} | {peer}* |" in BENCHMARKS


def test_importance_agreement_is_the_result_files() -> None:
    small = "small (P=63, U=2, batch 3): pi, scrapl-loss's from ours with its transform, total variation"
    assert f"its π is {importance_rows()[small]:.2f} in total variation" in BENCHMARKS
    found = importance_rows("importance_agreement")
    settled = found["agreement: scrapl-loss's 20 steps from ours with its transform, settled values: largest"]
    undone = found["agreement: the same, and our filters rounded to float32, as its are: largest"]
    n_settled = found["agreement: of these settled after scrapl-loss's 20 steps"]
    assert f"{n_settled:.0f} of {found['agreement: values compared']:.0f} values settle" in BENCHMARKS
    assert f"agree to {settled:.1%}" in BENCHMARKS
    assert f"to {undone:.1%}" in BENCHMARKS
    ratios = [v for name, v in importance_rows("importance_mass").items() if "inside over uniform's" in name]
    assert f"{min(ratios):.1f} to {max(ratios):.1f} times" in BENCHMARKS


def test_peers_table_is_the_result_files() -> None:
    speed = {
        r["name"]: r["measured"]
        for r in json.loads((ROOT / "benchmarks/results/speed.json").read_text())["ratios"]
    }
    rows = {
        "exact": "a loss with its gradient, times ours",
        "even-compact": 'the same, times ours at `boundary="even", samples_per_bandwidth=2`',
    }
    for name, label in rows.items():
        step = speed[f"step, scrapl-loss / {name}, over paths: ratio of means"]
        tree = speed[f"full tree, forward and backward, kymatio / {name}: time"]
        mss = 1 / speed[f"step, {name} / mss: mean over paths"]
        assert f"| {label} | 1 | {step:.2g} | {tree:.2g} (full tree) | {mss:.2g} |" in README
    optimizer = json.loads((ROOT / "benchmarks/results/optimizer.json").read_text())
    hooks = {r["name"]: r["measured"] for r in optimizer["ratios"]}[
        STEP.format("scrapl-loss", "float32", "0.6M", 315, "")
    ]
    assert f"| its step, 0.6M parameters, 315 paths, times ours | 1 | {hooks:.2g} |" in README
    sizes = {row["contender"]: row["bytes_per_parameter"] for row in optimizer["state"] if row["drawn"] == 315}
    ours = ", ".join(f"{sizes[name]:.0f}" for name in ("float32", "bfloat16", "int8"))
    assert f"| {ours} (float32, bfloat16, int8) | {sizes['scrapl-loss']:.0f} |" in README
    exact = {name: v for name, v in importance_rows().items() if "even boundary" not in name}
    whole = [v for name, v in exact.items() if name.endswith("scrapl-loss's time over ours, whole pi")]
    assert f"| θ-importance, the whole π, times ours | 1 | {min(whole):.0f} and {max(whole):.0f} |" in README


def test_adaptive_table_is_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/adaptive.json").read_text())
    for arm in results["arms"]:
        cells = []
        for synth in ("granular", "chirplet"):
            if arm not in results["synths"][synth]["arms"]:
                cells += ["", ""]
                continue
            found = results["synths"][synth]["arms"][arm]
            error = found["test"]["mean"]
            assert error["n"] == 5
            cells.append(f"{error['mean']:.0f} ± {error['standard_error']:.0f}")
            difference = found.get("minus_reference", {}).get("mean")
            change = (
                ""
                if arm == results["reference"]
                else (f"{difference['mean']:+.0f} ± {difference['standard_error']:.0f}, {difference['verdict']}")
            )
            cells.append(change)
        assert f"| {' | '.join(cells)} |" in BENCHMARKS


def test_does_it_help_tables_are_the_result_files() -> None:
    page = text("does_it_help")
    results = json.loads((ROOT / "benchmarks/results/does_it_help.json").read_text())
    rows = [row for of_problem in page_rows(results).values() for row in of_problem]
    assert len(rows) > 12
    for row in rows:
        assert " ".join(row.split()) in page
    noise = json.loads((ROOT / "benchmarks/results/path_noise.json").read_text())["problems"]
    for way in noise["scaled"]:
        cells = [
            f"{noise[problem][way]['noise_to_signal']:.0f}" for problem in ("scaled", "scaled-chirplet-lo-lo")
        ]
        assert f"| {way} | {' | '.join(cells)} | {noise['scaled'][way]['state_bytes'] / 1e6:.1f} MB |" in page


def test_what_is_said_of_textures_is_the_result_file() -> None:
    page = " ".join(text("does_it_help").split())
    arms = json.loads((ROOT / "benchmarks/results/does_it_help.json").read_text())["problems"]["scaled"]["arms"]

    def half(summary: dict[str, Any]) -> float:
        return (summary["interval95"][1] - summary["interval95"][0]) / 2

    for name, arm in arms.items():
        lost = arm["at_chance"]
        assert f"| {name} | {lost['density']} | {lost['slope']} | {arm['test']['mean']['mean']:.0f} ±" in page
    variation = {name: arm["total_variation"] for name, arm in arms.items()}
    for name in ("adam", "p-adam"):
        change = arms[name]["minus_reference"]["total_variation"]
        assert change["interval95"][0] > 0
        assert f"{change['mean']:.2f} ± {half(change):.2f}" in page
    levels = [f"{variation[name]['mean']:.2f}" for name in ("adam", "p-adam", "scrapl")]
    assert "from {} (Adam) and {} (P-Adam) to {}".format(*levels) in page
    assert arms["p-adam"]["at_chance"]["slope"] == arms["mss"]["at_chance"]["slope"] == 5
    theta = arms["theta-is"]
    gain = theta["minus_reference"]["mean"]
    assert sum(d < 0 for d in gain["differences"].values()) == 4
    assert f"ends lower for four of five seeds, by {-gain['mean']:.0f} ± {half(gain):.0f}" in page
    assert f"after {theta['converged']['mean']['steps']['mean']:.0f} ±" in page
    changes = {name: arms[name]["minus_reference"]["mean"] for name in arms if name != "scrapl"}
    told = {name: f"{abs(change['mean']):.0f} ± {half(change):.0f}" for name, change in changes.items()}
    assert all(difference < 0 for difference in changes["predicted"]["differences"].values())
    assert f"ends lower for each of five seeds, by {told['predicted']}" in page
    assert f"that five seeds can tell (-{told['two renderings, warm-up']})" in page
    assert f"as far as five seeds can tell (-{told['even']})" in page
    beside = changes["with one mss"]["differences"].values()
    assert len(beside) == 5
    assert all(difference > 0 for difference in beside)
    assert f"ends higher for each of five seeds, by {told['with one mss']}" in page
    assert arms["with one mss"]["at_chance"]["slope"] == 3
    assert "leaves the slope at chance for three: where" in page
    ratio = arms["scrapl"]["test"]["mean"]["mean"] / arms["controls"]["test"]["mean"]["mean"]
    assert f"The error with a path is {ratio:.1f} times the error of supervision" in page


def test_what_is_said_of_chirplets_is_the_result_file() -> None:
    page = text("does_it_help")
    problems = json.loads((ROOT / "benchmarks/results/does_it_help.json").read_text())["problems"]
    slow, hard = problems["scaled-chirplet-lo-lo"]["arms"], problems["scaled-chirplet-hi-med"]["arms"]
    errors = {
        name: {run["seed"]: run["test"]["mean"] for run in arm["runs"]} for name, arm in hard.items()
    }  # of each seed

    def gain(name: str, reference: str) -> str:
        values = [error - errors[reference][seed] for seed, error in errors[name].items()]
        reach = 2.776 * float(np.std(values, ddof=1)) / 5**0.5  # Student's t for four degrees of freedom
        assert len(values) == 5
        return f"{abs(np.mean(values)):.0f} ± {reach:.0f}"

    assert f"a floor of 0.25 costs {gain('theta-is, floor', 'theta-is')}" in page
    assert f"leaving P-SAGA out costs {gain('theta-is, no saga', 'theta-is')}" in page
    assert f"for each of five seeds, by {gain('predicted', 'theta-is')}" in page
    both, theta = errors["theta-is, memory and clocks by pi"], errors["theta-is"]
    assert f"lower for each of five seeds, by {gain('theta-is, memory and clocks by pi', 'theta-is')}" in page
    assert all(both[seed] < error for seed, error in theta.items())
    assert 0.6 < sum(both.values()) / sum(theta.values()) < 0.7  # a third off
    alone = [
        hard[f"theta-is, {name} by pi"]["test"]["mean"]["mean"]
        for name in ("memory", "clocks", "memory and clocks")
    ]
    assert "{:.0f} with the memory, {:.0f} with the clocks. Both together end at {:.0f}".format(*alone) in page
    assert all(errors["predicted"][seed] < error for seed, error in errors["theta-is"].items())
    means = [hard[name]["test"]["mean"]["mean"] for name in ("predicted", "scrapl", "theta-is")]
    assert "({:.0f} against {:.0f}, and {:.0f} with θ-importance)".format(*means) in page
    shares = [hard[name]["converged"]["mean"]["share"] for name in ("scrapl", "theta-is", "released", "predicted")]
    assert shares == [0.2, 0.8, 1.0, 1.0]
    saved = [slow[name]["minus_reference"]["steps"] for name in ("theta-is", "released")]
    of = slow["scrapl"]["converged"]["mean"]["steps"]["mean"]
    reaches = [(d["interval95"][1] - d["interval95"][0]) / 2 for d in saved]
    assert f"{-saved[0]['mean']:.0f} ± {reaches[0]:.0f} of {of:.0f} (θ-importance)" in page
    assert f"{-saved[1]['mean']:.0f} ± {reaches[1]:.0f} (released)" in page
    medium = problems["scaled-chirplet-lo-med"]["arms"]
    at_chance = {name: arm["at_chance"]["am"] for name, arm in medium.items()}
    assert at_chance.pop("predicted") == 5
    assert set(at_chance.values()) == {3, 4, 5}  # of five
    fm = medium["predicted"]["minus_reference"]["fm"]
    assert f"FM ({-fm['mean']:.0f} ± {(fm['interval95'][1] - fm['interval95'][0]) / 2:.0f})" in page
    assert f"falls to nothing over training costs {gain('theta-is, decayed saga', 'theta-is')};" in page
    for name in ("warm-up", "half saga"):
        assert f"({gain(f'theta-is, {name}', 'theta-is')})" in page
    beside = hard["with one mss"]["minus_reference"]["mean"]
    reach = (beside["interval95"][1] - beside["interval95"][0]) / 2
    assert beside["verdict"] == "no difference seen"
    assert f"no difference that five seeds can tell ({beside['mean']:.0f} ± {reach:.0f})" in " ".join(page.split())
    for problem, told in (("few-paths", "better on `few-paths`, by {} ± {}"), ("wide", "can be told ({} ± {})")):
        difference = problems[f"scaled-chirplet-{problem}"]["arms"]["predicted"]["minus_reference"]["mean"]
        reach = (difference["interval95"][1] - difference["interval95"][0]) / 2
        assert told.format(f"{-difference['mean']:.0f}", f"{reach:.0f}") in page
    assert problems["scaled-chirplet-wide"]["arms"]["predicted"]["test"]["mean"]["n"] == 10


HARD = "scaled-chirplet-hi-med"  # on which votes by pi were found


def test_what_is_said_of_pi_that_votes_is_the_result_files() -> None:
    page, readme = text("does_it_help"), " ".join(README.split())
    results = json.loads((ROOT / "benchmarks/results/does_it_help.json").read_text())
    voting, pooled = "theta-is, memory and clocks by pi", results["over chirplets"]
    labels = {
        "scrapl": "uniform draws",
        "theta-is": "θ-importance",
        "predicted": "`predicted`",
        voting: "θ-importance that votes",
    }
    for name, found in pooled.items():
        arm, reference = (labels[part] for part in name.split(" minus "))
        assert found["problems"] == 6
        assert f"| {arm}, minus {reference} | {found['pairs']} | {found['lower']} | {found['mean']:.0f} |" in page
    over_theta, over_uniform = pooled[f"{voting} minus theta-is"], pooled[f"{voting} minus scrapl"]
    assert (
        f"in {over_theta['lower']} runs of {over_theta['pairs']}, by {-over_theta['mean']:.0f} on average" in page
    )
    assert f"lower than uniform draws in {over_uniform['lower']} of {over_uniform['pairs']}" in page
    others = {
        name: content["arms"] for name, content in results["problems"].items() if name not in ("scaled", HARD)
    }
    lower = []
    for reference in ("theta-is", "scrapl"):
        pairs = [
            (run["test"]["mean"], other["test"]["mean"])
            for arms in others.values()
            if voting in arms
            for run in arms[voting]["runs"]
            for other in arms[reference]["runs"]
            if run["seed"] == other["seed"]
        ]
        lower.append(f"{sum(a < b for a, b in pairs)} of {len(pairs)}")
    assert f"lower than θ-importance in {lower[0]} pairs, and than uniform draws in {lower[1]}" in page
    subset, theta = pooled["predicted minus scrapl"], pooled["theta-is minus scrapl"]
    assert f"uniform draws in {subset['lower']} runs of {subset['pairs']}, by {-subset['mean']:.0f}" in page
    for found in (over_uniform, subset, theta):
        assert f"{found['lower']} of {found['pairs']}" in readme
    verdicts = [
        summary["arms"]["predicted"]["minus_reference"]["mean"]["verdict"]
        for name, summary in results["problems"].items()
        if name.startswith("scaled-chirplet")
    ]
    assert (len(verdicts), verdicts.count("better"), verdicts.count("worse")) == (6, 3, 0)
    assert "were better on three of six chirplet problems" in text("choosing")
    measured = json.loads((ROOT / "benchmarks/results/alignment.json").read_text())
    told = 0
    for problem, content in results["problems"].items():
        if voting in content["arms"] and problem in measured["problems"]:
            errors = [
                {run["seed"]: run["test"]["mean"] for run in content["arms"][arm]["runs"]}
                for arm in (voting, "theta-is")
            ]
            change = float(np.mean([errors[0][seed] - errors[1][seed] for seed in errors[0]]))
            losses = measured["problems"][problem]["losses"]
            alike, by_pi = (min(losses[loss]["correlation"]) for loss in ("path", "path, votes by pi"))
            label = "granular" if problem == "scaled" else f"`{problem.removeprefix('scaled-chirplet-')}`"
            assert f"| {label} | {alike:.2f} | {by_pi:.2f} | {change:.0f} |" in page
            told += (by_pi > alike) == (change < 0)
    assert f"for {told} of 7 problems" in page
    choices = measured["choices"]
    assert f"{choices['right']} times of {choices['right'] + choices['wrong']}" in page


def test_what_is_said_of_the_memory_is_the_result_file() -> None:
    page = text("does_it_help")
    arms = json.loads((ROOT / "benchmarks/results/update_sizes.json").read_text())["arms"]
    voting, visits = "theta-is, memory and clocks by pi", ("once", "2 to 9", "10 to 99")

    def means(arm: str, key: str) -> list[float]:
        return [float(np.mean([seed[v][key] for seed in arms[arm].values()])) for v in visits]

    for arm, label in (("theta-is", "the paper's memory"), ("theta-is, clocks by pi", "clocks by π")):
        sizes = [f"{size:.2f}" for size in means(arm, "size")]
        assert f"| size of the last update, {label} | {' | '.join(sizes)} |" in page
        votes = [f"{vote:.0%}" for vote in means(arm, "vote")]
        assert f"| share of the memory's mean, {label} | {' | '.join(votes)} |" in page
    rare = [sum(means(arm, key)[:2]) for arm, key in (("theta-is", "pi"), ("theta-is", "vote"), (voting, "vote"))]
    told = "with {:.0%} of the draws, make {:.0%} of the mean that every step adds, and {:.0%} when π weighs it"
    assert told.format(*rare) in page


def test_what_is_said_of_votes_and_the_full_tree_is_the_result_files() -> None:
    page = text("does_it_help")
    problems = json.loads((ROOT / "benchmarks/results/does_it_help.json").read_text())["problems"]
    alignments = json.loads((ROOT / "benchmarks/results/alignment.json").read_text())["problems"]
    for problem, label in (("scaled", "granular"), ("scaled-chirplet-hi-med", "`hi-med`")):
        losses, arms = alignments[problem]["losses"], problems[problem]["arms"]
        for k, control in enumerate(alignments[problem]["controls"]):
            by_size, alike = (losses[loss]["correlation"][k] for loss in ("full tree", "path"))
            adam, p_adam = (arms[name]["test"][control]["mean"] for name in ("adam", "p-adam"))
            name = control.upper() if len(control) == 2 else control
            assert f"| {label}, {name} | {by_size:.2f} | {adam:.0f} | {alike:.2f} | {p_adam:.0f} |" in page
            if label == "granular":  # trained as predicted
                assert (by_size > alike) == (adam < p_adam)
    short, long = problems["scaled-short"]["arms"], problems["scaled"]["arms"]["scrapl"]["test"]["mean"]["mean"]
    tree, path = (short[name]["test"]["mean"]["mean"] for name in ("full tree", "scrapl"))
    assert f"512 steps of it end at {tree:.0f}, 4096 steps of a path at {long:.0f}" in page
    assert (
        f"it is {path / tree:.1f} times with as many steps, and {long / tree:.1f} times with eight times" in page
    )
    assert f"({tree:.0f} against {long:.0f})" in README
    cost = short["full tree"]["seconds_per_step"] / short["scrapl"]["seconds_per_step"]
    assert f"took {cost:.0f} times as long as one on a path" in page
    histories = [run["history"] for run in short["full tree"]["runs"]]
    early = [np.mean([h["mean"][h["step"].index(step)] for h in histories]) for step in (128, 192)]
    last = np.mean([run["history"]["mean"][-1] for run in problems["scaled"]["arms"]["scrapl"]["runs"]])
    ends = "validation error is {:.0f} and {:.0f}; the path's is {:.0f} at the end".format(*early, last)
    assert ends in page
    ranks = json.loads((ROOT / "benchmarks/results/alignment.json").read_text())["ranking"]
    told = "Over the {} losses and problems", "errors is {:.2f} over controls, and {:.2f} over the worst"
    assert told[0].format(ranks["cells"]) in page
    assert told[1].format(*ranks["correlation"].values()) in page
    bundle = next(
        ratio["measured"]
        for ratio in json.loads((ROOT / "benchmarks/results/speed.json").read_text())["ratios"]
        if ratio["name"] == "bundle of one n2 / one path of it, compact: mean over n2"
    )
    assert f"all paths of one rate a step cost {bundle:.1f} paths" in page
    rates = problems["scaled-chirplet-hi-med"]["arms"]["rates"]
    assert len(rates["runs"]) == 5
    assert not any(rates["at_chance"].values())


def test_released_distributions_are_the_result_file() -> None:
    page, results = text("does_it_help"), json.loads((ROOT / "benchmarks/results/released_pi.json").read_text())
    found = {case["case"]["name"]: case["distributions"] for case in results["cases"]}
    heard = (
        "scaled lo-lo, 4, all heard",
        "scaled lo-lo, 4, our encoder, all heard",
        "scaled granular, 4, all heard",
    )
    for label, number in (
        ("the root mean square slope", "rms slope"),
        ("the mean slope without its sign", "mean slope"),
        ("the mean curvature in the control", "mean curvature"),
    ):
        cells = [f"{found[case]['norm'][number]['from_the_norms_eigenvalues']:.2f}" for case in heard]
        assert f"| {label} | {' | '.join(cells)} |" in page
    closest = found["paper lo-lo, fixed width"]["norm, reflections left in"]["rms slope"]["beside_released"]
    farthest = found["paper lo-lo"]["norm"]["eigenvalue"]["beside_released"]
    assert f"total variation is {farthest['total_variation']:.2f}" in page
    assert f"is {closest['total_variation']:.2f} from the released" in page
    assert f"(Spearman {closest['spearman']:.2f})" in page
    granular = found[heard[2]]["norm, reflections left in"]["eigenvalue"]["beside_released"]
    assert f"On granular textures {granular['total_variation']:.2f} remain" in page
    moved = [found[case]["square"]["eigenvalue"]["from_the_norms_eigenvalues"] for case in (heard[0], heard[2])]
    assert f"({moved[0]:.2f} on lo-lo, {moved[1]:.2f} on granular)" in page
    effective = [found[heard[0]][loss]["eigenvalue"]["exp_entropy"] for loss in ("square", "norm")]
    assert f"leaves {effective[0]:.0f} effective paths of {effective[1]:.0f}" in page


def test_versions_tried_are_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/wheel.json").read_text())["results"]
    pairs = {(r["python"].rpartition(".")[0], r["torch"].partition("+")[0]) for r in results}
    tried = ", ".join(f"{python} with {torch}" for python, torch in sorted(pairs, key=str))
    assert f"Python and torch tried: {tried}" in BENCHMARKS
    assert all("passed" in r["tests"] and "failed" not in r["tests"] for r in results)
    slowest = max(r["import_seconds"] for r in results)
    assert f"at most {slowest:.2f} s to torch's own" in BENCHMARKS
