"""The benchmark of the optimizer: its float64 twin, contenders, worker, plan, ratios and results."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.harness import conductor as harness
from benchmarks.harness.records import AnswersDiffer, percentiles
from benchmarks.optimizer import conductor
from benchmarks.optimizer.__main__ import main
from benchmarks.optimizer.answers import Answer, check_ours
from benchmarks.optimizer.conductor import OptimizerConductor
from benchmarks.optimizer.contenders import CONTENDERS, OURS, PEER, PathAdam, build, unique_bytes
from benchmarks.optimizer.drift import DriftRun
from benchmarks.optimizer.models import MODELS, make_parameters
from benchmarks.optimizer.plan import (
    SECTIONS,
    Plan,
    StepCase,
    Turn,
    available_bytes,
    make_plan,
    peer_bytes,
    unfit,
)
from benchmarks.optimizer.tables import all_ratios, ratio_table
from benchmarks.optimizer.worker import OptimizerSession
from tests.support.benchmark_workers import worker_of

SHAPES = [(3, 2), (5,)]


def test_models_have_about_the_parameters_they_are_called_by() -> None:
    for name, model in MODELS.items():
        shapes = model.shapes()
        assert sum(map(prod, shapes)) / 1e6 == pytest.approx(float(name[:-1]), rel=0.1)
        assert 20 <= len(shapes) <= 60
    assert sum(map(prod, MODELS["0.6M"].shapes())) == 604_169  # Table 10 of the paper: 604 K


def test_parameters_are_leaves_with_gradients_of_the_scale_asked_for() -> None:
    parameters = make_parameters([(100, 100)], scale=1e-6)
    assert parameters[0].is_leaf
    assert parameters[0].grad is not None
    assert parameters[0].grad.std().item() == pytest.approx(1e-6, rel=0.05)
    assert torch.equal(parameters[0], make_parameters([(100, 100)])[0])


def test_our_answers_are_right() -> None:
    answers = check_ours()
    assert len(answers) == 1 + len(OURS)
    distances = {answer.what.split()[2].rstrip(","): answer.distance for answer in answers[1:]}
    assert distances["float32"] < distances["bfloat16"] < distances["int8"]  # else rows were not rounded


@pytest.mark.parametrize("distance", [2.0, float("nan")])
def test_answers_that_differ_stop_the_run(distance: float) -> None:
    assert Answer("what", 0.5, 1.0).check().distance == 0.5
    assert Answer("what", distance, None).check().what == "what"
    with pytest.raises(AnswersDiffer, match="what"):
        Answer("what", distance, 1.0).check()


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != PEER])
def test_contenders_step_and_tell_their_state(name: str) -> None:
    params = make_parameters(SHAPES, scale=1.0)
    before = [parameter.detach().clone() for parameter in params]
    contender = build(name, params, 3)
    contender.prepare(2)
    contender.step(2)
    assert not any(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    entries = {"sgd": 1, "adam": 2, "adamw": 2, "float32": 3, "saga=0": 2, "path_adam=False": 2}
    floats = [tensor for tensor in contender.state() if tensor.is_floating_point() and tensor.numel() in (5, 6)]
    if name in entries:
        assert len(floats) == entries[name] * len(SHAPES)
    with pytest.raises(ValueError, match="unknown contender 'momentum'"):
        build("momentum", params, 3)


def test_state_is_counted_by_storage() -> None:
    base = torch.zeros(10)
    assert unique_bytes([base, base[:5], base.view(2, 5), torch.zeros(3, dtype=torch.int8)]) == 43
    contender = PathAdam(make_parameters(SHAPES), 3)
    assert unique_bytes(contender.state()) == 0
    sizes = []
    for path in range(3):
        contender.step(path)
        sizes.append(unique_bytes(contender.state()))
    assert np.diff(sizes).tolist() == [8 * 11, 8 * 11]


def test_drift_is_measured_and_seen() -> None:
    run = DriftRun(3, path_adam=True)
    found = run.advance(50)
    assert found.steps == 50
    assert 0 < found.sum < 1e-6
    assert 0 < found.mean < 1e-5
    state = run._optimizer.state[run._weight]
    state["saga_sum"].mul_(1 + 1e-3)
    assert run.measure().sum == pytest.approx(1e-3, rel=1e-2)


def test_session_draws_paths_then_cycles() -> None:
    session = OptimizerSession("float32")
    with pytest.raises(ValueError, match="build"):
        session.handle({"do": "steps", "turn": {}})
    n_parameters = sum(map(prod, MODELS["0.1M"].shapes()))
    request = {"do": "build", "model": "0.1M", "n_paths": 9, "row_budget": 8 * n_parameters * 5}
    assert session.handle(request) == {"drawable": 5, "row_bytes": 8 * n_parameters}
    turn = {"seconds": 0.0, "at_least": 3, "warm": 1, "evict": True}
    with pytest.raises(ValueError, match="3 paths were not drawn"):
        session.handle({"do": "steps", "turn": turn})
    first = session.handle({"do": "first", "seconds": 60.0})
    assert (len(first["seconds"]), first["left"]) == (3, 0)
    steps = session.handle({"do": "steps", "turn": turn})["seconds"]
    assert len(steps) == 3
    assert min(steps) > 0
    contender = session._contender
    assert isinstance(contender, PathAdam)
    clock = contender.optimizer.state[contender.optimizer.param_groups[0]["params"][0]]["step"]
    assert clock.tolist() == [6, 7, 8, 9, 5, 0, 0, 0, 0]  # two, three, then four from the first on


def test_session_weighs_state_and_step_and_drift() -> None:
    session = OptimizerSession("adam")
    request = {"model": "0.1M", "n_paths": 3}
    n_parameters, n_tensors = 105_761, len(MODELS["0.1M"].shapes())
    sizes = session.handle({"do": "state", "drawn": [0, 1], **request})["bytes"]
    assert sizes == [0, 8 * n_parameters + 4 * n_tensors]
    peak = session.handle({"do": "peak", "earlier_steps": 0, **request})
    assert peak["bytes"] > 0
    drift = {"do": "drift", "n_paths": 2, "path_adam": False}
    assert session.handle({**drift, "steps": 5})["steps"] == 5
    assert session.handle({**drift, "steps": 5})["steps"] == 10
    with pytest.raises(ValueError, match="Invalid request: 'nonsense'"):
        session.handle({"do": "nonsense"})
    assert "scrapl" in OptimizerSession(PEER).handle({"do": "hello"})["missing"]


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    case = StepCase("10M", 315, CONTENDERS, 1)
    assert peer_bytes(10, 4) == 480
    assert unfit(case, 10_000_000, None) == "does not fit: 37.8 GB (limit 10 GB)"
    assert unfit(StepCase("3M", 32, CONTENDERS, 1), 3_000_000, 10**11) is None
    reason = unfit(StepCase("0.6M", 315, (PEER,), 1), 604_169, 3 * 10**9)
    assert reason == "does not fit: 2.28 GB (3 GB are free, the others need 2.02 GB)"
    with pytest.raises(ValueError, match="are free"):
        unfit(case, 10_000_000, 10**9)
    (tmp_path / "meminfo").write_text("MemTotal: 5 kB\nMemAvailable:   3 kB\n")
    assert available_bytes(tmp_path / "meminfo") == 3072
    assert available_bytes(tmp_path / "nothing") is None


@pytest.mark.parametrize("quick", [False, True])
def test_plan_covers_what_the_issue_asks_for(quick: bool) -> None:
    plan = make_plan(quick=quick)
    single = [case for case in plan.steps if case.section == "steps"]
    assert {case.section for case in plan.steps} == {"steps", "threads", "allocator"}
    assert all(set(case.contenders) == set(CONTENDERS) for case in single)
    assert set(plan.state) >= {"adam", PEER, *OURS}
    assert list(plan.drift_marks) == sorted(plan.drift_marks)
    if not quick:
        wanted = {(model, n) for model in MODELS for n in (1, 32, 315, 1024)}
        assert {(case.model, case.n_paths) for case in single} == wanted
        assert {case.model for case in plan.steps if case.threads == 2} == set(MODELS)
        assert plan.drift_marks[-1] == 100_000
        assert {(n, on) for n in (2, 16, 64, 315, 1024) for on in (True, False)} == set(plan.drift)


def fake_results() -> dict[str, Any]:
    """Ours cost 1.2 times Adam, with int8 2 times, the peer 0.5 P times; first visits three times as much."""
    factor = {"adam": 1.0, "adamw": 1.0, "sgd": 0.5, **dict.fromkeys(OURS, 1.2), "int8": 2.0}
    timings = []
    for case in make_plan(quick=False).steps:
        n_parameters = sum(map(prod, MODELS[case.model].shapes()))
        for name in case.contenders:
            cost = 1e-9 * n_parameters * factor.get(name, 0.5 * case.n_paths)
            fields = {"contender": name, "model": case.model, "n_parameters": n_parameters}
            fields |= {"n_paths": case.n_paths, "threads": case.threads, "allocator": case.allocator}
            timings.append({"kind": "steady", **fields, "seconds": percentiles([cost] * 3, p10=10, p90=90)})
            if name in OURS and case.n_paths == 315:
                timings.append({"kind": "first", **fields, "seconds": percentiles([3 * cost] * 3, p10=10, p90=90)})
    state = [
        {"contender": name, "n_paths": 315, "drawn": k, "bytes_per_parameter": 8.0 * k + 4}
        for name, drawn in make_plan(quick=False).state.items()
        for k in drawn
    ]
    drift = [
        {"n_paths": n, "path_adam": True, "steps": steps, "sum": value, "mean": 1e-5}
        for n, values in ((2, (3e-6, 1e-7)), (16, (1e-8, 2e-8)))
        for steps, value in zip((1000, 100_000), values, strict=True)
    ]
    return {
        "quick": False,
        "date": "2026-01-01T00:00:00+00:00",
        "machine": {"cpu": "none"},
        "timings": timings,
        "does_not_fit": [{"contender": PEER, "model": "10M", "n_paths": 315, "reason": "does not fit: 38 GB"}],
        "state": state,
        "drift": drift,
    }


def test_ratios_of_known_costs() -> None:
    ratios = {ratio.name: ratio for ratio in all_ratios(fake_results())}
    expected = {
        "step, float32 / adam: 3M, P=315, 1 thread": (1.2, True),
        "step, float32 / adam: 3M, P=315, 2 threads": (1.2, True),
        "step, int8 / adam: 10M, P=315, 1 thread": (2, None),
        "step, float32 / adam: 3M, P=315, 1 thread, first": (3.6, None),
        "step, float32, 3M: dearest P / cheapest, P > 1": (1, None),
        "step, scrapl-loss, 3M: dearest P / cheapest, P > 1": (32, None),
        "step, scrapl-loss / float32: 0.1M, P=315, 1 thread": (0.5 * 315 / 1.2, None),
        "step, scrapl-loss / adam: 0.1M, P=32, 1 thread": (16, None),
        "drift of the running sum: P=2, P-Adam on, 100000 steps": (3e-6, False),  # the largest, not the last
        "drift of the running sum: P=16, P-Adam on, 100000 steps": (2e-8, True),
    }
    for name, (value, met) in expected.items():
        assert ratios[name].measured == pytest.approx(value), name
        assert ratios[name].met is met, name


def test_the_table_says_what_is_not_met() -> None:
    table = ratio_table(fake_results())
    line = next(line for line in table.splitlines() if line.startswith("0.6M, P=32, 1 thread "))
    assert line.split()[4:] == ["0.604", "1.2", "1.2", "2", "1.2", "1.2", "13.3", "16"]
    assert "scrapl-loss, 10M, P=315: does not fit: 38 GB" in table
    assert "NOT MET  drift of the running sum: P=2" in table
    assert table.count("NOT MET") == 1


def test_a_run_without_the_peer_has_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "Worker", worker_of(OptimizerSession))
    turns = {kind: Turn(seconds=0.0, evict=kind == "evicted") for kind in ("steady", "evicted")}
    monkeypatch.setattr(conductor, "_TURNS", turns)
    steps = tuple(
        StepCase("0.1M", 3, ("adam", "float32", PEER), 2, 1, section=section) for section in ("steps", "threads")
    )
    drawn = {"float32": (0, 1, 3), PEER: (0,)}
    plan = Plan(steps, drawn, 3, "0.1M", (("adam", 0),), "0.1M", ((2, True),), (5, 20))
    results = OptimizerConductor("python", [PEER], SECTIONS, True, tmp_path / "partial.json", plan=plan).run()
    assert json.loads((tmp_path / "partial.json").read_text())["complete"] is False
    assert results["complete"]
    assert "scrapl" in results["left_out"][PEER]
    assert len(results["answers"]) == 1 + len(OURS)
    kinds = [(r["kind"], r["contender"], r["seconds"]["n"]) for r in results["timings"]]
    steady = [("steady", "adam", 4), ("steady", "float32", 4)]
    once = [("first", "float32", 1), *steady, ("evicted", "adam", 2), ("evicted", "float32", 2)]
    assert kinds == 2 * once
    assert {"median", "p10", "p90", "n"} == set(results["timings"][0]["seconds"])
    per_parameter = [record["bytes_per_parameter"] for record in results["state"]]
    assert per_parameter == pytest.approx([0, 12, 28], abs=0.05)
    assert [record["steps"] for record in results["drift"]] == [5, 20]
    assert results["peak"][0]["bytes"] > 0
    shapes = results["configuration"]["models"]["0.1M"]["shapes"]
    assert sum(map(prod, shapes)) == 105_761
    main.report(tmp_path, results)
    assert "peer/float32" in capsys.readouterr().out
    main.report(tmp_path / "empty", {**results, "timings": [], "state": [], "drift": []})
