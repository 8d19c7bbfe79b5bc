"""Parts of ``JTFSPath.describe`` and ``JTFSPath.for_sounds``."""
