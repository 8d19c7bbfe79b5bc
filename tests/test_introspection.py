"""What tab completion, repr and help() show of the public objects."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import pydoc
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import scrapl_jtfs
import scrapl_optim
import scrapl_optim.testing
from scrapl_jtfs import SCRAPL, JTFSPath, JTFSPathLoss
from scrapl_optim import PathAdamSAGA, PathSampler
from tests.support.jtfs_helpers import SMALL, noise

IN_HERTZ: dict[str, Any] = SMALL | {"sample_rate": 8000.0}
ATTRIBUTES = {
    "JTFSPath": {"geometry", "sample_rate", "samples_per_bandwidth", "smoothing", "memory", "paths"},
    "JTFSPathLoss": {"jtfs", "p", "squared", "log1p_eps", "relative_eps", "path_scale", "reduction"},
    "SCRAPL": {"loss_fn", "sampler", "kept", "unit", "units", "unbiased", "step", "log"},
}
LONGEST_ANNOTATION = 80
PACKAGES = (scrapl_jtfs, scrapl_optim, scrapl_optim.testing)


def float32(*shape: int) -> torch.Tensor:
    return noise(*shape, dtype=torch.float32)


@pytest.mark.parametrize(
    "make", [lambda: JTFSPath(**IN_HERTZ), lambda: JTFSPathLoss(JTFSPath(**IN_HERTZ)), lambda: SCRAPL(**IN_HERTZ)]
)
def test_tab_completion_shows_methods_and_the_table(make: Callable[[], nn.Module]) -> None:
    module = make()
    public = {name for name in dir(module) if not name.startswith("_")} - set(dir(nn.Module()))
    attributes = {name for name in public if not hasattr(type(module), name)}
    assert attributes == ATTRIBUTES[type(module).__name__]
    methods = {name for name in public if hasattr(type(module), name)}
    assert all(inspect.getdoc(getattr(type(module), name)) for name in methods)


def test_what_users_look_for_is_there() -> None:
    expected = {"paths", "n_paths", "full", "select", "stream", "features", "scalogram", "describe", "for_sounds"}
    assert expected <= set(dir(JTFSPath(**IN_HERTZ)))


# --- moves of the constants ---


def moved(jtfs: JTFSPath, name: str) -> JTFSPath:
    """The same transform after a move there and back, or as a copy."""
    file = io.BytesIO()
    if name == "saved":
        torch.save(jtfs, file)
        file.seek(0)
        return torch.load(file, weights_only=False)
    moves: dict[str, Callable[[], Any]] = {
        "half": lambda: jtfs.half().float(),
        "bfloat16": lambda: jtfs.to(torch.bfloat16).float(),
        "double": lambda: jtfs.double().float(),
        "meta": lambda: jtfs.to("meta").to("cpu"),
        "to_empty": lambda: jtfs.to("meta").to_empty(device="cpu"),
        "to_empty, itself alone": lambda: jtfs.to("meta").to_empty(device="cpu", recurse=False),
        "deepcopy": lambda: copy.deepcopy(jtfs),
        "pickle": lambda: pickle.loads(pickle.dumps(jtfs)),
        "shared": lambda: jtfs.share_memory(),
        "within another": lambda: nn.Sequential(jtfs).to("meta").to_empty(device="cpu")[0],
        "float alone": lambda: jtfs.to("meta")._apply(lambda t: torch.ones_like(t, device="cpu"), recurse=False),
    }
    return moves[name]()


@pytest.mark.parametrize("name", [
    "half", "bfloat16", "double", "meta", "to_empty", "to_empty, itself alone", "deepcopy", "pickle", "saved",
    "shared", "within another", "float alone",
])  # fmt: skip
@pytest.mark.parametrize("options", [dict(), dict(orders=(1, 2), samples_per_bandwidth=2, T=0)])
def test_every_move_keeps_the_numbers(name: str, options: dict[str, Any]) -> None:
    x = float32(2, 512)
    expected = JTFSPath(**IN_HERTZ, **options).full(x)
    jtfs = moved(JTFSPath(**IN_HERTZ, **options), name)
    assert (jtfs.dtype, jtfs.device.type) == (torch.float32, "cpu")
    assert all(map(torch.equal, jtfs.full(x), expected))
    exact = JTFSPath(**IN_HERTZ, **options).double().full(x.double())
    assert all(map(torch.equal, jtfs.double().full(x.double()), exact))


def test_a_copy_moves_by_itself() -> None:
    jtfs = JTFSPath(**IN_HERTZ)
    other = copy.deepcopy(jtfs).double()
    assert (jtfs.dtype, other.dtype) == (torch.float32, torch.float64)
    mine, theirs = ({b.data_ptr() for b in module.buffers()} for module in (jtfs, copy.deepcopy(jtfs)))
    assert not mine & theirs


def test_no_state_dict_holds_them() -> None:
    model = nn.ModuleDict({"loss": JTFSPathLoss(JTFSPath(**IN_HERTZ)), "linear": nn.Linear(2, 2)})
    assert set(model.state_dict()) == {"linear.weight", "linear.bias"}
    assert not JTFSPath(**IN_HERTZ).state_dict()
    assert not list(model["loss"].parameters())
    model.load_state_dict(model.state_dict(), strict=True)


def test_functional_calls_take_other_constants() -> None:
    jtfs, x = JTFSPath(**IN_HERTZ), float32(512)
    own = dict(jtfs.named_buffers())
    assert len(own) > 10
    assert torch.equal(torch.func.functional_call(jtfs, own, (x, 3)), jtfs(x, 3))
    nan = {name: torch.full_like(buffer, torch.nan) for name, buffer in own.items()}
    assert torch.func.functional_call(jtfs, nan, (x, 3)).isnan().all()
    assert jtfs(x, 3).isfinite().all()


def test_replicas_have_constants_of_their_own() -> None:
    """As torch.nn.parallel.replicate makes them, which needs GPUs: modules first, then their parts and buffers."""
    jtfs, x = JTFSPath(**IN_HERTZ), float32(512)
    modules = list(jtfs.modules())
    copies = [module._replicate_for_data_parallel() for module in modules]
    for module, replica in zip(modules, copies, strict=True):
        for key, child in module._modules.items():
            setattr(replica, key, copies[modules.index(child)])  # type: ignore[arg-type]
        for key, buffer in module._buffers.items():
            replica._buffers[key] = torch.full_like(buffer, torch.nan)  # type: ignore[arg-type]
    assert copies[0](x, 3).isnan().all()
    assert jtfs(x, 3).isfinite().all()


# --- repr ---


def test_repr_of_a_transform_is_a_line_of_its_settings() -> None:
    shown = repr(JTFSPath(**IN_HERTZ, T="global"))
    assert "\n" not in shown
    assert re.search(r"n_samples=512, J=5, Q=\(4, 1\), J_fr=2, Q_fr=1, T='global', .*sample_rate=8000, ", shown)
    assert not re.search("filter|buffer|psi", shown, re.IGNORECASE)


def test_repr_of_a_loss_shows_its_options() -> None:
    shown = repr(JTFSPathLoss(JTFSPath(**IN_HERTZ), p=1, log1p_eps=1e-3, reduction="sum"))
    assert "p=1, squared=True, log1p_eps=0.001, relative_eps=None, path_scale=True, reduction='sum'" in shown
    assert "sample_rate=8000" in shown
    assert shown.count("\n") == 3


def test_repr_shows_the_parts_of_a_subclass() -> None:
    class Learned(JTFSPath):
        def __init__(self) -> None:
            super().__init__(**IN_HERTZ)
            self.gain = nn.Linear(1, 1)

    shown = repr(Learned())
    assert shown.startswith("Learned(")
    assert "(gain): Linear(in_features=1" in shown


def test_repr_of_an_optimizer_says_its_memory() -> None:
    assert "State once all 63 paths were drawn: 1.52 kB" in repr(PathAdamSAGA([nn.Parameter(torch.ones(1))], 63))


# --- help() ---


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, class and method of the packages."""
    seen = set()
    for package in PACKAGES:
        for name in package.__all__:
            public = getattr(package, name)
            if isinstance(public, ModuleType) or not callable(public) or public in seen:
                continue
            seen.add(public)
            yield f"{package.__name__}.{name}", public
            if inspect.isclass(public):
                members = {k: v for k, v in vars(public).items() if not k.startswith("_") and callable(v)}
                yield from ((f"{package.__name__}.{name}.{k}", v) for k, v in members.items())


