"""Matching recordings of drums (section 4.4 of the paper), whose controls nobody knows."""

from __future__ import annotations
