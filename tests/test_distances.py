"""The distances that SCRAPL is compared with: literal twins, properties, and what bad input says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from auraloss.freq import MultiResolutionSTFTLoss, RandomResolutionSTFTLoss
from scipy.signal.windows import flattop, hann
from torch import Tensor

from benchmarks.sound_matching import figures
from benchmarks.sound_matching.distances import (
    RandomSpectrograms,
    RevisitedSpectrograms,
    Spectrograms,
    TimeScattering,
)
from benchmarks.sound_matching.losses import DEFAULT_OBJECTIVES, OBJECTIVES, Scrapl, build_objective
from tests.support.tiny_preset import TINY

N_SAMPLES = 2048
DISTANCES: dict[str, Callable[[], Any]] = {
    "linear": lambda: Spectrograms((512, 128), log=False),
    "log + linear": lambda: Spectrograms((512, 128), log=True),
    "random": lambda: RandomSpectrograms(N_SAMPLES, seed=3),
    "revisited": RevisitedSpectrograms,
    "time scattering": lambda: TimeScattering(N_SAMPLES, J=5, Q=(4, 1), T=256),
    "time scattering, global": lambda: TimeScattering(N_SAMPLES, J=5, Q=(4, 1), T="global"),
}


def sounds(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    x, y = 0.1 * torch.randn(2, n, N_SAMPLES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.to(dtype), y.to(dtype)


@pytest.fixture(scope="module", params=DISTANCES)
def distance(request: pytest.FixtureRequest) -> Any:
    return DISTANCES[request.param]()


def test_zero_where_sounds_are_equal_and_positive_elsewhere(distance: Any) -> None:
    x, y = sounds(2)
    assert distance(x, x).shape == ()
    assert distance(x, x) == 0
    assert distance(x, y) > 0
    assert distance(x, 0.9 * x) > 0


@pytest.mark.parametrize("case", ["noise", "silence", "silent target", "equal", "both silent", "click"])
def test_gradients_are_finite(distance: Any, case: str) -> None:
    x, y = sounds(2)
    silence, click = torch.zeros_like(x), torch.zeros_like(x)
    click[:, 1000] = 1.0
    pairs = {
        "noise": (x, y), "silence": (silence, y), "silent target": (x, silence), "equal": (x, x),
        "both silent": (silence, silence), "click": (click, silence),
    }  # fmt: skip
    sound, target = pairs[case]
    sound = sound.clone().requires_grad_()
    loss = distance(sound, target)
    loss.backward()
    assert loss.isfinite()
    assert sound.grad is not None
    assert sound.grad.isfinite().all()
    if case in ("noise", "silent target", "click"):
        assert sound.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["revisited", "time scattering", "time scattering, global"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    """Along the gradient, the slope of the loss is its norm; auraloss has its own tests."""
    distance = DISTANCES[name]().double()
    x, y = sounds(1, dtype=torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(distance(x, y), x)
    norm = gradient.norm()
    step = 1e-7 * gradient / norm
    with torch.no_grad():
        slope = (distance(x + step, y) - distance(x - step, y)) / (2 * step.norm())
    assert slope.item() == pytest.approx(norm.item(), rel=1e-4)


def test_any_batch(distance: Any) -> None:
    """The mean over examples, but for ratios of norms over the batch in the random distance."""
    x, y = sounds(3)
    whole = distance(x, y)
    if not isinstance(distance, RandomSpectrograms):
        each = torch.stack([distance(x[i : i + 1], y[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(whole, each.mean())


def test_bad_shapes(distance: Any) -> None:
    x, y = sounds(2)
    for a, b in ((x, y[:1]), (x[0], y[0]), (x[:, None], y[:, None]), (x, y[:, 1:])):
        with pytest.raises(ValueError, match=r"Invalid x and y: shapes .*expected sounds \(B, n_samples\)"):
            distance(a, b)


def literal_spectrogram(x: np.ndarray, size: int, hop: int, window: np.ndarray) -> np.ndarray:
    """Magnitudes (bins, frames), frame by frame, of one sound that is reflected at its ends."""
    half = size // 2
    padded = np.concatenate((x[half:0:-1], x, x[-2 : -half - 2 : -1]))
    starts = range(0, len(padded) - size + 1, hop)
    return np.abs(np.stack([np.fft.rfft(window * padded[start : start + size]) for start in starts], 1))


def test_the_gradient_at_the_end_of_a_decay_is_finite() -> None:
    """A tone that falls to the smallest numbers of single precision, and on to zero."""
    time = torch.arange(8192, dtype=torch.float64)
    x = (0.5 * torch.cos(0.3 * time) * 10 ** (-time / 120)).float()[None].requires_grad_()
    (gradient,) = torch.autograd.grad(RevisitedSpectrograms()(x, torch.zeros_like(x)), x)
    assert gradient.isfinite().all()
    assert gradient[0, :100].abs().min() > 0


def test_revisited_is_as_written() -> None:
    x, y = sounds(2, dtype=torch.float64)
    expected = 0.0
    for length in (67, 127, 257, 509, 1021, 2053):
        window = flattop(length, sym=False)
        for a, b in zip(x.numpy(), y.numpy(), strict=True):
            magnitudes = (literal_spectrogram(sound, length, length // 2, window) for sound in (a, b))
            logs = [np.log(1.0 + magnitude) for magnitude in magnitudes]
            expected += np.sqrt(((logs[0] - logs[1]) ** 2).sum()) / 2
    assert RevisitedSpectrograms()(x, y).item() == pytest.approx(expected, rel=1e-12)
    assert RevisitedSpectrograms()(x.float(), y.float()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("log", [False, True])
def test_multi_resolution_is_as_written(log: bool) -> None:
    x, y = sounds(2)
    expected = 0.0
    for size in (512, 128):
        window = hann(size, sym=False)
        a, b = (
            np.stack([literal_spectrogram(sound, size, size // 4, window) for sound in batch.double().numpy()])
            for batch in (x, y)
        )
        # auraloss clamps the power at 1e-8
        a, b = np.maximum(a, 1e-4), np.maximum(b, 1e-4)
        expected += np.abs(a - b).mean() / 2
        expected += np.abs(np.log(a) - np.log(b)).mean() / 2 if log else 0.0
    assert Spectrograms((512, 128), log=log)(x, y).item() == pytest.approx(expected, rel=1e-5)


def test_log_and_linear_is_auraloss_s_to_the_last_bit() -> None:
    x, y = sounds(2)
    loss = MultiResolutionSTFTLoss([512, 128], [128, 32], [512, 128], w_sc=0.0, w_log_mag=1.0, w_lin_mag=1.0)
    x.requires_grad_()
    ours, theirs = Spectrograms((512, 128), log=True)(x, y), loss(x[:, None], y[:, None])
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(value, x)[0] for value in (ours, theirs)))


def test_random_resolutions_are_a_function_of_seed_and_step() -> None:
    x, y = sounds(2)
    distance, again, other = (RandomSpectrograms(N_SAMPLES, seed=seed) for seed in (3, 3, 4))
    state = np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002
    losses = [distance(x, y, step).item() for step in range(5)]
    assert len(set(losses)) == 5
    assert [again(x, y, step).item() for step in reversed(range(5))] == losses[::-1]
    assert other(x, y, 0).item() != losses[0]
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], state)  # noqa: NPY002


def test_random_resolutions_are_auraloss_s_and_fit_the_sound() -> None:
    x, y = sounds(2)
    distance = RandomSpectrograms(N_SAMPLES, seed=3)
    sizes = set()
    for step in range(40):
        distance(x, y, step)
        sizes |= {loss.fft_size for loss in distance.loss.stft_losses}
    assert sizes == {16, 32, 64, 128, 256, 512}
    assert isinstance(distance.loss, RandomResolutionSTFTLoss)
    assert [RandomSpectrograms(n).max_size for n in (65, 4096, 4097, 32768, 44100)] == [
        64,
        2048,
        4096,
        16384,
        32768,
    ]
    with pytest.raises(ValueError, match=r"Invalid n_samples: 64; expected more than 64.*take longer"):
        RandomSpectrograms(64)


def test_revisited_refuses_sounds_shorter_than_half_a_window() -> None:
    x, y = sounds(1)
    with pytest.raises(
        ValueError, match="Invalid x: 1026 samples; expected 1027 or more, half of the longest window"
    ):
        RevisitedSpectrograms()(x[:, :1026], y[:, :1026])
    assert RevisitedSpectrograms()(x[:, :1027], y[:, :1027]) > 0
    assert RevisitedSpectrograms((67,))(x[:, :99], y[:, :99]) > 0


def test_revisited_follows_module_moves() -> None:
    assert {window.dtype for window in RevisitedSpectrograms().double().buffers()} == {torch.float64}
    assert RevisitedSpectrograms().state_dict() == {}


def kymatio_numpy(T: int) -> Any:
    from kymatio.scattering1d.frontend.numpy_frontend import ScatteringNumPy1D

    build: Any = ScatteringNumPy1D
    return build(5, N_SAMPLES, (4, 1), T, out_type="list")


@pytest.mark.parametrize("eps", [1e-3, None])
def test_time_scattering_is_as_written(eps: float | None) -> None:
    """Against kymatio's NumPy transform in double precision."""
    x, y = sounds(2, dtype=torch.float64)
    transform = kymatio_numpy(256)

    def features(sound: np.ndarray) -> np.ndarray:
        paths = [path["coef"] for path in transform(sound) if len(path["n"]) > 0]
        coefficients = np.concatenate(paths)
        return coefficients if eps is None else np.log(1.0 + coefficients / eps)

    each = [np.linalg.norm(features(a) - features(b)) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    distance = TimeScattering(N_SAMPLES, J=5, Q=(4, 1), T=256, log1p_eps=eps)
    assert distance(x.float(), y.float()).item() == pytest.approx(np.mean(each), rel=1e-4)
    assert distance.double()(x, y).item() == pytest.approx(np.mean(each), rel=1e-6)


def test_global_time_scattering_is_the_mean_over_the_sound() -> None:
    x, _ = sounds(2, dtype=torch.float64)
    paths = kymatio_numpy(0)(x.numpy())
    expected = np.stack([path["coef"].mean(-1) for path in paths if len(path["n"]) > 0], -1)
    distance = TimeScattering(N_SAMPLES, J=5, Q=(4, 1), T="global", log1p_eps=None).double()
    coefficients = distance.coefficients(x)
    assert coefficients.shape == (2, expected.shape[1], 1)
    np.testing.assert_allclose(coefficients[..., 0], expected, rtol=1e-5)


def test_time_scattering_refuses_an_epsilon_that_is_not_positive() -> None:
    with pytest.raises(ValueError, match=r"Invalid log1p_eps: 0\.0; expected a positive number or None"):
        TimeScattering(N_SAMPLES, J=5, T=256, log1p_eps=0.0)


BASELINES = ("mss_linear", "mss_random", "mss_revisited", "time_scattering", "full_tree")


def tiny_sounds() -> tuple[Tensor, Tensor]:
    x, y = 0.1 * torch.randn(2, 2, TINY.n_samples, generator=torch.Generator().manual_seed(0))
    return x, y


@pytest.mark.parametrize("name", BASELINES)
def test_objectives_train(name: str) -> None:
    objective = build_objective(name, TINY, 0, torch.device("cpu"))
    x, y = tiny_sounds()
    theta = torch.zeros(2, 2)
    weight = torch.nn.Parameter(torch.ones(()))
    optimizer = objective.optimizer([weight])
    loss = objective.loss(theta, theta, lambda: weight * x, lambda: y, 7)
    loss.backward()
    objective.update(optimizer, 7)
    assert loss > 0
    assert weight != 1
    assert objective.loss(theta, theta, lambda: x, lambda: x, 7) == 0
    assert objective.label


def test_objectives_are_listed_and_drawn() -> None:
    assert set(BASELINES) < set(OBJECTIVES)
    assert DEFAULT_OBJECTIVES == ("scrapl", "mss", "p_loss")
    assert set(figures._STYLES) == set(OBJECTIVES)
    assert len(set(figures._STYLES.values())) == len(OBJECTIVES)


def test_the_full_tree_is_the_mean_of_scrapl_over_paths() -> None:
    x, y = tiny_sounds()
    theta = torch.zeros(2, 2)
    scrapl = build_objective("scrapl", TINY, 0, torch.device("cpu"))
    assert isinstance(scrapl, Scrapl)
    each = torch.stack([scrapl.distance(x, y, path) for path in range(scrapl.jtfs.n_paths)])
    full = build_objective("full_tree", TINY, 0, torch.device("cpu"))
    torch.testing.assert_close(full.loss(theta, theta, lambda: x, lambda: y, 0), each.mean())


def test_the_full_tree_trains_however_small_its_gradients_are() -> None:
    """Gradients of path losses may be below Adam's usual epsilon, which would stop all learning."""
    objective = build_objective("full_tree", TINY, 0, torch.device("cpu"))
    updates = []
    for scale in (1.0, 1e-12):
        weight = torch.nn.Parameter(torch.zeros(5))
        weight.grad = scale * torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0])
        objective.optimizer([weight]).step()
        updates.append(weight.detach())
    torch.testing.assert_close(updates[1], updates[0])
