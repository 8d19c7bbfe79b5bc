"""The parts of theta-importance of JTFS paths; :mod:`scrapl_jtfs.importance` is what users call."""
