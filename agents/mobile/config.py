"""Hyper-parameters of the training of `mobile-value`."""

from __future__ import annotations

from dataclasses import dataclass

from cfisac_env import seeds


@dataclass(frozen=True)
class MobileTraining:
    """Training of `mobile-value`."""

    generations: int = 10
    """Generations of the evolution strategy."""
    population: int = 10
    """Candidates per generation, an even number."""
    episodes: int = 40
    """Training episodes."""
    batch: int = 12
    """Episodes on which the candidates of a generation are compared."""
    step: float = 0.15
    """Initial standard deviation of the parameters."""
    unserved_j: float = 20.0
    """Cost of an unserved instant in J."""
    validation_episodes: int = 24
    """Episodes for the choice of the best generation."""
    validate_every: int = 5
    """Generations between validations."""
    seed: int = 0
    """Seed of all random numbers, from 0 to 399; every seed trains on episodes of its own."""

    def __post_init__(self) -> None:
        for name in ("generations", "episodes", "batch", "validation_episodes", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.population < 4 or self.population % 2:
            raise ValueError(f"population must be an even number from 4 on, got {self.population}")
        if self.batch > self.episodes:
            raise ValueError(f"batch must be at most episodes={self.episodes}, got {self.batch}")
        if not (self.step > 0.0 and self.unserved_j >= 0.0):
            raise ValueError(f"step must be positive and unserved_j at least 0, got {self.step} and {self.unserved_j}")
        seeds.of_run(self.seed)
