"""Scattering of images: kymatio's coefficients, literal convolutions, symmetries, derivatives, bad input."""

from __future__ import annotations

import copy
import functools
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scrapl_jtfs import ImagePathTable, ImageScattering, PathLoss, check_path_transform

FLOAT64_SCATTERING = {
    (average, order): ImageScattering((16, 20), J=2, L=3, max_order=order, average=average).double()
    for average in ("local", "global")
    for order in (1, 2)
}


class DoublePrecision:
    """NumPy for kymatio's filters, which it would otherwise compute in single precision."""

    complex64, float32 = np.complex128, np.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@functools.cache
def kymatio(shape: tuple[int, int], J: int, L: int, max_order: int, dtype: torch.dtype) -> Any:
    # kymatio.torch itself does not import with SciPy 1.15 and later.
    from kymatio.scattering2d import filter_bank
    from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D

    with pytest.MonkeyPatch.context() as patch:
        if dtype == torch.float64:
            patch.setattr(filter_bank, "np", DoublePrecision())
        return ScatteringTorch2D(J, shape, L, max_order)


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def grating(shape: tuple[int, int], wavelength: float, angle: float) -> Tensor:
    """Return a wave whose vector stands at an angle counterclockwise from the horizontal, with rows downwards."""
    down, right = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
    radians = math.radians(angle)
    return torch.cos(2 * math.pi / wavelength * (right * math.cos(radians) - down * math.sin(radians)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "J", "L", "max_order"),
    [
        ((32, 32), 2, 8, 2),
        ((32, 24), 3, 4, 2),
        ((21, 37), 2, 3, 2),  # odd sizes, odd L
        ((16, 16), 4, 4, 2),  # as large as the average: the reflection is reflected
        ((8, 19), 3, 12, 2),  # wavelets longer than the image
        ((33, 16), 3, 8, 1),
        ((5, 4), 1, 1, 2),
    ],
)
def test_coefficients_are_kymatios(
    shape: tuple[int, int], J: int, L: int, max_order: int, dtype: torch.dtype
) -> None:
    x = noise(2, 3, *shape, dtype=dtype)
    expected = kymatio(shape, J, L, max_order, dtype)(x)
    found = torch.stack(ImageScattering(shape, J, L, max_order=max_order).to(dtype).full(x), -3)
    assert found.dtype == dtype
    assert found.shape == expected.shape == (2, 3, expected.shape[2], shape[0] // 2**J, shape[1] // 2**J)
    norm = expected.flatten(3).norm(dim=-1)
    distance = (found - expected).flatten(3).norm(dim=-1) / norm
    assert float(distance.max()) < (1e-5 if dtype == torch.float32 else 1e-9)


def literal_bands(
    x: np.ndarray, J: int, L: int, chain: tuple[tuple[int, int], ...]
) -> tuple[np.ndarray, slice, slice]:
    """Return the modulus of a path by convolutions, decimated after each, and the samples inside."""
    from kymatio.scattering2d.filter_bank import morlet_2d

    added = [(n // 2**J + 2) * 2**J - n for n in x.shape]
    u = np.pad(x, [(a // 2, a - a // 2) for a in added], mode="reflect")
    stride = 1
    for j, orientation in chain:
        theta = (int(L / 2 - 1) - orientation) * np.pi / L
        # At full rate, of which the low frequencies are those of u.
        fine = [n * stride for n in u.shape]
        psi = np.fft.fft2(morlet_2d(fine[0], fine[1], 0.8 * 2**j, theta, 0.75 * np.pi / 2**j, 4 / L))
        rows, columns = (np.r_[0 : n // 2, n * stride - n // 2 : n * stride] for n in u.shape)
        u = np.abs(np.fft.ifft2(np.fft.fft2(u) * psi.real[np.ix_(rows, columns)]))
        u = u[:: 2**j // stride, :: 2**j // stride]
        stride = 2**j
    inside = [
        slice(-(-(a // 2) // stride), -(-(a // 2 + n) // stride)) for a, n in zip(added, x.shape, strict=True)
    ]
    return u, inside[0], inside[1]


def test_the_global_average_is_the_mean_of_literal_bands_over_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    from kymatio.scattering2d import filter_bank

    monkeypatch.setattr(filter_bank, "np", DoublePrecision())
    scattering = FLOAT64_SCATTERING["global", 2]
    x = noise(16, 20)
    for path in scattering.paths[::5]:
        pairs = (path.j1, path.l1), (path.j2, path.l2)
        chain = tuple((j, number) for j, number in pairs if j is not None and number is not None)
        u, rows, columns = literal_bands(x.numpy(), 2, 3, chain)
        assert scattering(x, path.index).item() == pytest.approx(u[rows, columns].mean(), rel=1e-9), str(path)


@pytest.mark.parametrize("wavelength", [8 / 3, 16 / 3, 32 / 3])
def test_a_grating_answers_at_its_wavelength_and_angle(wavelength: float) -> None:
    scattering = ImageScattering((48, 64), J=3, L=8, max_order=1, average="global").double()
    for angle in sorted({path.angle for path in scattering.paths if path.angle is not None}):
        answers = torch.cat(scattering.full(grating((48, 64), wavelength, angle))[1:]).flatten()
        loudest = scattering.paths[1 + int(answers.argmax())]
        assert loudest.wavelength == pytest.approx(wavelength)
        assert loudest.angle == pytest.approx(angle)


def test_a_modulated_grating_answers_at_the_angle_of_its_strength() -> None:
    """Stripes of 8/3 pixels at 0 degrees whose strength waves at 67.5 degrees over 32/3 pixels."""
    scattering = ImageScattering((64, 64), J=3, L=8, average="global").double()
    x = grating((64, 64), 8 / 3, 0.0) * (1 + 0.8 * grating((64, 64), 32 / 3, 67.5))
    ids = scattering.paths.where(order=2, wavelength=(2, 3), angle=(170, 10))
    answers = torch.cat(scattering.select(x, ids)).flatten()
    loudest = scattering.paths[ids[int(answers.argmax())]]
    assert loudest.wavelength == pytest.approx(8 / 3)
    assert loudest.second_wavelength == pytest.approx(32 / 3)
    assert loudest.second_angle == pytest.approx(67.5)


def test_a_picture_turned_by_90_degrees_answers_90_degrees_later() -> None:
    scattering = ImageScattering((24, 24), J=1, L=6, max_order=1, average="global").double()
    x = noise(24, 24)
    turned = torch.rot90(x)  # counterclockwise, as seen with rows downwards
    by_angle = {round(path.angle): path.index for path in scattering.paths if path.angle is not None}
    for angle, p in by_angle.items():
        q = by_angle[(angle + 90) % 180]
        torch.testing.assert_close(scattering(turned, q), scattering(x, p), rtol=1e-12, atol=0)


def test_a_shift_by_the_average_moves_frames_by_one() -> None:
    scattering = ImageScattering((40, 48), J=2, L=4).double()
    x = torch.zeros(40, 48, dtype=torch.float64)
    x[16:22, 17:30] = noise(6, 13)
    before, after = (torch.stack(scattering.full(y)) for y in (x, x.roll((4, -8), (0, 1))))
    torch.testing.assert_close(after[:, 1:, :-2], before[:, :-1, 2:], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("scattering", FLOAT64_SCATTERING.values(), ids=str)
def test_single_paths_several_and_all_agree(scattering: ImageScattering) -> None:
    x = noise(2, 3, 16, 20)
    full = scattering.full(x)
    streamed = list(scattering.stream(x))
    assert [p for p, _ in streamed] == list(range(scattering.n_paths))
    some = [scattering.n_paths - 1, 0, 3, 3, 1]
    assert scattering.select(x, []) == []
    pairs = zip(scattering.select(x, some), some, strict=True)
    for phi, p in itertools.chain(
        ((phi, p) for p, phi in streamed), pairs, ((scattering(x, p), p) for p in range(7))
    ):
        torch.testing.assert_close(phi, full[p], rtol=1e-12, atol=1e-15)
        assert phi.shape == (2, 3, *((4, 5) if scattering.geometry.average == "local" else (1, 1)))
    torch.testing.assert_close(scattering(x[1, 2], 5), full[5][1, 2], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("average", ["local", "global"])
def test_derivatives_by_finite_differences(average: str) -> None:
    scattering = FLOAT64_SCATTERING[average, 2]
    x = noise(16, 20).requires_grad_()
    for p in (0, 2, 5, 12):  # one of each order and scale
        assert torch.autograd.gradcheck(functools.partial(scattering, path_idx=p), x, fast_mode=True)
        assert torch.autograd.gradgradcheck(functools.partial(scattering, path_idx=p), x, fast_mode=True)


def test_gradients_of_one_path_are_those_of_the_full_tree() -> None:
    scattering = FLOAT64_SCATTERING["local", 2]
    x = noise(2, 16, 20).requires_grad_()
    (expected,) = torch.autograd.grad(torch.stack(scattering.full(x)).square().sum(), x)
    found = sum(torch.autograd.grad(scattering(x, p).square().sum(), x)[0] for p in range(scattering.n_paths))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_a_black_image_has_a_gradient() -> None:
    x = torch.zeros(16, 20, dtype=torch.float64, requires_grad=True)
    torch.stack(FLOAT64_SCATTERING["local", 2].full(x)).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_torch_func_sees_through_it() -> None:
    scattering = FLOAT64_SCATTERING["global", 2]
    x = noise(3, 16, 20)
    energy = lambda y: scattering(y, 10).square().sum()  # noqa: E731
    found = torch.func.vmap(torch.func.grad(energy))(x)
    expected = torch.stack([torch.func.grad(energy)(y) for y in x])
    torch.testing.assert_close(found, expected)


def test_precision_follows_the_module_exactly() -> None:
    x = noise(16, 20)
    torch.set_default_dtype(torch.float64)
    try:
        made = ImageScattering((16, 20), J=2, L=3)
    finally:
        torch.set_default_dtype(torch.float32)
    converted = ImageScattering((16, 20), J=2, L=3).half().double()
    assert made.dtype == converted.dtype == torch.float64
    for a, b in zip(made.full(x), converted.full(x), strict=True):
        assert torch.equal(a, b)
    single = ImageScattering((16, 20), J=2, L=3)
    assert single.settings == made.settings
    assert single.settings != ImageScattering((16, 20), J=2, L=4).settings
    assert torch.equal(single(x.half(), 4), single(x.half().float(), 4))
    with torch.autocast("cpu", torch.bfloat16):
        streamed = single.stream(x.float())
        assert next(streamed)[1].dtype == torch.float32
        assert (x.float() @ x.float().mT).dtype == torch.bfloat16  # what the caller computes in between


def test_it_is_copied_kept_and_moved() -> None:
    scattering = check_path_transform(ImageScattering((16, 20), J=2, L=3))
    assert scattering.signal_shape == (16, 20)
    x = noise(16, 20, dtype=torch.float32)
    assert scattering.state_dict() == {}
    for other in (copy.deepcopy(scattering), pickle.loads(pickle.dumps(scattering))):
        assert other.settings == scattering.settings
        assert torch.equal(other(x, 11), scattering(x, 11))
    meta = copy.deepcopy(scattering).to("meta")
    assert meta(torch.empty(5, 16, 20, device="meta"), 11).shape == (5, 4, 5)
    assert meta.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cuda_computes_the_same(dtype: torch.dtype) -> None:
    scattering = ImageScattering((64, 48), J=3).to(dtype)
    x = noise(4, 3, 64, 48, dtype=dtype)
    found = copy.deepcopy(scattering).to("cuda").full(x.cuda())
    for a, b in zip(found, scattering.full(x), strict=True):
        assert float((a.cpu() - b).norm() / b.norm()) < (1e-5 if dtype == torch.float32 else 1e-12)


def test_losses_take_images() -> None:
    """Channels are batch axes, and paths drawn alike are unbiased for the full tree."""
    scattering = FLOAT64_SCATTERING["global", 2]
    loss_fn = PathLoss(scattering)
    x, y = noise(2, 3, 16, 20), noise(2, 3, 16, 20, seed=1)
    single = torch.stack([loss_fn(x, y, p) for p in range(scattering.n_paths)])
    torch.testing.assert_close(single.mean(), loss_fn.full(x, y))
    pairs = zip(scattering.full(x), scattering.full(y), strict=True)
    expected = sum(float((a - b).square().sum((-2, -1)).mean()) for a, b in pairs)
    assert float(loss_fn.full(x, y)) == pytest.approx(expected)
    assert PathLoss(scattering, reduction="none")(x, loss_fn.prepare(y), 4).shape == (2, 3)


@pytest.mark.parametrize("average", ["local", "global"])
def test_it_passes_the_kit(average: Any) -> None:
    testing = pytest.importorskip("scrapl_jtfs.testing")
    testing.assert_path_transform(ImageScattering((8, 10), J=2, L=2, average=average))


def test_the_table_names_paths_in_pixels_and_degrees() -> None:
    paths = ImageScattering((64, 64), J=3, L=4).paths
    assert len(paths) == 1 + 12 + 3 * 16
    assert [path.index for path in paths] == list(range(61))
    assert str(paths[0]) == "path 0: average over 8 pixels"
    assert str(paths[2]) == "path 2: wavelength 2.67 pixels at 90 degrees"
    assert str(paths[60]) == (
        "path 60: wavelength 5.33 pixels at 0 degrees; its strength: wavelength 10.7 pixels at 0 degrees"
    )
    assert {path.wavelength for path in paths[1:]} == {8 / 3, 16 / 3, 32 / 3}
    assert sum(path.cost for path in paths) == pytest.approx(61)
    assert paths[0].cost < paths[1].cost < paths[13].cost
    assert str(ImageScattering((8, 8), J=1, average="global").paths[0]) == "path 0: mean over the image"


def test_paths_are_chosen_by_conditions() -> None:
    paths = ImageScattering((64, 64), J=3, L=8).paths
    assert isinstance(paths, ImagePathTable)
    chosen = [paths[p] for p in paths.where(order=2, angle=(170, 10), second_wavelength=(8, 20))]
    assert {path.angle for path in chosen} == {0.0}
    assert {path.second_wavelength for path in chosen} == {32 / 3}
    assert len(chosen) == 16  # two first-order scales, eight orientations of the second order
    assert len(paths.where(angle=(0, 180))) == len(paths) - 1
    assert len(paths.where(second_angle=(80, 100))) == len(paths.where(order=2)) // 8
    assert [len(bundle) for bundle in paths.bundles("j2", within=paths.where(order=2))] == [64, 128]
    assert paths.ids(ImageScattering((32, 64), J=3, L=8).paths[3:5]) == (3, 4)
    with pytest.raises(
        ValueError,
        match=r"angle=\(0, 180\): no path has all of that; expected those of 217 paths, wavelength 2.67 to 10.7",
    ):
        paths.where(order=0, angle=(0, 180))


SHAPE = (32, 48)
BAD_SETTINGS = [
    (dict(shape=(16, 48), J=5), ValueError, "Invalid J: 5; expected J <= 4"),
    (dict(shape=(1, 48), J=1), ValueError, r"Invalid shape: \(1, 48\); expected at least 2"),
    (dict(shape=32, J=2), TypeError, r"expected \(height, width\)"),
    (dict(shape=(3, 32, 48), J=2), TypeError, "leave channels and batches out"),
    (dict(shape=(32.0, 48), J=2), TypeError, "Invalid height: 32.0; expected an integer"),
    (dict(shape=SHAPE, J=0), ValueError, "Invalid J: 0"),
    (dict(shape=SHAPE, J=True), TypeError, "Invalid J: True"),
    (dict(shape=SHAPE, J=2, L=0), ValueError, "Invalid L: 0"),
    (dict(shape=SHAPE, J=2, max_order=3), ValueError, "Invalid max_order: 3; expected 1 or 2"),
    (dict(shape=SHAPE, J=2, average="none"), ValueError, "Invalid average: 'none'; expected 'local' or 'global'"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD_SETTINGS)
def test_bad_settings(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ImageScattering(**settings)


BAD_IMAGES = [
    (torch.zeros(8, 8), ValueError, r"shape \(8, 8\); expected \(..., 32, 48\).*crop, pad or resize"),
    (torch.zeros(32, 48, 3), ValueError, r"channels come before them, as in x.movedim\(-1, -3\)"),
    (torch.zeros(2, 48, 32), ValueError, r"swap them with x.mT"),
    (torch.zeros(32 * 48), ValueError, "reshape it"),
    (torch.zeros(32, 48, dtype=torch.uint8), TypeError, r"torch.uint8; expected real floating-point.*full scale"),
    (torch.zeros(32, 48, dtype=torch.complex64), TypeError, "take its real part"),
    (np.zeros(SHAPE), TypeError, "use torch.as_tensor"),
    (torch.zeros(0, 32, 48), ValueError, "an empty batch"),
    (
        torch.zeros(32, 48, dtype=torch.float64),
        ValueError,
        r"torch.float64 on cpu; expected torch.float32.*x.float\(\)",
    ),
    (torch.zeros(32, 48, device="meta"), ValueError, "on meta; expected torch.float32 on cpu"),
]


@pytest.mark.parametrize(("x", "error", "message"), BAD_IMAGES)
def test_bad_images(x: Any, error: type[Exception], message: str) -> None:
    scattering = ImageScattering(SHAPE, J=2, L=2)
    for call in (lambda: scattering(x, 0), lambda: scattering.full(x), lambda: next(scattering.stream(x))):
        with pytest.raises(error, match=message):
            call()


def test_bad_paths() -> None:
    scattering = ImageScattering(SHAPE, J=2, L=2)
    x = torch.zeros(SHAPE)
    with pytest.raises(IndexError, match="expected an id from 0 to 8"):
        scattering(x, 9)
    with pytest.raises(TypeError, match=r"for several paths: scattering\.select"):
        scattering(x, [1, 2])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is of another transform"):
        scattering.select(x, [ImageScattering(SHAPE, J=3, L=3).paths[4]])
    assert len(scattering.select(x, scattering.paths[2:4])) == 2
