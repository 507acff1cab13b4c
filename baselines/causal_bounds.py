"""Lower bound on the mean energy of causal policies by information relaxation (Brown, Smith and Sun, 2010): `docs/bounds.md`.

A schedule is chosen with knowledge of the whole episode, but pays for what it foresees of the targets: at every instant the value of the
APs that are on, less its mean over the targets' next moves. For every causal policy these penalties have zero mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from baselines.allocation.result import Float
from baselines.ap_sets import Bools
from baselines.bounds import certify
from baselines.clairvoyant import Program, all_sets
from baselines.foresight.kernels import need
from cfisac_env import SystemConfig, physics
from cfisac_env.jit import compiled
from cfisac_env.mobility import SmoothTurns, Track
from cfisac_env.scenario import Scenario
from cfisac_env.switching import Switching
from cfisac_env.types import Problem

MAX_APS = 10
"""Largest number of APs, of which all sets are evaluated."""

TURNS_SEED = 7
"""Seed of the turns in the futures, which are common to all states of all episodes."""


@dataclass(frozen=True)
class States:
    """States of n targets."""

    xy: Float  # (n, 2) m
    heading: Float  # (n,) rad
    rate: Float  # (n,) rad/s


@dataclass(frozen=True, eq=False)
class HindsightValue:
    """Value of being on for every set of APs: the least energy of the remaining episode, averaged over futures of the target.

    In a future the whole path of the target is known. The closed form of `predictive` decides which sets serve; gains to the users stay
    as they are.

    Args:
        config: of the network, with one target.
        motion: of the target.
        start: switching costs; no wake-up time.
        futures: number of futures.

    Raises:
        ValueError: more than `MAX_APS` APs, several targets, a wake-up time, or no future.
    """

    config: SystemConfig
    motion: SmoothTurns
    start: Switching
    futures: int = 16

    def __post_init__(self) -> None:
        for name, value, most in (
            ("M", self.config.M, MAX_APS), ("S", self.config.S, 1), ("wake_up_steps", self.start.wake_up_steps, 0),
        ):  # fmt: skip
            if value > most:
                raise ValueError(f"the bound on causal policies takes {name} up to {most}, got {value}")
        if self.futures < 1:
            raise ValueError(f"futures must be 1 or more, got {self.futures}")

    def __call__(self, scenario: Scenario, states: States, left: int) -> Float:
        """Compute the values of all sets that were on at the instant before, (n, 2^M) J.

        Args:
            scenario: the network at this instant; its target is ignored.
            states: of the target at this instant.
            left: remaining instants, including this one.
        """
        config, step_s = self.config, self.start.step_s
        M, K, n = config.M, config.K, len(states.xy)
        weights = _weights(left)
        users = np.concatenate([np.asarray(scenario.estimate_gain), np.asarray(scenario.gain)], axis=1)
        turns = np.random.default_rng(TURNS_SEED).standard_normal((left, self.futures))
        xy, heading, rate = (np.repeat(x, self.futures, axis=0) for x in (states.xy, states.heading, states.rate))
        radius_m = config.area_diameter_m / 2
        sensing = np.empty((n * self.futures, len(weights), M, 3))
        h, due = 0, 0
        for step in range(left):
            if step == due:
                sensing[:, h] = config.max_ap_power_w * self._fisher(scenario, xy)
                due += int(weights[h])
                h += 1
            xy, heading, rate = self.motion.advance(xy, heading, rate, np.tile(turns[step], n), radius_m, step_s)
        requirement = np.array([config.sinr_threshold, config.noise_w, config.crlb_threshold_m2, config.max_ap_power_w])
        costs = np.array([config.circuit_power_w * step_s, self.start.energy_j, step_s])
        result = np.empty((n, 2**M))
        for i, rows in enumerate(sensing.reshape(n, self.futures, len(weights), M, 3)):
            hindsight(
                np.ascontiguousarray(rows), np.ascontiguousarray(users), weights, K, requirement, costs, result[i]
            )
        return result

    def _fisher(self, scenario: Scenario, xy: Float) -> Float:
        """Compute the Fisher information per watt about targets at (n, 2), (n, M, 3)."""
        config, lead = self.config, (len(xy),)
        ap, sr = (np.broadcast_to(x, lead + np.shape(x)) for x in (scenario.ap_xy, scenario.sr_xy))
        target = xy[:, None]
        gain = physics.radar_gain(ap, sr, target, config.wavelength_m, config.rcs_m2, config.min_distance_m)
        return np.asarray(physics.fisher_information(ap, sr, target, gain, config.fisher_scale))[:, :, 0]


def _weights(left: int) -> Float:
    """Return the numbers of instants that the evaluated ones stand for; their spacing grows."""
    steps: list[int] = []
    while sum(steps) < left:
        width = 1 if len(steps) < 8 else 2 if len(steps) < 14 else 4
        steps.append(min(width, left - sum(steps)))
    return np.array(steps, dtype=np.float64)


def causal_bound_j(episode: Problem, start: Switching, penalty_j: Float) -> float:
    """Compute the certified least energy plus penalties of all schedules that serve each instant not certified infeasible, J.

    With the penalties of `penalties`, its mean over episodes bounds the mean energy of every causal policy that serves those instants.

    Args:
        episode: leading axis (steps,).
        start: switching costs and initial switching state.
        penalty_j: (steps, 2^M), zero for the bound of the clairvoyant schedule.
    """
    instants = [episode[t] for t in range(episode.batch_shape[0])]
    program = Program(instants, start, np.array([certify(one).infeasible for one in instants]))
    program.add(all_sets(episode.M))
    return program.solve(certified=True, penalty_j=penalty_j)[1]


def penalties(
    value: HindsightValue, episode: Scenario, targets: Track, rng: np.random.Generator, samples: int = 16
) -> Float:
    """Compute the penalty of every set that is on at an instant, (steps, 2^M) J.

    It is the mean of the value at the next instant over `samples` moves of the target, drawn by its law from its state at this instant,
    less the value at the next instant. Given everything up to this instant, its mean is zero.

    Args:
        value: any function of the states.
        episode: leading axis (steps,).
        targets: its track.
        rng: of the moves, independent of the episode.
        samples: number of moves, stratified.
    """
    steps = episode.batch_shape[0]
    velocity = targets.velocity[:, 0]
    heading = np.arctan2(velocity[:, 1], velocity[:, 0])
    path = States(targets.xy[:, 0], heading, targets.turn_rate[:, 0])
    radius_m, step_s = value.config.area_diameter_m / 2, value.start.step_s
    result = np.zeros((steps, 2**value.config.M))
    for t in range(steps - 1):
        normal = ndtri((np.arange(samples) + rng.random(samples)) / samples)
        xy, angle, rate = (np.repeat(x[t : t + 1], samples, axis=0) for x in (path.xy, path.heading, path.rate))
        moved = value.motion.advance(xy, angle, rate, normal, radius_m, step_s)
        there = (path.xy, path.heading, path.rate)
        states = States(*(np.concatenate([x[t + 1 : t + 2], y]) for x, y in zip(there, moved, strict=True)))
        values = value(episode[t + 1], states, steps - 1 - t)
        result[t] = values[1:].mean(0) - values[0]
    return result


def paid_j(penalty_j: Float, active: Bools) -> float:
    """Return the penalties that a schedule pays, J.

    Args:
        penalty_j: (steps, 2^M).
        active: (steps, M).
    """
    steps, M = active.shape
    return float(penalty_j[np.arange(steps), active @ (1 << np.arange(M))].sum())


@compiled("(float64[:, :, :, ::1], float64[:, ::1], float64[::1], int64, float64[::1], float64[::1], float64[::1])")
def hindsight(
    rows: Float, users: Float, weights: Float, K: int, requirement: Float, costs: Float, result: Float
) -> None:
    """Fill in the least energy of every set that was on before, over all schedules of a future, averaged over the futures.

    Sets are numbered by their bits. From the end of a future backwards, a set serves an instant, and then each AP is switched for itself.

    Args:
        rows: (F, H, M, 3) Fisher information at P_max.
        users: (M, 2K) v and ς.
        weights: (H,) instants that each one stands for.
        K: users.
        requirement: (4,) γ, σ², ν, P_max.
        costs: (3,) circuit energy of an AP in an instant and energy of a switch-on in J, and the step in s.
        result: (2^M,) output, J.
    """
    F, H, M, _ = rows.shape
    sets, D = len(result), 3 + 2 * K
    total, count, value = np.zeros((sets, D)), np.zeros(sets, np.int64), np.empty(sets)
    result[:] = 0.0
    for f in range(F):
        value[:] = 0.0
        for h in range(H - 1, -1, -1):
            for o in range(1, sets):
                m = 0
                while not (o >> m) & 1:
                    m += 1
                rest = o & (o - 1)
                count[o] = count[rest] + 1
                for d in range(3):
                    total[o, d] = total[rest, d] + rows[f, h, m, d]
                for d in range(2 * K):
                    total[o, 3 + d] = total[rest, 3 + d] + users[m, d]
            load, _ = need(total[sets - 1], M, 1, K, requirement)
            servable = load <= 1.0
            for o in range(sets):
                power = 0.0
                if servable:
                    load, power = need(total[o], count[o], 1, K, requirement)
                    if load > 1.0:
                        power = np.inf
                value[o] += weights[h] * (costs[0] * count[o] + costs[2] * power)
            for m in range(M):
                bit = 1 << m
                for o in range(sets):
                    if not o & bit:
                        without, including = value[o], value[o | bit]
                        value[o] = min(without, including + costs[1])
                        value[o | bit] = min(without, including)
        for o in range(sets):
            result[o] += value[o] / F
