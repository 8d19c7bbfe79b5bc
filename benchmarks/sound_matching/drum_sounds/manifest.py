"""The manifest of drum sounds in Debian packages: where each lies, its kind, its licence and its checksum."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.files import read_json

MANIFEST = Path(__file__).with_name("manifest.json")
"""The committed manifest. The sounds themselves are not committed."""


class PackedFile(NamedTuple):
    """File of a package that is wanted.

    Attributes:
        path: in the package, without a leading slash.
        name: in the folder of sounds: KIND/PACKAGE/KIT/FILE for a sound.
        sha256: of the content.
        kind: bass drum, snare, tom or hi-hat; None for a text.
    """

    path: str
    name: str
    sha256: str
    kind: str | None


class Package(NamedTuple):
    """Debian package.

    Attributes:
        name: of the package.
        version: the one version whose files have these checksums.
        pool: path below the root of a Debian mirror.
        n_bytes: size of the package.
        sha256: of the package.
        licences: licence of each kit, by folder in the package.
        files: the sounds, and debian/copyright.
    """

    name: str
    version: str
    pool: str
    n_bytes: int
    sha256: str
    licences: dict[str, str]
    files: tuple[PackedFile, ...]


def read_manifest(path: Path = MANIFEST) -> tuple[Package, ...]:
    """Read a manifest."""
    return tuple(_as_package(fields) for fields in read_json(path)["packages"])


def _as_package(fields: dict[str, Any]) -> Package:
    text = fields["copyright_file"]
    files = [PackedFile(text["path"], f"licences/{fields['name']}.txt", text["sha256"], None)]
    for kit in fields["kits"]:
        kit_name = kit["folder"].rpartition("/")[2]
        files += [
            PackedFile(f"{kit['folder']}/{file}", f"{kind}/{fields['name']}/{kit_name}/{file}", sha256, kind)
            for kind, sounds in kit["sounds"].items()
            for file, sha256 in sounds.items()
        ]
    licences = {kit["folder"]: kit["licence"] for kit in fields["kits"]}
    return Package(
        fields["name"],
        fields["version"],
        fields["pool"],
        fields["bytes"],
        fields["sha256"],
        licences,
        tuple(files),
    )
