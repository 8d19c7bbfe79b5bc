"""Measures a plan: agreement, then both sides path by path, then pieces to extrapolate from, then pi's mass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.harness.conductor import Conductor
from benchmarks.harness.worker import WorkerError
from benchmarks.importance.contenders import EVEN, OURS, PEER, TRANSFORMS
from benchmarks.importance.plan import Plan, Sized
from benchmarks.importance.problem import Scale, make_audio
from benchmarks.sound_matching.front_end import LogCQT
from scrapl_jtfs import JTFSPath

_ABOUT = {
    "problem": (
        "Chirplets (tr808: a stand-in of decaying partials with 14 controls) at random onsets, matched at other "
        "onsets by what a freshly initialised encoder hears in their log constant-Q spectrogram, computed once. "
        "The loss is scrapl-loss's, the norm of the difference, not squared."
    ),
    "seconds": "Wall clock; cpu: processor time of the worker, the same on a quiet machine (one thread).",
    PEER: (
        "SCRAPLLoss.calc_theta_eigs, at most 20 power iterations (it stops at a relative change of 1e-4) from a "
        "start seeded by the path; its encoder has GroupNorm written out, as torch's cannot be differentiated "
        "twice under the vmap that it uses."
    ),
    "agreement": (
        "On float64 weights: crossed is theta_importance (tolerance 1e-4) given scrapl-loss's transform and "
        "distance, the same matrices as its own procedure's; unpadded, the same without the coefficients of the "
        "padding, which it leaves in; steps_20 and steps_long are its procedure; ours has our transform; rounded, "
        "the same with filters rounded to float32, as its are: second derivatives on clean sounds see that; even "
        "has our transform with the even boundary, and even_backward its s and H by double backward passes."
    ),
    EVEN: f"Ours with {TRANSFORMS[EVEN]}, in a process of its own, at the same times as ours.",
    "whole": (
        "The whole pi, float32 weights, each side as it comes: scrapl-loss path by path, ours (Taylor series, a "
        "shared subspace, the checks) before, in the middle and after. one_by_one: ours by Arnoldi's method "
        "for each value. crossed, on the first problem: our procedure with scrapl-loss's transform and distance."
    ),
    "sized": (
        "At the paper's sizes, on fewer examples than its batch, to which both sides are extrapolated linearly. "
        "scrapl-loss: everything before the products, and a product, of evenly spaced paths, with the number of "
        "products met on the whole problems. Ours: the whole pi where it says so; else the first layer's Taylor "
        "series, s and H of evenly spaced paths one by one, and a product of one example, with as many products "
        "for each control and example as the subspace stage of the whole one took."
    ),
    "mass": (
        "Transform and sounds scaled down (see configuration: half the resolution in rate, one octave lower, few "
        "examples, a small encoder); the paper's squared distance. Places are (rate, rate / scale); "
        "inside are those in the rectangle or within half a spacing of wavelets of it, of either spin; paths of "
        "scale 0 have no place."
    ),
}


def evenly(n_paths: int, count: int | None) -> list[int]:
    """Indices at the middles of ``count`` equal parts; all if ``None``."""
    if count is None or count >= n_paths:
        return list(range(n_paths))
    return [int((i + 0.5) * n_paths / count) for i in range(count)]


@dataclass
class ImportanceConductor(Conductor):
    """The conductor of this benchmark; spectrograms lie beside the partial results.

    Args:
        plan: what to measure.
    """

    module = "benchmarks.importance.worker"
    about = _ABOUT
    environment = {"LOGLEVEL": "ERROR"}  # noqa: RUF012

    plan: Plan = field(kw_only=True)

    def prepare(self) -> dict[str, Any]:
        if self.left_out:
            raise WorkerError(f"all sides are needed, but {self.left_out}")
        return {"configuration": asdict(self.plan)}

    def measure(self, section: str) -> None:
        {"agreement": self._agreement, "speed": self._speed, "mass": self._mass}[section]()

    def _spectrogram(self, scale: Scale) -> str:
        cqt = LogCQT(scale.sample_rate, octaves=3 if scale.name == "tiny" else scale.octaves, hop=scale.hop)
        file = self.partial.parent / f"spectrogram_{scale.name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, cqt(make_audio(scale).float()).numpy())
        return str(file.resolve())

    def _build(self, names: Sequence[str], scale: Scale, options: dict[str, dict[str, Any]] | None = None) -> int:
        """Have workers build a problem; returns the number of paths.

        Raises:
            WorkerError: they do not have as many.
        """
        file = self._spectrogram(scale)
        found = {
            self.workers[name].ask(
                do="build", scale=asdict(scale), spectrogram=file, options=(options or {}).get(name, {})
            )["n_paths"]
            for name in names
        }
        if len(found) != 1:
            raise WorkerError(f"the sides differ in the number of paths: {sorted(found)}")
        return found.pop()

    def _agreement(self) -> None:
        plan = self.plan
        n_paths = self._build((OURS, EVEN, PEER), plan.agreement)
        records = self.results["agreement"] = []
        ours, even, peer = (self.workers[name] for name in (OURS, EVEN, PEER))
        fine = {"tolerance": 1e-4, "check": False}
        for path in self.each(evenly(n_paths, plan.n_agreement), "agreement"):
            records.append(
                {
                    "path": path,
                    "crossed": peer.ask(do="crossed", paths=[path], options=fine),
                    "unpadded": peer.ask(do="crossed", paths=[path], options={**fine, "unpad": True}),
                    "steps_20": peer.ask(do="values", paths=[path]),
                    "steps_long": peer.ask(do="values", paths=[path], options={"n_iter": plan.long_steps}),
                    "ours": ours.ask(do="values", paths=[path], options=fine),
                    "even": even.ask(do="values", paths=[path], options=fine),
                    "even_backward": even.ask(
                        do="values", paths=[path], options={**fine, "together": False, "taylor": False}
                    ),
                }
            )
            self.keep()
        self._build((OURS,), plan.agreement, {OURS: {"rounded": True}})
        for record in records:
            record["rounded"] = ours.ask(do="values", paths=[record["path"]], options=fine)

    def _speed(self) -> None:
        self.results["whole"], self.results["sized"] = [], []
        for i, scale in enumerate(self.plan.whole):
            self._whole(scale, crossed=i == 0)
        for sized in self.each(self.plan.sized, "extrapolations"):
            self.results["sized"].append(self._size(sized))
            self.keep()

    def _whole(self, scale: Scale, *, crossed: bool) -> None:
        plan = self.plan
        n_paths = self._build((OURS, EVEN, PEER), scale)
        ours, even, peer = (self.workers[name] for name in (OURS, EVEN, PEER))
        paths, mine = list(range(n_paths)), {"tolerance": plan.tolerance}
        for worker, options in ((ours, mine), (even, mine), (peer, {"n_iter": 1})):
            worker.ask(do="values", paths=paths[-1:], options=options)
        found: dict[str, Any] = {"name": scale.name, "n_controls": scale.n_controls, "batch": scale.batch}
        found |= {"n_paths": n_paths, OURS: [], EVEN: [], "records": []}
        self.results["whole"].append(found)
        when = {int(i * n_paths / max(1, plan.n_ours - 1)) for i in range(plan.n_ours)}
        for path in self.each(range(n_paths + 1), f"whole pi, {scale.name}"):
            if path in when:
                found[OURS].append(ours.ask(do="values", paths=paths, options=mine))
                found[EVEN].append(even.ask(do="values", paths=paths, options=mine))
            if path < n_paths:
                record: dict[str, Any] = {"path": path, PEER: peer.ask(do="values", paths=[path])}
                if crossed:
                    options = {**mine, "check": False}
                    record["crossed"] = peer.ask(do="crossed", paths=[path], options=options)
                found["records"].append(record)
            self.keep()
        found["one_by_one"] = ours.ask(do="values", paths=paths, options={**mine, "together": False})

    def _size(self, sized: Sized) -> dict[str, Any]:
        scale, peer = sized.scale, self.workers[PEER]
        found: dict[str, Any] = {"name": scale.name, "n_controls": scale.n_controls, "batch": scale.batch}
        size = {"size": sized.batch}
        found["n_paths"] = n_paths = self._build((PEER,), scale, {PEER: size})
        found["measured_batch"] = sized.batch
        steps = {"n_products": sized.peer_products}
        found[PEER] = [
            {"path": p, **peer.ask(do="pieces", paths=[p], options=steps)["pieces"]}
            for p in evenly(n_paths, sized.n_peer)
        ]
        peer.ask(do="release")  # its graphs may take gigabytes
        measured = replace(scale, batch=sized.batch)
        request = {"paths": evenly(n_paths, sized.n_ours), "options": {"n_products": 5}}
        for name, whole in ((OURS, "whole"), (EVEN, "whole_even")):
            self._build((name,), measured)
            ours = self.workers[name]
            found[name] = ours.ask(do="pieces", **request)["pieces"]
            if sized.whole:
                options = {"tolerance": self.plan.tolerance}
                found[whole] = ours.ask(do="values", paths=list(range(n_paths)), options=options)
            ours.ask(do="release")
        return found

    def _mass(self) -> None:
        plan, ours = self.plan, self.workers[OURS]
        records = self.results["mass"] = []
        for scale in self.each(plan.mass, "mass"):
            options = {"squared": True, "transform": plan.mass_options}
            n_paths = self._build((OURS,), scale, {OURS: options})
            jtfs = JTFSPath(scale.n_samples, **scale.transform, sample_rate=scale.sample_rate)
            places = [{"rate": p.rate, "scale": p.scale, "spin": p.spin} for p in jtfs.paths]
            asked = {"tolerance": plan.tolerance, "check": False}
            reply = ours.ask(do="values", paths=list(range(n_paths)), options=asked)
            per_octave = (scale.Q[1], scale.Q_fr)
            records.append({"am": scale.am, "fm": scale.fm, "per_octave": per_octave, "places": places, **reply})
            self.keep()
