"""The networks of embeddings, each from its own package, and their weights."""

from __future__ import annotations
