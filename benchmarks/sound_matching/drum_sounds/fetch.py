"""python -m benchmarks.sound_matching.drum_sounds.fetch: assembles drum sounds from Debian packages."""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from benchmarks.sound_matching.drum_sounds.deb import read_files
from benchmarks.sound_matching.drum_sounds.manifest import Package, PackedFile, read_manifest
from scrapl_jtfs.commands.command_line import Parser, check_name, guarded, one_line, say, shown
from scrapl_jtfs.commands.files import claimed_folder, write_atomically

DEFAULT_FOLDER = Path("runs/drum_sounds")
"""Folder of the sounds unless another is named."""

Source = Callable[[Package, Path], Path]
"""Gets a package, if need be into a folder, and returns its path."""

_COMMAND = "python -m benchmarks.sound_matching.drum_sounds.fetch"
# Folder of packages that are not unpacked yet, below that of the sounds. It is hidden from the search for sounds.
_PACKAGES = ".packages"
_CHUNK = 1 << 20
_TIMEOUT = 60.0


def find_missing(folder: Path, package: Package) -> list[PackedFile]:
    """List the files of a package that are not in the folder of sounds, or not as the manifest has them."""
    return [file for file in package.files if _hash_file(folder / file.name) != file.sha256]


def require_sounds(folder: Path = DEFAULT_FOLDER) -> Path:
    """Return the folder of sounds if all are there.

    Raises:
        ValueError: sounds are missing or damaged.
    """
    packages = read_manifest()
    n_missing = sum(len(find_missing(folder, package)) for package in packages)
    if n_missing:
        n_files = sum(len(package.files) for package in packages)
        raise ValueError(
            f"Invalid data folder: {shown(folder)} ({n_missing} of {n_files} files are missing or damaged); "
            f"expected what {_COMMAND} makes; run that, or name a folder of your own"
        )
    return folder


def fetch_sounds(
    folder: Path, source: Source, packages: Iterable[Package], tell: Callable[[str], object] = lambda text: None
) -> None:
    """Complete a folder of sounds.

    A package is compared with its checksum before it is unpacked, and each file with its own before it is written,
    under another name until it is whole. After an interruption the same call goes on; with nothing missing it does
    nothing.

    Args:
        folder: created if need be. It gets KIND/PACKAGE/KIT/FILE and licences/PACKAGE.txt.
        source: gets packages.
        packages: of the manifest.
        tell: called with a line for each package.

    Raises:
        ValueError: a package cannot be had, or is not the one of the manifest.
        OSError: the folder cannot be written to.
    """
    waiting = folder / _PACKAGES
    try:
        for package in packages:
            missing = {file.path: file for file in find_missing(folder, package)}
            if missing:
                tell(f"{package.name} {package.version}, {package.n_bytes / 1e6:.0f} MB ...")
                waiting.mkdir(parents=True, exist_ok=True)
                deb = source(package, waiting)
                _check_package(deb, package)
                for path, content in read_files(deb, missing):
                    _write_file(folder, missing[path], content)
                if deb.parent == waiting:
                    deb.unlink()
            tell(f"{package.name}: {sum(file.kind is not None for file in package.files)} sounds")
    finally:
        with suppress(OSError):  # it was never made, or keeps a package that is not unpacked to the end
            waiting.rmdir()


def get_by_apt(package: Package, folder: Path) -> Path:
    """Get a package with apt-get download, which needs no rights and checks Debian's signature.

    Raises:
        ValueError: there is no apt-get, or it has not this version.
    """
    path = folder / Path(package.pool).name
    if _hash_file(path) == package.sha256:
        return path
    if shutil.which("apt-get") is None:
        raise ValueError(
            f"Invalid source of {package.name}: apt-get is not installed; expected Debian; elsewhere name a "
            "mirror of Debian with --mirror URL, or a folder of the packages with --debs FOLDER"
        )
    command = ["apt-get", "download", f"{package.name}={package.version}"]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True)
    got = {file: _hash_file(file) == package.sha256 for file in folder.glob(f"{package.name}_*.deb")}
    for file in [file for file, is_right in got.items() if not is_right]:
        file.unlink()
    if not any(got.values()):
        said = next((line for line in done.stderr.splitlines() if line.startswith("E: ")), "another checksum")
        raise ValueError(
            f"Invalid source of {package.name}: {' '.join(command)} ({one_line(said)}); expected version "
            f"{package.version}; run apt-get update first; where your release has another version, "
            f"{_moved_on(package)}"
        )
    return max(got, key=lambda file: got[file])


