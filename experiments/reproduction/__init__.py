"""Reproduction of the paper: `commands` is its entry, `run` decides and writes the tables and figures, `errata` measures the errata."""
