"""Vector environment `CfIsacMobile-v0`: episodes generated, observed and scored as batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from cfisac_env import actions, info, observations, physics
from cfisac_env.backend import Backend
from cfisac_env.config import SystemConfig
from cfisac_env.mobile import CfIsacMobileEnv
from cfisac_env.scenario import ARRAYS, Scenario
from cfisac_env.shard import Episode, Generators, Rows, Shard, next_drop
from cfisac_env.types import Array
from cfisac_env.vector import CfIsacVectorEnv

_DRAWN_LINKS = 2**13
"""Number of AP–user links whose episodes are generated together, limited to fit the caches."""

_SHARD_LINKS = 2**14


class CfIsacMobileVectorEnv(CfIsacVectorEnv):
    """Batch of N environments `CfIsacMobile-v0`, identical step by step to N single ones with the same seeds.

    ```python
    import gymnasium as gym
    import cfisac_env

    envs = gym.make_vec("CfIsacMobile-v0", num_envs=64, M=30, K=6, switching_energy_j=2.0, threads=2)
    observations, infos = envs.reset(seed=0)
    observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
    ```

    Whole episodes are generated and stored, with gains and observations of all instants: about 0.25 MB per environment at (30, 6) and
    50 instants.

    Args:
        num_envs: N.
        autoreset_mode: as for `CfIsacVectorEnv`, like the next four.
        threads: number of threads.
        backend: `numpy` or `torch`; episodes are generated with NumPy in both.
        device: of torch tensors.
        max_episode_steps: steps after which episodes are truncated.
        options: of `CfIsacMobileEnv`.

    Raises:
        ValueError, TypeError: as `CfIsacMobileEnv` and `CfIsacVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int = 1,
        backend: str = "numpy",
        device: Any = None,
        max_episode_steps: int | None = None,
        **options: Any,
    ) -> None:
        self._check_keywords(CfIsacMobileEnv, options)
        single = CfIsacMobileEnv(**options)
        self._set_up(single, num_envs, autoreset_mode, threads, backend, device, max_episode_steps)
        self.step_s, self.dynamics, self.velocities = single.step_s, single.dynamics, single.velocities
        self.switching_energy_j, self.wake_up_steps = single.switching_energy_j, single.wake_up_steps
        self._stored = None if single.brought is None else single.brought.scenario
        self._shards = [MobileShard(single, span, self._episode, self._backend) for span in self._spans(_SHARD_LINKS)]


class MobileShard(Shard):
    """Shard with stored instants, in arrays of leading axes (instants, environments)."""

    def __init__(self, single: CfIsacMobileEnv, span: slice, episode: Episode, backend: Backend) -> None:
        super().__init__(single.config, span, episode, backend)
        self._dynamics, self._brought, self._velocities = single.dynamics, single.brought, single.velocities
        n, M = span.stop - span.start, single.config.M
        beginning = single.beginning()
        self._switching = replace(
            beginning, previous_active=backend.array(np.ones((n, M), np.bool_)), wait=backend.zeros((n, M), "int64")
        )
        self._sequence = np.array([beginning.step_s, beginning.energy_j, beginning.wake_up_steps], np.float32)
        self._energy_j = backend.zeros((n,))
        self._numbers: dict[str, Array] = {}
        self._views: dict[str, Array] = {}

    def configure(self, config: SystemConfig) -> None:
        """Change the requirements."""
        super().configure(config)
        if self._brought is not None:
            self._brought = replace(self._brought, scenario=replace(self._brought.scenario, config=config))
        if self._views:
            for i, number in enumerate(observations.requirement(config)):
                self._views["requirement"][..., i] = number

    def reset(
        self,
        rows: Rows,
        seeded: Rows,
        drop: NDArray[np.int64] | None,
        generators: Generators,
        observation: Mapping[str, Array],
    ) -> None:
        """Start new episodes and observe, as `Shard.reset`."""
        self.shown = None
        self._index[rows & seeded] = -1
        self._draw_all(rows, drop, generators)
        self._observe(observation)

    def step(self, action: Array, generators: Generators, observation: Mapping[str, Array]) -> None:
        """Score decisions, advance to the next instants and observe, as `Shard.step`."""
        playing, self.shown = ~self.over, None
        self._decide(action, playing)
        beginning = self._count(playing)
        if self._same_step:
            self.final = None
            if self.ended.any():
                rows = self._index_of(self.ended)
                self.final = {key: entry[rows] for key, entry in self._now().items()}
        if beginning.any():
            self._draw_all(beginning, None, generators)
        self._place()
        self._observe(observation)

    def _decide(self, action: Array, playing: Rows) -> Array:
        self.scored = None
        xp, state = self._backend.xp, self._switching
        if not playing.any():
            return state.previous_active
        awake: Array = state.wait == 0
        if not awake.all():
            silent = ~awake[:, :, None] & (xp.arange(action.shape[-1], device=self._backend.device) > 0)
            action = xp.where(silent, -xp.ones_like(action), action)
        decision = actions.decode(action, self._config.max_ap_power_w)
        problem = self.scenario.problem
        outcome = physics.evaluate(problem, decision)
        self.scored = info.scored(problem, decision, outcome, self._config, self._served, state, self._energy_j)
        self._energy_j = xp.asarray(self.scored[1]["episode_energy_j"], copy=True)
        self._switching = state.after(decision.active)
        self._show(decision, outcome, playing)
        return decision.active

    def _draw_all(self, rows: Rows, drop: NDArray[np.int64] | None, generators: Generators) -> None:
        """Generate new episodes in the rows, with every AP on and awake."""
        chosen = np.flatnonzero(rows)
        some = max(1, _DRAWN_LINKS // (self._config.M * self._config.K))
        for first in range(0, len(chosen), some):
            self._draw_episodes(chosen[first : first + some], drop, generators)
        self._begin(rows)
        self.over = self.over & ~rows
        at = self._backend.array(rows)
        state = self._switching
        assert state.previous_active is not None
        assert state.wait is not None
        self._switching = replace(
            state, previous_active=state.previous_active | at[:, None], wait=state.wait * ~at[:, None]
        )
        self._energy_j = self._energy_j * ~at
        self._place()

    def _draw_episodes(self, chosen: NDArray[np.int64], drop: NDArray[np.int64] | None, generators: Generators) -> None:
        steps = self._episode.decisions
        if self._brought is None:
            rngs = [generators[row] for row in chosen.tolist()]
            episodes = self._dynamics.episodes(self._config, rngs, steps, self._switching.step_s)
        else:
            wanted = None if drop is None else drop[chosen]
            self._index[chosen] = next_drop(self._index[chosen], len(self._brought.scenario), wanted)
            episodes = self._brought[self._index[chosen]]
        numbers = {name: value for name in ARRAYS if (value := getattr(episodes.scenario, name)) is not None}
        index = self._backend.array(chosen)
        for kept, fresh in ((self._numbers, numbers), (self._views, episodes.observe(self._velocities))):
            for name, value in fresh.items():
                if name not in kept:
                    kept[name] = self._backend.zeros((steps, len(self.over), *value.shape[2:]), str(value.dtype))
                kept[name][:, index] = self._backend.array(np.swapaxes(value, 0, 1))

    def _place(self) -> None:
        """Set `scenario` to the current instants."""
        self.scenario = Scenario(self._config, **self._at(self._numbers))

    def _at(self, kept: Mapping[str, Array]) -> dict[str, Array]:
        """Select the current instants of stored arrays; a view if they are equal for all environments."""
        instant = np.minimum(self._steps, self._episode.decisions - 1)
        if (instant == instant[0]).all():
            return {name: value[int(instant[0])] for name, value in kept.items()}
        index = self._backend.array(instant)
        each = self._backend.array(np.arange(len(instant)))
        return {name: value[index, each] for name, value in kept.items()}

    def _now(self) -> dict[str, Array]:
        """Build the current observations, as copies."""
        xp, state = self._backend.xp, self._switching
        entries = {name: xp.asarray(value, copy=True) for name, value in self._at(self._views).items()}
        entries["ap"][..., 2] = state.previous_active
        entries["wait"] = xp.astype(state.wait, xp.float32)
        sequence = np.empty((len(self._steps), 4), np.float32)
        sequence[:, :3], sequence[:, 3] = self._sequence, self._episode.decisions - self._steps
        entries["sequence"] = self._backend.array(sequence)
        return entries

    def _observe(self, observation: Mapping[str, Array], moved: bool = True) -> None:
        for key, entry in self._now().items():
            observation[key][...] = entry
