"""Data sets as they come, turned into one manifest: each file knows one layout, `build` does the rest."""
