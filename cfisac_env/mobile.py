"""`CfIsacMobile-v0`: a network over time with walking users, driving targets and switching costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cfisac_env import info
from cfisac_env.attributes import Fixed, built
from cfisac_env.drops import DropSource, load
from cfisac_env.env import CfIsacEnv, checked_count
from cfisac_env.episodes import (
    Dynamics,
    StoredTrajectories,
    TrajectorySource,
    checked_trajectories,
    velocity_spaces,
)
from cfisac_env.mobility import (
    CorrelatedShadowing,
    Motion,
    RandomWaypoint,
    Shadowing,
    SmoothTurns,
    Track,
    checked_number,
)
from cfisac_env.observations import Observation
from cfisac_env.scenario import Scenario
from cfisac_env.switching import Switching, switching
from cfisac_env.types import Decision, Outcome, Problem

__all__ = ["MAX_STEPS", "CfIsacMobileEnv", "Switching", "switching"]

MAX_STEPS = 1000
"""Maximum episode length, as shadowing correlates all instants of an episode."""


class CfIsacMobileEnv(CfIsacEnv):
    """AP activation and power allocation over time, with mobility and switching costs.

    ## Description

    An episode consists of consecutive instants of one network (50 of 1 s). Users walk to random waypoints at 1.5 m/s, targets drive at
    15 m/s in smooth turns, all within the disc, and the shadowing of every link varies along its user's path with the correlation
    exp(−d/13 m), independent across APs. Each of the three is a replaceable strategy object of `cfisac_env.mobility`. Everything else is
    constant during an episode.

    Switching an AP on costs `switching_energy_j`, and for `wake_up_steps` instants it draws circuit power without serving: the
    powers that the action assigns to it are not radiated. An AP switched off during its wake-up must start again. Both are 0 by default.

    ## Action Space

    That of `CfIsac-v0`.

    ## Observation Space

    That of `CfIsac-v0`, where `ap[:, 2]` is the previous activation, and

    - `wait` (M,): remaining instants until an AP that is on from now on serves (0: it serves now)
    - `sequence` (4,): seconds per instant, switching energy in J, wake-up steps, remaining decisions of the episode
    - `ue_velocity` (K, 2), `target_velocity` (S, 2): current velocity in radii of the disc per second
    - `ue_turn_rate` (K,), `target_turn_rate` (S,): current turn rate in rad/s, counterclockwise

    With `velocities=False` the last four are omitted.

    ## State

    The future depends on the past only through the following. Observed: positions, velocities, turn rates, gains, pilots,
    radar gains, which APs are on and awake, and the time left; with the default dynamics that is the whole state of APs, receivers and
    targets, which are Markov. Not observed: the distance of each user's waypoint (in the direction of the velocity), and
    the shadowing at points that a user has passed and may revisit (on a straight path the shadowing is Markov). Custom strategies may
    have further hidden state.

    ## Rewards

    Those of `CfIsac-v0`, where the switching power `switching_energy_j` · (APs switched on)/`step_s` adds to the total. Without violations,
    −reward · `step_s` is the energy of the step in J.

    ## Starting State

    A network with every AP on and awake, so that the first activation is free.

    ## Episode End

    Truncated after `episode_steps` decisions.

    ## Custom Trajectories

    `drops=` takes a `Scenario`, or a file of one, with a time axis: leading axes (instants,), or (episodes, instants), `step_s` apart.
    Episodes are played in order, `options={"drop": i}` selects one, and a seed restarts from the first. Velocities are differences of
    positions. APs and receivers must be fixed.

    ## Information

    That of `CfIsac-v0`, and `switched_on` and `waking_aps` (numbers of APs), `switching_energy_j` of the step, `energy_j` of the step, all
    included, and `episode_energy_j` so far. `trajectory` holds the whole episode, for clairvoyant policies only.

    ## Arguments

    ```python
    import gymnasium as gym
    import cfisac_env

    env = gym.make("CfIsacMobile-v0", M=30, K=6, switching_energy_j=2.0, wake_up_steps=1)
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    ```

    Args:
        episode_steps: decisions per episode, at most 1000; 50 by default, or with `drops` the length of the trajectories.
        step_s: seconds between instants.
        switching_energy_j: energy for switching an AP on, in J.
        wake_up_steps: instants until an AP that was switched on serves.
        user_speed_m_s: of the default user motion, 1.5 m/s.
        target_speed_m_s: of the default target motion, 15 m/s.
        decorrelation_m: of the default shadowing, 13 m.
        user_motion: `Motion` of the users, instead of `user_speed_m_s`; also in its serialised form, `{"strategy": "module:Class", …}` with
            the fields of the dataclass.
        target_motion: the same for the targets.
        shadowing: `Shadowing` of the links, instead of `decorrelation_m`.
        velocities: whether the observation contains velocities and turn rates.
        drops: trajectories to play, which exclude speeds and strategies.
        render_mode: `rgb_array` or `human`.
        fields: any field of `SystemConfig`, and `preset`.

    Raises:
        ValueError: a number out of range, a strategy together with the number that it replaces, or trajectories that are shorter than an
            episode, have no time axis, or whose APs move.
    """

    not_taken: Mapping[str, str] = {"decisions_per_drop": "time goes on with every decision"}

    step_s = Fixed[float]()
    switching_energy_j = Fixed[float]()
    wake_up_steps = Fixed[int]()
    dynamics = Fixed[Dynamics]()
    velocities = Fixed[bool]()

    def __init__(
        self,
        *,
        episode_steps: int | None = None,
        step_s: float = 1.0,
        switching_energy_j: float = 0.0,
        wake_up_steps: int = 0,
        user_speed_m_s: float | None = None,
        target_speed_m_s: float | None = None,
        decorrelation_m: float | None = None,
        user_motion: Motion | None = None,
        target_motion: Motion | None = None,
        shadowing: Shadowing | None = None,
        velocities: bool = True,
        drops: str | os.PathLike[str] | Scenario | None = None,
        render_mode: str | None = None,
        **fields: Any,
    ) -> None:
        self._check_keywords(fields)
        user_motion, target_motion = built("user_motion", user_motion), built("target_motion", target_motion)
        shadowing = built("shadowing", shadowing)
        self.step_s = checked_number("step_s", step_s, 1e6, positive=True)
        brought = None
        if drops is not None:
            moving = {
                "user_speed_m_s": user_speed_m_s, "target_speed_m_s": target_speed_m_s, "decorrelation_m": decorrelation_m,
                "user_motion": user_motion, "target_motion": target_motion, "shadowing": shadowing,
            }  # fmt: skip
            if given := [name for name, value in moving.items() if value is not None]:
                raise ValueError(f"{given[0]} doesn't go with drops, which define the motion; leave one of them out")
            stored = load(drops, fields)
            fields = stored.config.as_dict()
            steps = None if episode_steps is None else checked_count("episode_steps", episode_steps)
            brought = checked_trajectories(stored, steps, self.step_s)
            episode_steps = brought.scenario.batch_shape[1]
        episode_steps = 50 if episode_steps is None else episode_steps
        super().__init__(episode_steps=episode_steps, render_mode=render_mode, **fields)
        self._terminates = False
        if brought is None and episode_steps > MAX_STEPS:
            raise ValueError(
                f"episode_steps must be {MAX_STEPS} or less, as an episode is drawn whole, got {episode_steps!r}"
            )
        whole = isinstance(wake_up_steps, int | np.integer) and not isinstance(wake_up_steps, bool)
        if not whole or not 0 <= wake_up_steps <= MAX_STEPS:
            raise ValueError(f"wake_up_steps must be a whole number in [0, {MAX_STEPS}], got {wake_up_steps!r}")
        for name, number, other, strategy in (
            ("user_speed_m_s", user_speed_m_s, "user_motion", user_motion),
            ("target_speed_m_s", target_speed_m_s, "target_motion", target_motion),
            ("decorrelation_m", decorrelation_m, "shadowing", shadowing),
        ):
            if number is not None and strategy is not None:
                raise ValueError(f"{name} belongs to the default strategy; leave it out when {other} is given")
        self.switching_energy_j = checked_number("switching_energy_j", switching_energy_j, 1e9)
        self.wake_up_steps = int(wake_up_steps)
        # Validated here for the argument's name in the message.
        for name, number in (("user_speed_m_s", user_speed_m_s), ("target_speed_m_s", target_speed_m_s)):
            if number is not None:
                checked_number(name, number, 1e3)
        self.dynamics = Dynamics(
            users=_given(user_motion, RandomWaypoint, user_speed_m_s, 1.5),
            targets=_given(target_motion, SmoothTurns, target_speed_m_s, 15.0),
            shadowing=_given(shadowing, CorrelatedShadowing, decorrelation_m, 13.0),
        )
        if not isinstance(velocities, bool | np.bool_):
            raise ValueError(f"velocities must be True or False, got {velocities!r}")
        self.velocities = bool(velocities)
        self.brought = brought
        self._trajectories = (
            TrajectorySource(self.config, self.dynamics, self.episode_steps, self.step_s, self.velocities)
            if brought is None
            else StoredTrajectories(brought, self.velocities)
        )
        self._source: DropSource = self._trajectories
        self.observation_space = spaces.Dict(
            {
                **self.observation_space.spaces,  # type: ignore[attr-defined]
                "sequence": spaces.Box(0.0, 1e9, (4,), np.float32),
                "wait": spaces.Box(0.0, float(MAX_STEPS), (self.config.M,), np.float32),
                **(velocity_spaces(self.config) if self.velocities else {}),
            }
        )
        self._state = self.beginning()
        self._energy_j = 0.0

    @property
    def trajectory(self) -> Scenario:
        """The whole episode, including its future, with one leading axis."""
        if self._trajectories.block is None:
            raise RuntimeError("the environment has to be reset before it has a trajectory: call reset()")
        return self._trajectories.block.scenario

    @property
    def target_track(self) -> Track:
        """Positions, velocities and turn rates of the targets over the whole episode, including its future."""
        if self._trajectories.targets is None:
            raise RuntimeError("the environment has to be reset before it has a trajectory: call reset()")
        return self._trajectories.targets

    @property
    def switching(self) -> Switching:
        """Switching state before the next decision."""
        return self._state

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in a new network with every AP on."""
        observation, info = super().reset(seed=seed, options=options)
        self._state = self.beginning()
        self._energy_j = 0.0
        return self._completed(observation), info

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Score a decision and advance to the next instant.

        Raises:
            ValueError: an action of another shape than (M, K + 1), with NaN, or not numeric.
            RuntimeError: the environment has not been reset, or its episode is over.
        """
        observation, reward, terminated, truncated, information = super().step(action)
        return self._completed(observation), reward, terminated, truncated, information

    def _realised(self, action: Any) -> NDArray[np.float32]:
        realised = super()._realised(action)
        realised[~self._state.awake(self.config.M), 1:] = -1.0
        return realised

    def _scored(self, problem: Problem, decision: Decision, outcome: Outcome) -> tuple[float, info.Info]:
        reward, information = info.scored(
            problem, decision, outcome, self.config, self._served, self._state, self._energy_j
        )
        self._energy_j = information["episode_energy_j"]
        self._state = self._state.after(decision.active)
        return reward, information

    def beginning(self) -> Switching:
        """Return the initial switching state: every AP on and awake."""
        M = self.config.M
        return Switching(
            step_s=self.step_s,
            energy_j=self.switching_energy_j,
            wake_up_steps=self.wake_up_steps,
            steps_left=self.episode_steps,
            previous_active=np.ones(M, dtype=bool),
            wait=np.zeros(M, dtype=np.int64),
        )

    def _completed(self, observation: Observation) -> Observation:
        """Add the entries beyond those of `CfIsac-v0`."""
        state = self._state
        assert state.previous_active is not None
        assert state.wait is not None
        observation["ap"][:, 2] = state.previous_active
        observation["wait"] = state.wait.astype(np.float32)
        observation["sequence"] = np.array(
            [state.step_s, state.energy_j, state.wake_up_steps, state.steps_left], np.float32
        )
        return {key: observation[key] for key in self.observation_space.spaces}  # type: ignore[attr-defined]


def _given(strategy: Any, default: Callable[[float], Any], number: float | None, usual: float) -> Any:
    """Return the given strategy, or the default one with the given or usual number."""
    return default(usual if number is None else number) if strategy is None else strategy
