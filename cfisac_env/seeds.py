"""Disjoint seed ranges of random drops for training, validation and testing.

A drop is determined by its configuration and the seed of `reset(seed=…)`. Nothing may be trained, tuned or selected on seeds from `TEST`.
"""

from __future__ import annotations

TRAINING = 500_000
"""First seed of reinforcement learning and of tuning the presets; labels of oracles may use any seed below `TEST`."""

RUN = 1_000
"""Number of seeds per training run: run r starts at `TRAINING` + r · `RUN`."""

VALIDATION = 900_000
"""First seed of the drops for model selection."""

TEST = 1_000_000
"""First seed of the drops of comparisons and results."""


def of_run(run: int) -> int:
    """Return the first seed of a training run.

    Raises:
        ValueError: not a whole number from 0, or a run whose seeds would reach the validation seeds.
    """
    last = (VALIDATION - TRAINING) // RUN - 1
    if isinstance(run, bool) or not isinstance(run, int) or not 0 <= run <= last:
        raise ValueError(f"seed must be a whole number from 0 to {last}, got {run!r}")
    return TRAINING + RUN * run
