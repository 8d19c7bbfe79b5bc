"""A few unlike terms as paths: the heat equation by a physics-informed network, one residual drawn per step.

`python -m benchmarks.unlike_terms` (ten minutes) writes benchmarks/results/unlike_terms.json and prints a table.
The terms are the residual of u_t = k u_xx, the initial condition and two boundary conditions; u = 0 solves all but
the initial one. Errors are of u on a grid, relative to the solution exp(-k pi^2 t) sin(pi x).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import format_table
from scrapl_optim import PathAdamSAGA, PathSampler

_RATES = {
    "adam": (3e-4, 1e-3, 3e-3, 1e-2),
    "p_adam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "raw": (0.02, 0.05, 0.1, 0.2, 0.5),
}


@dataclass(frozen=True)
class Arm:
    """A way to train, and the learning rates it is tried with.

    Attributes:
        description: for people.
        rates: learning rates.
        options: of PathAdamSAGA.
        on_sum: torch.optim.Adam on the sum of all terms at every step instead.
    """

    description: str
    rates: Sequence[float]
    options: dict[str, Any] = field(default_factory=dict)
    on_sum: bool = False


ARMS = {
    "sum": Arm("Adam on the sum of the terms", _RATES["adam"], on_sum=True),
    "random": Arm("n_paths=1: Adam on one term a step", _RATES["adam"], {"n_paths": 1, "weight_decay": 0.0}),
    "defaults": Arm("PathAdamSAGA", _RATES["p_adam"]),
    "no-saga": Arm("saga=0", _RATES["p_adam"], {"saga": 0.0}),
    "no-path-adam": Arm(
        "path_adam=False, weight_decay=0", _RATES["raw"], {"path_adam": False, "weight_decay": 0.0}
    ),
    "no-path-adam-decay": Arm("path_adam=False, weight_decay=0.01", _RATES["raw"], {"path_adam": False}),
    "large-eps": Arm("eps=1, weight_decay=0", _RATES["raw"], {"eps": 1.0, "weight_decay": 0.0}),
}


class HeatEquation:
    """u_t = k u_xx on [0, 1]^2 with u(x, 0) = sin(pi x) and u(0, t) = u(1, t) = 0.

    Args:
        diffusivity: k.
        n_inside: random collocation points, the same for all seeds of training.
        n_edge: points on each edge.
    """

    def __init__(self, diffusivity: float = 0.1, n_inside: int = 128, n_edge: int = 32) -> None:
        self.diffusivity = diffusivity
        self._inside = torch.rand(2, n_inside, generator=torch.Generator().manual_seed(0))
        self._edge = torch.linspace(0.0, 1.0, n_edge)
        self.terms: tuple[Callable[[nn.Module], Tensor], ...] = (
            self._residual,
            lambda network: self._misfit(network, self._edge, 0 * self._edge),
            lambda network: self._misfit(network, 0 * self._edge, self._edge),
            lambda network: self._misfit(network, 0 * self._edge + 1, self._edge),
        )

    def solution(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.exp(-self.diffusivity * math.pi**2 * t) * torch.sin(math.pi * x)

    def _misfit(self, network: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        return (network(torch.stack([x, t], -1))[:, 0] - self.solution(x, t)).square().mean()

    def _residual(self, network: nn.Module) -> Tensor:
        x, t = (axis.clone().requires_grad_() for axis in self._inside)
        u = network(torch.stack([x, t], -1))
        u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
        return (u_t - self.diffusivity * u_xx).square().mean()

    @torch.no_grad()
    def error(self, network: nn.Module) -> float:
        """Return the error of u in the 2-norm over a grid, relative to the solution; 1 is that of u = 0."""
        x, t = (axis.flatten() for axis in torch.meshgrid(2 * [torch.linspace(0, 1, 41)], indexing="ij"))
        wanted = self.solution(x, t)
        found = network(torch.stack([x, t], -1))[:, 0]
        return float(torch.linalg.norm(found - wanted) / torch.linalg.norm(wanted))


def make_network(seed: int, width: int = 32) -> nn.Module:
    """Two hidden layers of tanh."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )


def train(problem: HeatEquation, arm: Arm, lr: float, seed: int, steps: int) -> float:
    """Train a network of this seed, one term a step; returns its error, inf if a gradient became non-finite."""
    network, sampler = make_network(seed), PathSampler(n_paths=len(problem.terms), seed=seed)
    if arm.on_sum:
        optimizer: torch.optim.Optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    else:
        options = {"n_paths": len(problem.terms), **arm.options}
        optimizer = PathAdamSAGA(network.parameters(), lr=lr, **options)
    for step in range(steps):
        optimizer.zero_grad()
        if arm.on_sum:
            sum((term(network) for term in problem.terms), torch.zeros(())).backward()
            optimizer.step()
            continue
        path = sampler(step)
        problem.terms[path](network).backward()
        assert isinstance(optimizer, PathAdamSAGA)
        try:
            optimizer.step(path_idx=path if optimizer.defaults["n_paths"] > 1 else 0)
        except RuntimeError:
            return math.inf
    return problem.error(network)


def measure(n_seeds: int, steps: int) -> dict[str, Any]:
    """Errors of every arm, learning rate and seed; the best rate of an arm is that of the smallest median."""
    problem, arms = HeatEquation(), {}
    for name, arm in ARMS.items():
        errors = {lr: [train(problem, arm, lr, seed, steps) for seed in range(n_seeds)] for lr in arm.rates}
        best = min(errors, key=lambda lr: median(errors[lr]))
        arms[name] = {
            "description": arm.description,
            "errors": {
                str(lr): [None if math.isinf(e) else round(e, 5) for e in e_s] for lr, e_s in errors.items()
            },
            "best_lr": best,
            "median": round(median(errors[best]), 5),
        }
        print(f"{arm.description}: {arms[name]['median']:.2g} at lr={best:g}", file=sys.stderr, flush=True)
    return {"steps": steps, "seeds": n_seeds, "terms": len(problem.terms), "arms": arms}


def table(results: dict[str, Any]) -> str:
    """For the terminal."""
    rows = [[f"Relative error after {results['steps']} steps, {results['seeds']} seeds", "median", "worst", "lr"]]
    for arm in results["arms"].values():
        errors = [math.inf if error is None else error for error in arm["errors"][str(arm["best_lr"])]]
        rows.append([arm["description"], f"{median(errors):.2g}", f"{max(errors):.2g}", f"{arm['best_lr']:g}"])
    return format_table(rows)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=5, help="trains seeds 0 to SEEDS - 1 (default: 5)")
    parser.add_argument("--steps", type=int, default=3000, help="of each run (default: 3000)")


def results_of(options: argparse.Namespace) -> dict[str, Any]:
    unit = "error of u relative to the solution, 2-norm over a grid; None: a gradient became non-finite"
    return {"unit": unit, **provenance(), **measure(options.seeds, options.steps)}


main = Program(
    "benchmarks.unlike_terms",
    "Train a physics-informed network with one of its four terms a step.",
    results_of,
    table,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
