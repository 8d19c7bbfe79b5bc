"""Reading of recordings, under the name that it had before it became part of the package."""

from __future__ import annotations

from scrapl_jtfs.commands.audio import Recording, read_recording, resample, write_audio

__all__ = ["Recording", "read_recording", "resample", "write_audio"]
