"""Parts of the losses on paths."""
