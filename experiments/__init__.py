"""The `cfisac` command: comparisons, training, the reproduction of the paper, benchmarks."""
