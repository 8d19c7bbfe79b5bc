"""Linear maps against literal DFTs and dense matrices; layers y -> B |A y| against plain autograd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scrapl_jtfs._transform import filter_design
from scrapl_jtfs._transform.budget import Budget
from scrapl_jtfs._transform.geometry import make_geometry
from scrapl_jtfs._transform.layer import Layer, scattering_layer
from scrapl_jtfs._transform.linear.autograd import LinearMap, apply_adjoint, apply_linear
from scrapl_jtfs._transform.linear.filters_and_averages import (
    Crop,
    Identity,
    Matrix,
    Reflection,
    RowFilter,
    SpectralAverage,
    SpinPair,
)
from scrapl_jtfs._transform.linear.spectra import CommonBand, Spectrum, Subbands
from tests.support.jtfs_helpers import (
    Dense,
    assert_is_linear_map,
    assert_near,
    dft,
    literal_band,
    noise,
    planes_of,
    random_dense,
)
from tests.support.kymatio_filters import SIGMA0, gauss, unit_l1

COMPLEX = torch.complex128
quick = settings(max_examples=60, deadline=None)


@st.composite
def spectra(draw: st.DrawFn) -> Spectrum:
    """Runs that meet bins 0 to n / 2, and may reach past either."""
    n = 2 * draw(st.integers(2, 24))
    first = draw(st.integers(-n // 2, n // 2))
    return Spectrum(n, first, draw(st.integers(max(first, 0) + 1, n)))


@given(spectra(), st.integers(1, 3))
@quick
def test_spectrum_is_a_literal_dft(spectrum: Spectrum, batch: int) -> None:
    x = noise(batch, spectrum.n)
    y = assert_is_linear_map(spectrum, x)
    assert y[0].numel() * 2 == spectrum.size
    assert_near(y, x.to(COMPLEX) @ dft(range(spectrum.first, spectrum.last), spectrum.n).mT, 1e-13)
    torch.testing.assert_close(spectrum(x.reshape(batch, 1, -1))[:, 0], y)


def padded_response(filters: int, width: int, zeros: Sequence[int]) -> Tensor:
    """Responses, real as wavelets' are, that end early by some zeros, as bands of unequal width on a grid do."""
    response = noise(filters, width, seed=3).to(COMPLEX)
    for row, count in zip(response, zeros, strict=True):
        row[width - min(count, width - 1) :] = 0
    return response


@st.composite
def subbands(draw: st.DrawFn) -> Subbands:
    """Windows anywhere in a run of bins, overlapping, apart, or all the same (step 0)."""
    length = 2 * draw(st.integers(1, 16))
    width, filters = draw(st.integers(1, length - 1)), draw(st.integers(1, 4))
    start, step = draw(st.integers(0, 5)), draw(st.integers(0, 6))
    bins = start + (filters - 1) * step + width + draw(st.integers(0, 5))
    zeros = [draw(st.integers(0, 4)) for _ in range(filters)]
    return Subbands(bins, start, step, padded_response(filters, width, zeros), length)


@given(subbands(), st.integers(1, 3))
@quick
def test_subbands_are_literal_inverse_dfts(bands: Subbands, batch: int) -> None:
    spectrum = noise(batch, bands.bins, dtype=COMPLEX)
    y = assert_is_linear_map(bands, spectrum)
    filters, width = bands.response.shape
    assert y.shape == (batch, 2, filters, bands.length)
    assert y[0].numel() == bands.size
    rows = torch.stack([spectrum[:, bands.start + f * bands.step :][:, :width] for f in range(filters)], dim=1)
    z = torch.cat(
        [literal_band(rows[:, f : f + 1], 2 * bands.response[f], bands.length) for f in range(filters)], 1
    )
    assert_near(y, planes_of(z), 1e-13)


def test_subbands_read_lazy_and_strided_spectra() -> None:
    # Autograd hands out conjugates that are flags, expanded gradients and slices of larger tensors.
    bands = Subbands(12, 2, 3, noise(2, 5, seed=3, dtype=COMPLEX), 8)
    whole = noise(2, 3, 14, dtype=COMPLEX)
    for spectrum in (whole[:, 1, 1:13], whole[:, 1, 1:13].conj(), whole[:1, 1, :12].expand(2, -1)):
        assert torch.equal(bands(spectrum), bands(spectrum.resolve_conj().clone()))
    grad = noise(1, 1, 2, 8).expand(3, 2, -1, -1)
    assert torch.equal(bands.adjoint(grad)[0], bands.adjoint(grad.clone())[0])


