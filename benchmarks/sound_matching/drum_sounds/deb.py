"""Files in Debian packages: an ar archive whose member data.tar holds the files to be installed."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from scrapl_jtfs.commands.command_line import shown

_AR_MAGIC = b"!<arch>\n"
# An ar header: name (16 bytes), time (12), owner (6), group (6), mode (8), size (10), and two closing bytes.
_AR_HEADER, _AR_SIZE, _AR_END = 60, slice(48, 58), b"`\n"


def read_files(package: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Read regular files of a package one by one, in the order of the package.

    Args:
        package: a .deb file. Its data.tar may be plain or compressed with gzip, bzip2 or xz.
        wanted: paths in the package, without a leading slash.

    Raises:
        ValueError: it is not a Debian package, or it is damaged, or it lacks a wanted file.
    """
    left = set(wanted)
    try:
        with package.open("rb") as file:
            _seek_data(file)
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    path = member.name.removeprefix("./")
                    content = archive.extractfile(member) if path in left and member.isreg() else None
                    if content is not None:
                        yield path, content.read()
                        left.remove(path)
                    if not left:
                        return
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ValueError(
            f"Invalid package: {shown(package)} ({error}); expected a .deb that is whole; get it again"
        ) from error
    raise ValueError(
        f"Invalid package: {shown(package)} lacks {shown(min(left))}; expected the version that the manifest "
        "names; get that one"
    )


def _seek_data(file: BinaryIO) -> None:
    """Move to the content of data.tar."""
    is_archive = file.read(len(_AR_MAGIC)) == _AR_MAGIC
    while is_archive and len(header := file.read(_AR_HEADER)) == _AR_HEADER and header.endswith(_AR_END):
        if header.startswith(b"data.tar"):
            return
        size = header[_AR_SIZE].strip()
        if not size.isdigit():
            break
        n_bytes = int(size)
        file.seek(n_bytes + n_bytes % 2, 1)  # members begin at even positions
    raise tarfile.ReadError("no Debian package")
