"""Resynthesis: descents reach what they promise, alone and together; what is kept is kept; measures are right."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.signal
import scipy.stats
import torch
from torch import Tensor, nn

from scrapl_jtfs import (
    ImageScattering,
    JTFSPath,
    JTFSPathLoss,
    PathTransform,
    TimeScattering,
    measure_texture,
    resynthesize,
)
from scrapl_jtfs._resynthesis.by_paths import gradient
from scrapl_jtfs._resynthesis.lbfgs import LBFGS
from scrapl_jtfs._resynthesis.marginals import make_kept
from scrapl_jtfs._resynthesis.noise import noise
from scrapl_jtfs._resynthesis.quality import autocorrelation
from scrapl_jtfs._resynthesis.tree import Tree
from scrapl_jtfs.resynthesis import ResynthesisProgress
from scrapl_optim import PathSampler

N = 1024
SETTINGS: dict[str, Any] = {"n_samples": N, "J": 6, "Q": (4, 1), "J_fr": 2, "T": "global", "orders": (1, 2)}


@functools.cache
def jtfs(**settings: Any) -> JTFSPath:
    return JTFSPath(**{**SETTINGS, **settings}).double()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bursts() -> Tensor:
    """Noise that decays and begins anew: far from stationary noise of the same spectrum."""
    return random(N) * torch.exp(-(torch.arange(N) % 128) / 20.0)


@dataclass(frozen=True)
class Entry:
    index: int

    def __str__(self) -> str:
        return f"path {self.index}"


class Toy(PathTransform):
    """Squares of the rows of linear maps: as many paths as there are maps, each with two axes of its own."""

    def __init__(self, shape: tuple[int, ...], n_paths: int = 40) -> None:
        super().__init__()
        self.signal_shape = shape
        self.paths = [Entry(p) for p in range(n_paths)]
        self.maps = nn.Parameter(random(n_paths, 6, int(np.prod(shape)), seed=1) / np.prod(shape) ** 0.5)
        self._like = self._like.double()
        self.selected: list[int] = []

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        flat = x.flatten(x.ndim - len(self.signal_shape))
        return (flat @ self.maps[path_idx].T).square().unflatten(-1, (2, 3))

    def select(self, x: Tensor, path_indices: Any) -> list[Tensor]:
        if torch.is_grad_enabled():
            self.selected.append(len(list(path_indices)))
        return super().select(x, path_indices)


def relative_errors(transform: Any, x: Tensor, y: Tensor) -> Tensor:
    """The definition, of x (rows, ...) and one y."""
    pairs = list(zip(transform.full(x), transform.full(y), strict=True))
    difference = sum((a - b).square().flatten(1).sum(1) for a, b in pairs)
    return torch.as_tensor(difference / sum(b.square().sum() for _, b in pairs)).sqrt()


# --- L-BFGS ---


def minimised(f: Callable[[np.ndarray], tuple[float, np.ndarray]], start: Sequence[float], n: int) -> LBFGS:
    search = LBFGS(torch.tensor(start, dtype=torch.float64), 0.1)
    for _ in range(n):
        if search.done:
            break
        value, slope = f(search.trial.numpy())
        search.tell(float(value), torch.from_numpy(np.asarray(slope)))
    return search


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    return scipy.optimize.rosen(x), scipy.optimize.rosen_der(x)


def test_lbfgs_takes_no_more_evaluations_than_scipy_and_half() -> None:
    """On Rosenbrock's function in ten dimensions, to the same value."""
    start = [-1.2, 1.0] * 5
    theirs = scipy.optimize.minimize(rosenbrock, start, jac=True, method="L-BFGS-B", tol=1e-14)
    n = int(1.5 * theirs.nfev)
    search = minimised(rosenbrock, start, n)
    assert search.value < 1e-9
    np.testing.assert_allclose(search.best.numpy(), np.ones(10), atol=1e-4)


