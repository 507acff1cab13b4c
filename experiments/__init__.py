"""What a person runs: the `cfisac` command, comparisons, benchmarks."""
