"""Seeds of random drops, by what they are for: learned from, chosen by, or tested on. No seed serves two purposes.

A drop is its configuration and a seed, the one of `reset(seed=…)`. Results are comparable when nothing was trained, tuned or selected on
seeds from `TEST` on.
"""

from __future__ import annotations

TRAINING = 500_000
"""First seed of reinforcement learning, and of tuning the presets; labels of oracles are free to take any below `TEST`."""

RUN = 1_000
"""Seeds that a training run has to itself: run r draws from `TRAINING` + r · `RUN` on."""

VALIDATION = 900_000
"""First seed of the drops by which the best state of a training run is chosen."""

TEST = 1_000_000
"""First seed of the drops of comparisons and results."""


def of_run(run: int) -> int:
    """First seed of a training run.

    Raises:
        ValueError: the run's own seed is not a whole number from 0 on, or its drops would be validation drops.
    """
    last = (VALIDATION - TRAINING) // RUN - 1
    if isinstance(run, bool) or not isinstance(run, int) or not 0 <= run <= last:
        raise ValueError(f"seed must be a whole number from 0 to {last}, got {run!r}")
    return TRAINING + RUN * run