@pytest.mark.parametrize(
    ("name", "public"), list(public_callables()), ids=[name for name, _ in public_callables()]
)
def test_signatures_are_short_words(name: str, public: Callable[..., Any]) -> None:
    signature = inspect.signature(public)
    shown = {p.name: inspect.formatannotation(p.annotation) for p in signature.parameters.values()}
    shown["return"] = inspect.formatannotation(signature.return_annotation)
    long = {k: v for k, v in shown.items() if len(v) > LONGEST_ANNOTATION}
    assert not long
    assert not re.search(r"numpy\._typing|collections\.abc|Union\[|torch\._|typing\.", str(signature))


@pytest.mark.parametrize("public", [PathSampler, PathAdamSAGA, JTFSPath, scrapl_optim.theta_importance])
def test_help_comes_to_the_point(public: Callable[..., Any]) -> None:
    """The first sentence of the docstring is within the first fifteen lines of eighty characters."""
    text = pydoc.plain(pydoc.render_doc(public))
    first = (inspect.getdoc(public) or "").splitlines()[0]
    before = text[: text.index(first)]
    assert sum(1 + len(line) // 80 for line in before.splitlines()) <= 15


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_help_of_a_package_opens_without_spelt_out_types(package: ModuleType) -> None:
    """What torch's base classes spell out comes at the end of each class."""
    text = "\n".join(pydoc.plain(pydoc.render_doc(package)).splitlines()[:100])
    assert not re.search(r"numpy\._typing|Union\[|collections\.abc\.", text)
