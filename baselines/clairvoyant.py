"""`clairvoyant`: the best activation schedule for an episode with perfect foresight, as a reference for causal policies.

A dynamic program is exact over its candidate sets, and over all sets for few APs; it comes with a certified lower bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from baselines import ap_sets
from baselines.allocation.result import Float
from baselines.ap_sets import Bools
from baselines.bounds import certify
from baselines.episode_bounds import EpisodeBound
from baselines.policy import Answer
from baselines.sequential import ALLOCATOR, HysteresisPolicy, SequentialPolicy, serve
from cfisac_env.mobile import CfIsacMobileEnv, Switching
from cfisac_env.types import Decision, Problem

MAX_EXACT_APS = 6
"""Number of APs up to which every set is a candidate."""

ROUNDS = 4
"""Maximum rounds of adding neighbours of the scheduled sets to the candidates."""

GAP = 0.01
"""Relative gap between schedule and bound at which the bound isn't improved further."""

MAX_NEIGHBOURS = 400
"""Maximum number of candidates added per round."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Schedule for an episode of `steps` instants, with a certified bound."""

    active: Bools  # (steps, M) on, including APs that wake up
    power: Float  # (steps, M, K) W
    energy_j: float  # circuit, transmit and switching energy of the episode
    lower_bound_j: float  # certified for every schedule that serves each feasible instant
    feasible: Bools  # (steps,) the schedule meets every requirement
    infeasible: Bools  # (steps,) certified infeasible instants
    exact: bool  # every set was a candidate, so the schedule is optimal


def plan(problem: Problem, start: Switching, *, bound_s: float = 0.0, exact: bool | None = None, seed: int = 0) -> Plan:
    """Find the schedule of least energy that serves every feasible instant.

    A dynamic program selects from the candidates the set O_t of APs that are on and awake at each instant t, at the cost of
    (T_t(O_t) + |O_t| P_cir) Δt, with T_t the exact transmit power, plus the switching energy and the circuit energy of the wake-up for
    each AP of O_t outside O_{t-1}. With every set as a candidate this includes the optimal schedule: an AP outside O for some instants
    stays on if that is cheaper, or if it could not wake up in time.

    Otherwise the candidates are the sets of local search for each instant, unions over neighbouring instants, the sets of `hysteresis`,
    and, for `ROUNDS` rounds, the neighbours of the scheduled sets.

    Args:
        problem: the episode, instants along its leading axis.
        start: switching costs and initial switching state.
        bound_s: seconds of processor time per instant for the bound that accounts for switching, at zero that of the instants alone.
        exact: make every set a candidate; by default for at most `MAX_EXACT_APS` APs.
        seed: of local search.

    Raises:
        ValueError: the problem has no leading axis.
    """
    if len(problem.batch_shape) != 1:
        raise ValueError(f"an episode has one leading axis, its instants; got {problem.batch_shape}")
    M, steps = problem.M, problem.batch_shape[0]
    instants = [problem[t] for t in range(steps)]
    certificates = [certify(instant) for instant in instants]
    infeasible = np.array([one.infeasible for one in certificates])
    exact = M <= MAX_EXACT_APS if exact is None else exact
    run = Program(instants, start, infeasible)
    if exact:
        run.add(all_sets(M))
    else:
        run.add(_candidates(instants, start, infeasible, seed))
    chosen, _ = run.solve()
    if not exact:
        value = np.inf
        for _ in range(ROUNDS):
            run.add(_neighbours(run, chosen))
            chosen, now = run.solve()
            if now >= value * (1.0 - 1e-9):
                break
            value = now
    lower_j = sum(one.lower_bound_w for one in certificates if not one.infeasible) * start.step_s
    if exact:
        lower_j = max(lower_j, run.solve(certified=True)[1])
    elif bound_s > 0.0:
        bound = EpisodeBound(certificates, start)
        end = time.process_time() + bound_s * steps
        while time.process_time() < end and bound.lower_bound_j < value * (1.0 - GAP):
            run.add(bound.improve(run.sets, np.where(infeasible, np.inf, run.transmit_w.T).T * start.step_s, value))
            chosen, value = run.solve()
        lower_j = max(lower_j, bound.lower_bound_j)
    active = _kept_on(chosen, start, run.upkeep_j, run.wake_j)
    power, feasible = _powers(instants, active, start, infeasible)
    return Plan(
        active=active,
        power=power,
        energy_j=energy(active, power, start, problem.circuit_power_w),
        lower_bound_j=lower_j,
        feasible=feasible,
        infeasible=infeasible,
        exact=exact,
    )


def energy(active: Bools, power: Float, start: Switching, circuit_power_w: float) -> float:
    """Compute the energy of a schedule in J: (transmit + circuit power) Δt, plus `energy_j` per switch-on.

    Args:
        active: (steps, M).
        power: (steps, M, K) W.
        start: switching costs and initial activation.
        circuit_power_w: P_cir.
    """
    before = np.ones_like(active[0]) if start.previous_active is None else start.previous_active
    on_before = np.concatenate([before[None], active[:-1]])
    switched = int(np.count_nonzero(active & ~on_before))
    return float((power.sum() + circuit_power_w * active.sum()) * start.step_s + start.energy_j * switched)


