"""`CfIsac-v0`: one network, one decision (or a series of them), scored by exact physics."""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from cfisac_env import actions, observations, physics, reward
from cfisac_env.config import SystemConfig
from cfisac_env.drops import Block, DropSource, RandomDrops, StoredDrops, load
from cfisac_env.scenario import Scenario
from cfisac_env.types import Array, Decision, Outcome


class CfIsacEnv(gym.Env[Any, Any]):
    """Which access points to switch on, and how much power each gives to each user.

    ## Description

    A cell-free massive MIMO network of M access points (APs) serves K users and locates S targets, whose echoes T receivers pick up,
    with the same signals. The agent switches APs on and off and sets powers, so that the network draws the least total power while
    every user reaches an SINR and every target is located to a given Cramér–Rao bound.

    ## Action Space

    `Box(-1, 1, (M, K + 1), float32)`: column 0 is the activation (on when ≥ 0), the others amplitudes p_mk = P_max ((a + 1)/2)² W.
    An AP that is off radiates nothing; one whose powers exceed P_max is scaled down to it. Values outside the box are clipped.

    ## Observation Space

    `Dict` of float32, complete (see `observations.space`): `ap` (M, 3), `comm` (M, K, 2), `sensing` (M, S, 3), `radar` (M, S, T),
    `requirement` (4,), and `pilots` (K, K) when pilots are reused. `observations.decode` gives the physical numbers back.

    ## Rewards

    −total power [W] − `sinr_penalty` · Σ_k max(0, 1 − γ_k/γ_thr) − `crlb_penalty` · Σ_s max(0, 1 − ν/CRLB_s); the terms are in
    `info["reward_terms"]`.

    ## Starting State

    A drop drawn from the configuration: everything uniform in the disc, the first target at its centre, log-normal shadowing.
    With `drops=`, the next one of the given drops (`options={"drop": i}` picks one; a seed starts from the first again).

    ## Episode End

    With `episode_steps=1` an episode is one drop: it terminates after the decision, or the `decisions_per_drop` decisions, on that.
    With more, new instants of the same network follow (new users and channels, same APs, receivers and targets), each of which takes
    `decisions_per_drop` decisions, and the episode is truncated after the last one. While a drop stays, so does the observation, but
    for what it says of the APs that were on.

    ## Information

    `step` returns `total_power_w`, `transmit_power_w`, `circuit_power_w`, `active_aps`, `sinr_db` (K,), `crlb_m2` (S,), `feasible`
    and `reward_terms`. `scenario` and `config` hold the drop and the configuration; `evaluate(decision)` scores without stepping.

    ## Arguments

    ```python
    import gymnasium as gym
    import cfisac_env

    env = gym.make("CfIsac-v0", M=50, K=10)
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    ```

    Args:
        episode_steps: instants an episode.
        decisions_per_drop: decisions that each instant takes before the next one is drawn.
        drops: a drops file or a `Scenario` to play instead of random drops.
        render_mode: `rgb_array` or `human`.
        fields: any field of `SystemConfig`, and `preset`.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 5}

    def __init__(
        self,
        *,
        episode_steps: int = 1,
        decisions_per_drop: int = 1,
        drops: str | os.PathLike[str] | Scenario | None = None,
        render_mode: str | None = None,
        **fields: Any,
    ) -> None:
        self.episode_steps = checked_count("episode_steps", episode_steps)
        self.decisions_per_drop = checked_count("decisions_per_drop", decisions_per_drop)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}")
        self._source: DropSource
        if drops is None:
            self.config = SystemConfig(**fields)
            self._source = RandomDrops(self.config, episode_steps)
        else:
            stored = load(drops, fields)
            self.config = stored.config
            self._source = StoredDrops(stored)
        self.render_mode = render_mode
        self.observation_space = observations.space(self.config)
        self.action_space = actions.space(self.config)
        self._shape = (self.config.M, self.config.K + 1)
        self._block: Block | None = None
        self._index = 0
        self._steps = 0
        self._shown: tuple[Scenario, Decision | None, Outcome | None] | None = None
        self._viewer: Any = None

    @property
    def scenario(self) -> Scenario:
        """The drop that the next decision is for."""
        return self._current().scenario[self._index]

    def evaluate(self, decision: Decision) -> Outcome:
        """Score a decision on the current drop without stepping."""
        return physics.evaluate(self._current().problem[self._index], decision)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[observations.Observation, dict[str, Any]]:
        """Begin an episode on a new drop."""
        super().reset(seed=seed)
        if seed is not None:
            self._source.restart()
        self._block, self._index = self._source.first(self.np_random, options or {})
        self._steps = 0
        if self.render_mode is not None:
            self._show(None, None)
        return self._block.observe(self._index), {}

    def step(self, action: NDArray[np.float32]) -> tuple[observations.Observation, float, bool, bool, dict[str, Any]]:
        """Score a decision.

        Raises:
            ValueError: the action has another shape than (M, K + 1), or holds NaN.
            RuntimeError: the environment hasn't been reset, or its episode is over.
        """
        block = self._current()
        if self._steps >= self.episode_steps * self.decisions_per_drop:
            raise RuntimeError("the episode is over; call reset() before the next step()")
        decision = actions.decode(checked_action(action, self._shape), self.config.max_ap_power_w)
        outcome = physics.evaluate(block.problem[self._index], decision)
        terms = {name: float(value) for name, value in reward.terms(outcome, self.config).items()}
        info = {
            "total_power_w": float(outcome.total_power),
            "transmit_power_w": float(outcome.transmit_power),
            "circuit_power_w": float(outcome.circuit_power),
            "active_aps": int(np.count_nonzero(decision.active)),
            "sinr_db": sinr_db(outcome.sinr),
            "crlb_m2": outcome.crlb.copy(),
            "feasible": bool(outcome.feasible),
            "reward_terms": terms,
        }
        if self.render_mode is not None:
            self._show(decision, outcome)
        self._steps += 1
        over = self._steps >= self.episode_steps * self.decisions_per_drop
        if not over and self._steps % self.decisions_per_drop == 0:
            self._block, self._index = self._source.next(self.np_random)
            block = self._block
        single = self.episode_steps == 1
        observation = block.observe(self._index, decision.active)
        return observation, sum(terms.values()), over and single, over and not single, info

    def render(self) -> NDArray[np.uint8] | None:
        """The map of the last decision (`rgb_array`); `human` draws by itself on every reset and step."""
        if self.render_mode is None:
            gym.logger.warn('render() needs gym.make(..., render_mode="rgb_array") or "human"')
            return None
        if self._shown is None:
            raise RuntimeError("the environment has to be reset before it can be rendered")
        return self._get_viewer().frame(*self._shown) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None

    def _current(self) -> Block:
        if self._block is None:
            raise RuntimeError("the environment has to be reset before it is used: call reset()")
        return self._block

    def _show(self, decision: Decision | None, outcome: Outcome | None) -> None:
        self._shown = (self.scenario, decision, outcome)
        if self.render_mode == "human":
            self._get_viewer().show(*self._shown)

    def _get_viewer(self) -> Any:
        if self._viewer is None:
            try:
                from cfisac_env.rendering import Viewer
            except ImportError as error:
                raise gym.error.DependencyNotInstalled(
                    'rendering needs matplotlib: pip install "cfisac[render]"'
                ) from error
            self._viewer = Viewer()
        return self._viewer


def checked_count(name: str, value: Any) -> int:
    """The value as an int, or a ValueError when it isn't a whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number of 1 or more, got {value!r}")
    return int(value)


def checked_action(action: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The action as float32 within [-1, 1], or a ValueError that says what is wrong with it."""
    array = np.asarray(action, dtype=np.float32)
    if array.shape != shape:
        raise ValueError(
            f"the action must have shape {shape} (APs, 1 activation + users), got {array.shape}; "
            "was the policy built for this size?"
        )
    if np.isnan(array).any():
        rows = np.unique(np.nonzero(np.isnan(array))[0])
        raise ValueError(f"the action holds NaN (rows {rows[:10].tolist()}); every entry must be a number in [-1, 1]")
    clipped: NDArray[np.float32] = physics.clip(array, -1.0, 1.0)
    return clipped


def sinr_db(sinr: Array) -> Array:
    """10 log10 γ, with −300 dB for a user that gets nothing."""
    return 10.0 * physics.namespace(sinr).log10(physics.clip(sinr, 1e-30))
