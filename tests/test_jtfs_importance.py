"""theta-importance in one call: against the explicit call, for any dtype, shape and kind of synthesizer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import scrapl_jtfs
from scrapl_jtfs import Importance, JTFSPath, JTFSPathLoss, PathTaylor, importance
from scrapl_optim import Arnoldi, PathSampler, Progress, SharedSubspace, probabilities, theta_importance

N, E = 256, 4
JTFS = JTFSPath(N, J=5, Q=(2, 1), J_fr=1, T=32, F=1, sample_rate=512)
LOSS = JTFSPathLoss(JTFS)
TIGHT = 1e-9
TIME = torch.arange(N) / 512


def synth(theta: Tensor) -> Tensor:
    """A tone whose loudness beats and whose pitch is set, (batch, N)."""
    beat, pitch = 8 * theta[:, :1], 60 * 2 ** theta[:, 1:]
    return (1 + torch.cos(beat * TIME)) * torch.sin(2 * torch.pi * pitch * TIME)


def make_encoder() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(N, 5), nn.Tanh(), nn.Linear(5, 2), nn.Sigmoid())


def make_examples(n: int = E) -> Tensor:
    return synth(torch.rand(n, 2, generator=torch.Generator().manual_seed(1)))


@pytest.fixture(scope="module")
def explicit() -> Any:
    """What the call of many arguments gives, everything in float64 by hand."""
    encoder, x = make_encoder().double(), make_examples().double()
    loss = copy.deepcopy(LOSS).double()

    def derivatives(theta: Tensor, batch: Tensor, paths: Any) -> Iterator[tuple[int, Tensor, Tensor]]:
        return PathTaylor(loss, synth, theta, batch, paths).iter_derivatives(paths)

    return theta_importance(
        encoder, lambda theta, x: synth(theta), loss, [x], encoder.parameters(), JTFS.n_paths,
        derivatives=derivatives, method=SharedSubspace(TIGHT, split_batch=lambda x: x.split(1), max_graphs=E),
    )  # fmt: skip


def assert_is(found: Importance, explicit: Any, rtol: float = 1e-6) -> None:
    torch.testing.assert_close(found.importance, explicit.importance, rtol=rtol, atol=0)
    torch.testing.assert_close(found.probs, explicit.probs, rtol=rtol, atol=0)
    assert not found.unconverged
    assert found.residual.max() <= TIGHT == found.tolerance


EXAMPLES: dict[str, Callable[[], Any]] = {
    "audio (E, N)": make_examples,
    "audio (E, 1, N)": lambda: make_examples()[:, None],
    "float64": lambda: make_examples().double(),
    "batches": lambda: make_examples().split(3),
    "sounds (N,)": lambda: list(make_examples()),
    "a loader": lambda: torch.utils.data.DataLoader(list(make_examples()), batch_size=2),  # type: ignore[arg-type]
    "made in inference mode": lambda: torch.inference_mode()(make_examples)(),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_examples_of_any_form_give_the_explicit_call(kind: str, explicit: Any) -> None:
    assert_is(importance(make_encoder(), synth, LOSS, EXAMPLES[kind](), tolerance=TIGHT, halves=False), explicit)


class Synth(nn.Module):
    """The synthesizer as a module with float32 constants, of which one is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rate", torch.tensor([8.0, 60.0]))
        self.time = TIME.clone()

    def play(self, theta: Tensor) -> Tensor:
        rates: Any = self.rate
        assert rates.dtype == self.time.dtype == theta.dtype
        beat, pitch = rates[0] * theta[:, :1], rates[1] * 2 ** theta[:, 1:]
        return (1 + torch.cos(beat * self.time)) * torch.sin(2 * torch.pi * pitch * self.time)

    def forward(self, theta: Tensor) -> Tensor:
        return self.play(theta)


