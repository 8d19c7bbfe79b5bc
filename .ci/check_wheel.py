"""Build wheel and sdist, install each into bare environments outside the repository, and use them there.

    python .ci/check_wheel.py [--with PYTHON:TORCH ...] [--tests] [--out benchmarks/results/wheel.json]

For every pair: the README's loop runs, neither package imports what it must not, and importing both adds less than
a second to torch's own import. With --tests the core of the suite runs there, too. Needs pip's index.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import venv
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = ("matplotlib", "torchaudio", "hypothesis", "scipy", "kymatio", "pandas", "tqdm")
SECONDS = 1.0
TESTS = ("test_jtfs_reference.py", "test_jtfs_loss.py", "test_sampler.py", "test_optimizer_algorithm.py",
         "test_optimizer_step.py", "test_checkpoint.py", "test_importance.py", "test_importance_jtfs.py",
         "test_importance_shared_subspace.py", "test_probabilities.py", "test_experimental_adaptive.py",
         "test_testing.py")  # fmt: skip

MEASURE = """
import json, sys, time
started = time.perf_counter()
import torch
middle = time.perf_counter()
import scrapl_jtfs, scrapl_optim
ended = time.perf_counter()
found = [name for name in {forbidden} if name in sys.modules]
places = [scrapl_jtfs.__file__, scrapl_optim.__file__]
print(json.dumps(dict(torch=middle - started, ours=ended - middle, found=found, places=places,
                      versions=dict(torch=torch.__version__, numpy=__import__("numpy").__version__))))
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    # Threads of one process that wait for each other on busy cores are slow beyond measure.
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def make_venv(folder: Path, python: str) -> Path:
    if python == sys.executable:
        venv.create(folder, with_pip=True)
    else:
        run(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def build(folder: Path) -> tuple[Path, Path]:
    """Build from a copy, so that nothing is left in the repository; check what will be shown on the index."""
    python = make_venv(folder / "build-venv", sys.executable)
    run(python, "-m", "pip", "install", "--quiet", "build", "twine")
    run("git", "clone", "--quiet", ROOT, folder / "source")
    run(python, "-m", "build", "--outdir", folder / "dist", folder / "source")
    files = sorted((folder / "dist").iterdir())
    run(python, "-m", "twine", "check", "--strict", *files)
    (wheel,), (sdist,) = ([f for f in files if f.name.endswith(end)] for end in (".whl", ".tar.gz"))
    names = run(python, "-m", "zipfile", "-l", wheel)
    for wanted in ("scrapl_jtfs/py.typed", "scrapl_optim/py.typed", "scrapl_optim/testing/__init__.py", "LICENSE"):
        if wanted not in names:
            sys.exit(f"{wanted} is missing from {wheel.name}")
    if "tests/" in names or "benchmarks/" in names:
        sys.exit(f"{wheel.name} holds tests or benchmarks")
    return wheel, sdist


def readme_loop() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return code


def check(archive: Path, folder: Path, python: str, torch: str, with_tests: bool) -> dict[str, object]:
    """Install an archive and use it; returns what was measured."""
    folder.mkdir()
    inside = make_venv(folder / "venv", python)
    run(inside, "-m", "pip", "install", "--quiet", f"torch=={torch}" if torch else "torch", archive)
    measured = [json.loads(run(inside, "-c", MEASURE.format(forbidden=FORBIDDEN), cwd=folder)) for _ in range(3)]
    fastest = min(measured, key=lambda m: m["ours"])
    if fastest["found"] or fastest["ours"] > SECONDS or any("site-packages" not in p for p in fastest["places"]):
        sys.exit(f"{archive.name}: {fastest}; expected no {FORBIDDEN}, at most {SECONDS} s, and site-packages")
    loop = run(inside, "-c", readme_loop(), cwd=folder)
    check_command(inside.parent / "scrapl-jtfs", folder)
    result: dict[str, object] = {
        "archive": archive.name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "python": run(inside, "-c", "import platform; print(platform.python_version())").strip(),
        **fastest["versions"],
        "import_seconds": round(fastest["ours"], 3),
        "torch_import_seconds": round(fastest["torch"], 3),
        "readme_loop": loop.strip().splitlines(),
    }
    if with_tests:
        result["tests"] = run_tests(inside, folder)
    return result


def check_command(command: Path, folder: Path) -> None:
    """The command that is installed describes without any extra, and names the extra that another needs."""
    described = run(command, "describe", "--seconds", "1", "--rate", "16000", cwd=folder)
    if "JTFSPath(16000," not in described or " paths of order 2" not in described:
        sys.exit(f"scrapl-jtfs describe printed {described}")
    done = subprocess.run([command, "match", "a.wav"], cwd=folder, capture_output=True, text=True)
    if done.returncode != 2 or "pip install 'scrapl-jtfs[commands]'" not in done.stderr:
        sys.exit(f"scrapl-jtfs match without extras: exit code {done.returncode}, {done.stderr}")


def run_tests(inside: Path, folder: Path) -> str:
    packages = ("pytest", "pytest-timeout", "hypothesis", "scipy", "kymatio", "matplotlib", "tqdm")
    run(inside, "-m", "pip", "install", "--quiet", *packages)
    # Not from the repository, or its packages would be found first.
    run("cp", "-r", ROOT / "tests", folder / "tests")
    chosen = [f"tests/{name}" for name in TESTS]
    out = run(inside, "-m", "pytest", "-q", "-x", "--rootdir", folder, *chosen, cwd=folder)
    return out.strip().splitlines()[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [f"{sys.executable}:2.13.0"]
    parser.add_argument("--with", dest="pairs", nargs="+", default=default, metavar="PYTHON:TORCH")
    parser.add_argument("--tests", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = build(folder)
        for i, pair in enumerate(arguments.pairs):
            python, _, torch = pair.partition(":")
            for archive in (wheel, sdist) if i == 0 else (wheel,):
                result = check(archive, folder / f"{i}-{archive.suffix[1:]}", python, torch, arguments.tests)
                results.append(result)
                if arguments.out:
                    write_report(arguments.out, results)
                print({key: value for key, value in result.items() if key != "readme_loop"}, flush=True)
    return 0


def write_report(path: Path, results: list[dict[str, object]]) -> None:
    """Write results, and keep those of other versions that the file has: torch's are too large for one sitting."""

    def key(result: dict[str, object]) -> tuple[object, ...]:
        return tuple(result[name] for name in ("archive", "python", "torch"))

    known = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
    fresh = {key(result) for result in results}
    kept = [result for result in known if key(result) not in fresh]
    everything = sorted([*kept, *results], key=lambda result: [str(part) for part in key(result)])
    report = {"forbidden": FORBIDDEN, "results": everything}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
