"""`CfIsacActivation-v0`, `CfIsacPriority-v0` and `CfIsacSequential-v0`: the agent chooses the set of APs, the exact allocator the powers.

They have the drops and the reward of `CfIsac-v0`, so that returns are comparable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from baselines.allocation import Allocation, Allocator
from baselines.allocation.certificate import pilots_shared
from baselines.allocation.closed_form import ScaledDrops
from baselines.heuristics import StrongestApPolicy
from baselines.most_informative import MostInformativePolicy
from baselines.policy import allocate_with_margin
from cfisac_env import actions, info, observations, physics
from cfisac_env.attributes import Fixed
from cfisac_env.config import SystemConfig, nearest
from cfisac_env.env import CfIsacEnv, checked_count, real_array
from cfisac_env.observations import Observation
from cfisac_env.types import Decision, Problem

ACTION_TYPES = ("box", "multi-binary")
STARTS = ("all", "strongest")


def priced(allocator: Allocator, problem: Problem, active: NDArray[np.bool_]) -> Decision:
    """Return the decision for a set of APs: exact powers, or P_max in equal parts per AP when the set cannot serve the drop.

    The penalty at full power measures by how much such a set falls short.

    Args:
        active: (M,) bool.
    """
    return decision_of(allocate_with_margin(problem, active, allocator), problem)


def decision_of(answer: Allocation, problem: Problem) -> Decision:
    """The decision of one allocation: its powers, or P_max in equal parts when they don't serve the drop."""
    equal = problem.max_ap_power_w / problem.K * answer.active[:, None] * np.ones(problem.K)
    return Decision(active=answer.active, power=answer.power if answer.feasible else equal)


