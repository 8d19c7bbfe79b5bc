"""Parts of ``scrapl_jtfs.scrapl``."""
