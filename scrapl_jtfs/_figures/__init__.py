"""Parts of ``scrapl_jtfs.figures``."""
