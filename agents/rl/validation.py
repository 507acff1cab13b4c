"""Validation of an agent on fixed drops, against an oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import baselines
from cfisac_env import actions, observations, reward, seeds
from cfisac_env.config import SystemConfig
from cfisac_env.sampling import draw

ORACLE = "local-search"


@dataclass(frozen=True)
class Score:
    """Result on the validation drops that the oracle serves."""

    feasible: float  # share of drops with every requirement met
    gap: float  # mean of total power over the oracle's minus 1, on the drops that the agent serves; NaN without any
    total_power_w: float  # mean, feasible or not
    active_aps: float  # mean
    reward: float  # mean, with the penalty of training


class Validation:
    """Fixed validation drops with the oracle's total powers.

    Args:
        penalty: of a missed requirement in `Score.reward`, in W.
        oracle_w: (drops,) total power of the oracle's decisions, NaN where it serves none; None runs the oracle.

    Raises:
        ValueError: there are too few drops or too many, or the oracle serves none of them.
    """

    def __init__(
        self, config: SystemConfig, drops: int, penalty: float, oracle_w: NDArray[np.float64] | None = None
    ) -> None:
        most = seeds.TEST - seeds.VALIDATION
        if not 1 <= drops <= most:
            raise ValueError(f"validation drops must be from 1 to {most}, got {drops}")
        self._config = config.changed(sinr_penalty=penalty, crlb_penalty=penalty)
        self._scenario = draw(config, range(seeds.VALIDATION, seeds.VALIDATION + drops))
        self._observation = observations.encode(self._scenario)
        self.oracle_w = self._oracle_totals() if oracle_w is None else oracle_w
        self._served = ~np.isnan(self.oracle_w)
        if not self._served.any():
            raise ValueError(
                f"{ORACLE} serves none of the {drops} validation drops, so that there is nothing to hold an agent against; "
                "ask for less (sinr_threshold_db, crlb_threshold_m2), or take more APs or drops"
            )

    def score(self, agent: Any) -> Score:
        """Score the decisions of an agent."""
        action, _ = agent.predict(self._observation, deterministic=True)
        decision = actions.decode(np.asarray(action), self._config.max_ap_power_w)
        outcome = self._scenario.evaluate(decision)
        rewards = np.sum(list(reward.terms(outcome, self._config, self._scenario.problem).values()), axis=0)
        met = outcome.feasible & self._served
        total = outcome.total_power
        return Score(
            feasible=float(met[self._served].mean()),
            gap=float((total[met] / self.oracle_w[met] - 1.0).mean()) if met.any() else float("nan"),
            total_power_w=float(total[self._served].mean()),
            active_aps=float(decision.active.sum(-1)[self._served].mean()),
            reward=float(rewards[self._served].mean()),
        )

    def _oracle_totals(self) -> NDArray[np.float64]:
        oracle = baselines.make(ORACLE)
        answers = [oracle.decide(self._scenario[i].problem) for i in range(len(self._scenario))]
        return np.array(
            [
                a.decision.power.sum() + self._config.circuit_power_w * a.decision.active.sum()
                if a.feasible
                else np.nan
                for a in answers
            ]
        )
