"""Runs a plan: agreement first, then both sides path by path, then pieces to extrapolate from, then pi's mass."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from scrapl_jtfs import JTFSPath
from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import machine, versions

from ..sound_matching.front_end import LogCQT
from ..speed.processes import Worker, WorkerError, cores_for
from .plan import Plan, Sized
from .problem import Scale, make_audio
from .workers import ImportanceWorker

__all__ = ["OURS", "PEER", "Conductor", "evenly"]

OURS, PEER = "ours", "scrapl-loss"

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
        "the same with filters rounded to float32, as its are: second derivatives on clean sounds see that."
    ),
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
class Conductor:
    """Holds what a run has found so far.

    Args:
        python: interpreter of the workers.
        plan: what to measure.
        sections: of `plan.SECTIONS`.
        quick: whether the plan is the small selection.
        partial: where to keep what there is after each part, and the spectrograms.
    """

    python: str
    plan: Plan
    sections: Sequence[str]
    quick: bool
    partial: Path
    results: dict[str, Any] = field(default_factory=dict)
    _workers: dict[str, Worker] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Measure everything; returns the content of the result file, without the table.

        Raises:
            WorkerError: a worker failed.
        """
        self.results = self._header()
        try:
            for name in (OURS, PEER):
                self._workers[name] = ImportanceWorker(self.python, name)
                self.results["versions"][f"worker {name}"] = self._workers[name].ask(do="hello")["versions"]
            for section in self.sections:
                {"agreement": self._agreement, "speed": self._speed, "mass": self._mass}[section]()
        finally:
            for worker in self._workers.values():
                worker.close()
        self.results["complete"] = True
        return self.results

    def _header(self) -> dict[str, Any]:
        return {
            "about": _ABOUT,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "quick": self.quick,
            "sections": list(self.sections),
            "machine": {**machine(torch.device("cpu")), "worker threads": 1, "worker cores": cores_for(1)},
            "versions": versions(("torch", "numpy", "scrapl-jtfs", "nnaudio2")),
            "configuration": asdict(self.plan),
            "complete": False,
        }

    def _keep(self) -> None:
        write_text(self.partial, json.dumps(self.results, indent=1) + "\n")

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
            self._workers[name].ask(
                do="build", scale=asdict(scale), spectrogram=file, options=(options or {}).get(name, {})
            )["n_paths"]
            for name in names
        }
        if len(found) != 1:
            raise WorkerError(f"the sides differ in the number of paths: {sorted(found)}")
        return found.pop()

    def _agreement(self) -> None:
        plan = self.plan
        n_paths = self._build((OURS, PEER), plan.agreement)
        records = self.results["agreement"] = []
        ours, peer = (self._workers[name] for name in (OURS, PEER))
        fine = {"tolerance": 1e-4, "check": False}
        for path in tqdm(evenly(n_paths, plan.n_agreement), desc="agreement", unit="path"):
            records.append(
                {
                    "path": path,
                    "crossed": peer.ask(do="crossed", paths=[path], options=fine),
                    "unpadded": peer.ask(do="crossed", paths=[path], options={**fine, "unpad": True}),
                    "steps_20": peer.ask(do="values", paths=[path]),
                    "steps_long": peer.ask(do="values", paths=[path], options={"n_iter": plan.long_steps}),
                    "ours": ours.ask(do="values", paths=[path], options=fine),
                }
            )
            self._keep()
        self._build((OURS,), plan.agreement, {OURS: {"rounded": True}})
        for record in records:
            record["rounded"] = ours.ask(do="values", paths=[record["path"]], options=fine)

    def _speed(self) -> None:
        self.results["whole"], self.results["sized"] = [], []
        for i, scale in enumerate(self.plan.whole):
            self._whole(scale, crossed=i == 0)
        for sized in tqdm(self.plan.sized, desc="extrapolations", unit="size"):
            self.results["sized"].append(self._size(sized))
            self._keep()

    def _whole(self, scale: Scale, *, crossed: bool) -> None:
        plan = self.plan
        n_paths = self._build((OURS, PEER), scale)
        ours, peer = (self._workers[name] for name in (OURS, PEER))
        paths, mine = list(range(n_paths)), {"tolerance": plan.tolerance}
        for worker, options in ((ours, mine), (peer, {"n_iter": 1})):
            worker.ask(do="values", paths=paths[-1:], options=options)
        found: dict[str, Any] = {"name": scale.name, "n_controls": scale.n_controls, "batch": scale.batch}
        found |= {"n_paths": n_paths, OURS: [], "records": []}
        self.results["whole"].append(found)
        when = {int(i * n_paths / max(1, plan.n_ours - 1)) for i in range(plan.n_ours)}
        for path in tqdm(range(n_paths + 1), desc=f"whole pi, {scale.name}", unit="path"):
            if path in when:
                found[OURS].append(ours.ask(do="values", paths=paths, options=mine))
            if path < n_paths:
                record: dict[str, Any] = {"path": path, PEER: peer.ask(do="values", paths=[path])}
                if crossed:
                    options = {**mine, "check": False}
                    record["crossed"] = peer.ask(do="crossed", paths=[path], options=options)
                found["records"].append(record)
            self._keep()
        found["one_by_one"] = ours.ask(do="values", paths=paths, options={**mine, "together": False})

    def _size(self, sized: Sized) -> dict[str, Any]:
        scale, ours, peer = sized.scale, self._workers[OURS], self._workers[PEER]
        found: dict[str, Any] = {"name": scale.name, "n_controls": scale.n_controls, "batch": scale.batch}
        size = {"size": sized.batch}
        found["n_paths"] = n_paths = self._build((PEER,), scale, {PEER: size})
        found["measured_batch"] = sized.batch
        steps = {"n_products": sized.peer_products}
        found[PEER] = [
            {"path": p, **peer.ask(do="pieces", path=p, options=steps)["pieces"]}
            for p in evenly(n_paths, sized.n_peer)
        ]
        peer.ask(do="release")  # its graphs may take gigabytes
        measured = replace(scale, batch=sized.batch)
        self._build((OURS,), measured)
        request = {"paths": evenly(n_paths, sized.n_ours), "options": {"n_products": 5}}
        found[OURS] = ours.ask(do="pieces", **request)["pieces"]
        if sized.whole:
            options = {"tolerance": self.plan.tolerance}
            found["whole"] = ours.ask(do="values", paths=list(range(n_paths)), options=options)
        ours.ask(do="release")
        return found

    def _mass(self) -> None:
        plan, ours = self.plan, self._workers[OURS]
        records = self.results["mass"] = []
        for scale in tqdm(plan.mass, desc="mass", unit="synth"):
            options = {"squared": True, **plan.mass_options}
            n_paths = self._build((OURS,), scale, {OURS: options})
            jtfs = JTFSPath(scale.n_samples, **scale.transform, sample_rate=scale.sample_rate)
            places = [{"rate": p.rate, "scale": p.scale, "spin": p.spin} for p in jtfs.paths]
            asked = {"tolerance": plan.tolerance, "check": False}
            reply = ours.ask(do="values", paths=list(range(n_paths)), options=asked)
            per_octave = (scale.Q[1], scale.Q_fr)
            records.append({"am": scale.am, "fm": scale.fm, "per_octave": per_octave, "places": places, **reply})
            self._keep()
