"""CUDA graphs: what can be checked without a GPU, and what needs one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scrapl_jtfs import GraphedPathLoss, JTFSPath, JTFSPathLoss

SETTINGS: dict[str, Any] = dict(n_samples=512, J=5, Q=(4, 1), J_fr=2, Q_fr=1, T=32, F=2)


def test_refuses_a_cpu() -> None:
    with pytest.raises(RuntimeError, match=r"on cpu: use jtfs\.cuda\(\)"):
        GraphedPathLoss(JTFSPathLoss(JTFSPath(**SETTINGS)), batch_shape=(2,))


def test_captures_each_path_once_and_checks_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """With capture replaced by an ordinary call, which is all that a machine without a GPU can check."""
    captured: list[int] = []

    def capture(self: GraphedPathLoss, path_idx: int):
        captured.append(path_idx)
        return lambda x, target: self.loss_fn(x, target, path_idx)

    loss_fn = JTFSPathLoss(JTFSPath(**SETTINGS))
    graphed = object.__new__(GraphedPathLoss)
    graphed.loss_fn, graphed._shape, graphed._graphs = loss_fn, torch.Size((2, 512)), {}
    monkeypatch.setattr(GraphedPathLoss, "_capture", capture)
    x, y = torch.randn(2, 2, 512).unbind(0)
    x.requires_grad_()
    for path_idx in (3, 5, 3):
        torch.testing.assert_close(graphed(x, y, path_idx, weight=0.5), 0.5 * loss_fn(x, y, path_idx))
    assert captured == [3, 5]
    with pytest.raises(ValueError, match=r"target is torch\.float64"):
        graphed(x, y.double(), 3)
    with pytest.raises(ValueError, match=r"x is torch\.float32 \(512,\)"):
        graphed(x[0], y, 3)
    with pytest.raises(IndexError):
        graphed(x, y, 10**6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_equal_eager_steps() -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**SETTINGS).cuda())
    graphed = GraphedPathLoss(loss_fn, batch_shape=(2,))
    generator = torch.Generator().manual_seed(0)
    for path_idx in (3, 5, 3, 8, 5):
        x, y = (torch.randn(2, 512, generator=generator).cuda() for _ in range(2))
        x.requires_grad_()
        (expected,) = torch.autograd.grad(loss_fn(x, y, path_idx), x)
        (found,) = torch.autograd.grad(graphed(x, y, path_idx), x)
        torch.testing.assert_close(found, expected)