@st.composite
def common_bands(draw: st.DrawFn) -> tuple[CommonBand, list[int]]:
    """A band about zero or above it, and signals of which some are too short to reach its end."""
    halves = draw(st.lists(st.integers(2, 20), min_size=1, max_size=3))
    groups = tuple((draw(st.integers(1, 3)), draw(st.integers(2, half))) for half in halves)
    start = draw(st.integers(-8, min(bins for _, bins in groups) - 1))
    stop = draw(st.integers(max(start, 0) + 1, 24))
    length = 2 * draw(st.integers((stop - start) // 2 + 1, 20))
    response = padded_response(1, stop - start, [draw(st.integers(0, 3))])[0]
    return CommonBand(groups, start, response, length), [2 * half for half in halves]


@given(common_bands(), st.integers(1, 2))
@quick
def test_common_band_is_a_literal_inverse_dft(drawn: tuple[CommonBand, list[int]], batch: int) -> None:
    band, lengths = drawn
    signals = [noise(batch, rows, n, seed=n) for (rows, _), n in zip(band.groups, lengths, strict=True)]
    halves = [Spectrum(n, 0, bins)(u) for (_, bins), u, n in zip(band.groups, signals, lengths, strict=True)]
    y = assert_is_linear_map(band, *halves)
    assert y[0].numel() == band.size
    planes = []
    width = band.response.shape[0]
    for (_, n_bins), u, n in zip(band.groups, signals, lengths, strict=True):
        wanted = range(band.start, band.start + width)
        inside = torch.tensor([abs(k) < n_bins for k in wanted])
        bins = (u.to(COMPLEX) @ dft(wanted, n).mT) * inside
        planes.append(planes_of(literal_band(bins, 2 * band.response, band.length)))
    assert_near(y, torch.cat(planes, dim=2).flatten(1, 2), 1e-13)
    # Spectra of complex numbers throughout, bin 0 included: the adjoint is that of a real-linear map.
    assert_is_linear_map(band, *(noise(*h.shape, seed=9, dtype=COMPLEX) for h in halves))


sizes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 3))


@given(sizes)
@quick
def test_row_filters_are_complex_products(drawn: tuple[int, int, int, int]) -> None:
    rows_out, rows_in, frames, batch = drawn
    psi = noise(rows_out, rows_in, dtype=COMPLEX)
    c, s = psi.real, psi.imag
    y = noise(batch, rows_in, frames, seed=1, dtype=COMPLEX)
    planes = planes_of(y).flatten(1, 2)
    of_real = RowFilter(torch.cat([c, s]))
    assert_near(assert_is_linear_map(of_real, y.real.clone()), planes_of(psi @ y.real.to(COMPLEX)), 1e-13)
    up = RowFilter(torch.cat([torch.cat([c, -s], 1), torch.cat([s, c], 1)]))
    down = RowFilter(torch.cat([torch.cat([c, s], 1), torch.cat([-s, c], 1)]))
    assert_near(assert_is_linear_map(up, planes), planes_of(psi @ y), 1e-13)
    pair = SpinPair(torch.cat([c, s]))
    both = assert_is_linear_map(pair, planes)
    assert (up.rows, pair.rows) == (rows_out, 2 * rows_out)
    assert_near(both, torch.cat([up(planes), down(planes)], dim=2), 1e-13)
    grad = noise(*both.shape, seed=2)
    parts = [up.adjoint(grad[:, :, :rows_out])[0], down.adjoint(grad[:, :, rows_out:])[0]]
    torch.testing.assert_close(pair.adjoint(grad)[0], parts[0] + parts[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (3, 0), (0, 4), (5, 6)])
def test_reflection_is_by_index(left: int, right: int) -> None:
    x = noise(2, 7)
    t = torch.arange(-left, 7 + right).abs()
    expected = x[:, torch.where(t > 6, 12 - t, t)]
    assert torch.equal(assert_is_linear_map(Reflection(left, right), x), expected)


