"""Some of the environments of a vector environment: their drops are drawn, observed and scored as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from cfisac_env import actions, observations, physics, reward
from cfisac_env.backend import Backend
from cfisac_env.config import SystemConfig
from cfisac_env.env import sinr_db
from cfisac_env.sampling import RandomInputs, build
from cfisac_env.scenario import Scenario, joined
from cfisac_env.types import Array, Decision, Outcome

Rows = NDArray[np.bool_]
Generators = Sequence[np.random.Generator]


class Part:
    """The environments in `span` of a vector environment; no two parts share anything that changes.

    Attributes:
        span: which environments.
        scenario: the drops that the next decisions are for; set by the first reset.
        over: (n,) whose episodes are over and not yet begun anew.
        ended: (n,) whose episodes the last step ended.
        final: what those observed at their end, where the same step began the next episode.
    """

    def __init__(
        self,
        config: SystemConfig,
        span: slice,
        episode_steps: int,
        decisions_per_drop: int,
        autoreset_mode: AutoresetMode,
        backend: Backend,
        stored: Scenario | None = None,
    ) -> None:
        n = span.stop - span.start
        self.span = span
        self.scenario: Scenario
        self.over = np.zeros(n, np.bool_)
        self.ended = np.zeros(n, np.bool_)
        self.final: dict[str, Array] | None = None
        self._config = config
        self._decisions_per_drop = decisions_per_drop
        self._decisions = episode_steps * decisions_per_drop  # an episode
        self._autoreset_mode = autoreset_mode
        self._stored = stored
        self._index = np.full(n, -1)  # of the stored drop
        self._steps = np.zeros(n, np.int64)
        self._backend = backend
        self._keeps_seen = autoreset_mode is AutoresetMode.SAME_STEP or decisions_per_drop > 1
        self._seen: dict[str, Array]  # to be shown again, or as the last of an episode that the same step ends
        self._active = backend.zeros((n, config.M), "bool")

    def reset(
        self,
        rows: Rows,
        seeded: Rows,
        drop: NDArray[np.int64] | None,
        generators: Generators,
        observation: Mapping[str, Array],
    ) -> None:
        """Begin new episodes and observe.

        Args:
            rows: (n,) which begin; the others are only observed.
            seeded: (n,) which were seeded, so that stored drops start from the first.
            drop: (n,) which stored drop each plays; None is the next.
            generators: one an environment.
            observation: written to.
        """
        self._index[rows & seeded] = -1
        self._draw(rows, np.zeros_like(rows), drop, generators)
        self._steps[rows] = 0
        self.over = self.over & ~rows
        self._active = self._without(rows, self._active)
        self._observe(observation)

    def step(
        self, action: Array, generators: Generators, observation: Mapping[str, Array], scores: Mapping[str, Any]
    ) -> None:
        """Score decisions, go on to the next drops and observe.

        Args:
            action: (n, M, K + 1); not read where an episode is over.
            generators: one an environment.
            observation: written to.
            scores: written to where a decision was scored.
        """
        playing = ~self.over
        active = self._active
        if playing.any():
            decision = actions.decode(action, self._config.max_ap_power_w)
            outcome = physics.evaluate(self.scenario.problem, decision)
            self._score(decision, outcome, playing, scores)
            active = decision.active
        self._steps += playing
        self.ended = playing & (self._steps >= self._decisions)
        beginning = ~playing
        if self._autoreset_mode is AutoresetMode.SAME_STEP:
            beginning = self.ended
            ends = self.ended.any()
            rows = self._index_of(self.ended)
            self.final = {key: entry[rows] for key, entry in self._seen.items()} if ends else None
            if self.final is not None:
                self.final["ap"][..., 2] = active[rows]
        else:
            self.over = self.ended
        following = playing & ~self.ended & (self._steps % self._decisions_per_drop == 0)
        moving = bool((beginning | following).any())
        if moving:
            self._draw(beginning, following, None, generators)
        self._steps[beginning] = 0
        self._active = self._without(beginning, active)
        self._observe(observation, moving)

    def _observe(self, observation: Mapping[str, Array], moved: bool = True) -> None:
        """Write the observation; unless any drop `moved`, it is the last one but for the APs that were on."""
        if not self._keeps_seen:
            observations.encode(self.scenario, self._active, observation)
            return
        if moved:
            self._seen = observations.encode(self.scenario, self._active)
        else:
            self._seen["ap"][..., 2] = self._active
        for key, entry in self._seen.items():
            observation[key][...] = entry

    def _score(self, decision: Decision, outcome: Outcome, rows: Rows, scores: Mapping[str, Any]) -> None:
        terms = reward.terms(outcome, self._config)
        values = {
            "reward": sum(terms.values()),
            "total_power_w": outcome.total_power,
            "transmit_power_w": outcome.transmit_power,
            "circuit_power_w": outcome.circuit_power,
            "active_aps": decision.active.sum(-1),
            "sinr_db": sinr_db(outcome.sinr),
            "crlb_m2": outcome.crlb,
            "feasible": outcome.feasible,
        }
        everywhere, scored = rows.all(), self._index_of(rows)
        for results, computed in ((scores, values), (scores["reward_terms"], terms)):
            for name, value in computed.items():
                if everywhere:
                    results[name][...] = value
                else:
                    results[name][scored] = value[scored]

    def _draw(self, first: Rows, following: Rows, drop: NDArray[np.int64] | None, generators: Generators) -> None:
        """New drops in the rows of `first`, the next instants of the same networks in those of `following`."""
        pieces, order = [], []
        for rows, instants in ((first, False), (following, True)):
            if rows.any():
                chosen = np.flatnonzero(rows)
                pieces.append(self._sample(chosen, instants, drop, generators))
                order.append(chosen)
        kept = ~(first | following)
        if kept.any():
            pieces.append(self.scenario[self._index_of(kept)])
            order.append(np.flatnonzero(kept))
        self.scenario = (
            pieces[0] if len(pieces) == 1 else joined(pieces)[self._backend.array(np.argsort(np.concatenate(order)))]
        )

    def _sample(
        self, chosen: NDArray[np.int64], instants: bool, drop: NDArray[np.int64] | None, generators: Generators
    ) -> Scenario:
        if self._stored is not None:
            self._index[chosen] = (self._index[chosen] + 1) % len(self._stored) if drop is None else drop[chosen]
            return self._stored[self._backend.array(self._index[chosen])]
        inputs = RandomInputs(self._config, (len(chosen),), moving_only=instants)
        inputs.fill_each([generators[row] for row in chosen.tolist()])
        numbers = inputs.to(self._backend)
        if not instants:
            return build(self._config, numbers)
        everyone = len(chosen) == len(self.over)
        network = self.scenario if everyone else self.scenario[self._backend.array(chosen)]
        return build(self._config, numbers, network)

    def _index_of(self, rows: Rows) -> Any:
        """What selects the rows; those of all are selected without a copy."""
        return slice(None) if rows.all() else self._backend.array(rows)

    def _without(self, rows: Rows, active: Array) -> Array:
        return active & ~self._backend.array(rows)[:, None]
