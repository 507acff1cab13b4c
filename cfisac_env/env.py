"""`CfIsac-v0`: joint AP activation and power allocation in one network."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from cfisac_env import actions, info, observations, physics
from cfisac_env.attributes import Configurable, Fixed, unknown_attribute
from cfisac_env.belief import Belief
from cfisac_env.config import FIELDS, SystemConfig, check_keywords
from cfisac_env.drops import Block, DropSource, RandomDrops, StoredDrops, chosen_drop, load
from cfisac_env.scenario import Scenario
from cfisac_env.types import Decision, Outcome, Problem


class CfIsacEnv(Configurable, gym.Env[Any, Any]):
    """Joint AP activation and power allocation, with one or several decisions per network.

    ## Description

    A cell-free massive MIMO network of M access points (APs) serves K users and locates S targets, whose echoes T receivers pick up,
    with the same signals. The agent switches APs on and off and sets powers, so that the network draws the least total power while
    every user reaches an SINR and every target is located to a given Cramér–Rao bound.

    ## Action Space

    `Box(-1, 1, (M, K + 1), float32)`: column 0 is the activation (on when ≥ 0), the others amplitudes p_mk = P_max ((a + 1)/2)² W.
    An AP that is off radiates nothing; one whose powers exceed P_max is scaled down to it. Values outside the box are clipped.

    ## Observation Space

    `Dict` of float32, complete (see `observations.space`): `ap` (M, 3), `comm` (M, K, 2), `sensing` (M, S, 3), `radar` (M, S, T),
    `requirement` (4,), and `pilots` (K, K) with shared pilots. `observations.decode` recovers the physical quantities.

    ## Rewards

    −total power [W] where every requirement is met, else −M (P_max + P_cir) · (1 + mean relative violation), less than any feasible
    decision earns. `reward=` chooses other kinds, see `reward.terms`; the terms are in `info["reward_terms"]`.

    ## Starting State

    A drop drawn from the configuration: everything uniform in the disc, the first target at its centre, log-normal shadowing.
    With `drops=`, the next one of the given drops (`options={"drop": i}` picks one; a seed starts from the first again).

    ## Episode End

    With `episode_steps=1` an episode is one drop: it terminates after the decision, or the `decisions_per_drop` decisions, on that.
    With more, new instants of the same network follow (new users and channels, same APs, receivers and targets), each of which takes
    `decisions_per_drop` decisions, and the episode is truncated after the last one. Within a drop only the previous activation in the
    observation changes.

    ## Information

    `step` returns `total_power_w`, `transmit_power_w`, `circuit_power_w`, `active_aps`, `sinr_db` (K,), `crlb_m2` (S,), `feasible`,
    `is_success` (whether all instants so far ended with their requirements met), `cost` and `costs` (K + S,) (relative violations, their
    sum and each), and `reward_terms`. `scenario` and `config` hold the drop and the configuration; `evaluate(decision)` scores without
    stepping. `configure(sinr_threshold_db=…)` changes requirements and the reward from then on.

    ## Arguments

    ```python
    import gymnasium as gym
    import cfisac_env

    env = gym.make("CfIsac-v0", M=50, K=10)
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    ```

    Args:
        episode_steps: instants per episode.
        decisions_per_drop: decisions per instant.
        drops: drops file or `Scenario` to play instead of random drops.
        render_mode: `rgb_array` or `human`.
        fields: any field of `SystemConfig`, and `preset`.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 5}
    not_taken: Mapping[str, str] = {}
    """Unsupported keywords of related environments, with the reason."""

    episode_steps = Fixed[int]()
    decisions_per_drop = Fixed[int]()

    def __init__(
        self,
        *,
        episode_steps: int = 1,
        decisions_per_drop: int = 1,
        drops: str | os.PathLike[str] | Scenario | None = None,
        render_mode: str | None = None,
        **fields: Any,
    ) -> None:
        self._check_keywords(fields)
        self.episode_steps = checked_count("episode_steps", episode_steps)
        self.decisions_per_drop = self._decisions_per_drop = checked_count("decisions_per_drop", decisions_per_drop)
        self._length = self.episode_steps * self.decisions_per_drop
        self._terminates = self.episode_steps == 1
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}")
        self._source: DropSource
        if drops is None:
            self._config = SystemConfig(**fields)
            self._source = RandomDrops(self._config, self.episode_steps)
        else:
            stored = load(drops, fields)
            self._config = stored.config
            self._source = StoredDrops(stored)
        self.render_mode = render_mode
        self.observation_space = observations.space(self._config)
        self.action_space = actions.space(self._config)
        self._block: Block | None = None
        self._index = 0
        self._steps = 0
        self._served = True  # whether all previous instants of the episode ended with their requirements met
        self._shown: tuple[Scenario, Decision | None, Outcome | None, Belief | None] | None = None
        self._viewer: Any = None

    @classmethod
    def _check_keywords(cls, fields: Iterable[str]) -> None:
        """Refuse unknown keywords, with the reason or the nearest valid name."""
        callee = f"{cls.__name__}.__init__()"
        for name, reason in {**VECTOR_ONLY, **cls.not_taken}.items():
            if name in fields:
                raise TypeError(f"{callee} got an unexpected keyword argument {name!r}: {reason}")
        check_keywords(callee, fields, [*keywords(cls), *FIELDS])

    def _set_config(self, config: SystemConfig) -> None:
        self._config = config
        self._source.configure(config)
        if self._block is not None:
            self._block = self._source.block

    @property
    def _horizon(self) -> int | None:
        return None if self._terminates else self._length

    def set_wrapper_attr(self, name: str, value: Any, *, force: bool = True) -> bool:
        """Set an existing attribute; new ones would have no effect.

        Raises:
            AttributeError: an unknown or read-only attribute.
        """
        if not hasattr(self, name):
            raise unknown_attribute(self, name)
        return super().set_wrapper_attr(name, value, force=force)

    @property
    def scenario(self) -> Scenario:
        """Current drop."""
        return self._current().scenario[self._index]

    def evaluate(self, decision: Decision) -> Outcome:
        """Score a decision, or several with leading axes, on the current drop without stepping.

        Raises:
            ValueError: shapes other than `active` (…, M) and `power` (…, M, K), or powers that are not finite and nonnegative.
            RuntimeError: the environment has not been reset.
        """
        return physics.evaluate(self._problem(), checked_decision(decision, (self.config.M, self.config.K)))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[observations.Observation, dict[str, Any]]:
        """Start an episode on a new drop.

        Args:
            seed: of the generator; stored drops restart from the first.
            options: `drop`, the index of a stored drop.

        Raises:
            ValueError, TypeError: unknown options.
        """
        drop = chosen_drop(options, self._source.count)
        super().reset(seed=seed)
        if seed is not None:
            self._source.restart()
        self._block, self._index = self._source.first(self.np_random, drop)
        self._steps, self._served = 0, True
        if self.render_mode is not None:
            self._show(None, None)
        return self._block.observe(self._index), {}

    def step(self, action: NDArray[np.float32]) -> tuple[observations.Observation, float, bool, bool, dict[str, Any]]:
        """Score a decision.

        Raises:
            ValueError: an action of another shape than (M, K + 1), with NaN, or not numeric.
            RuntimeError: the environment has not been reset, or its episode is over.
        """
        block = self._current()
        if self._steps >= self._length:
            raise RuntimeError("the episode is over; call reset() before the next step()")
        decision = actions.decode(self._realised(action), self._config.max_ap_power_w)
        problem = self._problem()
        outcome = physics.evaluate(problem, decision)
        reward, information = self._scored(problem, decision, outcome)
        if self.render_mode is not None:
            self._show(decision, outcome)
        self._steps += 1
        over = self._steps >= self._length
        if self._steps % self._decisions_per_drop == 0:
            self._served = bool(information["is_success"])
            if not over:
                self._block, self._index = self._source.next(self.np_random)
                block = self._block
        observation = block.observe(self._index, decision.active)
        return observation, reward, over and self._terminates, over and not self._terminates, information

    def _realised(self, action: Any) -> NDArray[np.float32]:
        """Return the validated action as executed."""
        return checked_action(action, (self._config.M, self._config.K + 1))

    def _scored(self, problem: Problem, decision: Decision, outcome: Outcome) -> tuple[float, info.Info]:
        return info.scored(problem, decision, outcome, self._config, self._served)

    def render(self) -> NDArray[np.uint8] | None:
        """Render the last decision (`rgb_array`); `human` draws on every reset and step."""
        if self.render_mode is None:
            gym.logger.warn('render() needs gym.make(..., render_mode="rgb_array") or "human"')
            return None
        if self._shown is None:
            raise RuntimeError("the environment has to be reset before it can be rendered")
        return self._get_viewer().frame(*self._shown) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if any."""
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the window from copies."""
        return {**self.__dict__, "_viewer": None}

    def _current(self) -> Block:
        if self._block is None:
            raise RuntimeError("the environment has to be reset before it is used: call reset()")
        return self._block

    def _problem(self) -> Problem:
        """Return the problem that decisions are scored by."""
        return self._current().problem[self._index]

    def _show(self, decision: Decision | None, outcome: Outcome | None) -> None:
        self._shown = (self.scenario, decision, outcome, self._drawn_belief())
        if self.render_mode == "human":
            self._get_viewer().show(*self._shown)

    def _drawn_belief(self) -> Belief | None:
        """Return the belief about the targets to be drawn, if there is one."""
        return None

    def _get_viewer(self) -> Any:
        if self._viewer is None:
            try:
                from cfisac_env.rendering import Viewer
            except ImportError as error:
                raise gym.error.DependencyNotInstalled(f"rendering needs matplotlib: {error}") from error
            self._viewer = Viewer()
        return self._viewer