class CfIsacActivationEnv(CfIsacEnv):
    """Which access points to switch on; the exact allocator sets the powers.

    ## Description

    `CfIsac-v0` with only the activation as the action. The powers are the least with which the set meets every requirement.

    ## Action Space

    `Box(-1, 1, (M,), float32)`, on when ≥ 0; or, with `action_type="multi-binary"`, `MultiBinary(M)`.

    ## Observation Space

    That of `CfIsac-v0`.

    ## Rewards

    Those of `CfIsac-v0` for the set with its exact powers. A set that cannot serve the drop radiates P_max in equal parts from each of
    its APs, and pays the penalty of that decision.

    ## Starting State, Episode End, Information

    Those of `CfIsac-v0`.

    ## Arguments

    ```python
    import gymnasium as gym
    import cfisac_env

    env = gym.make("CfIsacActivation-v0", M=30, K=6, action_type="multi-binary")
    ```

    Args:
        action_type: `box` or `multi-binary`.
        backend: of the allocator.
        options: those of `CfIsac-v0`.
    """

    action_type = Fixed[str]()
    backend = Fixed[str]()

    def __init__(self, *, action_type: str = "box", backend: str = "fast", **options: Any) -> None:
        super().__init__(**options)
        _check("action_type", action_type, ACTION_TYPES)
        self.action_type = action_type
        Allocator(backend)  # refuses an unknown one
        self.backend = backend
        M = self.config.M
        self.action_space = spaces.Box(-1.0, 1.0, (M,), np.float32) if action_type == "box" else spaces.MultiBinary(M)

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Price a set and score it.

        Raises:
            ValueError: the action has another shape than (M,), or holds NaN or no numbers, or (multi-binary) something else than 0 and 1.
            RuntimeError: the environment hasn't been reset, or its episode is over.
        """
        problem = self.scenario.problem
        decision = priced(Allocator(self.backend), problem, self._active(action))
        return super().step(actions.encode(decision, problem.max_ap_power_w, problem.estimate_gain))

    def _active(self, action: NDArray[Any]) -> NDArray[np.bool_]:
        array = _one_an_ap(action, self.config.M)
        if self.action_type == "box":
            return np.asarray(array >= 0.0)
        if not np.isin(array, (0.0, 1.0)).all():
            raise ValueError(
                f"a multi-binary action holds 0 and 1 alone, got {np.unique(array)[:10].tolist()}; "
                'action_type="box" takes numbers in [-1, 1]'
            )
        return np.asarray(array == 1.0)


class CfIsacPriorityEnv(CfIsacEnv):
    """In which order to switch access points on; as many as the drop needs are, with exact powers.

    ## Description

    `CfIsac-v0` with a priority for each AP as the action. From n_min on, the shortest prefix of the APs by priority that serves the drop is
    on: by closed-form powers or, where these end short and where users share pilots, by the exact allocator, which sets the powers of
    the set that was found. So whatever the action, a drop that can be served is.

    ## Action Space

    `Box(-1, 1, (M,), float32)`, the highest first; equal ones in the order of their numbers.

    ## Observation Space, Rewards, Starting State, Episode End, Information

    Those of `CfIsac-v0`. With the wrapper `CanonicalOrder`, descending priorities are the policy `most-informative`. With
    `relaxed=True` the observation has `power` (M, K), too: the amplitudes √(p_mk/P_max) of the powers that suffice with every AP on, the
    relaxation without circuit power. As in `CfIsacSequential-v0` they are those of P_max in equal parts where no powers serve the drop.

    ## Arguments

    ```python
    import gymnasium as gym
    import cfisac_env

    env = gym.make("CfIsacPriority-v0", M=30, K=6, completions=8, relaxed=True)
    ```

    Args:
        completions: the last AP of a prefix is the one of the next so many by priority that makes the set cheapest.
        relaxed: whether the observation has the powers with every AP on.
        options: those of `CfIsac-v0`.
    """

    completions = Fixed[int]()
    relaxed = Fixed[bool]()

    def __init__(self, *, completions: int = 1, relaxed: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.completions = checked_count("completions", completions)
        if not isinstance(relaxed, bool | np.bool_):
            raise ValueError(f"relaxed must be True or False, got {relaxed!r}")
        self.relaxed = bool(relaxed)
        self._amplitude: tuple[tuple[Any, int], NDArray[np.float32]] | None = None
        self._rule = MostInformativePolicy(completions=self.completions)
        M, K = self.config.M, self.config.K
        self.action_space = spaces.Box(-1.0, 1.0, (M,), np.float32)
        if self.relaxed:
            entries = observations.space(self.config).spaces
            self.observation_space = spaces.Dict({**entries, "power": spaces.Box(0.0, 1.0, (M, K), np.float32)})

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Switch APs on by priority until the drop is served, and score that.

        Raises:
            ValueError: the action has another shape than (M,), or holds NaN or no numbers.
            RuntimeError: the environment hasn't been reset, or its episode is over.
        """
        ranking = np.argsort(-np.clip(_one_an_ap(action, self.config.M), -1.0, 1.0), kind="stable")
        problem = self.scenario.problem
        answer = self._rule.along(problem, ranking)
        action = actions.encode(answer.decision, problem.max_ap_power_w, problem.estimate_gain)
        observation, reward, terminated, truncated, information = super().step(action)
        return self._completed(observation), reward, terminated, truncated, information

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin with a new drop."""
        observation, information = super().reset(seed=seed, options=options)
        return self._completed(observation), information

    def _set_config(self, config: SystemConfig) -> None:
        super()._set_config(config)
        self._amplitude = None

    def _completed(self, observation: Observation) -> Observation:
        """The observation with the relaxation's amplitudes, which are computed once a drop."""
        if not self.relaxed:
            return observation
        drop = (self._block, self._index)
        if self._amplitude is None or self._amplitude[0] != drop:
            problem = self.scenario.problem
            self._amplitude = drop, amplitudes(relaxed_power(problem), problem.max_ap_power_w)
        entries = {**observation, "power": self._amplitude[1].copy()}
        return {key: entries[key] for key in self.observation_space.spaces}  # type: ignore[attr-defined]


