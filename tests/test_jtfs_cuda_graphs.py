"""CUDA graphs: what is refused, which shows without a GPU, and the captured steps, which need one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_jtfs.experimental import GraphedPathLoss
from scrapl_jtfs.experimental.cuda_graphs import check_call
from tests.support.jtfs_helpers import LOCAL, noise


@pytest.fixture(scope="module")
def loss_fn() -> JTFSPathLoss:
    return JTFSPathLoss(JTFSPath(**LOCAL))


@pytest.mark.parametrize(
    ("batch_shape", "error", "message"),
    [
        ((2,), RuntimeError, r"its transform is on cpu; expected a CUDA device; use jtfs\.cuda\(\)"),
        (2, TypeError, "Invalid batch_shape: 2; expected a tuple of integers"),
        ((2.0,), TypeError, "expected a tuple of integers"),
        ((True,), TypeError, "expected a tuple of integers"),
        ((2, 0), ValueError, "expected sizes of at least 1"),
    ],
)
def test_what_cannot_be_captured(
    loss_fn: JTFSPathLoss, batch_shape: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        GraphedPathLoss(loss_fn, batch_shape)


def test_another_loss() -> None:
    with pytest.raises(TypeError, match="Invalid loss_fn: a MSELoss; expected a JTFSPathLoss"):
        GraphedPathLoss(torch.nn.MSELoss(), (2,))  # pyright: ignore[reportArgumentType]


def test_calls_that_no_graph_takes(loss_fn: JTFSPathLoss) -> None:
    jtfs, shape, x = loss_fn.jtfs, torch.Size((2, 512)), noise(2, 512, dtype=torch.float32)
    assert check_call(jtfs, shape, x, x, 3) == 3
    for arguments, error, message in (
        ((x, x.double(), 3), ValueError, r"Invalid target: torch\.float64"),
        ((x[0], x, 3), ValueError, r"Invalid x: torch\.float32 \(512,\) on cpu; expected .*\(2, 512\)"),
        ((x, x.to("meta"), 3), ValueError, "on meta; expected .* on cpu"),
        ((x, x, 10**6), IndexError, "expected an id from 0"),
        ((x, x, None), TypeError, "Invalid path_idx: None"),
        ((x.tolist(), x, 3), TypeError, "torch.as_tensor"),
        ((x, x.clone().requires_grad_(), 3), ValueError, "it requires a gradient and x does not"),
    ):
        with pytest.raises(error, match=message):
            check_call(jtfs, shape, *arguments)


def test_old_names_warn() -> None:
    import scrapl_jtfs
    import scrapl_jtfs.graphs

    for module in (scrapl_jtfs, scrapl_jtfs.graphs):
        with pytest.warns(DeprecationWarning, match=r"use scrapl_jtfs\.experimental") as caught:
            assert module.GraphedPathLoss is GraphedPathLoss
        assert [one.filename for one in caught] == [__file__]
        with pytest.raises(AttributeError, match="has no attribute 'graphed'"):
            _ = module.graphed
    with pytest.warns(DeprecationWarning, match=r"use scrapl_jtfs\.experimental") as caught:
        from scrapl_jtfs import GraphedPathLoss as OfThePackage
    assert OfThePackage is GraphedPathLoss
    assert [one.filename for one in caught] == [__file__]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_equal_eager_steps() -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**LOCAL).cuda())
    graphed = GraphedPathLoss(loss_fn, batch_shape=(2,))
    generator = torch.Generator().manual_seed(0)
    for path_idx in (3, 5, 3, 8, 5):
        x, y = (torch.randn(2, 512, generator=generator).cuda() for _ in range(2))
        x.requires_grad_()
        eager, replayed = loss_fn(x, y, path_idx), graphed(x, y, path_idx, weight=0.5)
        torch.testing.assert_close(replayed, 0.5 * eager)
        (expected,) = torch.autograd.grad(0.5 * eager, x)
        (gradient,) = torch.autograd.grad(replayed, x)
        torch.testing.assert_close(gradient, expected)
    assert sorted(graphed._graphs) == [3, 5, 8]
