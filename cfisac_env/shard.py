"""A shard of a vector environment: some of its environments, whose drops are drawn, observed and scored as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from cfisac_env import actions, info, observations, physics
from cfisac_env.backend import Backend
from cfisac_env.config import SystemConfig
from cfisac_env.sampling import RandomInputs, build
from cfisac_env.scenario import Scenario, joined
from cfisac_env.types import Array

Rows = NDArray[np.bool_]
Generators = Sequence[np.random.Generator]


@dataclass(frozen=True)
class Episode:
    """How the episodes of a vector environment go.

    Attributes:
        instants: of one network.
        decisions_per_drop: that each instant takes.
        terminates: whether nothing follows the last one, so that it isn't cut off.
        limit: steps after which an episode is cut off in any case, as `gymnasium.wrappers.TimeLimit` does; None is no limit.
        autoreset_mode: when the next one begins.
    """

    instants: int
    decisions_per_drop: int
    terminates: bool
    limit: int | None
    autoreset_mode: AutoresetMode

    @property
    def decisions(self) -> int:
        """Steps of a whole episode."""
        return self.instants * self.decisions_per_drop

    @property
    def length(self) -> int:
        """Steps after which an episode ends."""
        return self.decisions if self.limit is None else min(self.decisions, self.limit)


class Shard:
    """The environments in `span` of a vector environment; no two shards share anything that changes.

    Attributes:
        span: which environments.
        scenario: the drops that the next decisions are for; set by the first reset.
        over: (n,) whether the episode is over and not yet begun anew.
        ended: (n,) whether the last step ended the episode; `terminated` and `truncated`: in which way.
        scored: reward (n,) and information of the last step, of no meaning where an episode was over; None where all were.
        final: the last observations of the episodes that ended, where the same step began the next one.
    """

    def __init__(
        self, config: SystemConfig, span: slice, episode: Episode, backend: Backend, stored: Scenario | None = None
    ) -> None:
        n = span.stop - span.start
        self.span = span
        self.scenario: Scenario
        self.over, self.ended, self.terminated, self.truncated = (np.zeros(n, np.bool_) for _ in range(4))
        self.scored: tuple[Array, info.Info] | None = None
        self.final: dict[str, Array] | None = None
        self._config = config
        self._episode = episode
        self._stored = stored
        self._index = np.full(n, -1)  # of the stored drop
        self._steps = np.zeros(n, np.int64)
        self._backend = backend
        self._same_step = episode.autoreset_mode is AutoresetMode.SAME_STEP
        self._several = episode.length > 1
        self._keeps_seen = self._same_step or episode.decisions_per_drop > 1
        self._seen: dict[str, Array]  # to be shown again, or as the last of an episode that the same step ends
        self._active = backend.zeros((n, config.M), "bool")
        self._served = backend.array(np.ones(n, np.bool_))  # every instant of the episode before

    def configure(self, config: SystemConfig) -> None:
        """Go on under other requirements."""
        self._config = config
        if self._stored is not None:
            self._stored = replace(self._stored, config=config)
        if hasattr(self, "scenario"):
            self.scenario = replace(self.scenario, config=config)
        if hasattr(self, "_seen"):
            for i, number in enumerate(observations.requirement(config)):
                self._seen["requirement"][..., i] = number

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
            drop: (n,) which stored drop each plays, −1 for the next; None is the next for all.
            generators: one an environment.
            observation: written to.
        """
        self._index[rows & seeded] = -1
        self._draw(rows, np.zeros_like(rows), drop, generators)
        self._begin(rows)
        self.over = self.over & ~rows
        self._active = self._without(rows, self._active)
        self._observe(observation)

    def step(self, action: Array, generators: Generators, observation: Mapping[str, Array]) -> None:
        """Score decisions, go on to the next drops and observe.

        Args:
            action: (n, M, K + 1); not read where an episode is over.
            generators: one an environment.
            observation: written to.
        """
        playing = ~self.over
        active = self._decide(action, playing)
        beginning = self._count(playing)
        instants = self._steps % self._episode.decisions_per_drop == 0
        following = playing & instants & (self._steps < self._episode.decisions)
        if self._same_step:
            self.final = self._last(active, following, generators) if self.ended.any() else None
            following &= ~self.ended
        moving = bool((beginning | following).any())
        if moving:
            self._draw(beginning, following, None, generators)
        self._begin(beginning)
        self._active = self._without(beginning, active)
        self._observe(observation, moving)

    def _last(self, active: Array, following: Rows, generators: Generators) -> dict[str, Array]:
        """The last observations of the episodes that ended; those that were cut off go on to their next instant for it."""
        if (cut_off := following & self.ended).any():
            self._draw(np.zeros_like(cut_off), cut_off, None, generators)
            self._seen = observations.encode(self.scenario)
        rows = self._index_of(self.ended)
        final = {key: entry[rows] for key, entry in self._seen.items()}
        final["ap"][..., 2] = active[rows]
        return final

    def _decide(self, action: Array, playing: Rows) -> Array:
        """Score the decisions, and say which APs are on then (n, M)."""
        self.scored = None
        if not playing.any():
            return self._active
        decision = actions.decode(action, self._config.max_ap_power_w)
        problem = self.scenario.problem
        outcome = physics.evaluate(problem, decision)
        self.scored = info.scored(problem, decision, outcome, self._config, self._served)
        return decision.active

    def _count(self, playing: Rows) -> Rows:
        """Count the step, and say which episodes begin anew with it."""
        self._steps += playing
        self.ended = playing & (self._steps >= self._episode.length)
        if self._episode.limit is None:
            none = np.zeros_like(self.ended)
            self.terminated, self.truncated = (self.ended, none) if self._episode.terminates else (none, self.ended)
        else:
            self.terminated = self.ended & (self._steps >= self._episode.decisions) & self._episode.terminates
            self.truncated = self.ended & (~self.terminated | (self._steps >= self._episode.limit))
        if self.scored is not None and self._several:
            instant_over = self._backend.array(self._steps % self._episode.decisions_per_drop == 0)
            # A copy, as the information is handed out.
            self._served = self._backend.xp.where(instant_over, self.scored[1]["is_success"], self._served)
        if self._same_step:
            return self.ended
        self.over = self.ended
        return ~playing

    def _begin(self, rows: Rows) -> None:
        self._steps[rows] = 0
        if self._several:
            self._served = self._served | self._backend.array(rows)

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
            self._index[chosen] = next_drop(
                self._index[chosen], len(self._stored), None if drop is None else drop[chosen]
            )
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
        """An index that selects the rows; all of them are selected without a copy."""
        return slice(None) if rows.all() else self._backend.array(rows)

    def _without(self, rows: Rows, active: Array) -> Array:
        return active & ~self._backend.array(rows)[:, None]


def next_drop(played: NDArray[np.int64], count: int, wanted: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The drops, of `count`, that follow those that were played; `wanted` ones go first where they aren't −1."""
    following: NDArray[np.int64] = (played + 1) % count
    return following if wanted is None else np.where(wanted < 0, following, wanted)
