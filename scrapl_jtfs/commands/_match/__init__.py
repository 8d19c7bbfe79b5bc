"""Parts of ``scrapl-jtfs match`` and ``scrapl-jtfs resynthesize``."""
