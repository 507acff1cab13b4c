"""PettingZoo environment of decentralised control: every AP is an agent that sees its own links and what the APs share."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from cfisac_env import observations as codec
from cfisac_env.env import CfIsacEnv
from cfisac_env.observations import Observation

Each = dict[str, Any]
"""Name of an agent → value."""

_OWN = ("ap", "comm", "radar", "sensing")


class CfIsacParallelEnv(ParallelEnv[str, Any, Any]):  # type: ignore[misc]  # pettingzoo has no types
    """Joint AP activation and power allocation by M cooperating agents `ap_0` … `ap_{M−1}`.

    ## Description

    The drops, physics and reward of `CfIsac-v0`. An AP decides from its own links and from a shared budget of information: the first
    `budget` numbers about each AP, in the order q_a, q_b, q_c of each target, then ς, v of each user, as the central observation encodes
    them. With none, APs know their own links alone; with 3 S + 2 K, everything that the central controller knows.

    ## Action Space

    `Box(-1, 1, (K + 1,), float32)` for each AP: its row of the action of `CfIsac-v0`.

    ## Observation Space

    `Dict` of float32 for each AP: its rows `ap` (3,), `comm` (K, 2), `radar` (S, T) and `sensing` (S, 3) of the observation of
    `CfIsac-v0`; `requirement` (4,), and `pilots` (K, K) with shared pilots; `shared` (M, budget); `own` (M,), one at its own row.
    `state()` is the central observation, flattened.

    ## Rewards, Starting State, Episode End, Information

    Those of `CfIsac-v0`, the same for every agent.

    ```python
    from cfisac_env.decentralised import CfIsacParallelEnv

    env = CfIsacParallelEnv(M=10, K=3, budget=3)
    observations, infos = env.reset(seed=0)
    env.step({agent: env.action_space(agent).sample() for agent in env.agents})
    ```

    Args:
        budget: shared numbers per AP, 0 to 3 S + 2 K.
        render_mode: as for `CfIsac-v0`.
        options: those of `CfIsac-v0`.

    Raises:
        ValueError: a budget out of range.
    """

    metadata = {**CfIsacEnv.metadata, "name": "cfisac_v0", "is_parallelizable": True}

    def __init__(self, *, budget: int = 3, render_mode: str | None = None, **options: Any) -> None:
        self._env = CfIsacEnv(render_mode=render_mode, **options)
        config = self._env.config
        most = 3 * config.S + 2 * config.K
        if isinstance(budget, bool) or not isinstance(budget, int | np.integer) or not 0 <= budget <= most:
            raise ValueError(
                f"budget must be a whole number from 0 to 3 S + 2 K = {most}, the shared numbers per AP, got {budget!r}"
            )
        self.budget = int(budget)
        self.render_mode = render_mode
        self.possible_agents = [f"ap_{m}" for m in range(config.M)]
        self.agents: list[str] = []
        central = self._env.observation_space
        self.state_space = spaces.flatten_space(central)
        self.action_spaces = dict(zip(self.possible_agents, map(self._action_space, range(config.M)), strict=True))
        self.observation_spaces = {agent: self._observation_space(central) for agent in self.possible_agents}
        self._last: Observation = {}

    @property
    def env(self) -> CfIsacEnv:
        """The environment of the central controller, with `scenario`, `config` and `evaluate`."""
        return self._env

    @property
    def central_observation(self) -> Observation:
        """The last observation of the central controller, that of `CfIsac-v0`."""
        if not self._last:
            raise RuntimeError("the environment has to be reset before it is observed: call reset()")
        return {key: value.copy() for key, value in self._last.items()}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Return the observation space of an agent."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Return the action space of an agent."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Each, Each]:
        """Start an episode.

        Args:
            seed: of the generator.
            options: `drop` as for `CfIsac-v0`; others are ignored, as PettingZoo wants it.
        """
        known = {name: value for name, value in (options or {}).items() if name == "drop"}
        self._last, info = self._env.reset(seed=seed, options=known or None)
        self.agents = list(self.possible_agents)
        return self._observe(), self._to_each(info)

    def step(self, actions: Each) -> tuple[Each, Each, Each, Each, Each]:
        """Score the joint decision.

        Raises:
            ValueError: an agent's action is missing, or has another shape than (K + 1,).
            RuntimeError: the environment has not been reset, or its episode is over.
        """
        absent = [agent for agent in self.agents if agent not in actions]
        if absent:
            raise ValueError(f"every agent of `agents` needs an action; missing: {', '.join(absent[:10])}")
        rows = [np.asarray(actions[agent]) for agent in self.agents]
        wanted = (self._env.config.K + 1,)
        for agent, row in zip(self.agents, rows, strict=True):
            if row.shape != wanted:
                raise ValueError(
                    f"the action of {agent} must have shape {wanted} (1 activation + users), got {row.shape}"
                )
        joint: Any = np.stack(rows) if rows else np.empty((0, *wanted))
        self._last, reward, terminated, truncated, info = self._env.step(joint)
        earned, ends, cuts, infos = map(self._to_each, (float(reward), terminated, truncated, info))
        observations = self._observe()
        if terminated or truncated:
            self.agents = []
        return observations, earned, ends, cuts, infos

    def state(self) -> NDArray[np.float32]:
        """Return the central observation, flattened."""
        flat: Any = spaces.flatten(self._env.observation_space, self.central_observation)
        return np.asarray(flat, np.float32)

    def render(self) -> Any:
        """Render the last decision as `CfIsac-v0` does."""
        return self._env.render()

    def close(self) -> None:
        """Close the window, if any."""
        self._env.close()

    def _to_each(self, value: Any) -> Each:
        return {agent: dict(value) if isinstance(value, dict) else value for agent in self.agents}

    def _action_space(self, m: int) -> spaces.Box:
        whole: Any = self._env.action_space
        return spaces.Box(whole.low[m], whole.high[m], dtype=np.float32)

    def _observation_space(self, central: Any) -> spaces.Dict:
        M, limit = self._env.config.M, codec.LOG_LIMIT
        entries = {
            key: spaces.Box(space.low[0], space.high[0], dtype=np.float32) if key in _OWN else space
            for key, space in central.items()
            if key in _OWN or key in ("pilots", "requirement")
        }
        entries["own"] = spaces.Box(0.0, 1.0, (M,), np.float32)
        entries["shared"] = spaces.Box(-limit, limit, (M, self.budget), np.float32)
        return spaces.Dict(entries)

    def _observe(self) -> Each:
        central, M = self._last, self._env.config.M
        rows = [central[key].reshape(M, -1) for key in ("sensing", "comm")]
        shared = np.concatenate(rows, axis=1)[:, : self.budget]
        common: Each = {key: central[key] for key in ("pilots", "requirement") if key in central}
        common |= {"shared": shared}
        everyone = {}
        for m, agent in enumerate(self.possible_agents):
            entries: Each = {**common, "own": np.eye(1, M, m, np.float32)[0], **{key: central[key][m] for key in _OWN}}
            everyone[agent] = {key: entries[key].copy() for key in self.observation_spaces[agent]}
        return everyone
