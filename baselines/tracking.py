"""Policy for `CfIsacTracking-v0`: local search for a requirement that allows for the error of the belief."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.allocation.result import Float
from baselines.foresight.futures import fisher_scale
from baselines.policy import encoded
from baselines.sequential import MyopicPolicy
from cfisac_env import observations
from cfisac_env.mobile import switching
from cfisac_env.mobility import checked_number
from cfisac_env.observations import Observation
from cfisac_env.tracking import CfIsacTrackingEnv
from cfisac_env.types import Problem


class TrackingPolicy(MyopicPolicy):
    """Local search at every instant, with a margin on the CRLBs, at several positions that the belief considers possible.

    The mean of the belief differs from the true position, so powers that just suffice at the mean miss the requirement at about every other
    true position. A margin m tightens ν to (1 − m) ν; information beyond the requirement also lowers the next prediction's covariance. With
    a spread d, the requirement holds at the mean and at four positions d standard deviations from it along the principal axes of
    the covariance, where no two-way gain counts for more than at the mean. Where that is infeasible, the requirement holds at the mean.

    Args:
        margin: m in [0, 1).
        spread: d; 0 for the mean alone.
        env: a `CfIsacTracking-v0` environment that the policy plays, for decisions at the true positions (clairvoyant).
        options: of `local-search`; `M` and `K`, as for every policy.

    Raises:
        ValueError: a margin or a spread out of range, or another environment.
    """

    name = "tracking"

    def __init__(
        self, *, margin: float = 0.0, spread: float = 0.0, env: gym.Env[Any, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._margin = checked_number("margin", margin, 1.0)
        if self._margin == 1.0:
            raise ValueError("margin must be below 1, as no power meets a CRLB of zero, got 1.0")
        self._spread = checked_number("spread", spread, 10.0)
        core = None if env is None else env.unwrapped
        if core is not None and not isinstance(core, CfIsacTrackingEnv):
            raise ValueError(f"env must be a CfIsacTracking-v0 environment, got {type(core).__name__}")
        self._env = core
        if core is not None:
            self.knows = "true positions"  # type: ignore[misc]

    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        if self._env is not None:
            if problem.batch_shape != (1,):
                raise ValueError("with env, observations must be those of this environment, one at a time")
            truth = observations.encode(self._env.scenario.batch())
            problem = observations.decode(truth)
        actions = []
        for i in range(problem.batch_shape[0]):
            one = {key: value[i] for key, value in observation.items()}
            aim = replace(problem[i], crlb_threshold_m2=problem.crlb_threshold_m2 * (1.0 - self._margin))
            if self._spread > 0.0 and "covariance" in one:
                aim = at_several_positions(aim, one, self._spread)
            answer = self.decide_next(aim, switching(one))
            if not answer.feasible:
                answer = self.decide_next(problem[i], switching(one))
            actions.append(encoded(problem[i], answer))
        return np.stack(actions)


def at_several_positions(problem: Problem, observation: Mapping[str, NDArray[Any]], spread: float) -> Problem:
    """Repeat every target of one instant at four further positions, as targets of their own with the same prior.

    Args:
        problem: of the observation.
        observation: of `CfIsacTracking-v0`.
        spread: distance from the mean along the principal axes, in standard deviations.

    Returns:
        A problem with 5 S targets, the mean of each first.
    """
    ap, sr, mean = (np.asarray(observation[key], dtype=np.float64)[..., :2] for key in ("ap", "sr", "target"))
    received = 10.0 ** np.asarray(observation["radar"], dtype=np.float64)
    scale = fisher_scale(ap, sr, mean, received, np.asarray(problem.fisher))
    variance, axes = np.linalg.eigh(np.asarray(observation["covariance"], dtype=np.float64)[:, :2, :2])
    steps = spread * np.sqrt(np.maximum(variance, 0.0))[:, None] * axes  # (S, 2, 2), an axis in each column
    fisher = [np.asarray(problem.fisher)]
    for step in np.moveaxis(np.concatenate([steps, -steps], axis=-1), -1, 0):
        fisher.append(scale * _fisher_at(mean + step, mean, ap, sr, received))
    prior = None if problem.prior is None else np.tile(problem.prior, (5, 1))
    return replace(problem, fisher=np.concatenate(fisher, axis=1), prior=prior, target_xy=None)


def _fisher_at(xy: Float, mean: Float, ap: Float, sr: Float, received: Float) -> Float:
    """Compute the Fisher information (M, S, 3) over ζ of targets at `xy` instead of `mean`, both (S, 2)."""

    def seen(nodes: Float, target: Float) -> tuple[Float, Float]:
        offset = nodes[:, None] - target
        return offset, np.maximum(np.linalg.norm(offset, axis=-1), 1e-9)

    (to_ap, far_ap), (to_sr, far_sr) = seen(ap, xy), seen(sr, xy)
    before = seen(ap, mean)[1][:, :, None] * seen(sr, mean)[1].T[None]
    weight = received * np.minimum(before / (far_ap[:, :, None] * far_sr.T[None]), 1.0) ** 2
    along = (to_ap / far_ap[..., None])[:, :, None] + (to_sr / far_sr[..., None]).swapaxes(0, 1)[None]
    x, y = along[..., 0], along[..., 1]
    return np.stack([(weight * x * x).sum(-1), (weight * y * y).sum(-1), (weight * x * y).sum(-1)], axis=-1)