def get_from_mirror(mirror: str) -> Source:
    """Return a source that downloads from a mirror of Debian, such as https://MIRROR/debian."""

    def get(package: Package, folder: Path) -> Path:
        path = folder / Path(package.pool).name
        if _hash_file(path) == package.sha256:
            return path
        url = f"{mirror.rstrip('/')}/{quote(package.pool)}"
        try:
            write_atomically(path, lambda beside: _download(url, beside, package.n_bytes))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ValueError(
                f"Invalid mirror: {shown(url)} ({one_line(error)}); expected version {package.version} there; "
                f"try another mirror, and where it has moved on, {_moved_on(package)}"
            ) from error
        return path

    return get


def get_from_folder(debs: Path) -> Source:
    """Return a source that takes packages from a folder, which stays as it is."""

    def get(package: Package, folder: Path) -> Path:
        found = sorted(debs.glob(f"{package.name}_*.deb"))
        for path in found:
            if _hash_file(path) == package.sha256:
                return path
        what = f"{shown(found[0])} has another checksum" if found else "not there"
        raise ValueError(
            f"Invalid --debs: {shown(debs)} ({package.name}: {what}); expected {Path(package.pool).name}; "
            f"download it: {_moved_on(package)}"
        )

    return get


def _moved_on(package: Package) -> str:
    """Return where old versions are, as the end of a sentence."""
    return (
        f"Debian's archive of snapshots keeps {package.name} {package.version}: download it there and name its "
        "folder with --debs"
    )


def _download(url: str, path: Path, n_bytes: int) -> None:
    """Write what a URL gives, which must have a known size."""
    n_left = n_bytes
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, path.open("wb") as file:
        while chunk := answer.read(min(_CHUNK, n_left + 1)):
            n_left -= len(chunk)
            if n_left < 0:
                break
            file.write(chunk)
    if n_left:
        raise ValueError(f"{'more' if n_left < 0 else 'less'} than the {n_bytes} bytes of the package")


def _check_package(path: Path, package: Package) -> None:
    """Raise ValueError if a package is not the one of the manifest; it is removed if it was waiting."""
    found = _hash_file(path)
    if found != package.sha256:
        if path.parent.name == _PACKAGES:
            path.unlink()
        raise ValueError(
            f"Invalid package: {shown(path)} has the SHA-256 {found}; expected {package.sha256}; try another "
            "mirror"
        )


def _write_file(folder: Path, file: PackedFile, content: bytes) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ValueError(
            f"Invalid {file.path}: its SHA-256 is {found}; expected {file.sha256}; correct the manifest"
        )
    write_atomically(folder / file.name, lambda beside: beside.write_bytes(content))


def _hash_file(path: Path) -> str | None:
    """Return the SHA-256 of a file, None if there is none."""
    digest = hashlib.sha256()
    with suppress(FileNotFoundError, NotADirectoryError), path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()
    return None


def _choose_source(options: argparse.Namespace) -> Source:
    if options.debs is not None:
        if not options.debs.is_dir():
            raise ValueError(f"Invalid --debs: {shown(options.debs)}; expected a folder of .deb files; name one")
        return get_from_folder(options.debs)
    if options.mirror is not None:
        if not options.mirror.startswith(("https://", "http://")):
            raise ValueError(
                f"Invalid --mirror: {shown(options.mirror)}; expected https://HOST/debian; name a mirror"
            )
        return get_from_mirror(options.mirror)
    return get_by_apt


def _check_folder(folder: Path) -> None:
    check_name(folder, "--out")
    code = Path(__file__).resolve().parents[3] / "benchmarks"
    if code in (folder.resolve(), *folder.resolve().parents):
        raise ValueError(
            f"Invalid --out: {shown(folder)} is among the code; expected a folder for data; use runs/..."
        )


def run(options: argparse.Namespace) -> int:
    """Fetch and say what there is then."""
    _check_folder(options.out)
    packages = read_manifest()
    with claimed_folder(options.out):
        fetch_sounds(options.out, _choose_source(options), packages, say)
    kinds = Counter(file.kind for package in packages for file in package.files if file.kind)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    say(f"{kinds.total()} sounds in {shown(options.out)}: {counts}. Licences: {shown(options.out / 'licences')}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 2 for something the user can mend, 130 after Ctrl-C; the same command continues."""
    parser = Parser(
        prog=_COMMAND,
        description="Assemble drum sounds from Debian packages: 180 MB to get, 66 MB of sounds. Interrupt it at "
        "any time: the same command continues.",
    )
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_FOLDER, help="folder of the sounds (default: %(default)s)"
    )
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument(
        "--mirror",
        metavar="URL",
        help="get the packages from this mirror of Debian instead of with apt-get download",
    )
    sources.add_argument("--debs", type=Path, metavar="FOLDER", help="take the packages from this folder")
    options = parser.parse_args(argv)
    return guarded(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
