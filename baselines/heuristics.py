"""Heuristic policies: random activation, all APs on, and rankings with exact powers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import ap_sets
from baselines.bounds import fewest_active
from baselines.policy import AllocatingPolicy, Answer, Policy, all_on_at_max_power, allocate_with_margin, answer_from
from cfisac_env import actions, physics
from cfisac_env.types import Problem


class RandomPolicy(Policy):
    """Uniformly random actions."""

    name = "random"
    takes_prior = True

    def __init__(self, *, seed: int | None = 0, **sizes: Any) -> None:
        super().__init__(**sizes)
        self._rng = np.random.default_rng(seed)

    def decide(self, problem: Problem) -> Answer:
        """Draw an action."""
        action = self._rng.uniform(-1.0, 1.0, (problem.M, problem.K + 1))
        return Answer(actions.decode(action, problem.max_ap_power_w), feasible=False)


class MaxPowerPolicy(Policy):
    """Every AP on at P_max, split equally over the users."""

    name = "max-power"
    takes_prior = True

    def decide(self, problem: Problem) -> Answer:
        """Switch every AP on."""
        decision = all_on_at_max_power(problem)
        return Answer(decision, feasible=bool(physics.evaluate(problem, decision).feasible))


class FullApPolicy(AllocatingPolicy):
    """Every AP on, with exact powers."""

    name = "full-ap"
    takes_prior = True

    def decide(self, problem: Problem) -> Answer:
        """Allocate."""
        return answer_from(allocate_with_margin(problem, np.ones(problem.M, dtype=bool), self._allocator), problem)


class RankedPolicy(AllocatingPolicy):
    """Prefix of a ranking with exact powers, enlarged by a quarter until it is feasible.

    The first prefix has the size of the set of best APs over all users and targets, and at least n_min.
    """

    takes_prior = True

    def scores(self, problem: Problem) -> NDArray[np.float64]:
        """Score every AP for every user and target, (M, K + S), the higher the better."""
        raise NotImplementedError

    def decide(self, problem: Problem) -> Answer:
        """Allocate on growing prefixes of the ranking."""
        scores = self.scores(problem)
        ranking = ap_sets.ranking(scores)
        size = max(fewest_active(problem), len(np.unique(scores.argmax(0))))
        while True:
            answer = allocate_with_margin(problem, ap_sets.prefixes(ranking, [size])[0], self._allocator)
            if answer.feasible or size == problem.M:
                return answer_from(answer, problem)
            size = min(problem.M, max(size + 1, math.ceil(1.25 * size)))


class NearestApPolicy(RankedPolicy):
    """Ranking by distance to users and targets."""

    name = "nearest-ap"

    def scores(self, problem: Problem) -> NDArray[np.float64]:
        """Return negative distances."""
        if problem.ap_xy is None or problem.ue_xy is None or problem.target_xy is None:
            raise ValueError("nearest-ap needs the positions: an observation with 'ap', 'ue' and 'target'")
        others = np.concatenate([problem.ue_xy, problem.target_xy])
        return -np.asarray(np.linalg.norm(problem.ap_xy[:, None] - others, axis=-1))


class StrongestApPolicy(RankedPolicy):
    """Ranking by channel gain v_mk to users and Fisher information q_a + q_b about targets."""

    name = "strongest-ap"

    def scores(self, problem: Problem) -> NDArray[np.float64]:
        """Return estimate gains and Fisher information."""
        return np.concatenate([problem.estimate_gain, problem.fisher[..., 0] + problem.fisher[..., 1]], axis=1)
