"""Parts of :mod:`scrapl_jtfs.resynthesis`."""
