"""Benchmarks (`cfisac bench`), the ablation of the HetGNN and the page of model cards; the wheel leaves them out."""