def test_lbfgs_goes_down_where_nothing_is_smooth() -> None:
    weights = np.arange(1.0, 9.0)

    def corners(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(weights @ np.abs(x - 1)), weights * np.sign(x - 1)

    assert minimised(corners, [3.0, -2.0] * 4, 400).value < 1e-3 * corners(np.array([3.0, -2.0] * 4))[0]


def test_lbfgs_ends_at_a_minimum_and_passes_values_that_are_not_finite() -> None:
    def barrier(x: np.ndarray) -> tuple[float, np.ndarray]:
        if (x <= 0).any():
            return float("nan"), np.full_like(x, np.nan)
        return float((x - np.log(x)).sum()), 1 - 1 / x

    search = minimised(barrier, [1e-3, 5.0], 300)
    assert search.done
    np.testing.assert_allclose(search.best.numpy(), [1.0, 1.0], atol=1e-6)
    values = []
    search = LBFGS(torch.tensor([-1.2, 1.0], dtype=torch.float64), 0.1)
    for _ in range(60):
        value, slope = rosenbrock(search.trial.numpy())
        search.tell(value, torch.from_numpy(slope), error=value + 1)
        values.append(search.value)
        assert search.error == search.value + 1 == rosenbrock(search.best.numpy())[0] + 1
    assert values == sorted(values, reverse=True)


# --- the tree ---


@pytest.mark.parametrize("settings", [{}, {"T": None, "F": 0}, {"smoothing": 1e-3}, {"orders": (2,)}])
def test_the_streamed_gradient_is_that_of_the_whole_loss(settings: dict[str, Any]) -> None:
    transform, y, x = jtfs(**settings), bursts(), random(3, N).requires_grad_()
    energy = sum(phi.square().sum() for phi in transform.full(y))
    whole = JTFSPathLoss(transform, reduction="none").full(x, y.expand(3, N)) / energy
    (expected,) = torch.autograd.grad(whole.sum(), x)
    values, streamed = Tree(transform, y[None]).values_and_gradients(x)
    torch.testing.assert_close(values, whole.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(streamed, expected, rtol=1e-9, atol=1e-12 * float(expected.abs().max()))


def test_no_more_than_a_bundle_is_in_memory() -> None:
    transform, y, x = Toy((4, 8)), random(2, 4, 8), random(6, 4, 8, seed=3)
    tree = Tree(transform, y)
    leaf = x.clone().requires_grad_()
    of_x, of_y = torch.stack(transform.full(leaf)), torch.stack(transform.full(y)).detach()  # (P, rows, 2, 3)
    squares = (of_x.unflatten(1, (3, 2)) - of_y[:, None]).square().flatten(3).sum((0, 3))
    (of_all,) = torch.autograd.grad((squares / of_y.square().flatten(2).sum((0, 2))).sum(), leaf)
    transform.selected.clear()
    _, streamed = tree.values_and_gradients(x)
    torch.testing.assert_close(streamed, of_all)
    assert sum(transform.selected) == 40
    assert max(transform.selected) <= 16
    assert transform.maps.grad is None
    of_jtfs = Tree(jtfs(), bursts()[None]).bundles
    assert sorted(p for bundle in of_jtfs for p in bundle) == list(range(jtfs().n_paths))
    assert [len({jtfs().paths[p].n2 for p in bundle}) for bundle in of_jtfs] == [1] * len(of_jtfs)


@pytest.mark.parametrize("keep", [None, "level", "histogram"])
def test_the_mean_gradient_of_paths_is_that_of_the_tree(keep: Any) -> None:
    transform, y = Toy((12,)), random(2, 12)
    tree, kept = Tree(transform, y), make_kept(keep, y, 2)
    u = random(4, 12, seed=5)
    sampler = PathSampler(tree.energy, min_prob_frac=0.5)
    mean = sum(
        sampler.probs[p] * gradient(tree, kept, u.requires_grad_(), p, sampler.weight(p)) for p in range(40)
    )
    leaf = u.detach().requires_grad_()
    x = kept.signals(leaf)
    value = sum(tree.distances(transform(x, p), p).sum() for p in range(40))
    penalty = kept.penalty(x)
    value = value if penalty is None else value + penalty.sum()
    (expected,) = torch.autograd.grad(torch.as_tensor(value) / 40, leaf)
    torch.testing.assert_close(mean, expected)


# --- results ---


@pytest.mark.parametrize(("method", "steps", "factor"), [("lbfgs", 40, 15), ("paths", 400, 5)])
def test_errors_fall(method: Any, steps: int, factor: float) -> None:
    y = bursts()
    found = resynthesize(jtfs(), y, method=method, steps=steps)
    assert found.signals.shape == y.shape
    assert found.errors[0] > factor * found.errors[-1]
    assert found.errors[-1] == pytest.approx(float(relative_errors(jtfs(), found.signals[None], y)), rel=1e-6)
    assert found.quality.error == pytest.approx(float(found.errors[-1]), rel=1e-6)
    assert found.steps[0] == 0
    assert found.steps[-1] == found.n_steps == steps
    assert not found.stopped
    # Another sound, and no copy of the target.
    assert float((found.signals @ y) / (found.signals.norm() * y.norm())) < 0.9


@pytest.mark.parametrize("method", ["lbfgs", "paths"])
def test_outputs_are_what_each_would_be_alone(method: Any) -> None:
    transform, y, steps = jtfs(), bursts(), 12
    starts = noise("white", y[None], 3, torch.Generator().manual_seed(7))[:, 0]
    together = resynthesize(transform, y, start=starts, n_outputs=3, method=method, steps=steps, seed=7)
    alone = [resynthesize(transform, y, start=start, method=method, steps=steps, seed=7) for start in starts]
    torch.testing.assert_close(together.signals, torch.stack([one.signals for one in alone]), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(together.quality.error, torch.stack([one.quality.error for one in alone]))
    assert float(torch.pdist(together.signals).min()) > 0.5 * float(y.norm())
    # Noise does not depend on how many there are.
    three, one = (resynthesize(transform, y, n_outputs=n, method=method, steps=1, seed=7) for n in (3, 1))
    torch.testing.assert_close(three.signals[:1], one.signals)


def test_several_targets_are_resynthesised_each_by_itself() -> None:
    y = torch.stack([bursts(), 3 * random(N, seed=9)])
    starts = noise("spectrum", y, 2, torch.Generator().manual_seed(0))
    both = resynthesize(jtfs(), y, n_outputs=2, start=starts, keep="level", steps=8)
    assert both.signals.shape == (2, 2, N)
    assert both.errors.shape == (9, 2, 2)
    for k in range(2):
        torch.testing.assert_close(relative_errors(jtfs(), both.signals[:, k], y[k]), both.errors[-1][:, k])
        torch.testing.assert_close(both.quality.target_moments.std[0, k], y[k].std(correction=0))
    alone = resynthesize(jtfs(), y[1], start=starts[0, 1], keep="level", steps=8)
    torch.testing.assert_close(both.signals[0, 1], alone.signals, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", ["lbfgs", "paths"])
@pytest.mark.parametrize(("shape", "mean"), [((64,), 0.0), ((8, 12), 2.0)])
def test_what_is_kept_is_exact(method: Any, shape: tuple[int, ...], mean: float) -> None:
    transform, y = Toy(shape), random(*shape) + mean
    level = resynthesize(transform, y, n_outputs=2, keep="level", method=method, steps=20, start="white")
    expected = y.square().mean().sqrt()
    torch.testing.assert_close(
        level.signals.flatten(1).square().mean(1).sqrt(), expected.expand(2), rtol=1e-12, atol=0
    )
    values = resynthesize(transform, y, n_outputs=2, keep="histogram", method=method, steps=20)
    assert torch.equal(values.signals.flatten(1).sort().values, y.flatten().sort().values.expand(2, -1))
    assert not torch.equal(values.signals[0], values.signals[1])
    if method == "lbfgs":
        assert (values.quality.error < 0.8 * values.errors[0]).all()


FAMILIES: dict[str, Any] = {
    "pairs": (lambda: TimeScattering(N, 6, 4, T="global"), bursts),
    "second order": (lambda: TimeScattering(N, 6, 4, T="global", by="second"), bursts),
    "images": (lambda: ImageScattering((32, 24), J=2, L=4, average="global"), lambda: random(32, 24).exp()),
    "frames of images": (lambda: ImageScattering((32, 24), J=2, L=4), lambda: random(32, 24).exp()),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_sounds_and_images_of_any_family(family: str) -> None:
    make, sound = FAMILIES[family]
    transform, y = make().double(), sound()
    x = random(2, *y.shape, seed=8).requires_grad_()
    whole = relative_errors(transform, x, y).square()
    (expected,) = torch.autograd.grad(whole.sum(), x)
    values, streamed = Tree(transform, y[None]).values_and_gradients(x)
    torch.testing.assert_close(values, whole.detach())
    torch.testing.assert_close(streamed, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))
    free = resynthesize(transform, y, n_outputs=2, steps=20)
    assert (free.errors[0] > 2.5 * free.quality.error).all()
    kept = resynthesize(transform, y, keep="histogram", steps=20)
    assert torch.equal(kept.signals.flatten().sort().values, y.flatten().sort().values)
    assert kept.quality.error < kept.errors[0]


def test_a_histogram_costs_little() -> None:
    y = bursts()
    free, kept = (resynthesize(jtfs(), y, keep=keep, steps=40) for keep in (None, "histogram"))
    assert kept.quality.error < 5 * free.quality.error
    assert kept.quality.error < kept.errors[0] / 20
    torch.testing.assert_close(kept.quality.moments, kept.quality.target_moments)


@pytest.mark.parametrize("method", ["lbfgs", "paths"])
def test_seeds_repeat(method: Any) -> None:
    transform, y = jtfs(), bursts()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    run = functools.partial(resynthesize, transform, y, method=method, steps=5)
    first, again, other = run(seed=1), run(seed=1), run(seed=2)
    assert torch.equal(first.signals, again.signals)
    assert torch.equal(first.errors, again.errors)
    assert not torch.equal(first.signals, other.signals)
    generator = torch.Generator().manual_seed(1)
    by_generator, goes_on = run(seed=generator), run(seed=generator)
    assert torch.equal(first.signals, by_generator.signals)
    assert not torch.equal(goes_on.signals, by_generator.signals)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("keep", [None, "level", "histogram"])
@pytest.mark.parametrize("method", ["lbfgs", "paths"])
def test_the_callback_sees_and_stops(method: Any, keep: Any) -> None:
    seen: list[ResynthesisProgress] = []
    signals: list[Tensor] = []

    def callback(state: ResynthesisProgress) -> bool:
        seen.append(state)
        signals.append(state.signals())
        return state.step == 7

    found = resynthesize(jtfs(), bursts(), keep=keep, method=method, steps=50, callback=callback)
    assert [state.step for state in seen] == list(range(8))
    assert {state.n_steps for state in seen} == {50}
    assert found.stopped
    assert found.n_steps == found.steps[-1] == 7
    assert torch.equal(signals[-1], found.signals)
    assert torch.equal(seen[-1].errors, found.errors[-1] if method == "lbfgs" else found.errors[1])
    assert [state.seconds for state in seen] == sorted(state.seconds for state in seen)
    # What is no True does not end it.
    assert not resynthesize(jtfs(), bursts(), method=method, steps=3, callback=lambda state: "go on").stopped


def test_modes_of_torch_and_dtypes_do_not_matter() -> None:
    transform, y = JTFSPath(**SETTINGS), bursts().float()
    plain = resynthesize(transform, y, steps=3)
    with torch.no_grad():
        assert torch.equal(resynthesize(transform, y.requires_grad_(), steps=3).signals, plain.signals)
    with torch.inference_mode():
        assert torch.equal(resynthesize(transform, y.detach() * 1, steps=3).signals, plain.signals)
    assert plain.signals.dtype == torch.float32
    assert not plain.signals.requires_grad
    half = resynthesize(transform, y.detach().half(), steps=3)
    torch.testing.assert_close(half.signals, plain.signals, atol=0.05, rtol=0)


def test_a_search_that_finds_nothing_lower_ends_early() -> None:
    transform, y = Toy((3,)), random(3)
    found = resynthesize(transform, y, start=y, steps=50)
    assert found.n_steps < 50
    assert found.errors[-1] == 0
    assert torch.equal(found.signals, y)


# --- noise and quality ---


@pytest.mark.parametrize("shape", [(101,), (64,), (9, 16), (12, 7)])
def test_noise_has_the_spectrum_or_the_moments(shape: tuple[int, ...]) -> None:
    y = random(2, *shape) + 1
    spectrum = noise("spectrum", y, 3, torch.Generator().manual_seed(0))
    axes = tuple(range(-len(shape), 0))
    expected = torch.fft.fftn(y, dim=axes).abs().expand(3, 2, *shape)
    torch.testing.assert_close(torch.fft.fftn(spectrum, dim=axes).abs(), expected)
    torch.testing.assert_close(spectrum.mean(axes), y.mean(axes).expand(3, 2))
    many = noise("white", y, 400, torch.Generator().manual_seed(0))
    torch.testing.assert_close(many.flatten(2).mean((0, 2)), y.flatten(1).mean(1), atol=0.05, rtol=0)
    torch.testing.assert_close(many.flatten(2).std((0, 2)), y.flatten(1).std(1, correction=0), rtol=0.03, atol=0)


def test_moments_are_scipys() -> None:
    x, y = random(3, N, seed=4).exp(), bursts()
    found = measure_texture(jtfs(), x, y)
    assert found.error.tolist() == pytest.approx(relative_errors(jtfs(), x, y).tolist())
    for signals, of in ((x, found.moments), (y.expand(3, N), found.target_moments)):
        rows = signals.numpy()
        expected = [
            rows.mean(1), rows.std(1), scipy.stats.skew(rows, 1), scipy.stats.kurtosis(rows, 1, fisher=False)
        ]  # fmt: skip
        np.testing.assert_allclose(torch.stack([*of]).numpy(), expected, rtol=1e-9)


def test_autocorrelation_is_scipys() -> None:
    x = random(2, 60) + 3
    for row, ours in zip(x.numpy(), autocorrelation(x), strict=True):
        centred = row - row.mean()
        expected = scipy.signal.correlate(centred, centred, method="direct")[59:75] / 60
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)
    image = random(1, 12, 20) + 3
    centred = image[0].numpy() - image.numpy().mean()
    expected = scipy.signal.correlate(centred, centred, method="direct")[11 - 3 : 11 + 4, 19 : 19 + 6] / 240
    np.testing.assert_allclose(autocorrelation(image)[0].numpy(), expected, atol=1e-12)
    louder = measure_texture(jtfs(), 2 * bursts(), bursts())
    assert float(louder.autocorrelation_error) == pytest.approx(3.0)


# --- what can be wrong ---


Y = random(32)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"transform": 3}, TypeError, "Invalid transform"),
        ({"target": random(31)}, ValueError, "Invalid target: shape"),
        ({"target": Y.numpy()}, TypeError, "Invalid target: ndarray"),
        ({"target": Y.float()}, ValueError, "Invalid target: torch.float32"),
        ({"target": Y.clone().requires_grad_()}, ValueError, r"requires a gradient.*target\.detach\(\)"),
        ({"target": 0 * Y}, ValueError, "no path hears anything"),
        ({"target": Y / 0}, ValueError, "Invalid target: it has inf or NaN"),
        ({"target": Y.to("meta")}, ValueError, "meta"),
        ({"start": random(2, 32)}, ValueError, r"Invalid start: shape \(2, 32\).*set n_outputs"),
        ({"start": Y, "n_outputs": 2}, ValueError, r"expected \(2, 32\), one start for each output"),
        ({"start": 0 * Y, "keep": "level"}, ValueError, "Invalid start: one is all zero"),
        ({"start": Y.clone().requires_grad_()}, ValueError, "Invalid start: it requires a gradient"),
        ({"start": "pink"}, ValueError, "Invalid start: 'pink'; expected 'spectrum', 'white'"),
        ({"start": 1e200 * Y}, FloatingPointError, "expected finite coefficients"),
        ({"start": [1.0]}, TypeError, "Invalid start: list"),
        ({"keep": "loudness"}, ValueError, "Invalid keep: 'loudness'; expected 'histogram', 'level' or None"),
        ({"method": "adam"}, ValueError, "Invalid method: 'adam'; expected 'lbfgs' or 'paths'"),
        ({"method": ["lbfgs"]}, ValueError, "Invalid method"),
        ({"steps": 0}, ValueError, "Invalid steps: 0; expected at least 1"),
        ({"steps": 2.5}, TypeError, "Invalid steps"),
        ({"n_outputs": 0}, ValueError, "Invalid n_outputs: 0"),
        ({"seed": -1}, ValueError, "Invalid seed: -1"),
        ({"seed": True}, TypeError, "Invalid seed"),
        ({"callback": 3}, TypeError, "Invalid callback"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], said: str) -> None:
    arguments = {"transform": Toy((32,)), "target": Y, "steps": 1} | change
    with pytest.raises(error, match=said):
        resynthesize(**arguments)