class Listener(nn.Module):
    """An encoder that is a method, with a head that no control is a function of, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.dropout, self.head = make_encoder(), nn.Dropout(0.5), nn.Linear(3, 3)

    def encode(self, x: Tensor) -> Tensor:
        window = torch.ones(N)  # of the default dtype
        assert window.dtype == x.dtype
        return self.net(self.dropout(x * window))


def held(theta: Tensor, x: Tensor) -> Tensor:
    assert theta.shape[0] == x.shape[0]
    assert theta.dtype == x.dtype == torch.float64
    return synth(theta)


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "sounds (B, 1, N)": lambda: (make_encoder(), lambda theta: synth(theta)[:, None]),
    "synth(theta, examples)": lambda: (make_encoder(), held),
    "a module": lambda: (make_encoder(), Synth()),
    "methods": lambda: (Listener().encode, Synth().play),
    "float64 and bfloat16": lambda: (make_encoder().double(), lambda theta, extra=None: synth(theta)),
    "data parallel": lambda: (nn.DataParallel(make_encoder()), synth),
}


@pytest.mark.parametrize("kind", MODELS)
def test_models_of_any_form_give_the_explicit_call(kind: str, explicit: Any) -> None:
    assert_is(importance(*MODELS[kind](), LOSS, make_examples(), tolerance=TIGHT, halves=False), explicit)


@pytest.mark.parametrize("mode", [torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)])
def test_modes_of_the_caller_do_not_matter(mode: Any, explicit: Any) -> None:
    encoder, x = make_encoder(), make_examples()
    with mode:
        found = importance(encoder, synth, LOSS, x, tolerance=TIGHT, halves=False)
    assert_is(found, explicit)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_and_halves_change_nothing_of_the_whole(batch_size: int, explicit: Any) -> None:
    found = importance(make_encoder(), synth, LOSS, make_examples(), tolerance=TIGHT, batch_size=batch_size)
    assert_is(found, explicit)


def test_a_sum_is_not_divided(explicit: Any) -> None:
    summed = JTFSPathLoss(JTFS, reduction="sum")
    found = importance(make_encoder(), synth, summed, make_examples()[:, None], tolerance=TIGHT, halves=False)
    torch.testing.assert_close(found.importance, E * explicit.importance, rtol=1e-6, atol=0)
    stereo = make_examples()[:, None].expand(E, 2, N)

    def both(theta: Tensor) -> Tensor:
        return synth(theta)[:, None].expand(-1, 2, -1)

    encoder = make_encoder()
    twice = importance(
        nn.Sequential(Mono(), encoder), both, LOSS, stereo, tolerance=TIGHT, halves=False
    )  # a mean over channels, which are alike
    torch.testing.assert_close(twice.importance, explicit.importance, rtol=1e-6, atol=0)


class Mono(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


@pytest.mark.parametrize("n", [4, 5])
def test_halves_are_those_of_disjoint_examples(n: int) -> None:
    x = make_examples(n)
    found = importance(make_encoder(), synth, LOSS, x, tolerance=TIGHT, seed=3)
    halves = torch.randperm(n, generator=torch.Generator().manual_seed(3)).tensor_split(2)
    alone = [
        importance(make_encoder(), synth, LOSS, x[half], tolerance=TIGHT, halves=False).probs for half in halves
    ]
    assert found.halves is not None
    torch.testing.assert_close(found.halves, torch.stack(alone), rtol=1e-6, atol=0)
    apart = sum(abs(a - b) for a, b in zip(*(pi.tolist() for pi in alone), strict=True)) / 2
    assert found.halves_apart == pytest.approx(apart, rel=1e-5)
    assert apart > 1e-3


def test_conditions_belong_to_their_examples() -> None:
    """Phases of each example, wherever it lands: permuting all leaves C; giving them to others does not."""
    x, phases = make_examples(), torch.linspace(0, 3, E)
    order = torch.tensor([2, 0, 3, 1])

    def shifted(theta: Tensor, phase: Tensor, index: Tensor) -> Tensor:
        assert phase.dtype == torch.float64
        assert index.dtype == torch.int64
        return (
            torch.sin(2 * torch.pi * 60 * 2 ** theta[:, 1:] * TIME + phase[:, None])
            * theta[:, :1]
            * (1 + index[:, None])
        )

    def found(examples: Tensor, *conditions: Tensor) -> Tensor:
        return importance(
            make_encoder(), shifted, LOSS, examples, conditions=conditions, tolerance=TIGHT, batch_size=1
        ).importance

    index = torch.arange(E)
    expected = found(x, phases, index)
    torch.testing.assert_close(found(x[order], phases[order], index[order]), expected, rtol=1e-6, atol=0)
    assert not torch.allclose(found(x[order], phases, index), expected, rtol=1e-2)


def test_targets_apart_from_what_the_encoder_takes(explicit: Any) -> None:
    class Unfolded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_encoder()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.flatten(1))

    x = make_examples()
    found = importance(
        Unfolded(), synth, LOSS, x.unflatten(1, (16, 16)), targets=x[:, None], tolerance=TIGHT, halves=False
    )
    assert_is(found, explicit)


def test_callers_objects_stay_as_they_are() -> None:
    encoder, loss, x = make_encoder().train(), copy.deepcopy(LOSS), make_examples()
    encoder[1].weight.grad = torch.ones_like(encoder[1].weight)
    before, random = copy.deepcopy(encoder.state_dict()), torch.get_rng_state()
    importance(encoder, synth, loss, x)
    with pytest.raises(ValueError, match="Invalid synth"):
        importance(encoder, lambda theta: theta @ theta, loss, x)
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), random)
    assert encoder.training
    assert loss.training
    assert (loss.jtfs.dtype, loss.reduction) == (torch.float32, "mean")
    assert torch.equal(x, make_examples())
    for name, value in encoder.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])
    assert torch.equal(encoder[1].weight.grad, torch.ones_like(encoder[1].weight))
    assert [p.grad for p in encoder.parameters()][1:] == [None, None, None]


def test_frozen_weights_do_not_count() -> None:
    encoder = make_encoder()
    encoder[1].requires_grad_(False)
    found = importance(encoder, synth, LOSS, make_examples(), tolerance=TIGHT, halves=False)
    last = encoder.double()
    x, loss = make_examples().double(), copy.deepcopy(LOSS).double()
    expected = theta_importance(
        last, lambda theta, x: synth(theta), loss, [x], last[3].parameters(), JTFS.n_paths, method=Arnoldi(TIGHT)
    )
    assert_is(found, expected)


def test_an_encoder_with_attention() -> None:
    """Its fused kernel has no second derivative."""

    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner, self.answer = nn.Linear(16, 16), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.inner(x.unflatten(1, (16, 16)))
            heads = tokens.unflatten(2, (2, 8)).transpose(1, 2)
            mixed = nn.functional.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)
            return self.answer(mixed.mean(1)).sigmoid()

    found = importance(Attentive(), synth, LOSS, make_examples())
    assert found.probs.sum() == pytest.approx(1)
    assert not found.unconverged


def test_compiled_models_run_without_their_compiler(explicit: Any) -> None:
    """Which differentiates once."""
    part: Any = torch.compile(make_encoder(), backend="aot_eager")
    encoder = nn.Sequential(part)
    compiled = torch.compile(synth, backend="aot_eager")
    encoder(make_examples())
    assert_is(importance(encoder, compiled, LOSS, make_examples(), tolerance=TIGHT, halves=False), explicit)


def test_paths_left_out_have_probability_zero_and_keep_their_ids(explicit: Any) -> None:
    keep = range(2, 9)
    found = importance(make_encoder(), synth, LOSS, make_examples(), paths=torch.tensor(keep), tolerance=TIGHT)
    assert found.probs.shape == (JTFS.n_paths,)
    kept = probabilities(explicit.importance[:, 2:9])
    torch.testing.assert_close(found.probs[2:9], kept, rtol=1e-6, atol=0)
    assert found.probs.sum() == pytest.approx(1)
    torch.testing.assert_close(found.importance[:, 2:9], explicit.importance[:, 2:9], rtol=1e-6, atol=0)
    assert found.importance[:, 9:].isnan().all()
    sampler = PathSampler(found.probs, min_prob_frac=0.25)
    assert {sampler(step) for step in range(500)} == set(keep)
    assert found.from_uniform == pytest.approx(float((kept - 1 / 7).abs().sum()) / 2, rel=1e-6)
    assert "7 paths" in repr(found).splitlines()[0]


def test_summary_has_five_lines() -> None:
    found = importance(make_encoder(), synth, LOSS, make_examples())
    lines = repr(found).splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 115
    assert lines[0] == f"theta-importance of {JTFS.n_paths} paths for 2 controls, from 4 examples"
    assert f"{float(found.residual.max()):.0e} (tolerance 1e-03), 0 of {2 * JTFS.n_paths} values" in lines[1]
    assert found.halves_apart is not None
    assert f"{found.halves_apart:.2f} apart" in lines[2]
    assert f"uniform: {found.from_uniform:.2f}" in lines[2]
    entropy = -sum(p * math.log(p) for p in found.probs.tolist() if p > 0)
    assert found.n_effective == pytest.approx(math.exp(entropy))
    assert f"{math.exp(entropy):.0f} of {JTFS.n_paths} paths" in lines[3]
    likeliest = int(found.probs.argmax())
    assert str(JTFS.paths[likeliest]) in lines[4]
    assert f"{JTFS.n_paths * float(found.probs.max()):.1f} times uniform" in lines[4]


def test_one_example_has_no_halves() -> None:
    found = importance(make_encoder(), synth, LOSS, make_examples(1))
    assert found.halves is None
    assert found.halves_apart is None
    assert len(repr(found).splitlines()) == 5
    assert "unknown" in repr(found)


def test_values_that_did_not_converge_are_counted() -> None:
    found = Importance(
        probs=torch.tensor([0.5, 0.5], dtype=torch.float64),
        importance=torch.ones(1, 2, dtype=torch.float64),
        residual=torch.tensor([[1e-4, 0.5]], dtype=torch.float64),
        tolerance=1e-3,
        n_examples=2,
        halves=torch.tensor([[1.0, 0.0], [0.25, 0.75]], dtype=torch.float64),
        paths=JTFS.paths[:2],
    )
    assert found.unconverged == [(1, 0)]
    assert "1 of 2 values not converged" in repr(found)
    assert found.halves_apart == 0.75
    assert found.from_uniform == 0
    assert found.n_effective == pytest.approx(2)


def test_progress_counts_to_the_end() -> None:
    states: list[Progress] = []
    importance(make_encoder(), synth, LOSS, make_examples(), batch_size=2, progress=states.append)
    total = JTFS.n_paths * (2 + 3 * 2)  # derivatives on two batches, two controls of all examples and two halves
    done = [state.done for state in states]
    assert {state.total for state in states} == {total}
    assert done == sorted(done)
    assert done[-1] == total
    assert {state.stage for state in states} == {"derivatives", "subspace", "values"}


def random_synth(theta: Tensor) -> Tensor:
    return synth(theta) + torch.rand(N)


def coupled(theta: Tensor) -> Tensor:
    return synth(theta * theta.mean())


class Coupling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = make_encoder()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x - x.mean(0))


class Squeezing(Coupling):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze()


GOOD: dict[str, Any] = {"encoder": None, "synth": synth, "loss_fn": LOSS, "examples": None}
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a function as encoder": ({"encoder": lambda x: x}, TypeError, "Invalid encoder: a function.*Sequential"),
    "no weights": ({"encoder": nn.Flatten()}, ValueError, "Invalid encoder: it has no trainable weight"),
    "lazy": ({"encoder": nn.LazyLinear(2)}, ValueError, "Invalid encoder: it has lazy weights"),
    "coupling encoder": ({"encoder": Coupling()}, ValueError, "Invalid encoder: .*statistics of the batch"),
    "squeezing encoder": ({"encoder": Squeezing()}, ValueError, r"Invalid encoder: .*squeeze\(\)"),
    "encoder of another shape": (
        {"encoder": nn.Linear(7, 2)}, ValueError, r"Invalid examples: .* fails on shape \(2, 256\)",
    ),
    "theta of 3 axes": (
        {"examples": make_examples()[:, None], "encoder": nn.Linear(N, 2)}, ValueError, r"of shape \(B, U\)",
    ),
    "no synth": ({"synth": 3}, TypeError, "Invalid synth: int"),
    "three arguments": ({"synth": lambda a, b, c: a}, TypeError, r"takes \(a, b, c\); expected synth\(theta\)"),
    "float32 sounds": ({"synth": lambda t: synth(t).float()}, TypeError, "Invalid synth: sounds of torch.float32"),
    "integer sounds": ({"synth": lambda t: synth(t).long()}, TypeError, "sounds of synth"),
    "other channels": (
        {"synth": lambda t: synth(t)[:, None].expand(-1, 2, -1)}, ValueError,
        r"Invalid synth: sounds of shape \(2, 2, 256\) for targets \(2, 256\)",
    ),
    "failing synth": ({"synth": lambda t: t @ t[:1]}, ValueError, "Invalid synth: it fails on controls of shape"),
    "random synth": ({"synth": random_synth}, RuntimeError, "Invalid synthesizer: it is not deterministic"),
    "coupling synth": ({"synth": coupled}, RuntimeError, "couples the examples"),
    "ignored control": ({"synth": lambda t: synth(t[:, :1].expand(-1, 2))}, ValueError, r"controls \[1\]"),
    "a transform as loss": ({"loss_fn": JTFS}, TypeError, "Invalid loss_fn: JTFSPath; expected a JTFSPathLoss"),
    "other length": ({"examples": torch.randn(4, 100)}, ValueError, r"Invalid examples: shape \(4, 100\).*256"),
    "one sound": ({"examples": torch.randn(N)}, ValueError, r"Invalid examples: shape \(256,\).*sound\[None\]"),
    "integers": ({"examples": torch.ones(4, N, dtype=torch.int16)}, TypeError, "examples: torch.int16"),
    "arrays": ({"examples": make_examples().numpy()}, TypeError, "torch.as_tensor"),
    "pairs": ({"examples": [(make_examples(), 0)]}, TypeError, r"Invalid examples: a list of tuples.*for x, \*_"),
    "none": ({"examples": []}, ValueError, "Invalid examples: an empty list"),
    "lengths": ({"examples": [torch.ones(N), torch.ones(9)]}, ValueError, r"of shapes \(256,\), \(9,\)"),
    "nan": ({"examples": torch.full((4, N), torch.nan)}, ValueError, "an inf or a NaN"),
    "targets of others": ({"targets": torch.ones(3, N)}, ValueError, r"Invalid targets: shape \(3, 256\)"),
    "conditions of others": (
        {"conditions": torch.ones(3), "synth": lambda t, c: synth(t)}, ValueError, r"Invalid conditions: .*\(3,\)",
    ),
    "conditions nobody takes": ({"conditions": torch.ones(4)}, TypeError, "Invalid synth: .* with 1 conditions"),
    "a list of numbers": ({"conditions": [0.1] * 4}, TypeError, "Invalid conditions: list.*as_tensor"),
    "no paths": ({"paths": []}, ValueError, "Invalid paths: none"),
    "a path too many": ({"paths": [JTFS.n_paths]}, IndexError, "expected an id from 0"),
    "batch_size": ({"batch_size": 0}, ValueError, "Invalid batch_size: 0"),
    "halves": ({"halves": 2}, TypeError, "Invalid halves: .*; expected True or False"),
    "tolerance": ({"tolerance": 0}, ValueError, "tolerance: 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_are_named(case: str) -> None:
    changes, error, message = WRONG[case]
    arguments = {**GOOD, "encoder": make_encoder(), "examples": make_examples(), **changes}
    with pytest.raises(error, match=message):
        importance(**arguments)
    assert torch.get_default_dtype() == torch.float32


def test_the_name_of_the_package_is_the_function() -> None:
    """Not the module of that name."""
    assert scrapl_jtfs.importance is importance
    assert callable(importance)
