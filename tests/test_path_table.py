"""The table of paths: ids chosen by brute force, printed, copied; bundles through loss, sampler and optimizer."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapl_jtfs import JTFSPath, JTFSPathLoss, Path, PathTable
from scrapl_optim import PathAdamSAGA, PathSampler

RATE = 4096.0
# Orders 1 and 2, bundles of unequal sizes, rates that are no round numbers.
JTFS = JTFSPath(512, J=6, Q=(4, 2), J_fr=2, Q_fr=2, orders=(1, 2), sample_rate=RATE).double()
TABLE = JTFS.paths
PLAIN = JTFSPath(512, J=5, Q=(4, 1), J_fr=2).paths

COPIES = {
    "pickle": lambda table: pickle.loads(pickle.dumps(table)),
    "oldest pickle": lambda table: pickle.loads(pickle.dumps(table, protocol=2)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "made anew": PathTable,
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_tables_that_equal_the_plain_tuple(how: str) -> None:
    table = COPIES[how](TABLE)
    assert type(table) is PathTable
    assert table == TABLE == tuple(TABLE)
    assert hash(table) == hash(tuple(TABLE))
    assert table.where(spin=1) == TABLE.where(spin=1)
    assert str(table) == str(TABLE)
    assert table != PLAIN


@pytest.mark.parametrize("part", [slice(3, 9), slice(None), slice(None, None, -1), slice(0, 0)])
def test_a_slice_is_a_plain_tuple(part: slice) -> None:
    assert type(TABLE[part]) is tuple
    assert TABLE[part] == tuple(TABLE)[part]
    assert type(TABLE + PLAIN) is tuple


def test_a_transform_keeps_its_table() -> None:
    stored = io.BytesIO()
    torch.save(JTFS, stored)
    stored.seek(0)
    for jtfs in (copy.deepcopy(JTFS), pickle.loads(pickle.dumps(JTFS)), torch.load(stored, weights_only=False)):
        assert type(jtfs.paths) is PathTable
        assert jtfs.paths == TABLE
    assert JTFS.n_paths == len(TABLE)
    assert [path.index for path in TABLE] == list(range(JTFS.n_paths))


# Choosing


def literal_where(rate: tuple, scale: tuple, spin: int | None, order: int | None) -> list[int]:
    def inside(value: float, bounds: tuple) -> bool:
        return (bounds[0] is None or bounds[0] <= value) and (bounds[1] is None or value <= bounds[1])

    return [
        i
        for i, path in enumerate(TABLE)
        if inside(path.rate, rate)
        and inside(path.scale, scale)
        and spin in (None, path.spin)
        and order in (None, path.order)
    ]


def bounds(values: set[float]) -> st.SearchStrategy[Any]:
    """Ranges whose ends are often values of the table themselves, which belong to them."""
    end = st.none() | st.sampled_from(sorted(values)) | st.floats(0, 2 * max(values))
    return st.tuples(end, end).filter(lambda pair: pair[0] is None or pair[1] is None or pair[0] <= pair[1])


@given(
    rate=bounds({path.rate for path in TABLE}),
    scale=bounds({path.scale for path in TABLE}),
    spin=st.sampled_from([None, -1, 0, 1]),
    order=st.sampled_from([None, 1, 2]),
)
@settings(deadline=None, max_examples=200)
def test_where_keeps_what_meets_every_condition(rate: tuple, scale: tuple, spin: Any, order: Any) -> None:
    expected = literal_where(rate, scale, spin, order)
    if expected:
        ids = TABLE.where(rate=rate, scale=scale, spin=spin, order=order)
        assert list(ids) == expected
        assert {type(p) for p in ids} == {int}
        assert ids == TABLE.where(rate=list(rate), scale=scale, spin=spin, order=order)
    else:
        with pytest.raises(ValueError, match="no path has"):
            TABLE.where(rate=rate, scale=scale, spin=spin, order=order)


def test_where_without_conditions_keeps_all_and_takes_several_values() -> None:
    assert TABLE.where() == tuple(range(len(TABLE)))
    assert TABLE.where(order=(1, 2)) == TABLE.where()
    assert TABLE.where(spin=[1, -1]) == tuple(sorted(TABLE.where(spin=1) + TABLE.where(spin=-1)))
    n2 = sorted({path.n2 for path in TABLE if path.n2 is not None})
    both = tuple(path.index for path in TABLE if path.n2 in n2[:2])
    for several in (n2[:2], set(n2[:2]), np.array(n2[:2]), torch.tensor(n2[:2])):
        assert TABLE.where(n2=several) == both
    assert TABLE.where(n2=n2[0]) == tuple(path.index for path in TABLE if path.n2 == n2[0])


def test_a_rate_as_printed_finds_its_paths() -> None:
    for path in TABLE:
        printed = float(str(path).split(": ")[1].split(" ")[0]) if path.order == 2 else 0.0
        assert path.index in TABLE.where(rate=printed)
        assert {TABLE[p].rate for p in TABLE.where(rate=path.rate)} == {path.rate}


def octaves(a: float, b: float) -> float:
    return 0.0 if a == b else math.inf if 0.0 in (a, b) else abs(math.log2(a / b))


frequencies = st.floats(1e-3, 1e5)


@given(rate=st.none() | frequencies, scale=st.none() | frequencies, spin=st.sampled_from([None, -1, 1]))
@settings(deadline=None, max_examples=200)
def test_nearest_is_the_least_distance_in_octaves(rate: Any, scale: Any, spin: Any) -> None:
    if rate is None and scale is None:
        return
    distances = [
        math.hypot(
            0.0 if rate is None else octaves(path.rate, rate),
            0.0 if scale is None else octaves(path.scale, scale),
        )
        if spin in (None, path.spin)
        else math.inf
        for path in TABLE
    ]
    nearest = TABLE.nearest(rate=rate, scale=scale, spin=spin)
    assert type(nearest) is int
    assert distances[nearest] == pytest.approx(min(distances), rel=1e-9, abs=1e-12)


def test_every_path_is_the_nearest_to_its_own_place() -> None:
    for path in TABLE:
        assert TABLE.nearest(rate=path.rate, scale=path.scale, spin=path.spin) == path.index
    assert TABLE.nearest(rate=0) == 0
    assert TABLE[TABLE.nearest(rate=300, scale=0)].scale == 0


# Printing


def test_a_path_says_what_it_listens_to() -> None:
    paths = JTFSPath(16000, J=12, Q=(8, 1), J_fr=3, T="global", orders=(1, 2), sample_rate=16000).paths
    said = [str(paths[p]) for p in (0, 3, 5, 7, 12, 17, 35)]
    assert said == [
        "path 0: order 1, 0 cycles/octave",
        "path 3: order 1, 0.70 cycles/octave",
        "path 5: 700 Hz, 0 cycles/octave",
        "path 7: 700 Hz, 1.40 cycles/octave, rising",
        "path 12: 700 Hz, 0.70 cycles/octave, falling",
        "path 17: 350 Hz, 0.70 cycles/octave, rising",
        "path 35: 87.5 Hz, 0.70 cycles/octave, rising",
    ]
    assert str(PLAIN[1]).startswith(f"path 1: {PLAIN[1].rate:.3g} cycles/sample, ")
    assert repr(paths[3]).startswith("Path(index=3, order=1,")


@pytest.mark.parametrize("table", [TABLE, PLAIN, JTFSPath(2048, J=6, Q=8, J_fr=2, orders=(1,)).paths])
def test_the_printed_table_has_every_id_once_in_its_row_and_column(table: PathTable) -> None:
    title, header, *rows = str(table).splitlines()
    assert ("Hz" in title) == (table is TABLE)
    ends = [i for i in range(len(header)) if header[i] != " " and header[i + 1 : i + 2] in ("", " ")]
    seen = []
    for row in rows:
        assert len(row) == len(header), "columns are aligned"
        label = row[: ends[0] + 1].strip()
        for start, end, scale in zip(ends, ends[1:], header.split()[1:], strict=False):
            for cell in row[start + 1 : end + 1].split():
                if cell == ".":
                    continue
                path = table[abs(int(cell))]
                seen.append(path.index)
                assert path.scale == pytest.approx(float(scale), rel=6e-3)
                if path.order == 1:
                    assert label == "order 1"
                else:
                    assert path.rate == pytest.approx(float(label), rel=6e-3)
                    assert cell[0] == {1: "+", -1: "-", 0: cell[0]}[path.spin]
                    assert cell[0].isdigit() == (path.spin == 0)
    assert sorted(seen) == list(range(len(table)))


def test_repr_is_short() -> None:
    assert len(repr(TABLE)) < 120
    assert repr(TABLE).startswith(f"PathTable({len(TABLE)} paths of order 1 and 2, rates ")
    assert "cycles/sample" in repr(PLAIN)
    assert "rates" not in repr(JTFSPath(2048, J=6, Q=8, J_fr=2, orders=(1,)).paths)


# Bundles

SHARED = {"rate": lambda p: p.n2, "scale": lambda p: p.scale, "spin": lambda p: p.spin}
ids = st.sets(st.integers(0, len(TABLE) - 1), min_size=1)


@given(by=st.sampled_from(sorted(SHARED)), within=st.none() | ids)
@settings(deadline=None, max_examples=100)
def test_bundles_are_the_classes_of_what_they_share(by: Any, within: set[int] | None) -> None:
    bundles = TABLE.bundles(by, within=within)
    kept = sorted(range(len(TABLE)) if within is None else within)
    assert sorted(p for bundle in bundles for p in bundle) == kept
    assert all(list(bundle) == sorted(bundle) for bundle in bundles)
    keys = [{SHARED[by](TABLE[p]) for p in bundle} for bundle in bundles]
    assert all(len(key) == 1 for key in keys)
    assert len(set.union(*keys)) == len(bundles), "each class is one bundle"
    assert [bundle[0] for bundle in bundles] == sorted(bundle[0] for bundle in bundles)
    assert type(bundles) is tuple
    assert all(type(bundle) is tuple for bundle in bundles)


def test_bundles_of_rates_are_the_rows_of_the_paper() -> None:
    table = JTFSPath(32768, J=12, Q=(8, 2), J_fr=3, Q_fr=2, T=4096, F=8).paths
    bundles = table.bundles()
    assert len(table) == 315
    assert [len(bundle) for bundle in bundles] == [15] * 21


def test_within_takes_paths_and_every_kind_of_ids() -> None:
    kept = [3, 8, 4]
    expected = TABLE.bundles("scale", within=kept)
    for same in (set(kept), np.array(kept), torch.tensor(kept), iter(kept), [TABLE[p] for p in kept]):
        assert TABLE.bundles("scale", within=same) == expected
    assert TABLE.ids(TABLE) == tuple(range(len(TABLE)))
    longer = JTFSPath(1024, J=6, Q=(4, 2), J_fr=2, Q_fr=2, orders=(1, 2), sample_rate=RATE).paths
    assert TABLE.ids(longer[2:5]) == (2, 3, 4), "the table does not depend on the length but for costs"


X, Y = torch.randn(2, 2, 512, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def value_and_gradient(loss: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x = X.clone().requires_grad_()
    value = loss(x)
    return value.detach(), torch.autograd.grad(value, x)[0]


def assert_same(actual: Any, expected: Any) -> None:
    for a, b in zip(value_and_gradient(actual), value_and_gradient(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * float(b.abs().max()))


@given(by=st.sampled_from(sorted(SHARED)), within=st.none() | ids, squared=st.booleans())
@settings(deadline=None, max_examples=6)
def test_the_mean_over_bundles_by_size_is_the_loss_of_their_paths(by: Any, within: Any, squared: bool) -> None:
    loss_fn = JTFSPathLoss(JTFS, squared=squared)
    bundles = TABLE.bundles(by, within=within)
    assert_same(
        lambda x: sum(len(b) / JTFS.n_paths * loss_fn(x, Y, b) for b in bundles),
        lambda x: loss_fn.full(x, Y, paths=within),
    )
    assert_same(
        lambda x: sum(loss_fn.full(x, Y, paths=b) for b in bundles), lambda x: loss_fn.full(x, Y, paths=within)
    )


@given(st.data())
@settings(deadline=None, max_examples=6)
def test_a_sampler_over_bundles_is_unbiased_with_weights(data: st.DataObject) -> None:
    loss_fn = JTFSPathLoss(JTFS)
    bundles = TABLE.bundles(data.draw(st.sampled_from(["rate", "scale", "spin"])))
    shares = np.array(data.draw(st.lists(st.floats(0.1, 1), min_size=len(bundles), max_size=len(bundles))))
    sampler = PathSampler(shares / shares.sum(), min_prob_frac=data.draw(st.floats(0, 1)))
    assert sampler.n_paths == len(bundles)
    # Exact expectations over the draw: of the mean over bundles, and, by their sizes, of the full tree.
    assert_same(
        lambda x: sum(pi * sampler.weight(b) * loss_fn(x, Y, bundles[b]) for b, pi in enumerate(sampler.probs)),
        lambda x: sum(loss_fn(x, Y, bundle) for bundle in bundles) / len(bundles),
    )
    assert_same(
        lambda x: sum(
            pi * sampler.weight(b) * len(bundles) * loss_fn.full(x, Y, bundles[b])
            for b, pi in enumerate(sampler.probs)
        ),
        lambda x: loss_fn.full(x, Y),
    )


def test_drawn_by_their_sizes_bundles_need_no_weights() -> None:
    loss_fn = JTFSPathLoss(JTFS)
    bundles = TABLE.bundles("rate")
    sizes = np.array([len(bundle) for bundle in bundles])
    assert len(set(sizes)) > 1, "sizes must differ for the test to mean anything"
    sampler = PathSampler(sizes / sizes.sum())
    assert_same(
        lambda x: sum(pi * loss_fn(x, Y, bundles[b]) for b, pi in enumerate(sampler.probs)),
        lambda x: loss_fn.full(x, Y),
    )


def rows(optimizer: PathAdamSAGA, parameter: torch.Tensor) -> set[int]:
    return {int(key.split(".")[1]) for key in optimizer.state[parameter] if key.startswith("update.")}


def train(sampler: PathSampler, losses: Any, n_steps: int) -> tuple[set[int], list[int]]:
    gain = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = PathAdamSAGA([gain], n_paths=sampler.n_paths, lr=1e-3)
    drawn = [sampler(step) for step in range(n_steps)]
    for path in drawn:
        optimizer.zero_grad()
        losses(gain * X, path).backward()
        optimizer.step(path_idx=path)
    return rows(optimizer, gain), drawn


def test_the_optimizer_has_a_row_for_each_bundle() -> None:
    loss_fn = JTFSPathLoss(JTFS)
    bundles = TABLE.bundles("rate", within=TABLE.where(order=2))
    sampler = PathSampler(n_paths=len(bundles), cover_first=True)
    kept, drawn = train(sampler, lambda x, b: loss_fn(x, Y, bundles[b]), 2 * len(bundles))
    assert kept == set(drawn) == set(range(len(bundles)))


def test_excluded_paths_keep_ids_and_leave_no_row() -> None:
    loss_fn = JTFSPathLoss(JTFS)
    keep = TABLE.where(rate=(100, 400), spin=1)
    sampler = PathSampler(n_paths=JTFS.n_paths, paths=keep, min_prob_frac=0.3, cover_first=True)
    assert sampler.n_paths == JTFS.n_paths > len(keep)
    assert sampler.paths == keep
    made, drawn = train(sampler, lambda x, p: loss_fn(x, Y, p), 2 * len(keep))
    assert made == set(drawn) == set(keep)
    assert_same(
        lambda x: sum(sampler.probs[p] * sampler.weight(p) * loss_fn(x, Y, p) for p in keep),
        lambda x: loss_fn.full(x, Y, paths=keep),
    )


# Bad input

OTHER = JTFSPath(512, J=6, Q=(8, 2), J_fr=3, sample_rate=RATE).paths


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: TABLE.where(rate=(1e4, None)),
            ValueError,
            r"rate=\(10000\.0, None\): no path has that; .* rates .* Hz",
        ),
        (lambda: TABLE.where(rate=93), ValueError, "rate=93: no path has that; expected those of"),
        (
            lambda: TABLE.where(rate=(100, 400), order=1),
            ValueError,
            r"rate=\(100, 400\), order=1: no path has all of that",
        ),
        (lambda: TABLE.where(spin=1, scale=99), ValueError, "Invalid scale=99: no path has that"),
        (lambda: PLAIN.where(rate=(2, 20)), ValueError, "cycles/sample.* build JTFSPath with sample_rate"),
        (lambda: TABLE.where(rate=(20, 2)), ValueError, r"rate: \(20, 2\); .* swap them"),
        (lambda: TABLE.where(rate=-1), ValueError, "rate: -1; expected a number of Hz"),
        (lambda: TABLE.where(scale=(0, -1)), ValueError, "expected a number of cycles/octave"),
        (lambda: TABLE.where(rate=(math.nan, 2)), ValueError, "rate: .nan, 2"),
        (lambda: TABLE.where(rate="fast"), TypeError, "rate: 'fast'; expected"),  # type: ignore[arg-type]
        (lambda: TABLE.where(rate=(1, 2, 3)), TypeError, "expected a number of Hz"),  # type: ignore[arg-type]
        (lambda: TABLE.where(rate=True), TypeError, "rate: True"),
        (lambda: TABLE.where(spin=2), ValueError, "spin: 2; expected one of -1, 0, 1, or several"),
        (lambda: TABLE.where(spin="+"), TypeError, "spin: '\\+'"),  # type: ignore[arg-type]
        (lambda: TABLE.where(spin=True), TypeError, "spin: True"),
        (lambda: TABLE.where(spin=[]), ValueError, r"spin: \[\]"),
        (lambda: TABLE.where(order=3), ValueError, "order: 3; expected one of 1, 2"),
        (lambda: TABLE.where(n2=-1), ValueError, "n2: -1; expected integers from 0"),
        (lambda: TABLE.where(n2=1.0), TypeError, "n2: 1.0"),  # type: ignore[arg-type]
        (lambda: TABLE.where(n2=99), ValueError, "n2=99: no path has that"),
        (lambda: TABLE.nearest(), TypeError, "Invalid rate and scale: None"),
        (lambda: TABLE.nearest(spin=1), TypeError, r"where\(spin=\.\.\.\)"),
        (lambda: TABLE.nearest(rate=-3), ValueError, "rate: -3"),
        (lambda: TABLE.nearest(rate=math.inf), ValueError, "rate: inf"),
        (lambda: TABLE.nearest(rate=(2, 3)), ValueError, r"for a range of them: where\(rate=\.\.\.\)"),  # type: ignore[arg-type]
        (lambda: TABLE.nearest(rate=3, scale=0.5, spin=0), ValueError, "spin=0: no path is at a finite distance"),
        (lambda: PLAIN.nearest(rate=0), ValueError, "rate=0: no path is at a finite distance"),
        (lambda: TABLE.bundles("rates"), ValueError, "by: 'rates'; expected one of 'rate', 'scale', 'spin'"),  # type: ignore[arg-type]
        (lambda: TABLE.bundles(["rate"]), ValueError, "expected one of 'rate'"),  # type: ignore[arg-type]
        (lambda: TABLE.bundles("rate", within=[]), ValueError, "Invalid within: none; .* leave it out for all"),
        (lambda: TABLE.bundles("rate", within=[3, 3]), ValueError, "path 3 is named twice; .* a set of ids"),
        (
            lambda: TABLE.bundles("rate", within=[len(TABLE)]),
            IndexError,
            "Invalid within: .*; expected an id from 0",
        ),
        (lambda: TABLE.bundles("rate", within=[-1]), IndexError, "Invalid within: -1; expected an id"),
        (lambda: TABLE.bundles("rate", within=3), TypeError, "Invalid within: 3; expected a sequence"),  # type: ignore[arg-type]
        (lambda: TABLE.bundles("rate", within=[0.5]), TypeError, "Invalid within: 0.5; expected an integer"),  # type: ignore[list-item]
        (lambda: TABLE.bundles("rate", within=TABLE.bundles()), TypeError, "the tuple .* take one at a time"),  # type: ignore[arg-type]
        (
            lambda: TABLE.bundles("rate", within=OTHER),
            ValueError,
            "'path 0: .* is of another transform; expected one of this transform: path 0 here has order=1, not 2",
        ),
        (
            lambda: PLAIN.ids(TABLE[-1:]),
            ValueError,
            f"is of another transform; expected one of this transform: this one has {len(PLAIN)} paths",
        ),
        (lambda: PathTable(TABLE[3:]), ValueError, "path 3 in place 0; .* as a tuple"),
        (lambda: PathTable([1, 2]), TypeError, "entry 0 is a int; expected paths"),  # type: ignore[list-item]
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert len(str(caught.value)) < 400


def test_a_path_is_still_a_plain_record() -> None:
    assert TABLE[5] == Path(**vars(TABLE[5]))
    assert TABLE.index(TABLE[5]) == 5


def test_paths_serve_wherever_their_ids_do() -> None:
    jtfs, other = (JTFSPath(2048, J=7, Q=(8, 1), J_fr=2, sample_rate=rate) for rate in (2048, 4096))
    loss_fn, (x, y) = JTFSPathLoss(jtfs), torch.randn(2, 2, 2048, generator=torch.Generator().manual_seed(0))
    some = jtfs.paths[3:6]
    assert torch.equal(loss_fn(x, y, some), loss_fn(x, y, [3, 4, 5]))
    assert torch.equal(jtfs.features(x, paths=some).values, jtfs.features(x, paths=[3, 4, 5]).values)
    assert all(map(torch.equal, jtfs.select(x, some), jtfs.select(x, [3, 4, 5])))
    for call in (
        loss_fn,
        lambda x, y, paths: jtfs.features(x, paths=paths),
        lambda x, y, paths: jtfs.select(x, paths),
    ):
        with pytest.raises(ValueError, match="another transform"):
            call(x, y, other.paths[3:6])
