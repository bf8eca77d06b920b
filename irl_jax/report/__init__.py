"""The report of a run: one HTML page, its drawings, and tables for the terminal."""
