"""Distributions over paths from importances and files; scrapl-loss's files are written as it writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from scrapl_jtfs import SCRAPL, draw_distribution
from scrapl_optim import PathLog, PathSampler, load_pi, load_probs, probabilities, save_pi, save_probs
from scrapl_optim.testing import assert_draws_follow, assert_unbiased

positive = st.floats(1e-12, 1e12)


@settings(deadline=None)
@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=20), positive)
def test_equation_10(rows: list[tuple[float, float]], unit: float) -> None:
    curvature = torch.tensor(rows, dtype=torch.float64).T
    pi = probabilities(curvature)
    for p, row in enumerate(rows):
        expected = sum(row[u] / sum(other[u] for other in rows) for u in range(2)) / 2
        assert float(pi[p]) == pytest.approx(expected, rel=1e-12)
    # the unit of a control does not matter
    curvature[1] *= unit
    torch.testing.assert_close(probabilities(curvature), pi, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("curvature", "message"),
    [
        (torch.ones(3), r"shape \(3,\)"),
        (torch.tensor([[1.0, -1.0]]), "negative"),
        (torch.tensor([[1.0, torch.nan]]), "not finite"),
        (torch.tensor([[1.0, 2.0], [0.0, 0.0]]), r"controls \[1\]"),
    ],
)
def test_bad_importances(curvature: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probabilities(curvature)


def test_files_go_both_ways(tmp_path: Path) -> None:
    pi = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    save_probs(pi, tmp_path / "probs.pt")
    assert torch.equal(load_probs(tmp_path / "probs.pt", n_paths=3), pi)
    assert PathSampler(load_probs(tmp_path / "probs.pt")).n_paths == 3
    assert torch.load(tmp_path / "probs.pt", weights_only=True).dtype == torch.float64


def warm_up(folder: Path, paths: range, n_values: int = 1) -> torch.Tensor:
    """vals_{p}.pt of scrapl-loss: float32 of shape (1, U), absolute values."""
    values = torch.rand(len(paths), n_values, 2, generator=torch.Generator().manual_seed(0))
    for p, value in zip(paths, values, strict=True):
        torch.save(value, folder / f"vals_{p}.pt")
    return values


def test_a_warm_up_folder_of_scrapl_loss(tmp_path: Path) -> None:
    values = warm_up(tmp_path, range(12))
    (tmp_path / "probs.pt.part").touch()
    expected = (values[:, 0].double() / values[:, 0].double().sum(0)).mean(1)
    torch.testing.assert_close(load_probs(tmp_path, n_paths=12), expected)
    torch.testing.assert_close(load_probs(tmp_path), expected)


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no vals_\*\.pt"):
        load_probs(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_probs(tmp_path / "nothing.pt")
    warm_up(tmp_path, range(3))
    with pytest.raises(ValueError, match=r"lacks 2 of 5 paths \(first: \[3, 4\]\)"):
        load_probs(tmp_path, n_paths=5)
    (tmp_path / "vals_1.pt").unlink()
    with pytest.raises(ValueError, match=r"first: \[1\]"):
        load_probs(tmp_path)
    warm_up(tmp_path, range(3), n_values=4)
    with pytest.raises(ValueError, match=r"\(4, 2\).*aggregate"):
        load_probs(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(2, 2), r"shape \(2, 2\)"),
        (torch.ones(3, dtype=torch.int64), "sum 3; expected 1"),
        (torch.tensor([0.5, -0.5]), "entry 1 is -0.5"),
        (torch.tensor([0.5, torch.nan]), "entry 1 is nan"),
        (torch.zeros(3), "sum 0; expected 1"),
        ({"pi": torch.ones(3)}, "dict"),
    ],
)
def test_files_of_something_else(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "pi.pt")
    with pytest.raises(ValueError, match=message):
        load_probs(tmp_path / "pi.pt")
    torch.save(torch.ones(4) / 4, tmp_path / "pi.pt")
    with pytest.raises(ValueError, match=r"4 entries; expected .* n_paths=315"):
        load_probs(tmp_path / "pi.pt", n_paths=315)


def test_one_policy_for_all_that_take_a_distribution(tmp_path: Path) -> None:
    """Rounding of float32 is divided out; anything else is refused, with the remedy, and nothing is written."""
    rounded = torch.full((315,), 1 / 315) * (1 + 9e-6)
    other = torch.full((315,), 1 / 300)
    paths = [type("Place", (), {"rate": 1.0 + p, "scale": 1.0}) for p in range(315)]
    takers: list[Callable[[torch.Tensor], Any]] = [
        PathSampler,
        lambda pi: PathLog(315, probs=pi),
        lambda pi: save_probs(pi, tmp_path / "pi.pt"),
        lambda pi: torch.save(pi, tmp_path / "theirs.pt") or load_probs(tmp_path / "theirs.pt"),  # type: ignore[func-returns-value]
        lambda pi: assert_unbiased(lambda p: 1.0, pi, 1.0),
        lambda pi: assert_draws_follow(PathSampler(n_paths=315), pi, 10),
        lambda pi: draw_distribution(Figure().subplots(), paths, pi),  # type: ignore[arg-type]
    ]
    for take in takers:
        take(rounded)
        with pytest.raises(ValueError, match=r"sum 1\.05.*; expected 1 within 1e-05; .*probabilities\(C\)"):
            take(other)
    written = torch.load(tmp_path / "pi.pt", weights_only=True)
    assert float(written.sum()) == pytest.approx(1, abs=1e-14)
    torch.testing.assert_close(load_probs(tmp_path / "pi.pt"), written, rtol=1e-15, atol=0)


def test_old_names_of_probs(tmp_path: Path) -> None:
    probs, file = torch.tensor([0.25, 0.75], dtype=torch.float64), tmp_path / "probs.pt"
    places: Any = [type("Place", (), {"rate": 1.0, "scale": 1.0 + p}) for p in range(2)]
    one = [1.0] + [0.0] * (SCRAPL(128, 4, 1, 2).jtfs.n_paths - 1)
    old_c: Any = {"curvature": probs[None]}
    old_pi: Any = {"pi": probs}
    one_path: Any = {"pi": one}
    calls: dict[str, Callable[[], Any]] = {
        "use save_probs": lambda: save_pi(probs, file),
        "use load_probs": lambda: torch.equal(load_pi(file), probs),
        r"use probabilities\(importance=...\)": lambda: torch.equal(probabilities(**old_c), probs),
        r"use draw_distribution\(probs=...\)": lambda: draw_distribution(Figure().subplots(), places, **old_pi),
        r"use SCRAPL\(probs=...\)": lambda: SCRAPL(128, 4, 1, 2, **one_path),
    }
    for message, call in calls.items():
        with pytest.warns(DeprecationWarning, match=message) as caught:
            assert call() is not False
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.filterwarnings("ignore:(load|save)_pi is deprecated")
def test_old_names_still_take_any_sum(tmp_path: Path) -> None:
    """Files that the version before wrote need not sum to one; ``load_pi`` divides them by their sum as it did."""
    theirs, file = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64), tmp_path / "pi.pt"
    torch.save(theirs, file)
    assert load_pi(file, 3).tolist() == [0.125, 0.25, 0.625]
    save_pi(theirs * 3, file)
    assert load_probs(file).tolist() == [0.125, 0.25, 0.625]
    for bad in ([1.0, -0.5], [1.0, torch.nan], [0.0, 0.0], [1.0, torch.inf]):
        with pytest.raises(ValueError, match="Invalid probs"):
            save_pi(torch.tensor(bad), file)
    with pytest.raises(ValueError, match=r"3 entries; expected .* n_paths=4"):
        load_pi(file, 4)
