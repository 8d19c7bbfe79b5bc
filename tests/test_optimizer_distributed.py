"""PathAdamSAGA on two processes (gloo on the CPU): DDP, FSDP2, torch.distributed.checkpoint and ZeRO."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from scrapl_jtfs import SCRAPL
from scrapl_optim import PathAdamSAGA
from scrapl_optim.experimental import host_rows
from tests.support.optimizer_helpers import assert_bitwise, clones, random_paths
from tests.support.optimizer_variants import Variant

N_PATHS, N_RANKS = 4, 2
PATHS = random_paths(N_PATHS, 10, seed=5)
# Imported once, by the server that processes are forked from, rather than twice per test
PRELOAD = [
    "pytest",
    "scrapl_optim",
    "torch._dynamo",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "torch.distributed.optim",
]
pytestmark = [
    pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch has no gloo"),
    pytest.mark.timeout(60),
]


def on_two_ranks(scenario: Callable[..., None], tmp_path: Path, *args: Any) -> None:
    """Run ``scenario(rank, tmp_path, *args)`` in two processes; an exception in one of them is raised here."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    mp.start_processes(_rank, (scenario, tmp_path, args), nprocs=N_RANKS, start_method="forkserver")


def _rank(rank: int, scenario: Callable[..., None], tmp_path: Path, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=rank, world_size=N_RANKS)
    try:
        scenario(rank, tmp_path, *args)
    finally:
        dist.destroy_process_group()