@given(sizes, st.integers(0, 3))
@quick
def test_crop_identity_and_matrix(drawn: tuple[int, int, int, int], skip: int) -> None:
    rows, frames_out, extra, batch = drawn
    n = skip + frames_out + extra
    u = noise(batch, rows, n)
    kept = slice(skip, skip + frames_out)
    assert torch.equal(assert_is_linear_map(Crop(n, kept), u), u[..., kept])
    assert torch.equal(assert_is_linear_map(Crop(n, slice(0, n)), u), u)
    assert torch.equal(assert_is_linear_map(Identity(rows * n), u), u)
    matrix = noise(frames_out, n)
    along_frames = assert_is_linear_map(Matrix(matrix, dim=-1), u)
    assert_near(along_frames, torch.einsum("ft,brt->brf", matrix, u), 1e-13)
    along_rows = assert_is_linear_map(Matrix(matrix, dim=-2), u.mT.contiguous())
    assert_near(along_rows, torch.einsum("fr,brt->bft", matrix, u.mT), 1e-13)


@pytest.mark.parametrize("n_samples", [256, 300])
@pytest.mark.parametrize("T", [1, 2, 5, 16, 64])
@pytest.mark.parametrize("log2_stride", [0, 2, 4])
def test_averages_by_matrix_and_by_spectrum(
    n_samples: int, T: int, log2_stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry = make_geometry(n_samples, 6, 4, 2, 1, T, None)
    n_padded, stride_out = geometry.n_padded, 2**geometry.time.log2_stride
    exact = n_padded >> min(log2_stride, geometry.time.log2_stride)
    phi = unit_l1(gauss(n_padded, 0.0, SIGMA0 / T))
    t = torch.arange(geometry.kept_frames(0).start, geometry.kept_frames(0).stop)
    frames = t[t % stride_out == 0].double()
    for length in sorted({exact, 3 * exact // 4, exact // 2, 96}):
        matrix = filter_design.local_time_average(geometry, exact, length).double().map()
        assert isinstance(matrix, Matrix)
        # A sinusoid sampled at ``length`` points leaves as itself at the frames, times phi's response.
        for k in (0, 1, 7, min(length, exact) // 2 - 1):
            if k and phi[exact - k] > 1e-13:
                continue  # kymatio's low-pass, folded at its stride, is not phi there
            wave = torch.cos(2 * math.pi * k * torch.arange(length).double() / length + 0.3)
            wanted = phi[k] * torch.cos(2 * math.pi * k * frames / n_padded + 0.3)
            torch.testing.assert_close(matrix(wave), wanted, rtol=0, atol=1e-12)
        if length > exact:
            continue
        with monkeypatch.context() as patch:
            patch.setattr(filter_design, "LARGEST_MATRIX", 0)
            spectral = filter_design.local_time_average(geometry, exact, length).double().map()
        assert isinstance(spectral, SpectralAverage)
        u = noise(2, 3, length).abs()
        alternating = torch.cos(math.pi * torch.arange(length)).double()
        # Between samples, a wave at half their rate is anyone's guess: the matrix of fewer frames drops it.
        u -= 0.0 if length == exact else (u @ alternating).unsqueeze(-1) * alternating / length
        expected = assert_is_linear_map(matrix, u)
        assert_near(assert_is_linear_map(spectral, u), expected, 1e-12)


@given(spectra())
@settings(max_examples=15, deadline=None)
def test_linear_functions_differentiate_to_any_order(spectrum: Spectrum) -> None:
    x = noise(2, spectrum.n).requires_grad_()
    y = noise(2, spectrum.last - spectrum.first, dtype=COMPLEX).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: apply_linear(spectrum, x), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: apply_linear(spectrum, x).abs().square(), x)
    assert torch.autograd.gradcheck(lambda y: apply_adjoint(spectrum, y)[0], y, check_forward_ad=True)


# --- layers ---------------------------------------------------------------------------------------------------


def plain(first: LinearMap, layers: Sequence[Layer], *xs: Tensor) -> list[Tensor]:
    """B_i |A_i C x| as autograd makes it of dense matrices, with C, A and B probed by unit vectors."""
    outputs = []
    for layer in layers:
        z = layer.analysis(first(*xs))
        u = torch.hypot(z[:, 0], z[:, 1])
        epsilon = torch.tensor(layer.epsilon, dtype=u.dtype)
        outputs.append(layer.synthesis(torch.hypot(u, epsilon) - epsilon))
    return outputs


@st.composite
def stacks(draw: st.DrawFn, max_layers: int = 3) -> tuple[Dense, list[Layer]]:
    """A first map of one or two arguments and several layers."""
    size = st.integers(1, 4)
    shapes = [(draw(size), draw(size)) for _ in range(draw(st.integers(1, 2)))]
    middle = (draw(size), draw(size))
    layers = []
    for i in range(draw(st.integers(1, max_layers))):
        rows, frames, out = draw(size), draw(size), draw(size)
        analysis = random_dense([middle], (2, rows, frames), seed=10 + i)
        synthesis = random_dense([(rows, frames)], (rows, out), seed=20 + i)
        layers.append(Layer(analysis, synthesis, 2 * rows * frames))
    return random_dense(shapes, middle, seed=1), layers


def inputs_of(first: Dense, batch: int) -> list[Tensor]:
    return [noise(batch, *shape, seed=40 + i).requires_grad_() for i, shape in enumerate(first.shapes)]


def loss_of(outputs: Sequence[Tensor]) -> Tensor:
    return torch.stack([(y * noise(*y.shape, seed=60)).sum() + y.square().sum() for y in outputs]).sum()


def in_bytes(most: int) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(0, most), st.just(10**9))


@given(stacks(), st.integers(1, 5), st.data())
@settings(max_examples=150, deadline=None)
def test_layers_equal_plain_autograd(drawn: tuple[Dense, list[Layer]], batch: int, data: st.DataObject) -> None:
    first, layers = drawn
    work, keep = data.draw(in_bytes(2000)) + 1, data.draw(in_bytes(4000))
    count = data.draw(st.one_of(st.none(), st.integers(1, batch)))
    epsilon = data.draw(st.sampled_from([0.0, 0.3]))
    layers = [layer._replace(epsilon=epsilon) for layer in layers]
    xs = inputs_of(first, batch)
    outputs = scattering_layer(first, layers, Budget(work, keep), *xs, differentiated=count)
    expected = plain(first, layers, *xs)
    for y, e in zip(outputs, expected, strict=True):
        torch.testing.assert_close(y, e, rtol=1e-11, atol=1e-12)
    # Only the first ``count`` items are differentiated: elsewhere the gradient is exactly zero.
    n = batch if count is None else count
    grads = torch.autograd.grad(loss_of(outputs), xs, retain_graph=True)
    again = torch.autograd.grad(loss_of(outputs), xs, create_graph=True)
    wanted = torch.autograd.grad(loss_of(expected), xs)
    for grad, repeated, want in zip(grads, again, wanted, strict=True):
        torch.testing.assert_close(grad[:n], want[:n], rtol=1e-9, atol=1e-10)
        assert torch.equal(grad[n:], torch.zeros_like(grad[n:]))
        torch.testing.assert_close(repeated, grad, rtol=1e-9, atol=1e-10)


@given(stacks(), in_bytes(500))
@settings(max_examples=20, deadline=None)
def test_retained_graphs_give_the_same_gradient(drawn: tuple[Dense, list[Layer]], keep: int) -> None:
    first, layers = drawn
    xs = inputs_of(first, 3)
    loss = loss_of(scattering_layer(first, layers, Budget(200, keep), *xs))
    once, twice = (torch.autograd.grad(loss, xs, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
@pytest.mark.parametrize("n_inputs", [1, 2])
def test_derivatives_of_layers_by_finite_differences(epsilon: float, n_inputs: int) -> None:
    first = random_dense([(2, 3), (4,)][:n_inputs], (5,), seed=1)
    layers = [
        Layer(random_dense([(5,)], (2, 3, 2), seed=s), random_dense([(3, 2)], (3, 1), seed=s + 9), 12, epsilon)
        for s in (2, 3)
    ]
    xs = tuple(inputs_of(first, 2))

    def f(*xs: Tensor) -> tuple[Tensor, ...]:
        return scattering_layer(first, layers, Budget(100, 50), *xs)

    assert torch.autograd.gradcheck(f, xs, check_forward_ad=True, check_batched_grad=False)
    assert torch.autograd.gradgradcheck(f, xs)
    grads = torch.autograd.grad(loss_of(f(*xs)), xs, create_graph=True)
    along = [noise(*x.shape, seed=5) for x in xs]
    product = torch.stack([(g * v).sum() for g, v in zip(grads, along, strict=True)]).sum()
    seconds = torch.autograd.grad(product, xs)
    step = 1e-6
    ahead, behind = (
        torch.autograd.grad(loss_of(f(*moved)), moved)
        for sign in (1, -1)
        for moved in [[(x + sign * step * v).detach().requires_grad_() for x, v in zip(xs, along, strict=True)]]
    )
    for second, a, b in zip(seconds, ahead, behind, strict=True):
        torch.testing.assert_close(second, (a - b) / (2 * step), rtol=1e-5, atol=1e-6)


def saved_bytes(
    first: Any, layers: Sequence[Layer], budget: Budget, x: Tensor, differentiated: int | None = None
) -> int:
    """Bytes that the graph of a call keeps alive, each block of memory counted once."""
    blocks: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        blocks[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        outputs = scattering_layer(first, layers, budget, x, differentiated=differentiated)
    assert outputs[0].requires_grad
    return sum(blocks.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_graph_keeps_inputs_and_what_it_may(dtype: torch.dtype) -> None:
    n, length = 64, 256
    x = noise(4, n, dtype=dtype).requires_grad_()
    response = noise(6, 8, seed=3, dtype=torch.complex128).to(
        torch.complex64 if dtype == torch.float32 else COMPLEX
    )
    bands = Subbands(33, 0, 4, response, length)
    layers = [Layer(bands, Matrix(noise(2, length, dtype=dtype), dim=-1), bands.size)]
    first = Spectrum(n, 0, 33)
    inputs = x.numel() * x.element_size()
    planes = 4 * bands.size * x.element_size()
    assert planes > 40 * inputs
    for keep in (0, 1000, planes // 2, planes, 10 * planes):
        saved = saved_bytes(first, layers, Budget(4096, keep), x)
        assert inputs <= saved <= inputs + min(keep, planes)
    half = saved_bytes(first, layers, Budget(4096, 10 * planes), x, differentiated=2)
    assert half == inputs + planes // 2


@pytest.mark.parametrize("keep", [0, 2000, 10**6])
def test_layers_of_the_scattering_maps(keep: int) -> None:
    # The two layers of a transform in small, with the maps' own adjoints, against autograd through literal DFTs.
    n, length = 32, 16
    x = noise(3, n).requires_grad_()
    psi1, psi2 = noise(4, 7, seed=3).to(COMPLEX), noise(6, seed=4).to(COMPLEX)
    psi_fr, phi = noise(3, 4, seed=5, dtype=COMPLEX), noise(2, 8, seed=6)
    bands = Subbands(20, 1, 3, psi1, length)
    budget = Budget(700, keep)
    (u1_hat,) = scattering_layer(
        Spectrum(n, -2, 18), [Layer(bands, Spectrum(length, 0, 8), bands.size)], budget, x
    )
    common = CommonBand(((4, 8),), -2, psi2, 8)
    pair = SpinPair(torch.cat([psi_fr.real, psi_fr.imag]))
    (u,) = scattering_layer(common, [Layer(pair, Matrix(phi, dim=-1), pair.rows * 16)], budget, u1_hat)

    x_hat = x.to(COMPLEX) @ dft(range(-2, 18), n).mT
    rows = [literal_band(x_hat[:, 1 + 3 * f : 8 + 3 * f], 2 * psi1[f], length) for f in range(4)]
    u1 = torch.stack(rows, dim=1).abs().to(COMPLEX)
    y2 = literal_band(u1 @ dft(range(-2, 4), length).mT, 2 * psi2, 8)
    expected = torch.cat([(psi_fr @ y2).abs(), (psi_fr.conj() @ y2).abs()], dim=1) @ phi.mT
    assert_near(u, expected, 1e-12)
    (grad,) = torch.autograd.grad(loss_of([u]), x)
    (wanted,) = torch.autograd.grad(loss_of([expected]), x)
    assert_near(grad, wanted, 1e-11)
