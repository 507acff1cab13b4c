"""Shards of a vector environment: groups of environments that are sampled, observed and scored as one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from cfisac_env import actions, info, observations, physics
from cfisac_env.backend import Backend
from cfisac_env.config import SystemConfig
from cfisac_env.sampling import RandomInputs, build
from cfisac_env.scenario import Scenario, joined
from cfisac_env.types import Array, Decision, Outcome

Rows = NDArray[np.bool_]
Generators = Sequence[np.random.Generator]


@dataclass(frozen=True)
class Episode:
    """Episode structure of a vector environment."""

    instants: int  # of one network
    decisions_per_drop: int  # in each instant
    terminates: bool  # otherwise episodes are truncated
    limit: int | None  # steps after which episodes are truncated, as by `gymnasium.wrappers.TimeLimit`
    autoreset_mode: AutoresetMode

    @property
    def decisions(self) -> int:
        """Number of steps without a limit."""
        return self.instants * self.decisions_per_drop

    @property
    def length(self) -> int:
        """Number of steps of an episode."""
        return self.decisions if self.limit is None else min(self.decisions, self.limit)


class Shard:
    """Environments in `span` of a vector environment; shards share no mutable state.

    Attributes:
        span: slice of environments.
        scenario: current drops; set by the first reset.
        over: (n,) whether the episode has ended and awaits a reset.
        ended: (n,) whether the last step ended the episode, by `terminated` or `truncated`.
        scored: reward (n,) and info of the last step, undefined where an episode was over; None if all were.
        final: final observations of ended episodes, with same-step autoreset.
        draws: whether `shown` is kept.
        shown: drops, decisions and outcomes of the last step, and where there was a decision, (n,); None after a reset.
    """

    draws = False
    shown: tuple[Scenario, Decision, Outcome, Rows] | None = None

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
        self._keeps_observation = self._same_step or episode.decisions_per_drop > 1
        self._last_observation: dict[str, Array]  # repeated within an instant, or final with same-step autoreset
        self._active = backend.zeros((n, config.M), "bool")
        self._served = backend.array(np.ones(n, np.bool_))  # at all previous instants of the episode

    def configure(self, config: SystemConfig) -> None:
        """Change the requirements."""
        self._config = config
        if self._stored is not None:
            self._stored = replace(self._stored, config=config)
        if hasattr(self, "scenario"):
            self.scenario = replace(self.scenario, config=config)
        if hasattr(self, "_last_observation"):
            for i, number in enumerate(observations.requirement(config)):
                self._last_observation["requirement"][..., i] = number

    def reset(
        self,
        rows: Rows,
        seeded: Rows,
        drop: NDArray[np.int64] | None,
        generators: Generators,
        observation: Mapping[str, Array],
    ) -> None:
        """Start new episodes and observe.

        Args:
            rows: (n,) environments to reset; the others are only observed.
            seeded: (n,) environments that were seeded, for which stored drops restart.
            drop: (n,) index of the stored drop, −1 for the next; None is the next for all.
            observation: output.
        """
        self.shown = None
        self._index[rows & seeded] = -1
        self._draw(rows, np.zeros_like(rows), drop, generators)
        self._begin(rows)
        self.over = self.over & ~rows
        self._active = self._without(rows, self._active)
        self._observe(observation)

    def step(self, action: Array, generators: Generators, observation: Mapping[str, Array]) -> None:
        """Score decisions, advance to the next drops and observe.

        Args:
            action: (n, M, K + 1); ignored where an episode is over.
            observation: output.
        """
        playing, self.shown = ~self.over, None
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

    def views(self) -> Iterator[tuple[Scenario, Decision | None, Outcome | None]]:
        """Yield what there is to draw of every environment, in NumPy: the decided drop, or the present one without a decision."""
        present = _copied(self.scenario)
        for i in range(len(self.over)):
            if self.shown is None or not self.shown[3][i]:
                yield present[i], None, None
            else:
                drops, decision, outcome, _ = self.shown
                single = Outcome(**{name: column[i] for name, column in vars(outcome).items()})
                yield drops[i], Decision(decision.active[i], decision.power[i]), single

    def _last(self, active: Array, following: Rows, generators: Generators) -> dict[str, Array]:
        """Return the final observations of ended episodes; truncated ones advance to their next instant for it."""
        if (cut_off := following & self.ended).any():
            self._draw(np.zeros_like(cut_off), cut_off, None, generators)
            self._last_observation = observations.encode(self.scenario)
        rows = self._index_of(self.ended)
        final = {key: entry[rows] for key, entry in self._last_observation.items()}
        final["ap"][..., 2] = active[rows]
        return final

    def _decide(self, action: Array, playing: Rows) -> Array:
        """Score the decisions; return the active APs (n, M)."""
        self.scored = None
        if not playing.any():
            return self._active
        decision = actions.decode(action, self._config.max_ap_power_w)
        problem = self.scenario.problem
        outcome = physics.evaluate(problem, decision)
        self.scored = info.scored(problem, decision, outcome, self._config, self._served)
        self._show(decision, outcome, playing)
        return decision.active

    def _show(self, decision: Decision, outcome: Outcome, playing: Rows) -> None:
        if self.draws:
            self.shown = *(_copied(part) for part in (self.scenario, decision, outcome)), playing

    def _count(self, playing: Rows) -> Rows:
        """Count the step; return the episodes that restart with it, (n,)."""
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
            # A copy, as the info is returned to the user.
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
        """Write the observation; without a `moved` drop only the previous activation changes."""
        if not self._keeps_observation:
            observations.encode(self.scenario, self._active, observation)
            return
        if moved:
            self._last_observation = observations.encode(self.scenario, self._active)
        else:
            self._last_observation["ap"][..., 2] = self._active
        for key, entry in self._last_observation.items():
            observation[key][...] = entry

    def _draw(self, first: Rows, following: Rows, drop: NDArray[np.int64] | None, generators: Generators) -> None:
        """Draw new drops in the rows of `first`, and next instants of the same networks in those of `following`."""
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
        whole_shard = len(chosen) == len(self.over)
        network = self.scenario if whole_shard else self.scenario[self._backend.array(chosen)]
        return build(self._config, numbers, network)

    def _index_of(self, rows: Rows) -> Any:
        """Return an index that selects the rows, without a copy if it selects all."""
        return slice(None) if rows.all() else self._backend.array(rows)

    def _without(self, rows: Rows, active: Array) -> Array:
        return active & ~self._backend.array(rows)[:, None]


def _copied(part: Any) -> Any:
    """Copy a scenario, a decision or an outcome, whose arrays may be overwritten later, to NumPy."""
    given = {field.name: getattr(part, field.name) for field in fields(part)}
    arrays = {name: value for name, value in given.items() if value is not None and name != "config"}
    on_host = {name: value.cpu() if hasattr(value, "cpu") else value for name, value in arrays.items()}
    return replace(part, **{name: np.asarray(value).copy() for name, value in on_host.items()})


def next_drop(played: NDArray[np.int64], count: int, wanted: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the index of the next drop after those played, of `count`; `wanted` overrides it where it is not −1."""
    following: NDArray[np.int64] = (played + 1) % count
    return following if wanted is None else np.where(wanted < 0, following, wanted)
