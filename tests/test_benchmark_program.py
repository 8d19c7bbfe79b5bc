"""The harness of benchmarks: results before pictures, errors as sentences, statistics and tables."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.harness.files import COMMITTED
from benchmarks.harness.program import Program
from benchmarks.harness.records import (
    BenchmarkError,
    Metric,
    Records,
    exponent,
    mean_error,
    metric_table,
    n_log_n,
    percentiles,
    relative_distance,
)

RESULTS = {"machine": {"cpu": "a processor"}, "date": "2026-11-25", "figures": [1, 2]}


def program(**fields: Any) -> Program:
    fields = {"measure": lambda options: RESULTS, "table": lambda results: "the table", **fields}
    return Program("benchmarks.toy", "A toy.", **fields)


def fail(error: BaseException) -> Any:
    def measure(options: argparse.Namespace) -> dict[str, Any]:
        raise error

    return measure


def unable(results: dict[str, Any]) -> Figure:
    raise KeyError("figures\nof another version")


def test_a_failing_picture_loses_no_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(draw=lambda results: Figure())(["--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"toy.json", "toy.png"}
    assert f"Look at   {tmp_path / 'toy.png'}" in capsys.readouterr().out

    assert program(draw=unable)(["--out", str(tmp_path)]) == 1
    assert json.loads((tmp_path / "toy.json").read_text()) == RESULTS
    assert not (tmp_path / "toy.png").exists()  # the earlier one would pass for this run's
    printed = capsys.readouterr()
    assert "the table" in printed.out
    assert "Look at" not in printed.out
    assert "toy.png could not be drawn (KeyError: " in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (BenchmarkError("they differ"), 1, "error: they differ"),
        (ValueError("so few seeds"), 2, "error: so few seeds"),
        (KeyboardInterrupt(), 130, "Interrupted. What was measured is in runs/toy."),
    ],
)
def test_errors_are_sentences(
    error: BaseException, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(measure=fail(error))(["--out", str(tmp_path)]) == code
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_interpreter_is_told_with_the_command_that_builds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measures = program(measure=fail(AssertionError()), sections=("paths",))
    assert measures(["--python", str(tmp_path / "no-python"), "--out", str(tmp_path)]) == 2
    assert "make toy builds .venv-peer/bin/python" in capsys.readouterr().err


def test_a_part_does_not_take_the_place_of_the_committed_results() -> None:
    measured = program(quick="less", sections=("paths", "memory"))
    assert measured.parse([]).out == COMMITTED
    assert measured.parse(["--only", "memory", "paths"]).out == COMMITTED
    assert measured.parse(["--only", "memory", "paths"]).only == ["paths", "memory"]
    assert measured.parse(["--only", "memory"]).out == measured.parse(["--quick"]).out == Path("runs/toy")
    assert measured.parse(["--quick", "--out", "here"]).out == Path("here")
    study = program(quick="less", n_seeds=5, n_parallel=2)
    assert (study.parse([]).out, study.parse([]).runs) == (COMMITTED, Path("runs/toy"))
    assert study.parse(["--quick"]).out == study.parse(["--quick"]).runs == Path("runs/toy-quick")
    assert study.parse(["--quick", "--runs", "there"]).out == Path("there")


PROGRAMS = (
    *(
        "speed.__main__",
        "speed.cuda",
        "speed.breakdown",
        "optimizer.__main__",
        "importance.__main__",
        "unlike_terms",
        "families",
        "resynthesis",
    ),
    *("first_training", "sound_matching.__main__", "sound_matching.report", "redraw", "studies.buckets"),
    "studies.accuracy.boundary",
    *(
        f"studies.{name}.__main__"
        for name in ("accuracy", "storage", "adaptive", "released_pi", "drums", "image_textures")
    ),
    "studies.drums.report",
)


@pytest.mark.parametrize("module", PROGRAMS)
def test_every_program_tells_its_options(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = importlib.import_module(f"benchmarks.{module}")
    with pytest.raises(SystemExit) as stopped:
        program.main(["--help"])
    assert stopped.value.code == 0
    assert f"python -m benchmarks.{module.removesuffix('.__main__')} [-h]" in capsys.readouterr().out


def test_the_makefile_keeps_its_targets() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    targets = "match match-quick match-recording match-paper speed speed-quick speed-cuda accuracy optimizer "
    targets += "optimizer-quick storage adaptive importance importance-quick pictures wheel test-studies"
    assert set(targets.split()) <= {line.partition(":")[0] for line in makefile.splitlines()}


def test_studies_keep_their_former_commands() -> None:
    command = [sys.executable, "-m", "benchmarks.accuracy", "--help"]
    printed = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]
    ).stdout
    assert "python -m benchmarks.studies.accuracy [-h] [--quick]" in printed


def test_the_table_says_what_is_not_met() -> None:
    metrics = [
        Metric("c", 0.5),
        Metric("a", 8.0, ">=", 9.0),
        Metric("b", 1.5, "<=", 2.0),
        Metric("d", None, "<=", 2.0),
    ]
    lines = metric_table(metrics).splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["a", "b", "d", "c"]
    assert [line.split()[-1] for line in lines] == ["MET", "met", "-", "0.5"]
    assert "NOT MET" in lines[0]
    assert Metric("e", 1.0, ">=", None).record() == {
        "name": "e", "measured": 1.0, "relation": "", "wanted": None, "met": None,
    }  # fmt: skip


def test_metrics_of_numpy_are_json() -> None:
    metrics = [Metric("e", np.float32(0.5), "<=", np.float64(1)), Metric("f", np.int64(3))]  # type: ignore[arg-type]
    first, second = json.loads(json.dumps([metric.record() for metric in metrics]))
    assert (first["measured"], first["met"], second["measured"]) == (0.5, True, 3.0)


def test_statistics() -> None:
    assert percentiles([4.0, 1.0, 3.0, 2.0, 5.0], q1=25, q3=75) == {"median": 3.0, "q1": 2.0, "q3": 4.0, "n": 5}
    assert percentiles(list(range(11)), p10=10, p90=90) == {"median": 5.0, "p10": 1.0, "p90": 9.0, "n": 11}
    assert mean_error([1.0, 3.0]) == {"n": 2, "mean": 2.0, "std": math.sqrt(2), "standard_error": 1.0}
    assert mean_error([4.0])["standard_error"] is None
    sizes = [2.0**k for k in range(13, 18)]
    assert exponent([n_log_n(n) for n in sizes], [3e-9 * n_log_n(n) for n in sizes]) == pytest.approx(1)
    assert exponent(sizes, [0.7 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="two sizes"):
        exponent([8192, 8192], [1.0, 2.0])


def test_distances_are_relative_to_what_is_expected() -> None:
    assert relative_distance([3.0, 0.0], [3.0, 4.0]) == pytest.approx(0.8)
    assert relative_distance([0.0], [0.0]) == 0
    assert relative_distance([1.0], [0.0]) == math.inf
    assert math.isnan(relative_distance([math.nan], [1.0]))


def test_records_average_within_a_value_then_over_values() -> None:
    records = Records([{"path": p, "seconds": {"median": s}} for p, s in ((0, 1.0), (0, 3.0), (1, 8.0))])
    assert records.values("path") == {0: 2.0, 1: 8.0}
    assert records.mean() == 5
    assert records.where(path=[1, 2]).median() == 8
    assert records.where(path=7).mean() is None