class Program:
    """Dynamic program over candidate sets."""

    def __init__(self, instants: list[Problem], start: Switching, infeasible: Bools) -> None:
        first = instants[0]
        self.instants, self.start, self.infeasible = instants, start, infeasible
        self.upkeep_j = first.circuit_power_w * start.step_s
        self.wake_j = start.energy_j + start.wake_up_steps * self.upkeep_j
        self.sets = np.zeros((0, first.M), dtype=bool)
        self.transmit_w = np.zeros((len(instants), 0))
        self.bound_w = np.zeros((len(instants), 0))

    def add(self, sets: Iterable[Bools]) -> None:
        """Add new candidates, with their exact powers at every instant."""
        known = {row.tobytes() for row in self.sets}
        fresh = list({row.tobytes(): row for row in sets if row.tobytes() not in known}.values())
        if not fresh:
            return
        batch = np.array(fresh)
        transmit, bound = np.zeros((2, len(self.instants), len(batch)))
        for t, instant in enumerate(self.instants):
            if not self.infeasible[t]:
                answers = ALLOCATOR(instant, batch)
                transmit[t] = np.where(answers.feasible, answers.transmit_power, np.inf)
                bound[t] = answers.bound
        self.sets = np.concatenate([self.sets, batch])
        self.transmit_w = np.concatenate([self.transmit_w, transmit], axis=1)
        self.bound_w = np.concatenate([self.bound_w, bound], axis=1)

    def solve(self, certified: bool = False, penalty_j: Float | None = None) -> tuple[Bools, float]:
        """Return the best sequence of sets, (steps, M), and its energy in J.

        Args:
            certified: for the bounds on the transmit powers.
            penalty_j: (steps, n) added energy of every set.
        """
        size = self.sets.sum(1)
        joining = size[None, :] - self.sets.astype(np.float64) @ self.sets.T.astype(np.float64)
        switch_j = self.wake_j * joining  # (from, to)
        step_s = self.start.step_s
        # With shared pilots an instant may be undecided; its candidates cost the same.
        known = np.any(np.isfinite(self.transmit_w), axis=1, keepdims=True)
        transmit_w = np.where(known, self.transmit_w, 0.0)
        run_j = (self.bound_w if certified else transmit_w) * step_s + self.upkeep_j * size
        if penalty_j is not None:
            run_j = run_j + penalty_j
        before = self.start.previous_active
        value = run_j[0] + (0.0 if before is None else self.wake_j * (self.sets & ~before).sum(1))
        came_from = np.zeros(run_j.shape, dtype=np.int64)
        for t in range(1, len(run_j)):
            through = value[:, None] + switch_j
            came_from[t] = np.argmin(through, axis=0)
            value = through[came_from[t], np.arange(len(size))] + run_j[t]
        last = int(np.argmin(value))
        path = [last]
        for t in range(len(run_j) - 1, 0, -1):
            path.append(int(came_from[t, path[-1]]))
        return np.asarray(self.sets[path[::-1]]), float(value[last])


def _candidates(instants: list[Problem], start: Switching, infeasible: Bools, seed: int) -> list[Bools]:
    """Build the initial candidates: none, all, the best set of each instant, unions over neighbouring instants, and those of hysteresis."""
    policy = HysteresisPolicy(seed=seed)
    best: list[Bools] = []
    sets = [np.zeros(instants[0].M, dtype=bool), np.ones(instants[0].M, dtype=bool)]
    state = start
    for t, instant in enumerate(instants):
        if infeasible[t]:
            state = state.after(sets[-1])
            continue
        answer = policy.select(instant)
        best.append(np.asarray(answer.decision.active))
        target = policy.with_surcharge(instant, state, answer)
        played = np.asarray(policy.make_before_break(instant, state, target).decision.active)
        state = state.after(played)
        sets += [best[-1], played]
    for width in (2, 3, 5):
        sets += [np.any(best[i : i + width], axis=0) for i in range(len(best) - width + 1)]
    return sets


def _neighbours(run: Program, chosen: Bools) -> list[Bools]:
    """Build the neighbours of the scheduled sets, the most used first, and first with newcomers that are used elsewhere."""
    distinct, counts = np.unique(chosen, axis=0, return_counts=True)
    used = chosen.any(0)
    known = {row.tobytes() for row in run.sets}
    near: dict[bytes, Bools] = {}
    for newcomers in (np.flatnonzero(used), np.flatnonzero(~used)):
        for current in distinct[np.argsort(-counts, kind="stable")]:
            on, off = np.flatnonzero(current), newcomers[~current[newcomers]]
            around = (ap_sets.removals(current), ap_sets.additions(current, off), ap_sets.swaps(current, on, off))
            for other in np.concatenate(around):
                if len(near) < MAX_NEIGHBOURS and other.tobytes() not in known:
                    near[other.tobytes()] = other
    return list(near.values())


