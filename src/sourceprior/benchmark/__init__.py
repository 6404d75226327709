"""The paper's tables and figures: which rows, what was measured of each mixture, and the report."""