def test_bad_input_of_the_measure() -> None:
    with pytest.raises(
        ValueError, match=r"Invalid signals: shape \(32,\); expected that of the target, \(2, 32\)"
    ):
        measure_texture(Toy((32,)), Y, random(2, 32))
    with pytest.raises(ValueError, match="Invalid signals: it has inf or NaN"):
        measure_texture(Toy((32,)), Y / 0, Y)


def test_a_picture_with_channels_last_is_refused_in_the_words_of_the_family() -> None:
    for method in ("lbfgs", "paths"):
        with pytest.raises(ValueError, match=r"Invalid target: .* channels come before them, as in x\.movedim"):
            resynthesize(ImageScattering((8, 6), J=1), torch.ones(8, 6, 3), method=method)


def test_families_that_make_no_real_coefficients_of_each_signal_are_named() -> None:
    class Complex(Toy):
        def forward(self, x: Tensor, path_idx: int) -> Tensor:
            return super().forward(x, path_idx) * 1j

    class Mean(Toy):
        def forward(self, x: Tensor, path_idx: int) -> Tensor:
            return super().forward(x, path_idx).mean()

    with pytest.raises(ValueError, match=r"Complex makes coefficients of torch\.complex128; expected real"):
        resynthesize(Complex((32,)), Y)
    with pytest.raises(ValueError, match=r"Mean makes .* expected the batch axes \(1,\) first"):
        resynthesize(Mean((32,)), Y)
