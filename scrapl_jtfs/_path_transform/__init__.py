"""Parts of the protocol of path transforms."""
