"""`CfIsacTracking-v0`: a network over time that knows its targets only by what it has measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from cfisac_env import info, observations, physics
from cfisac_env.attributes import Fixed
from cfisac_env.belief import STATE, Belief, NearlyConstantTurn, checked_covariance, measured
from cfisac_env.config import FAR
from cfisac_env.episodes import FASTEST
from cfisac_env.mobile import CfIsacMobileEnv
from cfisac_env.observations import Observation
from cfisac_env.scenario import Scenario
from cfisac_env.types import Decision, Outcome, Problem

INITIAL_COVARIANCE = np.diag([9.0, 9.0, 25.0, 25.0, 0.01])
"""Covariance of the first belief: x and y in m², their velocities in m²/s², the turn rate in rad²/s²."""

SPREAD = 1e12
"""Largest observed magnitude of a covariance."""


class CfIsacTrackingEnv(CfIsacMobileEnv):
    """AP activation and power allocation over time, with targets that are tracked by their echoes.

    ## Description

    `CfIsacMobile-v0`, where the controller doesn't know where the targets are. It holds a belief about each: mean and covariance of
    position, velocity and turn rate. At every instant the delays of the echoes measure the path lengths from each AP over the target to
    each receiver, with the variance 1/(ζ P_m |χ_mst|²) in m², so that their information about the true position is J(P) of `CfIsac-v0`.
    An extended Kalman filter updates the belief, and predicts it by one step.

    The CRLB of every target is replaced by the posterior Cramér–Rao bound tr((J0 + J(P))⁻¹) at its true position, with the information J0
    of the predicted belief about its position. Information that is bought now thus saves power later.

    The filter's model is a nearly constant turn with white acceleration (`cfisac_env.belief`). The first belief is drawn around the
    true state.

    ## Action Space

    That of `CfIsac-v0`.

    ## Observation Space

    That of `CfIsacMobile-v0`, with `target`, `target_velocity`, `target_turn_rate`, `sensing` and `radar` at the mean of the predicted
    belief instead of the true state, and

    - `prior` (S, 3): its information J0 about each position: log10 J_a, log10 J_b, J_c/√(J_a J_b), in 1/m²
    - `covariance` (S, 5, 5): of x, y, their velocities and the turn rate, in the units of `target`, `target_velocity` and
      `target_turn_rate`

    ## Rewards

    Those of `CfIsacMobile-v0`.

    ## Starting State

    A network with every AP on and awake, and a first belief.

    ## Episode End

    Truncated after `episode_steps` decisions.

    ## Information

    That of `CfIsacMobile-v0`, where `crlb_m2` is the posterior bound, and after the update of this step `position_error_m` (S,), the
    distance of the mean from the target, and `belief_variance_m2` (S,), the trace of the filter's covariance of the position. `scenario`
    holds the true position, for clairvoyant policies only.

    ## Arguments

    ```python
    import gymnasium as gym
    import cfisac_env

    env = gym.make("CfIsacTracking-v0", M=30, K=6, T=4, preset="urban")
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    ```

    Args:
        acceleration_m_s2: standard deviation of the filter's white acceleration per axis, m/s².
        turn_rate_rad_s: standard deviation of the filter's turn rate, rad/s.
        turn_memory_s: correlation time of the filter's turn rate, s.
        initial_covariance: (5, 5) of the first belief, in the order of `covariance`, in m, m/s and rad/s; by default 3 m, 5 m/s and
            0.1 rad/s, independent.
        arguments: of `CfIsacMobile-v0`, and any field of `SystemConfig`.

    Raises:
        ValueError: as `CfIsacMobile-v0`, a negative standard deviation, or a covariance that isn't symmetric positive definite.
    """

    model = Fixed[NearlyConstantTurn]()

    def __init__(
        self,
        *,
        acceleration_m_s2: float = 0.5,
        turn_rate_rad_s: float = 0.1,
        turn_memory_s: float = 5.0,
        initial_covariance: ArrayLike | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.model = NearlyConstantTurn(acceleration_m_s2, turn_rate_rad_s, turn_memory_s)
        self._initial = checked_covariance(INITIAL_COVARIANCE if initial_covariance is None else initial_covariance)
        entries = dict(self.observation_space.spaces)  # type: ignore[attr-defined]
        entries["prior"] = observations.space(self.config, prior=True)["prior"]
        entries["covariance"] = spaces.Box(-SPREAD, SPREAD, (self.config.S, STATE, STATE), np.float32)
        self.observation_space = spaces.Dict(entries)
        self._predicted: Belief | None = None
        self._posterior: Belief | None = None

    @property
    def belief(self) -> Belief:
        """Belief about the targets before the next decision."""
        self._current()
        if self._predicted is None:
            self._predicted = self._first_belief()
        return self._predicted

    @property
    def scenario(self) -> Scenario:
        """Current drop, with the true position of the targets and the information of the belief."""
        return replace(super().scenario, prior=self.belief.information)

    @property
    def believed_scenario(self) -> Scenario:
        """Current drop as the controller believes it to be, with the targets at the mean of the belief."""
        drop, config, xy = self.scenario, self.config, self.belief.mean[:, :2]
        at_mean, at_truth = (
            physics.radar_gain(
                drop.ap_xy, drop.sr_xy, target, config.wavelength_m, config.rcs_m2, config.min_distance_m
            )
            for target in (xy, np.asarray(drop.target_xy))
        )
        rcs_gain = at_mean * (drop.rcs_gain / at_truth)  # the cross-section of each pair is known
        fisher = physics.fisher_information(drop.ap_xy, drop.sr_xy, xy, rcs_gain, config.fisher_scale)
        return replace(drop, target_xy=xy, rcs_gain=rcs_gain, fisher=fisher)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in a new network with every AP on, and draw the first belief."""
        self._predicted = self._posterior = None
        return super().reset(seed=seed, options=options)

    def _problem(self) -> Problem:
        return replace(super()._problem(), prior=self.belief.information)

    def _scored(self, problem: Problem, decision: Decision, outcome: Outcome) -> tuple[float, info.Info]:
        reward, information = super()._scored(problem, decision, outcome)
        drop = self.scenario
        true_xy, ap_xy, sr_xy = (np.asarray(a) for a in (drop.target_xy, drop.ap_xy, drop.sr_xy))
        length_m, weight = measured(
            self.np_random, true_xy, ap_xy, sr_xy, decision.power.sum(-1), np.asarray(drop.rcs_gain), self.config.fisher_scale
        )  # fmt: skip
        self._posterior = self.belief.updated(length_m, weight, ap_xy, sr_xy)
        information["position_error_m"] = np.linalg.norm(self._posterior.mean[:, :2] - true_xy, axis=-1)
        information["belief_variance_m2"] = self._posterior.variance_m2
        return reward, information

    def _completed(self, observation: Observation) -> Observation:
        if self._posterior is not None:
            self._predicted = self.model.predict(self._posterior, self.step_s)
        belief, radius_m = self.belief, self.config.area_diameter_m / 2
        encoded = observations.encode(self.believed_scenario)
        entries = {key: encoded[key] for key in ("prior", "radar", "sensing")}
        entries["target"] = physics.clip(belief.mean[:, :2] / radius_m, -FAR, FAR)
        entries["target_velocity"] = physics.clip(belief.mean[:, 2:4] / radius_m, -FASTEST, FASTEST)
        entries["target_turn_rate"] = physics.clip(belief.mean[:, 4], -FASTEST, FASTEST)
        unit = np.array([1.0 / radius_m] * 4 + [1.0])
        entries["covariance"] = physics.clip(belief.covariance * unit[:, None] * unit, -SPREAD, SPREAD)
        return super()._completed(observation | {key: value.astype(np.float32) for key, value in entries.items()})

    def _first_belief(self) -> Belief:
        """Draw the mean of the first belief around the true state."""
        track = self._trajectories.targets
        assert track is not None
        state = np.concatenate([track.xy[0], track.velocity[0], track.turn_rate[0][:, None]], axis=-1)
        covariance = np.repeat(self._initial[None], self.config.S, axis=0)
        noise = self.np_random.standard_normal(state.shape) @ np.linalg.cholesky(self._initial).T
        return Belief(state + noise, covariance)

    def _drawn_belief(self) -> Belief:
        return self.belief if self._posterior is None else self._posterior