def make_model() -> torch.nn.Module:
    """Layers that two ranks share evenly, unevenly, and one that leaves the second rank nothing."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(90, 64), torch.nn.Linear(64, 71), torch.nn.Linear(71, 1))


def batch(k: int, n: int = 4) -> torch.Tensor:
    return torch.randn(n, 90, generator=torch.Generator().manual_seed(k))


def train(
    model: Any, optimizer: Any, paths: list[int], *, first: int = 0, part: slice = slice(None), **step: Any
) -> None:
    for k, path in enumerate(paths, start=first):
        optimizer.zero_grad()
        (model(batch(k)[part]) - path).square().mean().backward()
        optimizer.step(path_idx=path, **step)


def train_alone(variant: Variant, n_steps: int = len(PATHS)) -> tuple[torch.nn.Module, PathAdamSAGA]:
    model = make_model()
    optimizer = PathAdamSAGA(model.parameters(), N_PATHS, **variant.kwargs(N_PATHS, lr=0.01))
    train(model, optimizer, PATHS[:n_steps])
    return model, optimizer


# ---------------------------------------------------------------- DDP, ZeRO


def ddp_equals_one_process(rank: int, tmp_path: Path, storage: str) -> None:
    variant = Variant(storage=storage)
    model = make_model()
    wrapped = DistributedDataParallel(model)
    optimizer = PathAdamSAGA(wrapped.parameters(), N_PATHS, **variant.kwargs(N_PATHS, lr=0.01))
    train(wrapped, optimizer, PATHS, part=slice(2 * rank, 2 * rank + 2))
    alone, _ = train_alone(variant)
    start = make_model()
    for p, q, s in zip(model.parameters(), alone.parameters(), start.parameters(), strict=True):
        others = [torch.empty_like(p) for _ in range(N_RANKS)]
        dist.all_gather(others, p.detach())
        assert_bitwise(others, [p, p])
        # gradients are added up in another order, and an update is a ratio of moments
        torch.testing.assert_close(p, q, rtol=1e-3, atol=5e-4 if variant.is_exact else 0.01)
        assert not torch.equal(p, s)


@pytest.mark.parametrize("storage", ["float32", host_rows("int8")])
def test_ddp(tmp_path: Path, storage: str) -> None:
    on_two_ranks(ddp_equals_one_process, tmp_path, storage)


def scrapl_draws_one_path_on_all_ranks(rank: int, tmp_path: Path) -> None:
    torch.manual_seed(rank)  # which must not matter
    scrapl = SCRAPL(1024, J=6, Q=(4, 1), J_fr=2, T="global", seed=3)
    torch.manual_seed(0)
    wrapped = DistributedDataParallel(torch.nn.Linear(8, 1024))
    optimizer = scrapl.optimizer(wrapped.parameters(), lr=0.01)
    for k in range(6):
        x = torch.randn(2, 8, generator=torch.Generator().manual_seed(10 * k + rank))
        target = torch.randn(2, 1024, generator=torch.Generator().manual_seed(100 + 10 * k + rank))
        scrapl(wrapped(x), target).backward()
        optimizer.step()
        optimizer.zero_grad()
    visited = optimizer.state[next(wrapped.parameters())]["step"]
    for tensor in (visited, *(p.detach() for p in wrapped.parameters())):
        others = [torch.empty_like(tensor) for _ in range(N_RANKS)]
        dist.all_gather(others, tensor)
        assert_bitwise(others, [tensor] * N_RANKS)
    assert scrapl.step == visited.max() == 6


def test_scrapl_in_ddp(tmp_path: Path) -> None:
    on_two_ranks(scrapl_draws_one_path_on_all_ranks, tmp_path)


def zero_equals_one_process(rank: int, tmp_path: Path) -> None:
    variant = Variant(storage="bfloat16", unbiased=True)
    alone = make_model()
    reference = PathAdamSAGA(alone.parameters(), N_PATHS, **variant.kwargs(N_PATHS, lr=0.01))
    train(alone, reference, PATHS, weight=1.5)
    model = make_model()

    def sharded(module: torch.nn.Module) -> ZeroRedundancyOptimizer:
        return ZeroRedundancyOptimizer(
            module.parameters(), optimizer_class=PathAdamSAGA, n_paths=N_PATHS, **variant.kwargs(N_PATHS, lr=0.01)
        )

    optimizer = sharded(model)
    train(model, optimizer, PATHS[:6], weight=1.5)
    optimizer.consolidate_state_dict(to=0)
    saved: list[Any] = [copy.deepcopy(optimizer.state_dict()) if rank == 0 else None]
    dist.broadcast_object_list(saved)
    resumed = sharded(model)
    resumed.load_state_dict(saved[0])
    train(model, resumed, PATHS[6:], first=6, weight=1.5)
    variant.assert_close(clones(model.parameters()), clones(alone.parameters()), 0.01, len(PATHS))
    owned = [p for group in optimizer.optim.param_groups for p in group["params"]]
    assert 0 < len(owned) < len(list(model.parameters()))


def test_zero_redundancy_optimizer(tmp_path: Path) -> None:
    on_two_ranks(zero_equals_one_process, tmp_path)


# ---------------------------------------------------------------- FSDP1


def fsdp1_trains_resumes_by_rank_and_refuses_to_gather(rank: int, tmp_path: Path, use_orig_params: bool) -> None:
    def make() -> tuple[Any, PathAdamSAGA]:
        model = FullyShardedDataParallel(
            make_model(), use_orig_params=use_orig_params, device_id=torch.device("cpu")
        )
        return model, PathAdamSAGA(model.parameters(), N_PATHS, lr=0.01)

    model, optimizer = make()
    train(model, optimizer, PATHS[:4])
    saved = copy.deepcopy(optimizer.state_dict())  # of this rank: nobody gathers
    gathers = [
        "optim_state_dict",
        *(() if use_orig_params else ("full_optim_state_dict", "sharded_optim_state_dict")),
    ]
    for gather in gathers:
        with pytest.raises(RuntimeError, match=r"FSDP1.*fully_shard.*each rank"):
            getattr(FullyShardedDataParallel, gather)(model, optimizer)
    with pytest.raises(RuntimeError, match=r"FSDP1.*fully_shard.*each rank"):
        get_optimizer_state_dict(model, optimizer)
    other, resumed = make()
    with torch.no_grad():
        for p, q in zip(other.parameters(), model.parameters(), strict=True):
            p.copy_(q)
    resumed.load_state_dict(saved)
    train(model, optimizer, PATHS[4:], first=4)
    train(other, resumed, PATHS[4:], first=4)
    assert_bitwise(clones(other.parameters()), clones(model.parameters()))


@pytest.mark.parametrize("use_orig_params", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_fsdp1(tmp_path: Path, use_orig_params: bool) -> None:
    on_two_ranks(fsdp1_trains_resumes_by_rank_and_refuses_to_gather, tmp_path, use_orig_params)


# ---------------------------------------------------------------- FSDP2


def shard(variant: Variant) -> tuple[torch.nn.Module, PathAdamSAGA]:
    model = make_model()
    mesh = init_device_mesh("cpu", (N_RANKS,))
    for layer in model.children():
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, PathAdamSAGA(model.parameters(), N_PATHS, **variant.kwargs(N_PATHS, lr=0.01))


def full(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.full_tensor().detach() if isinstance(p, DTensor) else p.detach() for p in model.parameters()]


def fsdp_equals_one_process(rank: int, tmp_path: Path, variant: Variant) -> None:
    model, optimizer = shard(variant)
    train(model, optimizer, PATHS)  # the same batch on both ranks: the mean gradient is the gradient
    alone, reference = train_alone(variant)
    if variant.is_exact:
        for p, q in zip(full(model), full(alone), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    variant.assert_close(full(model), full(alone), 0.01, len(PATHS))
    for p, q in zip(model.parameters(), alone.parameters(), strict=True):
        ours, theirs = optimizer.state[p], reference.state[q]
        assert set(ours) == set(theirs)
        assert torch.equal(ours["step"], theirs["step"])
        for key in set(ours) - {"step", "scale", "visits"}:
            assert isinstance(ours[key], DTensor)
            assert not any(isinstance(placement, Replicate) for placement in ours[key].placements)
            assert ours[key].shape == theirs[key].shape
            n_local = torch.tensor(ours[key].to_local().numel())
            dist.all_reduce(n_local)
            assert n_local == theirs[key].numel()


@pytest.mark.parametrize(
    "variant",
    [
        Variant(),
        Variant(path_adam=False, saga=0.5, unbiased=True, foreach=True),
        Variant(by_probs=True, path_warmup=3.0),
        Variant(storage="bfloat16", foreach=False),
        Variant(storage="int8"),
        Variant(storage="int8", foreach=True, saga=0.0),
    ],
    ids=str,
)
def test_fsdp(tmp_path: Path, variant: Variant) -> None:
    on_two_ranks(fsdp_equals_one_process, tmp_path, variant)


def nan_on_one_rank_raises_on_both(rank: int, tmp_path: Path, storage: str) -> None:
    model, optimizer = shard(Variant(storage=storage))
    train(model, optimizer, PATHS[:3])
    before = full(model), [state["step"].clone() for state in optimizer.state.values()]
    weight: Any = next(model.parameters())
    (model(batch(9)) - 1).square().mean().backward()
    if rank == 0:
        weight.grad.to_local()[0, 0] = float("nan")
    with pytest.raises(RuntimeError, match="inf or a NaN"):
        optimizer.step(path_idx=0)
    assert_bitwise(full(model), before[0])
    assert_bitwise([state["step"] for state in optimizer.state.values()], before[1])
    for group in optimizer.param_groups:
        group["nonfinite"] = "skip"
    optimizer.step(path_idx=0)
    assert_bitwise(full(model), before[0])


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_fsdp_nan_on_one_rank(tmp_path: Path, storage: str) -> None:
    on_two_ranks(nan_on_one_rank_raises_on_both, tmp_path, storage)


def fsdp_resumes(rank: int, tmp_path: Path, storage: str, full_state_dict: bool) -> None:
    """Paths that were not drawn before the checkpoint are drawn after it."""
    options = StateDictOptions(full_state_dict=full_state_dict, cpu_offload=full_state_dict)
    early, late = [0, 1, 0, 1, 1], PATHS
    model, optimizer = shard(Variant(storage=storage))
    train(model, optimizer, early)
    saved = get_optimizer_state_dict(model, optimizer, options=options)
    weights = full(model)

    resumed, other = shard(Variant(storage=storage))
    with torch.no_grad():
        for p, w in zip(resumed.parameters(), weights, strict=True):
            source: Any = p
            source.copy_(distribute_tensor(w, source.device_mesh, source.placements))
    if full_state_dict:
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_optimizer_state_dict(resumed, other, saved if rank == 0 else {}, options=options)
    else:
        folder = tmp_path / "checkpoint"
        dcp.save({"optim": saved}, checkpoint_id=folder)
        target = {"optim": get_optimizer_state_dict(resumed, other)}
        dcp.load(target, checkpoint_id=folder)
        set_optimizer_state_dict(resumed, other, target["optim"])
    for p, q in zip(resumed.parameters(), model.parameters(), strict=True):
        ours, theirs = other.state[p], optimizer.state[q]
        assert set(ours) == set(theirs)  # as lazy as before
        for key in ours:
            a, b = (t.to_local() if isinstance(t, DTensor) else t for t in (ours[key], theirs[key]))
            assert_bitwise([a], [b])
    train(model, optimizer, late, first=20)
    train(resumed, other, late, first=20)
    assert_bitwise(full(resumed), full(model))


@pytest.mark.parametrize("full_state_dict", [False, True])
@pytest.mark.parametrize("storage", ["float32", "int8"])
@pytest.mark.filterwarnings("ignore")
def test_fsdp_resumes(tmp_path: Path, storage: str, full_state_dict: bool) -> None:
    on_two_ranks(fsdp_resumes, tmp_path, storage, full_state_dict)
