"""Checks of the test kit for path transforms."""
