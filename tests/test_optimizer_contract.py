"""PathAdamSAGA as a torch.optim.Optimizer: which path, trainers, gradients, checkpoints."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from optimizer_helpers import (
    SWITCHES,
    assert_bitwise,
    assert_same_snapshot,
    make_params,
    random_paths,
    run,
    set_grads,
    snapshot,
)
from reference_path_adam_saga import ReferencePathAdamSAGA
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from scrapl_optim.path_state import init_state

# ---------------------------------------------------------------- which path


def test_path_types():
    results = []
    for path in (2, np.int64(2), torch.tensor(2), torch.tensor(2, dtype=torch.int32)):
        params = make_params()
        optimizer = PathAdamSAGA(params, 3)
        run(optimizer, params, [path])
        assert optimizer.state[params[0]]["step"].tolist() == [0, 0, 1]
        results.append(params)
    for other in results[1:]:
        assert_bitwise(other, results[0])


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (3, IndexError, r"\[0, 3\), got 3"),
        (-1, IndexError, "got -1"),
        (1.0, TypeError, "integer"),
        (True, TypeError, "integer"),
        (torch.tensor([1]), TypeError, "0-dim"),
        (None, RuntimeError, "n_paths=3, call step"),
    ],
)
def test_bad_paths(path, error, message):
    params = make_params()
    optimizer = PathAdamSAGA(params, 3)
    set_grads(params, 0)
    with pytest.raises(error, match=message):
        optimizer.step(path_idx=path)
    if path is not None:
        with pytest.raises(error, match=message):
            optimizer.set_path(path)
    assert not optimizer.state


def test_announced_path_is_used_once():
    params = make_params()
    optimizer = PathAdamSAGA(params, 3)
    set_grads(params, 0)
    optimizer.set_path(0)
    optimizer.set_path(1)
    optimizer.step()
    assert optimizer.state[params[0]]["step"].tolist() == [0, 1, 0]
    with pytest.raises(RuntimeError, match="no path"):
        optimizer.step()
    optimizer.set_path(0)
    optimizer.step(path_idx=2)
    assert optimizer.state[params[0]]["step"].tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError, match="no path"):
        optimizer.step()


def test_closure():
    (param,) = make_params(shapes=[(3,)])
    optimizer = PathAdamSAGA([param], 3)

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        optimizer.set_path(1)
        loss = (param**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        expected = (param**2).sum()
    assert torch.equal(torch.as_tensor(optimizer.step(closure)), expected)
    assert optimizer.state[param]["step"].tolist() == [0, 1, 0]


# ---------------------------------------------------------------- PyTorch's contract


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
def test_gradients_are_left_intact(foreach, maximize):
    params = make_params(dtype=torch.float32)
    set_grads(params, 0)
    before = [p.grad.clone() for p in params if p.grad is not None]
    PathAdamSAGA(params, 3, foreach=foreach, maximize=maximize).step(path_idx=0)
    assert_bitwise([p.grad for p in params], before)


def test_parameters_without_gradient_keep_their_own_clock():
    params = make_params(shapes=[(2,), (2,)])
    optimizer = PathAdamSAGA(params, 3, lr=0.1)
    twin = ReferencePathAdamSAGA(params[1].detach().numpy(), 3, lr=0.1, weight_decay=0.01)
    for k, (path, both) in enumerate([(0, False), (1, True), (0, False), (1, True), (0, True)]):
        set_grads(params, k)
        if not both:
            params[1].grad = None
        else:
            assert params[1].grad is not None
            twin.step(path, params[1].grad.numpy())
        optimizer.step(path_idx=path)
        assert (params[1] in optimizer.state) == (k > 0)
    assert optimizer.state[params[0]]["step"].max() == 5
    assert optimizer.state[params[1]]["step"].max() == 3
    np.testing.assert_allclose(params[1].detach().numpy(), twin.w, rtol=1e-10)


def test_sparse_gradients_are_refused():
    params = make_params(shapes=[(3,), (3,)])
    set_grads(params, 0)
    params[1].grad = torch.ones(3, dtype=torch.float64).to_sparse()
    optimizer = PathAdamSAGA(params, 2)
    with pytest.raises(RuntimeError, match="PathAdamSAGA does not support sparse"):
        optimizer.step(path_idx=0)
    assert not optimizer.state


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(("path_adam", "path_saga"), SWITCHES)
def test_complex_parameters_are_pairs_of_reals(foreach, path_adam, path_saga):
    complexes = make_params(6, torch.complex128, shapes=[(3,)])
    reals = [Parameter(torch.view_as_real(complexes[0].detach()).clone())]
    kwargs = {"lr": 0.1, "path_adam": path_adam, "path_saga": path_saga, "foreach": foreach}
    run(PathAdamSAGA(complexes, 3, **kwargs), complexes, [0, 1, 0, 2, 1])
    run(PathAdamSAGA(reals, 3, **kwargs), reals, [0, 1, 0, 2, 1])
    torch.testing.assert_close(torch.view_as_real(complexes[0]), reals[0], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(("path_adam", "path_saga"), SWITCHES)
def test_maximize_is_the_negated_gradient(foreach, path_adam, path_saga):
    kwargs = {"lr": 0.1, "path_adam": path_adam, "path_saga": path_saga, "foreach": foreach}
    up, down = make_params(7), make_params(7)
    paths = [0, 1, 0, 2, 1]
    run(PathAdamSAGA(up, 3, maximize=True, **kwargs), up, paths, scale=-1.0)
    run(PathAdamSAGA(down, 3, **kwargs), down, paths)
    assert_bitwise(up, down)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_tensor_lr(foreach, shape):
    ours, theirs = make_params(8), make_params(8)
    lr = torch.full(shape, 0.125)
    run(PathAdamSAGA(ours, 3, lr=lr, foreach=foreach), ours, [0, 1, 0])
    run(PathAdamSAGA(theirs, 3, lr=0.125), theirs, [0, 1, 0])
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-14, atol=1e-14)
    assert torch.equal(lr, torch.full(shape, 0.125))


def test_scheduler_and_step_hooks():
    params = make_params()
    optimizer = PathAdamSAGA(params, 3, lr=0.1)
    calls = []
    optimizer.register_step_post_hook(lambda opt, args, kwargs: calls.append(kwargs))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    set_grads(params, 0)
    optimizer.step(path_idx=1)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert calls == [{"path_idx": 1}]


def test_grad_scaler_forwards_the_path_and_skips_inf():
    (param,) = make_params(dtype=torch.float32, shapes=[(3,)])
    plain = Parameter(param.detach().clone())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer, reference = PathAdamSAGA([param], 3), PathAdamSAGA([plain], 3)
    for path, factor in ((2, 1.0), (1, float("inf")), (2, 3.0)):
        optimizer.zero_grad()
        before = snapshot(optimizer)
        scaler.scale((param * factor).sum()).backward()
        scaler.step(optimizer, path_idx=path)
        scaler.update()
        if factor == float("inf"):
            assert_same_snapshot(optimizer, before)
        else:
            plain.grad = torch.full((3,), factor)
            reference.step(path_idx=path)
    assert_bitwise([param], [plain])
    assert optimizer.state[param]["step"].tolist() == [0, 0, 2]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize(("path_adam", "path_saga"), SWITCHES)
def test_nonfinite_gradients_poison_nothing(bad, nonfinite, path_adam, path_saga):
    params = make_params(9)
    optimizer = PathAdamSAGA(params, 3, path_adam=path_adam, path_saga=path_saga, nonfinite=nonfinite)
    run(optimizer, params, [0, 1, 0])
    before = snapshot(optimizer)
    set_grads(params, 0)
    assert params[-1].grad is not None
    params[-1].grad[2] = bad
    if nonfinite == "raise":
        with pytest.raises(RuntimeError, match="gradient of path 1 has an inf or a NaN"):
            optimizer.step(path_idx=1)
    else:
        optimizer.step(path_idx=1)
    assert_same_snapshot(optimizer, before)


def test_large_finite_float16_gradients_are_finite():
    param = Parameter(torch.zeros(100, dtype=torch.float16))
    param.grad = torch.full_like(param, 6e4)
    PathAdamSAGA([param], 2, lr=0.5).step(path_idx=0)
    assert torch.equal(param.detach(), torch.full_like(param, -0.5))


@pytest.mark.parametrize("foreach", [False, True])
def test_gradients_beyond_the_range_of_the_moments_are_refused(foreach):
    params = make_params(dtype=torch.float32, shapes=[(3,)])
    optimizer = PathAdamSAGA(params, 2, lr=0.1, foreach=foreach)
    run(optimizer, params, [0, 1])
    before = snapshot(optimizer)
    params[0].grad = torch.tensor([1.0, 1e10, 1.0])
    with pytest.raises(RuntimeError, match=r"reaches 1e\+10, beyond the 4.3e\+09"):
        optimizer.step(path_idx=0)
    assert_same_snapshot(optimizer, before)
    params[0].grad = torch.full((3,), 4e9)  # the norm is beyond, no entry is
    optimizer.step(path_idx=0)
    assert all(value.isfinite().all() for value in optimizer.state[params[0]].values() if torch.is_tensor(value))


def test_accumulation_ticks_once():
    (param,) = make_params(shapes=[(3,)])
    optimizer = PathAdamSAGA([param], 3)
    for _ in range(2):
        (param**2).sum().backward()
    optimizer.step(path_idx=0)
    assert optimizer.state[param]["step"].tolist() == [1, 0, 0]


def test_late_parameter_group():
    params = make_params(shapes=[(2,), (3,)])
    optimizer = PathAdamSAGA(params[:1], 3, lr=0.1)
    run(optimizer, params[:1], [0, 1])
    optimizer.add_param_group({"params": params[1:], "lr": 0.2})
    twin = ReferencePathAdamSAGA(params[1].detach().numpy(), 3, lr=0.2, weight_decay=0.01)
    for k, path in enumerate([1, 1, 0]):
        set_grads(params, k)
        assert params[1].grad is not None
        twin.step(path, params[1].grad.numpy())
        optimizer.step(path_idx=path)
    np.testing.assert_allclose(params[1].detach().numpy(), twin.w, rtol=1e-10)
    with pytest.raises(ValueError, match=r"n_paths=4 of the parameter group differs .* n_paths=3"):
        optimizer.add_param_group({"params": make_params(), "n_paths": 4})


def via_load(optimizer, params, kwargs):
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    copies = [Parameter(p.detach().clone()) for p in params]
    other = PathAdamSAGA(copies, optimizer.defaults["n_paths"], **kwargs)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    return other, copies


def via_pickle(optimizer, params, kwargs):
    other = pickle.loads(pickle.dumps(optimizer))
    return other, other.param_groups[0]["params"]


def via_deepcopy(optimizer, params, kwargs):
    other = copy.deepcopy(optimizer)
    return other, other.param_groups[0]["params"]


def via_pickle_then_load(optimizer, params, kwargs):
    other, copies = via_pickle(optimizer, params, kwargs)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return other, copies


@pytest.mark.parametrize("resume", [via_load, via_pickle, via_deepcopy, via_pickle_then_load])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize(("path_adam", "path_saga"), SWITCHES)
def test_resume_is_bit_for_bit(resume, dtype, path_adam, path_saga):
    kwargs = {"lr": 0.01, "path_adam": path_adam, "path_saga": path_saga}
    params = make_params(10, dtype)
    optimizer = PathAdamSAGA(params, 5, **kwargs)
    run(optimizer, params, random_paths(5, 15))
    for p in params:  # a clock that bfloat16 would round
        optimizer.state[p]["step"] += 301 * (optimizer.state[p]["step"] > 0)
    optimizer.set_path(1)
    other, copies = resume(optimizer, params, kwargs)
    assert optimizer.state[params[0]]["step"].max() == 316
    assert_bitwise(
        [v for p in copies for v in other.state[p].values() if torch.is_tensor(v)],
        [v for p in params for v in optimizer.state[p].values() if torch.is_tensor(v)],
    )
    set_grads(copies, 0)
    with pytest.raises(RuntimeError, match="no path"):  # announcements are not part of the state
        other.step()
    paths = random_paths(5, 15, seed=1)
    run(optimizer, params, paths, first_seed=50)
    run(other, copies, paths, first_seed=50)
    assert_bitwise(copies, params)


def test_load_refuses_another_number_of_paths_and_other_shapes():
    params = make_params(shapes=[(3,)])
    optimizer = PathAdamSAGA(params, 5)
    run(optimizer, params, [0])
    saved = optimizer.state_dict()
    other = PathAdamSAGA(make_params(shapes=[(3,)]), 4)
    before = snapshot(other)
    with pytest.raises(ValueError, match=r"n_paths=5, but this optimizer has n_paths=4"):
        other.load_state_dict(saved)
    assert_same_snapshot(other, before)
    with pytest.raises(ValueError, match=r"shape \(5, 3\), expected \(5, 2\)"):
        PathAdamSAGA(make_params(shapes=[(2,)]), 5).load_state_dict(saved)
    adamw = torch.optim.AdamW(params)
    adamw.step()
    with pytest.raises(ValueError, match="n_paths=None"):
        other.load_state_dict(adamw.state_dict())


def test_older_checkpoints_get_missing_keys():
    params = make_params()
    optimizer = PathAdamSAGA(params, 5, nonfinite="skip")
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["nonfinite"]
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["nonfinite"] == "skip"


@pytest.mark.parametrize("n_paths", [1, 4])
def test_distributed_checkpoint_leaves_no_trace(n_paths):
    def fresh():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        return model, PathAdamSAGA(model.parameters(), n_paths, lr=0.1)

    (model, optimizer), (plain_model, plain) = fresh(), fresh()
    get_optimizer_state_dict(model, optimizer)
    assert all(p.grad is None for p in model.parameters())
    assert all(state["step"].max() == 0 for state in optimizer.state.values())
    paths = random_paths(n_paths, 10)
    run(optimizer, list(model.parameters()), paths)
    run(plain, list(plain_model.parameters()), paths)
    assert_bitwise(list(model.parameters()), list(plain_model.parameters()))


@pytest.mark.parametrize("full_state_dict", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_distributed_checkpoint_resumes(tmp_path, full_state_dict):
    options = StateDictOptions(full_state_dict=full_state_dict)
    model = torch.nn.Linear(3, 2).to(torch.bfloat16)
    optimizer = PathAdamSAGA(model.parameters(), 4, lr=0.1)
    run(optimizer, list(model.parameters()), random_paths(4, 10))
    dcp.save({"optim": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=tmp_path, no_dist=True)

    resumed = copy.deepcopy(model)
    other = PathAdamSAGA(resumed.parameters(), 4, lr=0.5)
    target = {"optim": get_optimizer_state_dict(resumed, other)}
    dcp.load(target, checkpoint_id=tmp_path, no_dist=True)
    set_optimizer_state_dict(resumed, other, target["optim"], options=options)
    paths = random_paths(4, 10, seed=1)
    run(optimizer, list(model.parameters()), paths, first_seed=50)
    run(other, list(resumed.parameters()), paths, first_seed=50)
    assert_bitwise(list(resumed.parameters()), list(model.parameters()))


def test_clocks_are_on_the_cpu_but_in_a_state_dict_on_the_device_of_the_parameter():
    """torch.distributed.checkpoint refuses a state whose tensors with dimensions differ in device."""
    param = Parameter(torch.ones(3, device="meta"))
    optimizer = PathAdamSAGA([param], 2)
    init_state(optimizer.state[param], param, optimizer.param_groups[0])
    assert optimizer.state[param]["step"].device.type == "cpu"
    devices = {v.device.type for v in optimizer.state_dict()["state"][0].values() if torch.is_tensor(v)}
    assert devices == {"meta"}
    (source,) = make_params(shapes=[(3,)], dtype=torch.float32)
    saved = PathAdamSAGA([source], 2)
    run(saved, [source], [1])
    optimizer.load_state_dict(saved.state_dict())
    assert optimizer.state[param]["step"].tolist() == [0, 1]
    assert optimizer.state[param]["exp_avg"].device.type == "meta"


def test_state_dict_aliases_the_state():
    params = make_params()
    optimizer = PathAdamSAGA(params, 3)
    run(optimizer, params, [0])
    saved = optimizer.state_dict()["state"][0]
    for key, value in optimizer.state[params[0]].items():
        assert saved[key] is value or saved[key] == value


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"n_paths": 0}, ValueError, "Invalid n_paths: 0"),
        ({"n_paths": 2.5}, TypeError, "n_paths must be an integer"),
        ({"lr": -1.0}, ValueError, "Invalid lr: -1.0"),
        ({"lr": float("nan")}, ValueError, "Invalid lr: nan"),
        ({"lr": torch.ones(2)}, ValueError, "one element"),
        ({"betas": (1.0, 0.9)}, ValueError, r"Invalid betas: \(1.0, 0.9\)"),
        ({"betas": (0.9,)}, ValueError, "Invalid betas"),
        ({"eps": -1e-8}, ValueError, "Invalid eps: -1e-08"),
        ({"weight_decay": -0.1}, ValueError, "Invalid weight_decay: -0.1"),
        ({"nonfinite": "ignore"}, ValueError, "Invalid nonfinite: 'ignore'"),
    ],
)
def test_invalid_hyperparameters(kwargs, error, message):
    with pytest.raises(error, match=message):
        PathAdamSAGA(make_params(), **{"n_paths": 2, **kwargs})
    if "n_paths" not in kwargs:
        with pytest.raises(error, match=message):
            PathAdamSAGA([{"params": make_params(), **kwargs}], 2)
