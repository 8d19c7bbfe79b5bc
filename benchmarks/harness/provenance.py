"""When, where and with what something was measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import torch

from scrapl_jtfs.commands.provenance import machine, versions

_CPU = torch.device("cpu")


def provenance(
    packages: Sequence[str] = ("torch", "numpy", "scrapl-jtfs"), device: torch.device = _CPU
) -> dict[str, Any]:
    """Return the entries "date" (UTC), "machine" and "versions" of a result file."""
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"date": date, "machine": machine(device), "versions": versions(packages)}
