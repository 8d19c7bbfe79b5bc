"""Parts of ``scrapl_jtfs.features``."""
