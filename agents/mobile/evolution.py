"""Covariance matrix adaptation evolution strategy (Hansen, 2016), with mirrored samples."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from baselines.allocation.result import Float


@dataclass(eq=False)
class Evolution:
    """Search distribution N(mean, step² C) for the minimum of a noisy function, and its evolution paths."""

    mean: Float  # (n,)
    step: float
    covariance: Float  # (n, n) C
    path: Float  # (n,) of the covariance
    step_path: Float  # (n,) of the step
    generation: int = 0

    @classmethod
    def start(cls, mean: Float, step: float, scale: Float) -> Evolution:
        """Start with independent parameters.

        Args:
            mean: (n,).
            step: overall standard deviation.
            scale: (n,) standard deviation of each parameter, relative to it.
        """
        n = len(mean)
        return cls(mean.copy(), step, np.diag(scale**2), np.zeros(n), np.zeros(n))

    def sample(self, rng: np.random.Generator, count: int) -> Float:
        """Draw `count` candidates, an even number, (count, n)."""
        half = rng.standard_normal((count // 2, len(self.mean)))
        root, _ = self._roots()
        return self.mean + self.step * np.concatenate([half, -half]) @ root.T

    def update(self, candidates: Float, costs: Float) -> None:
        """Move the distribution towards the better half of the candidates.

        Args:
            candidates: (count, n) of `sample`.
            costs: (count,).
        """
        n, parents = len(self.mean), len(costs) // 2
        weight = np.log(parents + 0.5) - np.log(np.arange(1, parents + 1))
        weight /= weight.sum()
        effective = 1.0 / (weight**2).sum()
        c_path = (4 + effective / n) / (n + 4 + 2 * effective / n)
        c_step = (effective + 2) / (n + effective + 5)
        c_one = 2 / ((n + 1.3) ** 2 + effective)
        c_parents = min(1 - c_one, 2 * (effective - 2 + 1 / effective) / ((n + 2) ** 2 + effective))
        moves = (candidates[np.argsort(costs, kind="stable")[:parents]] - self.mean) / self.step
        mean_move = weight @ moves
        _, inverse = self._roots()
        self.generation += 1
        self.step_path = (1 - c_step) * self.step_path + np.sqrt(
            c_step * (2 - c_step) * effective
        ) * inverse @ mean_move
        length = float(np.linalg.norm(self.step_path))
        usual = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        steady = length / np.sqrt(1 - (1 - c_step) ** (2 * self.generation)) < (1.4 + 2 / (n + 1)) * usual
        self.path = (1 - c_path) * self.path + steady * np.sqrt(c_path * (2 - c_path) * effective) * mean_move
        self.covariance = (
            (1 - c_one - c_parents) * self.covariance
            + c_one * np.outer(self.path, self.path)
            + c_parents * (moves.T * weight) @ moves
        )
        self.mean = self.mean + self.step * mean_move
        self.step *= float(np.exp(c_step / (1 + c_step) * (length / usual - 1)))

    def state(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _roots(self) -> tuple[Float, Float]:
        """Return the symmetric square root of C and its inverse."""
        values, vectors = np.linalg.eigh(self.covariance)
        root = np.sqrt(np.maximum(values, 1e-14))
        return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T