class CfIsacSequentialEnv(CfIsacEnv):
    """Switch one access point at a time, or stop; the exact allocator sets the powers of every set.

    ## Description

    Selection as a Markov decision process: the state is a drop and a set of APs, a move switches one AP off or on.

    ## Action Space

    `Discrete(M + 1)`: 0 … M − 1 switch that AP, M stops. `action_masks()` allows every switch except the one that leaves no AP on, and
    `stop` only at a set that serves the drop. Agents that apply the mask (MaskablePPO of sb3-contrib) stop only at feasible sets; `step`
    accepts masked actions, too.

    ## Observation Space

    That of `CfIsac-v0`, where `ap[:, 2]` is the current set, and `power` (M, K): its amplitudes √(p_mk/P_max).

    ## Rewards

    R(new set) − R(old set), where R is the reward of `CfIsac-v0` for the set with its exact powers; a set that cannot serve the drop
    radiates P_max in equal parts and pays the penalty. So the return is R(last set) − R(first set), the watts saved when both serve the
    drop. The reward of stopping is 0.

    ## Starting State

    A drop with every AP on, or with the set of the policy `strongest-ap` (`start="strongest"`).

    ## Episode End

    Terminated by `stop`, truncated after `max_moves` moves.

    ## Information

    `reset` and `step` return the keys of `CfIsac-v0` for the current set.

    ## Arguments

    ```python
    import gymnasium as gym
    import cfisac_env

    env = gym.make("CfIsacSequential-v0", M=30, K=6, start="strongest")
    ```

    Args:
        start: `all` or `strongest`.
        max_moves: moves an episode; 2M by default, so that every set can be reached from every other.
        backend: of the allocator.
        drops: as for `CfIsac-v0`.
        render_mode: as for `CfIsac-v0`.
        fields: any field of `SystemConfig`, and `preset`.
    """

    not_taken: Mapping[str, str] = dict.fromkeys(
        ("episode_steps", "decisions_per_drop"), "an episode is one drop, and max_moves limits its moves"
    )

    start = Fixed[str]()
    max_moves = Fixed[int]()
    backend = Fixed[str]()

    def __init__(
        self,
        *,
        start: str = "all",
        max_moves: int | None = None,
        backend: str = "fast",
        drops: Any = None,
        render_mode: str | None = None,
        **fields: Any,
    ) -> None:
        self._check_keywords(fields)
        super().__init__(drops=drops, render_mode=render_mode, **fields)
        _check("start", start, STARTS)
        Allocator(backend)  # refuses an unknown one
        M, K = self.config.M, self.config.K
        self.start = start
        self.max_moves = 2 * M if max_moves is None else checked_count("max_moves", max_moves)
        self.backend = backend
        entries = observations.space(self.config).spaces
        self.observation_space = spaces.Dict({**entries, "power": spaces.Box(0.0, 1.0, (M, K), np.float32)})
        self.action_space = spaces.Discrete(M + 1)
        self._moves = 0
        self._over = True
        self._drop: Observation = {}

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the valid actions of the current state, (M + 1,) bool."""
        self._current()  # raises before the first reset
        return masks(self._decision.active, bool(self._outcome.feasible))

    def _set_config(self, config: SystemConfig) -> None:
        super()._set_config(config)
        if not self._over:
            self._enter(self._decision.active)

    @property
    def _horizon(self) -> int | None:
        return self.max_moves

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin with a new drop and its first set."""
        self._drop, _ = super().reset(seed=seed, options=options)
        self._moves, self._over = 0, False
        self._enter(first_set(self.scenario.problem, self.start, self.backend))
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Switch an AP, or stop.

        Raises:
            ValueError: not a whole number from 0 to M.
            RuntimeError: the environment hasn't been reset, or its episode is over.
        """
        scenario = self.scenario
        if self._over:
            raise RuntimeError("the episode is over; call reset() before the next step()")
        if np.shape(action) != () or not self.action_space.contains(np.asarray(action)[()]):
            raise ValueError(
                f"the action must be a whole number from 0 to {self.config.M} (an AP to switch, or {self.config.M} to stop), "
                f"got {action!r}"
            )
        move = int(action)
        gained = 0.0
        stopped = move == scenario.config.M
        if not stopped:
            before = self._score
            active = self._decision.active.copy()
            active[move] = not active[move]
            self._enter(active)
            gained = self._score - before
        self._moves += 1
        truncated = self._moves >= self.max_moves
        self._over = stopped or truncated
        return self._observe(), gained, stopped, truncated, self._info()

    def _enter(self, active: NDArray[np.bool_]) -> None:
        problem = self.scenario.problem
        self._decision = priced(Allocator(self.backend), problem, active)
        self._outcome = physics.evaluate(problem, self._decision)
        self._score, _ = self._scored(problem, self._decision, self._outcome)
        if self.render_mode is not None:
            self._show(self._decision, self._outcome)

    def _observe(self) -> Observation:
        observation = observed(self._drop, self._decision, self.config.max_ap_power_w)
        observation["requirement"][...] = observations.requirement(self.config)
        return {key: observation[key] for key in self.observation_space.spaces}  # type: ignore[attr-defined]

    def _info(self) -> info.Info:
        return self._scored(self.scenario.problem, self._decision, self._outcome)[1]


def _one_an_ap(action: Any, M: int) -> NDArray[Any]:
    """The action as an array (M,) of numbers, or a ValueError."""
    array = real_array(action, "the action")
    if array.shape != (M,):
        raise ValueError(
            f"the action must have shape ({M},), one entry an AP, got {array.shape}; "
            "CfIsac-v0 is the environment whose actions hold powers, too"
        )
    if np.isnan(array).any():
        raise ValueError(f"the action holds NaN (APs {np.flatnonzero(np.isnan(array))[:10].tolist()})")
    return array


def first_set(problem: Problem, start: str, backend: str) -> NDArray[np.bool_]:
    """Return the initial set of an episode of `CfIsacSequential-v0`, (M,) bool."""
    if start == "all":
        return np.ones(problem.M, dtype=bool)
    return np.asarray(StrongestApPolicy(backend=backend).decide(problem).decision.active)


def observed(drop: Observation, decision: Decision, max_ap_power_w: float) -> Observation:
    """Return the observation of `CfIsacSequential-v0` for a set, in new arrays.

    Args:
        drop: observation of the drop from `CfIsac-v0`.
        decision: the set with its powers.
        max_ap_power_w: P_max.
    """
    observation = {key: value.copy() for key, value in drop.items()}
    observation["ap"][:, 2] = decision.active
    observation["power"] = amplitudes(decision.power, max_ap_power_w)
    return observation


def amplitudes(power: NDArray[np.float64], max_ap_power_w: float) -> NDArray[np.float32]:
    """Return √(p_mk/P_max), within [0, 1]."""
    return np.sqrt(np.clip(power / max_ap_power_w, 0.0, 1.0)).astype(np.float32)


def relaxed_power(problem: Problem) -> NDArray[np.float64]:
    """Return the powers (M, K) with every AP on in W: in closed form or, where that ends short and with shared pilots, exact."""
    every = np.ones(problem.M, dtype=bool)
    if not pilots_shared(problem):
        power, transmit = ScaledDrops.of(problem).power(every[None])
        if np.isfinite(transmit[0]):
            return np.asarray(power[0])
    return np.asarray(priced(Allocator(), problem, every).power)


def masks(active: NDArray[np.bool_], feasible: bool) -> NDArray[np.bool_]:
    """Return the valid actions of `CfIsacSequential-v0` for a set, (M + 1,) bool."""
    allowed = np.ones(len(active) + 1, dtype=bool)
    if active.sum() == 1:
        allowed[:-1] = ~active
    allowed[-1] = feasible
    return allowed


def _check(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        hint = nearest(value, list(valid)) if isinstance(value, str) else ""
        raise ValueError(f"{name} must be {' or '.join(map(repr, valid))}, got {value!r}{hint}")