def _kept_on(chosen: Bools, start: Switching, upkeep_j: float, wake_j: float) -> Bools:
    """Extend the chosen sets by the instants at which APs wake up, or stay on between two uses where that is cheaper."""
    active = chosen.copy()
    for m in range(chosen.shape[1]):
        on_before = start.previous_active is None or bool(start.previous_active[m])
        end = -1 if on_before else None  # last instant awake
        for t in np.flatnonzero(chosen[:, m]):
            idle = 0 if end is None else int(t) - end - 1
            if end is not None and (idle <= start.wake_up_steps or idle * upkeep_j <= wake_j):
                active[end + 1 : t, m] = True
            else:
                active[max(0, int(t) - start.wake_up_steps) : t, m] = True
            end = int(t)
    return active


def _powers(instants: list[Problem], active: Bools, start: Switching, infeasible: Bools) -> tuple[Float, Bools]:
    """Allocate exact powers to the APs that are on and awake at each instant; return them and whether every requirement is met."""
    first = instants[0]
    power = np.zeros((len(instants), first.M, first.K))
    feasible = np.zeros(len(instants), dtype=bool)
    state = start
    for t, instant in enumerate(instants):
        serving = active[t] & state.awake(first.M)
        state = state.after(active[t])
        if infeasible[t]:
            continue
        power[t], feasible[t] = serve(instant, serving)
    return power, feasible


def all_sets(M: int) -> Bools:
    """Build all sets of M APs, (2^M, M)."""
    return np.asarray((np.arange(2**M)[:, None] >> np.arange(M)) & 1, dtype=bool)


class ClairvoyantPolicy(SequentialPolicy):
    """Non-causal policy: the best schedule found with knowledge of the whole episode, all future positions and gains included.

    Args:
        env: the `CfIsacMobile-v0` to play in, from which episodes are read; None if they are passed to `foresee`.
        bound_s: see `plan`.
        exact: see `plan`.
        seed: of local search.
        sizes: `M` and `K`, as for every policy; by default those of the environment.

    Raises:
        TypeError: `env` isn't a `CfIsacMobile-v0`.
    """

    name = "clairvoyant"
    knows = "whole episode"

    def __init__(
        self, env: Any = None, *, bound_s: float = 0.0, exact: bool | None = None, seed: int = 0, **sizes: Any
    ) -> None:
        core = getattr(env, "unwrapped", None)
        if env is not None and not isinstance(core, CfIsacMobileEnv):
            raise TypeError(
                "clairvoyant looks into the future of one CfIsacMobile-v0: "
                f"give it that environment, clairvoyant(env=env); got {env!r}"
            )
        if core is not None:
            sizes = {"M": core.config.M, "K": core.config.K} | sizes
        super().__init__(**sizes)
        self._env: CfIsacMobileEnv | None = core
        self._options: dict[str, Any] = {"bound_s": bound_s, "exact": exact, "seed": seed}
        self._planned_gain: Any = None
        self._plan: Plan | None = None

    def foresee(self, episode: Problem, start: Switching) -> Plan:
        """Plan an episode, to be played from its first instant on.

        Args:
            episode: see `plan`.
            start: see `plan`.
        """
        self._planned_gain, self._plan = episode.gain, plan(episode, start, **self._options)
        return self._plan

    @property
    def plan(self) -> Plan:
        """Plan of the current episode.

        Raises:
            ValueError: no episode is known.
        """
        if self._env is not None:
            trajectory = self._env.trajectory
            if self._plan is None or not np.array_equal(trajectory.gain, self._planned_gain):
                return self.foresee(trajectory.problem, self._env.beginning())
        if self._plan is None:
            raise ValueError(
                "clairvoyant does not know the episode: build it with env=…, a CfIsacMobile-v0, or pass one to "
                "foresee(episode, start)"
            )
        return self._plan

    def decide(self, problem: Problem) -> Answer:
        """Decide on a single drop as an episode of one instant."""
        found = plan(problem.batch(), Switching(), **self._options)
        return Answer(Decision(found.active[0], found.power[0]), feasible=bool(found.feasible[0]))

    def decide_next(self, problem: Problem, state: Switching) -> Answer:
        """Return the next step of the plan."""
        schedule = self.plan
        step = len(schedule.active) - state.steps_left
        if not 0 <= step < len(schedule.active):
            raise ValueError(
                f"the observation is {state.steps_left} instants before the end of its episode, but the plan is for "
                f"{len(schedule.active)}: pass the whole episode to clairvoyant"
            )
        decision = Decision(active=schedule.active[step], power=schedule.power[step])
        return Answer(decision, feasible=bool(schedule.feasible[step]))
