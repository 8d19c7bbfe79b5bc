"""PathAdamSAGA in the situations in which torch tests each of its own optimizers, through torch's machinery."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.foreign_defaults import default_dtype
from tests.support.optimizer_helpers import assert_bitwise
from tests.support.same_content import assert_same_content
from tests.support.torch_optimizer_table import N_PATHS, OPTIMIZERS, common, next_path, params_of, step

with mock.patch.object(torch.backends, "disable_global_flags"):
    from torch.testing._internal.common_device_type import instantiate_device_type_tests
    from torch.testing._internal.common_utils import TestCase, parametrize

optims = common.optims


def inputs_of(optim_info: Any, device: Any) -> list[Any]:
    """Return all inputs, by turns with and without ``foreach``. (Torch's own helper leaves it out on a CPU.)"""
    inputs = optim_info.optim_inputs_func(device=device)
    for given, foreach in zip(inputs, itertools.cycle([None, False, True]), strict=False):
        given.kwargs["foreach"] = foreach
    return inputs


def randn(*shape: int, seed: int = 0, device: Any = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(device, dtype)


def make_params(device: Any, dtype: torch.dtype = torch.float32) -> list[Parameter]:
    """Parameters of several shapes, one of them large enough for blocks of int8."""
    shapes = [(4, 3), (5,), (), (70, 64)]
    return [Parameter(randn(*shape, seed=i, device=device, dtype=dtype)) for i, shape in enumerate(shapes)]


def set_grads(params: list[Any], k: int) -> None:
    for i, p in enumerate(params):
        grad = randn(*p.shape, seed=100 * k + i)
        p.grad = torch.complex(grad, randn(*p.shape, seed=-1 - i)).to(p) if p.is_complex() else grad.to(p)


def train(optimizer: Any, n_steps: int) -> None:
    """Steps with gradients that follow from the state, as :func:`next_path` does."""
    for _ in range(n_steps):
        clocks = [optimizer.state[p]["step"] for p in params_of(optimizer) if optimizer.state.get(p)]
        set_grads(params_of(optimizer), max((int(clock.max()) for clock in clocks), default=0))
        step(optimizer)


def tensors_in(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from tensors_in(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from tensors_in(value)


class Calls(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def recorded(register: Any, said: str, log: list[str]) -> Iterator[Any]:
    """Register a hook that writes into ``log``, and remove it at the end."""
    handle = register(lambda *args: log.append(said))
    try:
        yield handle
    finally:
        handle.remove()


class TestTorchsSituations(TestCase):
    """One test for each kind of optimizer in the table; each goes through its inputs."""

    # ------------------------------------------------------------ construction

    @optims(OPTIMIZERS)
    def test_errors(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in optim_info.optim_error_inputs_func(device=device, dtype=dtype):
            wrong = given.optimizer_error_input
            params = [Parameter(torch.ones(2, device=device))] if wrong.params is None else wrong.params
            if issubclass(given.error_type, Warning):
                with pytest.warns(given.error_type, match=given.error_regex):
                    optim_info.optim_cls(params, **wrong.kwargs)
            else:
                with pytest.raises(given.error_type, match=given.error_regex):
                    optim_info.optim_cls(params, **wrong.kwargs)

    @optims(OPTIMIZERS)
    def test_printed(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            groups = [{"params": [Parameter(torch.ones(2, device=device))]} for _ in range(2)]
            text = repr(optim_info.optim_cls(groups, **given.kwargs))
            assert text.startswith(optim_info.name)
            for name in ("Parameter Group 0", "Parameter Group 1", "n_paths: ", "lr: ", "storage: "):
                assert name in text

    # ------------------------------------------------------------ steps

    @parametrize("contiguous", [True, False])
    @parametrize("scheduled", [False, True])
    @optims(OPTIMIZERS)
    def test_loss_goes_in_the_right_direction(
        self, device: Any, dtype: Any, optim_info: Any, contiguous: bool, scheduled: bool
    ) -> None:
        schedulers = itertools.cycle(optim_info.scheduler_inputs if scheduled else [[]])
        for given in inputs_of(optim_info, device):
            weight, bias = Parameter(randn(10, 5, device=device)), Parameter(randn(10, device=device, seed=1))
            if not contiguous:
                weight = Parameter(randn(10, 5, 2, device=device)[..., 0])
                bias = Parameter(randn(10, 2, device=device, seed=1)[..., 0])
                assert not weight.is_contiguous()
                assert not bias.is_contiguous()
            data = randn(N_PATHS, 5, device=device, seed=2)
            optimizer = optim_info.optim_cls([weight, bias], **{"lr": 1e-3, **given.kwargs})
            self.descend(optimizer, [make(optimizer) for make in next(schedulers)], weight, bias, data)

    def descend(self, optimizer: Any, schedulers: list[Any], weight: Any, bias: Any, data: Tensor) -> None:
        def path_loss(path: int) -> Tensor:
            return (weight.mv(data[path]) + bias).square().sum()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = path_loss(next_path(optimizer))
            loss.backward()
            return loss

        n_paths = optimizer.defaults["n_paths"]
        before = sum(path_loss(p).item() for p in range(n_paths))
        for _ in range(4 * N_PATHS):
            loss = step(optimizer, closure)
            assert isinstance(loss, Tensor)
            for scheduler in schedulers:
                scheduler.step(*([loss.detach()] if isinstance(scheduler, ReduceLROnPlateau) else []))
        after = sum(path_loss(p).item() for p in range(n_paths))
        if optimizer.defaults["maximize"]:
            assert after > before
        else:
            assert after < before

    @optims(OPTIMIZERS)
    def test_groups_have_their_own_learning_rate_and_decay(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            params = [Parameter(torch.ones(3, device=device)) for _ in range(4)]
            groups = [
                {"params": params[:1], "lr": 0.0, "weight_decay": 0.0},
                {"params": params[1:2], "lr": 2.0**-4, "weight_decay": 0.5},
                {"params": params[2:], "lr": 2.0**-5, "weight_decay": 0.0},
            ]
            optimizer = optim_info.optim_cls(groups, **given.kwargs)
            params[0].grad = torch.ones(3, device=device)
            params[1].grad = torch.zeros(3, device=device)
            params[2].grad = torch.ones(3, device=device)
            step(optimizer)
            assert_bitwise(
                params[:2], [torch.ones(3, device=device), torch.full((3,), 1 - 2.0**-5, device=device)]
            )
            assert_bitwise(params[3:], [torch.ones(3, device=device)])
            up = optimizer.defaults["maximize"]
            assert bool((params[2] > 1 if up else params[2] < 1).all())

    @parametrize("scheduled", [False, True])
    @optims(OPTIMIZERS)
    def test_a_tensor_is_a_learning_rate_like_a_number(
        self, device: Any, dtype: Any, optim_info: Any, scheduled: bool
    ) -> None:
        for given, n_dims in zip(inputs_of(optim_info, device), itertools.cycle([0, 1, 2])):
            runs = []
            for lr in (2.0**-7, torch.full((1,) * n_dims, 2.0**-7, device=device)):
                params = make_params(device)
                optimizer = optim_info.optim_cls(params, **{**given.kwargs, "lr": lr})
                scheduler = ExponentialLR(optimizer, gamma=0.5)
                for _ in range(4):
                    train(optimizer, 1)
                    if scheduled:
                        scheduler.step()
                runs.append(params)
                assert isinstance(lr, float) or optimizer.param_groups[0]["lr"] is lr
                assert float(optimizer.param_groups[0]["lr"]) == 2.0 ** (-(11 if scheduled else 7))
            assert_bitwise(runs[1], runs[0])

    @optims(OPTIMIZERS, [torch.complex64, torch.complex128])
    def test_complex_parameters_are_pairs_of_reals(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            start = [
                torch.view_as_complex(randn(*s, 2, dtype=torch.float64)).to(device, dtype)
                for s in [(3, 2), (4,), ()]
            ]
            paired = [Parameter(z.clone()) for z in start]
            real = [Parameter(torch.view_as_real(z).clone()) for z in start]
            optimizers = [optim_info.optim_cls(params, **given.kwargs) for params in (paired, real)]
            for k in range(4):
                set_grads(paired, k)
                for z, pair in zip(paired, real, strict=True):
                    assert z.grad is not None
                    pair.grad = torch.view_as_real(z.grad).clone()
                for optimizer in optimizers:
                    step(optimizer)
            assert_bitwise([torch.view_as_real(z.detach()) for z in paired], real)

    @optims(OPTIMIZERS, [torch.complex64])
    def test_complex_losses_go_down(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            z = Parameter(torch.tensor([1 + 2j, -0.5 + 0.1j], dtype=dtype, device=device))
            optimizer = optim_info.optim_cls([z], **{**given.kwargs, "lr": 1e-2, "maximize": False})
            before = z.detach().abs().square().sum()
            for _ in range(6):
                optimizer.zero_grad()
                z.abs().square().sum().backward()
                step(optimizer)
            assert z.detach().abs().square().sum() < before

    @optims(OPTIMIZERS)
    def test_foreach_matches_forloop(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in optim_info.optim_inputs_func(device):
            runs = []
            for foreach in (False, True, None):
                params = make_params(device)
                optimizer = optim_info.optim_cls(params, **given.kwargs, foreach=foreach)
                train(optimizer, 5)
                runs.append([*params, *(s for p in params for s in tensors_in(optimizer.state[p]))])
            assert_bitwise(runs[2], runs[1])
            assert_bitwise(runs[1], runs[0])

    @optims(OPTIMIZERS)
    def test_foreach_over_mixed_dtypes_and_layouts(self, device: Any, dtype: Any, optim_info: Any) -> None:
        dtypes = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]
        for given in optim_info.optim_inputs_func(device):
            runs = []
            for foreach in (False, True):
                params = [Parameter(randn(3, 4, seed=i).to(device, kind)) for i, kind in enumerate(dtypes * 2)]
                params += [Parameter(randn(4, 3, device=device).t()), Parameter(torch.zeros(0, 2, device=device))]
                optimizer = optim_info.optim_cls(params, **given.kwargs, foreach=foreach)
                train(optimizer, 4)
                runs.append(params)
            assert_bitwise(runs[1], runs[0])

    @optims(OPTIMIZERS)
    def test_default_dtype_changes_nothing(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            params, copies = make_params(device), make_params(device)
            train(optim_info.optim_cls(params, **given.kwargs), 4)
            with default_dtype(torch.float64):
                train(optim_info.optim_cls(copies, **given.kwargs), 4)
            assert_bitwise(copies, params)

    @optims(OPTIMIZERS)
    def test_default_is_foreach(self, device: Any, dtype: Any, optim_info: Any) -> None:
        """For many parameters the default calls as few operations as foreach=True, and fewer than a loop."""
        counts = {}
        for foreach in (None, True, False):
            params = [Parameter(randn(4, seed=i, device=device)) for i in range(20)]
            optimizer = optim_info.optim_cls(params, foreach=foreach)
            train(optimizer, 3)
            set_grads(params, 3)
            with Calls() as calls:
                step(optimizer)
            counts[foreach] = calls.count
        assert counts[None] == counts[True]
        assert counts[False] > counts[True] + 20

    # ------------------------------------------------------------ steps that do nothing

    @optims(OPTIMIZERS)
    def test_step_without_gradients_does_nothing(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            params = make_params(device)
            optimizer = optim_info.optim_cls(params, **given.kwargs)
            before = [p.detach().clone() for p in params]
            step(optimizer)
            assert_bitwise(params, before)
            assert not any(optimizer.state.values())

    @optims(OPTIMIZERS)
    def test_zero_gradients_move_nothing_but_the_decay(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            params = [Parameter(torch.ones(2, 3, device=device)), Parameter(torch.ones(1, device=device))]
            optimizer = optim_info.optim_cls(params, **given.kwargs)
            for p in params:
                p.grad = torch.zeros_like(p)
            step(optimizer)
            group = optimizer.param_groups[0]
            kept = 1 - float(group["lr"]) * group["weight_decay"]
            for p in params:
                torch.testing.assert_close(p.detach(), torch.full_like(p, kept), atol=0, rtol=1e-7)

    @optims(OPTIMIZERS)
    def test_empty_parameters(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            params = [Parameter(torch.zeros(0, 2, device=device)), Parameter(torch.zeros(0, device=device))]
            optimizer = optim_info.optim_cls(params, **given.kwargs)
            train(optimizer, 4)
            assert [p.shape for p in params] == [(0, 2), (0,)]
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            train(optimizer, 1)

    @optims(OPTIMIZERS)
    def test_state_is_not_empty(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            params = make_params(device)
            optimizer = optim_info.optim_cls(params, **given.kwargs)
            train(optimizer, 1)
            for p in params:
                assert optimizer.state[p]
                assert isinstance(optimizer.state[p]["step"], Tensor)

    @optims(OPTIMIZERS)
    def test_gradients_stay_until_they_are_zeroed(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            params = make_params(device)
            optimizer = optim_info.optim_cls(params, **given.kwargs)
            set_grads(params, 0)
            grads = [(p.grad, p.grad.clone()) for p in params if p.grad is not None]
            step(optimizer)
            assert_bitwise([grad for grad, _ in grads], [before for _, before in grads])
            optimizer.zero_grad(set_to_none=False)
            assert all(not grad.any() for grad, _ in grads)
            optimizer.zero_grad()
            assert all(p.grad is None for p in params)

    @optims(OPTIMIZERS)
    def test_closure_is_called_with_gradients_enabled(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            p = Parameter(torch.ones(2, device=device))
            optimizer, seen = optim_info.optim_cls([p], **given.kwargs), []

            def closure(p: Any = p, seen: list[bool] = seen) -> Tensor:
                seen.append(torch.is_grad_enabled())
                p.grad = None
                loss = p.square().sum()
                loss.backward()
                return loss

            with torch.no_grad():
                assert float(step(optimizer, closure)) == 2.0
            assert seen == [True]
            assert not bool((p == 1).any())

    # ------------------------------------------------------------ state dicts

    def resumes(self, optimizer: Any, restored: Any) -> None:
        """Both go on alike, bit for bit."""
        train(optimizer, 4)
        train(restored, 4)
        assert_bitwise(params_of(restored), params_of(optimizer))

    @optims(OPTIMIZERS)
    def test_state_dict_resumes_exactly(self, device: Any, dtype: Any, optim_info: Any) -> None:
        def with_names(params: list[Parameter], names: bool) -> Any:
            return [(f"{i}.weight", p) for i, p in enumerate(params)] if names else params

        names = itertools.cycle(itertools.product([False, True], repeat=2))
        for given, named in zip(inputs_of(optim_info, device), names, strict=False):
            params = make_params(device)
            optimizer = optim_info.optim_cls(with_names(params, named[0]), **given.kwargs)
            train(optimizer, 5)
            copies = [Parameter(p.detach().clone()) for p in params]
            other = {"lr": 0.5} if "lr" in given.kwargs else {}
            restored = optim_info.optim_cls(with_names(copies, named[1]), **{**given.kwargs, **other})
            restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            assert restored.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
            self.resumes(optimizer, restored)
            assert optimizer.state_dict()["param_groups"][0]["params"] == [0, 1, 2, 3]
            assert ("param_names" in optimizer.state_dict()["param_groups"][0]) == named[0]
            if isinstance(given.kwargs.get("lr"), Tensor):
                # The loaded tensor is a copy: a scheduler of one does not move the other.
                optimizer.param_groups[0]["lr"].fill_(0.25)
                assert float(restored.param_groups[0]["lr"]) != 0.25

    @optims(OPTIMIZERS)
    def test_older_state_dicts_lack_flags(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            params = make_params(device)
            optimizer = optim_info.optim_cls(params, **given.kwargs)
            train(optimizer, 4)
            older = copy.deepcopy(optimizer.state_dict())
            for flag in optim_info.not_og_supported_flags:
                older["param_groups"][0].pop(flag, None)
            restored = optim_info.optim_cls([Parameter(p.detach().clone()) for p in params], **given.kwargs)
            restored.load_state_dict(older)
            for flag in optim_info.not_og_supported_flags:
                assert restored.param_groups[0][flag] == optimizer.param_groups[0][flag]
            self.resumes(optimizer, restored)

    @optims(OPTIMIZERS)
    def test_saved_and_loaded_state_dicts_are_equal(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            params = make_params(device)
            optimizer = optim_info.optim_cls(params, **given.kwargs)
            train(optimizer, 4)
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            content = torch.load(file, weights_only=True)
            assert_same_content(content, optimizer.state_dict())
            restored = optim_info.optim_cls([Parameter(p.detach().clone()) for p in params], **given.kwargs)
            restored.load_state_dict(content)
            self.resumes(optimizer, restored)

    @parametrize("how", ["deepcopy", "pickle"])
    @optims(OPTIMIZERS)
    def test_copies_go_on_alike(self, device: Any, dtype: Any, optim_info: Any, how: str) -> None:
        def public(optimizer: Any) -> set[str]:
            return {name for name in dir(optimizer) if not name.startswith("_")}

        for given in inputs_of(optim_info, device):
            optimizer = optim_info.optim_cls(make_params(device), **given.kwargs)
            train(optimizer, 4)
            copied = copy.deepcopy(optimizer) if how == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
            assert public(copied) == public(optimizer)
            assert_same_content(copied.defaults, {**optimizer.defaults, "differentiable": False})  # torch adds it
            assert all(p is not q for p, q in zip(params_of(copied), params_of(optimizer), strict=True))
            self.resumes(optimizer, copied)
            self.resumes(copied, copy.deepcopy(copied))

    @optims(OPTIMIZERS)
    def test_a_parameter_listed_twice(self, device: Any, dtype: Any, optim_info: Any) -> None:
        """Torch warns and goes on; what such an optimizer saves, it loads."""
        p = Parameter(torch.ones(3, device=device))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            optimizer = optim_info.optim_cls([p, p], lr=1e-2)
            restored = optim_info.optim_cls([q := Parameter(torch.ones(3, device=device)), q], lr=1e-2)
        train(optimizer, 3)
        restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        q.data.copy_(p.detach())
        self.resumes(optimizer, restored)

    @optims(OPTIMIZERS)
    def test_entries_of_others_survive(self, device: Any, dtype: Any, optim_info: Any) -> None:
        """Wrappers and hooks keep things in the state, of a parameter and of none."""
        params = make_params(device)
        optimizer = optim_info.optim_cls(params)
        train(optimizer, 2)
        for p in params:
            optimizer.state[p]["slow"] = p.detach().clone()
        optimizer.state["shared"] = {"count": 1, "sums": torch.ones(2, device=device)}
        train(optimizer, 2)
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        copies = [Parameter(p.detach().clone()) for p in params]
        restored = optim_info.optim_cls(copies)
        restored.load_state_dict(torch.load(file))
        for p, q in zip(params, copies, strict=True):
            assert_bitwise([restored.state[q]["slow"]], [optimizer.state[p]["slow"]])
        assert_same_content(restored.state["shared"], optimizer.state["shared"])
        self.resumes(optimizer, restored)

    @optims(OPTIMIZERS)
    def test_groups_added_late_are_saved_and_loaded(self, device: Any, dtype: Any, optim_info: Any) -> None:
        for given in inputs_of(optim_info, device):
            runs = []
            for _ in range(2):
                params = make_params(device)
                optimizer = optim_info.optim_cls(params[:2], **given.kwargs)
                runs.append((optimizer, params))
            (optimizer, params), (restored, copies) = runs
            train(optimizer, 2)
            for one, late in ((optimizer, params[2:]), (restored, copies[2:])):
                one.add_param_group({"params": late, "lr": 0.5, "weight_decay": 0.0})
            train(optimizer, 2)
            restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            for p, q in zip(params, copies, strict=True):
                q.data.copy_(p.detach())
            assert restored.param_groups[1]["lr"] == 0.5
            self.resumes(optimizer, restored)

    # ------------------------------------------------------------ hooks

    @optims(OPTIMIZERS)
    def test_step_hooks_fire_once_in_order(self, device: Any, dtype: Any, optim_info: Any) -> None:
        log: list[str] = []
        optimizer = optim_info.optim_cls(make_params(device))
        with (
            recorded(register_optimizer_step_pre_hook, "global pre", log),
            recorded(register_optimizer_step_post_hook, "global post", log),
            recorded(optimizer.register_step_pre_hook, "pre", log),
            recorded(optimizer.register_step_post_hook, "post", log),
        ):
            train(optimizer, 1)
        assert log == ["global pre", "pre", "post", "global post"]
        train(optimizer, 1)
        assert len(log) == 4

    @optims(OPTIMIZERS)
    def test_a_step_hook_may_change_the_closure(self, device: Any, dtype: Any, optim_info: Any) -> None:
        p = Parameter(torch.ones(2, device=device))
        optimizer = optim_info.optim_cls([p])
        handle = optimizer.register_step_pre_hook(lambda _, args, kwargs: ((args[0], lambda: 5), kwargs))
        assert step(optimizer, lambda: 3) == 5
        handle.remove()
        assert step(optimizer, lambda: 3) == 3

    @optims(OPTIMIZERS)
    def test_state_dict_hooks(self, device: Any, dtype: Any, optim_info: Any) -> None:
        log: list[str] = []
        optimizer = optim_info.optim_cls(make_params(device))
        train(optimizer, 2)
        handles = [
            optimizer.register_state_dict_pre_hook(lambda _: log.append("pre")),
            optimizer.register_state_dict_pre_hook(lambda _: log.append("first"), prepend=True),
            optimizer.register_state_dict_post_hook(lambda _, state: log.append("post")),
            optimizer.register_state_dict_post_hook(lambda _, state: {**state, "version": 3}),
        ]
        state = optimizer.state_dict()
        assert log == ["first", "pre", "post"]
        assert state["version"] == 3
        for handle in handles:
            handle.remove()
        assert "version" not in optimizer.state_dict()
        assert len(log) == 3

    @optims(OPTIMIZERS)
    def test_load_state_dict_hooks(self, device: Any, dtype: Any, optim_info: Any) -> None:
        log: list[str] = []
        params = make_params(device)
        optimizer = optim_info.optim_cls(params)
        train(optimizer, 2)
        state = copy.deepcopy(optimizer.state_dict())

        def with_other_lr(_: Any, loaded: dict[str, Any]) -> dict[str, Any]:
            groups = [{**group, "lr": 0.125} for group in loaded["param_groups"]]
            return {**loaded, "param_groups": groups}

        restored = optim_info.optim_cls([Parameter(p.detach().clone()) for p in params])
        restored.register_load_state_dict_pre_hook(with_other_lr)
        restored.register_load_state_dict_pre_hook(lambda *_: log.append("pre"))
        restored.register_load_state_dict_pre_hook(lambda *_: log.append("first"), prepend=True)
        restored.register_load_state_dict_post_hook(lambda _: log.append("post"))
        restored.register_load_state_dict_post_hook(lambda _: log.append("before"), prepend=True)
        restored.load_state_dict(state)
        assert log == ["first", "pre", "before", "post"]
        assert restored.param_groups[0]["lr"] == 0.125
        assert state["param_groups"][0]["lr"] == optimizer.param_groups[0]["lr"]
        optimizer.param_groups[0]["lr"] = 0.125
        self.resumes(optimizer, restored)

    @optims(OPTIMIZERS)
    def test_a_step_that_is_a_number(self, device: Any, dtype: Any, optim_info: Any) -> None:
        """Clocks have an entry for each path: a number stands for them if there is one, or is refused by name."""
        params = make_params(device)
        optimizer = optim_info.optim_cls(params)
        train(optimizer, 3)
        state = copy.deepcopy(optimizer.state_dict())
        for own in state["state"].values():
            own["step"] = float(own["step"].max())
        restored = optim_info.optim_cls([Parameter(p.detach().clone()) for p in params])
        with pytest.raises((TypeError, ValueError), match="step"):
            restored.load_state_dict(state)
        assert not any(restored.state.values())


instantiate_device_type_tests(TestTorchsSituations, globals(), only_for=("cpu", "cuda"))
