"""Separators of other kinds, for comparison only."""
