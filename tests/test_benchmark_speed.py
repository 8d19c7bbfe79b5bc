"""The speed benchmark: its worker, statistics, check of answers, results. No other package is needed."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.harness.measure import peak_memory, time_once, wake_libraries
from benchmarks.harness.records import AnswersDiffer, percentiles
from benchmarks.harness.worker import Worker, WorkerError, cores_for, serve
from benchmarks.speed import conductor, cuda
from benchmarks.speed.__main__ import main
from benchmarks.speed.answers import compare, compare_contenders, tolerance_name
from benchmarks.speed.cases import PAPER_SETTINGS, Case, Settings, representative_paths
from benchmarks.speed.conductor import SpeedConductor, describe, turns
from benchmarks.speed.contenders import OURS, build, noise, work
from benchmarks.speed.plan import SECTIONS, Plan, Section, make_plan
from benchmarks.speed.plots import draw_figure
from benchmarks.speed.ratios import all_ratios
from benchmarks.speed.worker import SpeedSession
from tests.support.benchmark_workers import InProcess

CPU = torch.device("cpu")
MODULE = "benchmarks.speed.worker"
TINY = Settings(1024, 6, (4, 1), 2, 1, 256, 4, (128, 64))
STEP = Case("step", TINY, 2, (3,))
PAPER_TABLE = [(n2, n_fr) for n2 in range(4, 25) for n_fr in range(15)]


def test_a_case_survives_json() -> None:
    for case in (STEP, Case("tree", PAPER_SETTINGS, 1)):
        assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case


def test_representative_paths_take_every_n2_once_and_every_n_fr() -> None:
    chosen = [PAPER_TABLE[path] for path in representative_paths(PAPER_TABLE)]
    assert [n2 for n2, _ in chosen] == list(range(4, 25))
    assert [n_fr for _, n_fr in chosen] == [7 * i % 15 for i in range(21)]
    assert {n_fr for _, n_fr in chosen} == set(range(15))


def test_the_paper_has_these_paths() -> None:
    assert build("exact", PAPER_SETTINGS.resized(8192), CPU).paths == PAPER_TABLE


def test_worker_process_answers_and_survives_a_bad_request(tmp_path: Path) -> None:
    with Worker(sys.executable, MODULE, "exact") as worker:
        assert worker.ask(do="hello")["missing"] is None
        table = [tuple(key) for key in worker.ask(do="paths", settings=STEP.to_json()["settings"])["paths"]]
        assert table == build("exact", TINY, CPU).paths
        seconds = worker.ask(do="time", case=STEP.to_json(), repeat=3, warm=True)["seconds"]
        assert len(seconds) == 3
        assert min(seconds) > 0
        with pytest.raises(WorkerError, match=r"exact: ValueError.*Invalid request: 'nonsense'"):
            worker.ask(do="nonsense")
        with pytest.raises(WorkerError, match="IndexError"):
            worker.ask(do="time", case=replace(STEP, paths=(9999,)).to_json(), repeat=1, warm=False)
        worker.ask(do="answer", case=STEP.to_json(), file=str(tmp_path / "answer.npz"))
        assert worker.ask(do="memory", case=STEP.to_json())["bytes"] > 0
    with np.load(tmp_path / "answer.npz") as answer:
        expected = build("exact", TINY, CPU).coefficients(noise("signal", 2, 1024, CPU), 3)
        np.testing.assert_allclose(answer["coefficients 3"], expected.numpy(), rtol=1e-4, atol=1e-7)
        assert answer["gradient 3"].shape == (2, 1024)


def test_worker_that_ends_is_reported() -> None:
    ends_at_once = shutil.which("false") or "false"
    with Worker(ends_at_once, MODULE, "exact") as worker, pytest.raises(WorkerError, match="ended with status 1"):
        worker.ask(do="hello")


def test_only_replies_are_on_the_replies_stream() -> None:
    replies = io.StringIO()
    requests = [{"do": "paths", "settings": STEP.to_json()["settings"]}, {"do": "time"}]
    serve(SpeedSession("exact"), io.StringIO("".join(json.dumps(r) + "\n" for r in requests)), replies)
    first, second = (json.loads(line) for line in replies.getvalue().splitlines())
    assert list(first) == ["paths"]
    assert second["error"].startswith("TypeError")


def test_noise_is_the_same_everywhere_and_batches_are_nested() -> None:
    x = noise("signal", 4, 1024, CPU)
    assert torch.equal(x, noise("signal", 4, 1024, CPU))
    assert torch.equal(x[:1], noise("signal", 1, 1024, CPU))
    assert not torch.equal(x, noise("target", 4, 1024, CPU))
    assert x.dtype == torch.float32


def test_work_is_what_its_kind_says() -> None:
    contender = build("exact", TINY, CPU)
    x, y, v = (noise(stream, 2, 1024, CPU) for stream in ("signal", "target", "direction"))
    x.requires_grad_()
    loss = contender.loss(x, y, (3,))
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    (product,) = torch.autograd.grad((gradient * v).sum(), x)
    forward = work(contender, replace(STEP, kind="forward"), CPU)()
    assert not forward.requires_grad
    assert forward.item() == pytest.approx(loss.item(), rel=1e-5)
    for kind, expected in (("step", gradient), ("hvp", product)):
        run = work(contender, replace(STEP, kind=kind), CPU)
        for _ in range(2):  # gradients must not add up over runs
            assert (run() - expected).norm() < 1e-3 * expected.norm()


def test_tree_has_both_orders() -> None:
    tree = build("exact", TINY, CPU, whole=True).tree(noise("signal", 1, 1024, CPU))
    second = build("exact", TINY, CPU).paths
    assert {f"{n2}_{n_fr}" for n2, n_fr in second} < set(tree)
    assert "0" in tree


@pytest.mark.parametrize("what", ["coefficients", "gradient", "product"])
def test_answers_that_differ_stop_the_run(what: str) -> None:
    good = {f"{what} {p}": np.random.default_rng(p).standard_normal((2, 3)) for p in (4, 5)}
    (difference,) = compare("exact", "scrapl-loss", good, good)
    assert (difference.largest, difference.n_compared) == (0, 2)
    for bad in (1.1 * good[f"{what} 5"], good[f"{what} 5"].T, np.full((2, 3), np.nan)):
        with pytest.raises(AnswersDiffer, match=f"{what} 5"):
            compare("exact", "scrapl-loss", {**good, f"{what} 5": bad}, good)
    with pytest.raises(AnswersDiffer, match=f"scrapl-loss has no {what} 5"):
        compare("exact", "scrapl-loss", good, {f"{what} 4": good[f"{what} 4"]})


def test_comparing_a_contender_to_itself() -> None:
    workers = {"exact": InProcess(SpeedSession("exact"))}
    products, tree = Case("hvp", TINY, 1, (0, 3)), Case("tree", TINY, 1)
    for case, whats in ((products, ["coefficients", "gradient", "product"]), (tree, ["coefficients"])):
        found = compare_contenders(workers, "exact", "exact", case)
        assert [(d.what, d.largest) for d in found] == [(what, 0) for what in whats]


def test_peak_memory_sees_64_mebibytes_that_are_gone_afterwards() -> None:
    wake_libraries()
    size, method = peak_memory(lambda: torch.ones(2**24).sum(), CPU)
    assert size > 0.8 * 2**26
    assert size < 1.2 * 2**26 or "upper bound" in method


def test_time_once_measures_time() -> None:
    assert 0.02 <= time_once(lambda: time.sleep(0.02), CPU) < 1


def test_turns_interleave_the_contenders() -> None:
    cases = (STEP, replace(STEP, paths=(4,)))
    section = Section("paths", cases, {"mss": 2, "exact": 2, "scrapl-loss": 1}, {})
    order = [(name, case.paths) for name, case in turns(section)]
    first = [
        ("exact", (3,)),
        ("scrapl-loss", (3,)),
        ("mss", ()),
        ("exact", (4,)),
        ("scrapl-loss", (4,)),
        ("mss", ()),
    ]
    assert order == [*first, ("exact", (3,)), ("mss", ()), ("exact", (4,)), ("mss", ())]
    assert len(section.cases) * sum(section.rounds.values()) == len(order)


@pytest.mark.parametrize("quick", [False, True])
def test_plan_covers_every_section_with_three_turns_of_the_peer(quick: bool) -> None:
    plan = make_plan(PAPER_TABLE, quick=quick)
    assert {section.name for section in plan.sections} | {"answers", "dispatches", "memory"} == set(SECTIONS)
    answered = {(contender, reference) for contender, reference, _ in plan.comparisons}
    assert {("even", "even-literal"), ("even-compact", "even")} < answered
    timed = {section.name: section.rounds for section in plan.sections}
    assert all({"even", "even-compact"} < set(rounds) for rounds in timed.values())
    assert {"even", "even-compact"} < {name for name, _ in plan.memory}
    if not quick:
        steps = next(section for section in plan.sections if section.name == "paths")
        assert len(steps.cases) == 21
        assert steps.rounds["scrapl-loss"] >= 3
        weighed = {PAPER_TABLE[c.paths[0]][0] for name, c in plan.memory if name == "scrapl-loss"}
        assert weighed == {4, 6, 10, 13, 17, 24}


def fake_results() -> dict[str, Any]:
    """Figures that are powers of N, the peer ten times as dear as ours, MSS as dear as ours."""
    factor = {"exact": 1.0, "compact": 0.5, "compact-3": 0.5, "even": 0.75, "even-compact": 0.25}
    factor |= {"scrapl-loss": 10.0, "mss": 1.0, "kymatio": 30.0}
    plan = make_plan(PAPER_TABLE, quick=False)
    timings, memory = [], []
    for section in plan.sections:
        for name, case in dict.fromkeys(turns(section)):
            seconds = factor[name] * case.settings.n_samples * case.batch / 2**17 * max(1, len(case.paths) / 5)
            record = {"section": section.name, "threads": section.threads, **describe(name, case, PAPER_TABLE)}
            timings.append({**record, "seconds": percentiles([seconds] * 3, q1=25, q3=75)})
    for name, case in plan.memory:
        memory.append({**describe(name, case, PAPER_TABLE), "bytes": int(2**20 * factor[name]), "method": "fake"})
    dispatches = [
        {**describe(name, case, PAPER_TABLE), "launches": int(100 * factor[name]), "bytes": 2**20, "waits": {}}
        for name, case in plan.dispatches
    ]
    dispatches += [
        {"contender": "Adam", "kind": "optimizer", "launches": 56, "bytes": 2**21, "waits": {"item": 46}}
    ]
    answers = [
        {"contender": name, "reference": reference, "what": "coefficients", "largest": 3 * far, "median": far}
        for name, reference, far in (
            ("exact", "scrapl-loss", 1e-7),
            ("even", "even-literal", 2e-7),
            ("even", "exact", 0.02),
        )
    ]
    return {
        "quick": False,
        "date": "2026-01-01T00:00:00+00:00",
        "machine": {"cpu": "none"},
        "configuration": {"n_samples": 32768},
        "answers": answers,
        "timings": timings,
        "dispatches": dispatches,
        "memory": memory,
    }


def test_ratios_of_known_costs() -> None:
    ratios = {ratio.name: ratio for ratio in all_ratios(fake_results())}
    expected = {
        "construction, kymatio / even: 470723 samples": (40, True),
        "construction, scrapl-loss / exact: 32768 samples": (10, True),
        "step, scrapl-loss / exact, over paths: ratio of means": (10, True),
        "step, scrapl-loss / exact, over paths: median of ratios": (10, True),
        "step, scrapl-loss / compact, over paths: ratio of medians": (20, True),
        "step, compact / mss: mean over paths": (0.5, True),
        "step, exact: costliest path / mean over paths": (1, True),
        "bundle of one n2 / one path of it, exact: mean over n2": (3, True),
        "full tree, forward and backward, kymatio / exact: time": (30, True),
        "full tree, forward and backward, exact / kymatio: memory": (1 / 30, True),
        "Hessian-vector product, scrapl-loss / exact: ratio of means": (10, True),
        "peak memory of a step, compact / mss: largest": (0.5, True),
        "peak memory of a step, scrapl-loss / mss: n2 = 4": (10, None),
        "relative difference of coefficients, exact: largest over paths": (3e-7, True),
        "relative difference of coefficients, compact: largest over paths": (None, None),
        "relative difference of coefficients, even: median over paths": (2e-7, True),
        "distance of coefficients to kymatio's boundary, even: largest over paths": (0.06, None),
        "step, scrapl-loss / even-compact, over paths: ratio of means": (40, True),
        "step, even / mss: mean over paths": (0.75, True),
        "full tree, forward and backward, kymatio / even-compact: time": (120, True),
        "peak memory of a step, even-compact / mss: largest": (0.25, True),
        "calls of ATen, even-compact, a step, mean over paths: launches": (25, None),
        "calls of ATen, even, the full tree: MiB read and written": (1, None),
        "calls of ATen, Adam, its step: where a host would wait, largest": (46, None),
        "cost of a step ~ batch ** a, exact: a": (1, None),
        "step, one thread / two, exact": (1, None),
    }
    for name, (value, met) in expected.items():
        assert ratios[name].measured == (None if value is None else pytest.approx(value, rel=1e-3)), name
        assert ratios[name].met is met, name
    assert all(ratio.met is not False for ratio in ratios.values())
    assert 0.9 < (ratios["cost of a step ~ (N log2 N) ** a, exact: a"].measured or 0) < 1


def test_results_are_written_with_table_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main.report(tmp_path, fake_results())
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert "costliest path" in capsys.readouterr().out


@pytest.mark.parametrize("are_alike", [False, True])
def test_values_of_the_full_tree_are_apart(are_alike: bool) -> None:
    results = fake_results()
    for record in (*results["timings"], *results["memory"]):
        if record["kind"] == "tree" and record["contender"] != "kymatio" and are_alike:
            record |= {"seconds": {"median": 0.123}} if "seconds" in record else {"bytes": 123 * 2**20}
    figure = draw_figure(results)
    FigureCanvasAgg(figure).draw()
    (axes,) = (axes for axes in figure.axes if axes.get_title().startswith("Full tree"))
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 10
    assert not any(box.overlaps(other) for box, other in itertools.combinations(boxes, 2))
    area = axes.get_window_extent()
    assert all(area.contains(box.x0, box.y0) and area.contains(box.x1, box.y1) for box in boxes)


def test_a_run_with_ourselves_alone_has_the_schema(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(conductor, "PAPER_SETTINGS", TINY)
    tree = Case("tree", TINY, 1)
    plan = Plan(
        (("exact", "scrapl-loss", STEP),),
        (
            Section("paths", (STEP,), {"exact": 2, "scrapl-loss": 1}, {"exact": 2}),
            Section("tree", (tree,), {"exact": 1}, {}),
            Section("construction", (Case("construction", TINY, 1),), {"exact": 2}, {}),
        ),
        (("exact", STEP), ("scrapl-loss", STEP)),
        (3,),
    )
    monkeypatch.setattr(conductor, "make_plan", lambda table, quick: plan)
    run = SpeedConductor(sys.executable, ["exact", "scrapl-loss"], SECTIONS, True, tmp_path / "partial.json")
    results = run.run()
    assert json.loads((tmp_path / "partial.json").read_text())["timings"]
    assert results["complete"]
    assert results["contenders"] == ["exact"]
    assert "scrapl-loss" in results["left_out"]
    made, step, whole = results["timings"]
    assert (made["kind"], made["seconds"]["n"]) == ("construction", 2)
    assert (step["contender"], step["path"], step["seconds"]["n"]) == ("exact", 3, 4)
    assert (step["n_samples"], step["batch"], step["threads"]) == (1024, 2, 1)
    assert set(step["seconds"]) == {"median", "q1", "q3", "n"}
    assert whole["kind"] == "tree"
    (weighed,) = results["memory"]
    assert weighed["bytes"] > 0
    assert {"machine", "versions", "date", "configuration", "representative_paths"} <= set(results)
    assert {ratio.name for ratio in all_ratios(results)} >= {"step, exact / mss: mean over paths"}


def test_cores_are_ours_to_use() -> None:
    assert len(cores_for(1)) <= 1
    assert cores_for(1) == cores_for(2)[-1:]


def test_cuda_functions_run_on_a_cpu(capsys) -> None:
    names = ("exact", "even", "scrapl-loss", "kymatio")
    results = cuda.measure_device(TINY, CPU, batches=(1,), rounds=2, names=names)
    assert set(results["left_out"]) == {"scrapl-loss", "kymatio"}
    assert results["answers"]["exact"] == 0 < results["answers"]["even"] < 1e-5
    works = {(record["kind"], record["n_paths"]): record for record in results["records"]}
    assert {kind for kind, _ in works} == {"optimizer", "tree", "step"}
    assert {n for kind, n in works if kind == "step"} == {1, 7}
    record = works["step", 1]
    assert record["seconds"]["n"] == 2
    assert record["launches"] == {"kernels": 0, "copies": 0}
    assert record["host_sync"] is None
    assert record["dispatches"]["launches"] > 50
    assert not record["dispatches"]["waits"]
    assert json.loads(json.dumps(results)) == {
        **results,
        "configuration": json.loads(json.dumps(results["configuration"])),
    }
    assert cuda.format_results(results).splitlines()[1].startswith("PathAdamSAGA")


def test_what_does_not_fit_into_the_time_or_the_memory_is_left_out() -> None:
    results = cuda.measure_device(TINY, CPU, batches=(1,), rounds=1, names=("exact",), seconds=0)
    assert {record["kind"] for record in results["records"]} == {"optimizer"}
    assert results["cases_left_out"] > 2
    assert cuda.format_results(results).endswith("cases left out: the time was up")

    def too_large() -> None:
        raise torch.OutOfMemoryError("as a GPU would")

    records = cuda.measure_in_turns({"large": too_large, "small": lambda: None}, {"kind": "step"}, CPU, 1)
    assert records[0] == {"contender": "large", "kind": "step", "out_of_memory": True}
    assert records[1]["seconds"]["n"] == 1


def test_a_cuda_run_measures_what_matters_most_first() -> None:
    cases = cuda.make_cases(PAPER_TABLE, TINY, (4, 1))
    kinds = [(case.kind, case.batch, len(case.paths)) for case in cases]
    assert kinds == [("tree", 1, 0), *[("step", 4, 1)] * 11, *[("step", 1, 1)] * 11, *[("step", 4, 15)] * 5]


@pytest.mark.parametrize(
    ("contender", "reference", "tolerance"),
    [
        ("exact", "kymatio", "exact"),
        ("even", "even-literal", "exact"),
        ("compact-3", "exact", "compact"),
        ("even-compact", "even", "compact"),
        ("even-compact", "even-literal", "compact"),
        ("even", "exact", "boundary"),
        ("even-compact", "exact", "boundary"),
    ],
)
def test_the_ends_of_sounds_may_differ_between_boundaries_alone(
    contender: str, reference: str, tolerance: str
) -> None:
    assert tolerance_name(contender, reference) == tolerance


def test_the_even_boundary_is_compared_with_its_literal_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = {name: InProcess(SpeedSession(name)) for name in ("even", "even-literal")}
    products, tree = Case("hvp", TINY, 1, (3,)), Case("tree", replace(TINY, n_samples=512, T=64), 1)
    for case, whats in ((products, ["coefficients", "gradient", "product"]), (tree, ["coefficients"])):
        found = compare_contenders(workers, "even", "even-literal", case)
        assert [d.what for d in found] == whats
        assert all(0 < d.largest < d.tolerance for d in found)
    monkeypatch.setitem(OURS, "even", {})  # kymatio's boundary
    workers["even"] = InProcess(SpeedSession("even"))
    with pytest.raises(AnswersDiffer, match="coefficients"):
        compare_contenders(workers, "even", "even-literal", tree)


def test_a_worker_counts_the_calls_of_a_case() -> None:
    counts = [
        InProcess(SpeedSession(name)).ask(do="dispatches", case=STEP.to_json()) for name in ("exact", "even")
    ]
    assert all(count["launches"] > 50 for count in counts)
    assert not any(count["waits"] for count in counts)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_speed_cuda_says_so_in_one_line(tmp_path: Path, capsys) -> None:
    assert cuda.main(["--out", str(tmp_path / "speed_cuda.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())
