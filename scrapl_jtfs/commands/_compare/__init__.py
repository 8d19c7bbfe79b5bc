"""Parts of ``scrapl-jtfs compare``."""