def checked_count(name: str, value: Any) -> int:
    """Validate a whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number of 1 or more, got {value!r}")
    return int(value)


VECTOR_ONLY: Mapping[str, str] = {
    "autoreset_mode": 'vector environments have it; with vectorization_mode="sync" or "async", give '
    'vector_kwargs={"autoreset_mode": …}',
}


def keywords(cls: type) -> list[str]:
    """Return the keyword arguments of the constructors of an environment and its bases."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        if issubclass(base, Configurable) and "__init__" in base.__dict__:
            parameters = inspect.signature(base.__dict__["__init__"]).parameters.values()
            names |= {one.name: None for one in parameters if one.kind is not one.VAR_KEYWORD and one.name != "self"}
    return [name for name in names if name not in getattr(cls, "not_taken", {})]


def checked_action(action: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Validate an action and clip it to [-1, 1] as float32."""
    array = real_array(action, "the action")
    if array.shape != shape:
        raise ValueError(
            f"the action must have shape {shape} (APs, 1 activation + users), got {array.shape}; "
            + flat_hint(array.shape, shape)
        )
    if np.isnan(array).any():
        rows = np.unique(np.nonzero(np.isnan(array))[0])
        raise ValueError(f"the action holds NaN (rows {rows[:10].tolist()}); every entry must be a number in [-1, 1]")
    clipped: NDArray[np.float32] = physics.clip(array, -1.0, 1.0).astype(np.float32, copy=False)
    return clipped


def real_array(values: Any, name: str) -> NDArray[Any]:
    """Convert values to an array of real numbers, or raise a ValueError."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold real numbers, got an array of {array.dtype}")
    return array


def flat_hint(given: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return advice on an action of a wrong shape; `wanted` ends with (M, K + 1)."""
    M, columns = wanted[-2:]
    if given in ((M * columns,), (*wanted[:-2], M * columns)):
        return f"a flat action needs action.reshape({', '.join(map(str, wanted))}), or a wrapper that does it"
    return "was the policy built for this size?"


def checked_decision(decision: Decision, shape: tuple[int, int]) -> Decision:
    """Validate shapes, types and values of a decision."""
    if not isinstance(decision, Decision):
        raise TypeError(f"a decision must be a cfisac_env.Decision, got {type(decision).__name__}")
    active, power = np.asarray(decision.active), real_array(decision.power, "the decision's power")
    if active.dtype != np.bool_ or active.shape[-1:] != shape[:1] or power.shape[-2:] != shape:
        raise ValueError(
            f"a decision must have active (…, {shape[0]}) of bool and power (…, {shape[0]}, {shape[1]}) in W, got "
            f"active of {active.dtype}, shape {active.shape}, and power of shape {power.shape}"
        )
    if not np.isfinite(power).all() or (power < 0.0).any():
        raise ValueError("the decision's power must be finite and at least zero everywhere")
    return Decision(active, power.astype(np.float64, copy=False))
