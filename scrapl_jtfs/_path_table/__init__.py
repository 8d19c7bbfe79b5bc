"""Parts of ``scrapl_jtfs.path_table``."""
