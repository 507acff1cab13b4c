"""`CfIsacImprovement-v0`: begin with the set of the rule `most-informative`, and exchange access points as long as that saves power."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.rl.environments import decision_of
from baselines.allocation import Allocation, Allocator
from baselines.most_informative import MostInformativePolicy
from baselines.policy import allocate_with_margin
from cfisac_env import info, physics
from cfisac_env.attributes import Fixed
from cfisac_env.env import CfIsacEnv, checked_count
from cfisac_env.observations import Observation
from cfisac_env.types import Decision, Problem

Float = NDArray[np.float64]

LIMIT = 5.0
"""Entries of the observation lie within ±5."""

_AP_FEATURES, _STATE_FEATURES = 4, 4
_ONE_THREAD = Allocator(threads=1)


class CfIsacImprovementEnv(CfIsacEnv):
    """Exchange access points of a set that serves, one move at a time, with exact powers.

    ## Description

    An episode is one drop. It begins with the set of APs of the policy `most-informative`. Each move proposes another set, the exact
    allocator prices it, and the network changes to it if it serves the drop with less power. So the power never rises, and agents
    compete in what they save with the same number of priced sets.

    ## Action Space

    `Discrete(R + C + R C)` for R `removals` and C `additions`: i < R switches off the AP at place i of the removals, R + j switches on the
    AP at place j of the additions, R + C + i C + j does both. `action_masks()` leaves out places without an AP, sets with fewer than n_min
    APs, and sets priced before; such a move does nothing.

    ## Observation Space

    `Dict` of float32 within ±5, made for MLPs: scaled alike for every drop, in an order that means the same in every drop.

    - `removals` (R, 4 + K), `additions` (C, 4 + K): the APs that are on and save the set least, least first, and those that are off and
      would save it most, most first; zero where there are fewer. Of each: 1; ln of its value over P_cir; log10 of P_max ν tr Q/4, by which
      it could meet the sensing requirement alone; its power, or its best power, over P_max; the shares of the users in its worth.
    - `estimates` (actions,): estimated saving of each move, over P_cir; `allowed` (actions,): its mask.
    - `state` (4 + K,): moves left over `moves`; APs above n_min; ln of the total power over n_min P_cir (5 where the set doesn't serve);
      transmit power an AP over P_cir; the users' shares in the multipliers of the SINRs, largest first, which is the order of users here.

    The value of an AP is max over P ≤ P_max of 2 √(P Σ_k c_k v_mk) − D_m P, with c_k = (λ_k Σ_m √(p_mk v_mk))², the multipliers λ and Z of
    the set's exact powers, and D_m = 1 + γ Σ_k λ_k ς_mk − Σ_s ⟨Z_s, Q_ms⟩. Of an AP that is on, P is what it radiates; of one that is off,
    the value estimates what it would save. Values below e⁻⁵ P_cir count as that; APs of equal value stand by tr Q.

    ## Rewards

    R(new set) − R(old set), with R the reward of `CfIsac-v0`: the watts saved (with `reward="log"`, the logarithm of the ratio).

    ## Starting State

    As for `CfIsac-v0`. Where no powers serve the drop, every AP is on and no move changes that.

    ## Episode End

    Terminated after `moves` moves, or when none is left.

    ## Information

    `reset` and `step` return the keys of `CfIsac-v0` for the present set. `decision` holds the set with its powers.

    ## Arguments

    ```python
    import gymnasium as gym
    import cfisac_env

    env = gym.make("CfIsacImprovement-v0", M=30, K=6, preset="urban")
    ```

    Args:
        moves: an episode.
        removals: APs that are on and can be switched off, R.
        additions: APs that are off and can be switched on, C.
        drops: as for `CfIsac-v0`.
        render_mode: as for `CfIsac-v0`.
        fields: any field of `SystemConfig`, and `preset`.
    """

    not_taken: Mapping[str, str] = dict.fromkeys(
        ("episode_steps", "decisions_per_drop"), "an episode is one drop, and moves says how many sets it prices"
    )

    moves = Fixed[int]()
    removals = Fixed[int]()
    additions = Fixed[int]()

    def __init__(
        self,
        *,
        moves: int = 8,
        removals: int = 3,
        additions: int = 6,
        drops: Any = None,
        render_mode: str | None = None,
        **fields: Any,
    ) -> None:
        self._check_keywords(fields)
        super().__init__(drops=drops, render_mode=render_mode, **fields)
        self.moves = checked_count("moves", moves)
        self.removals = R = checked_count("removals", removals)
        self.additions = C = checked_count("additions", additions)
        swaps = [(i, j) for i in range(R) for j in range(C)]
        self._places = np.array([*((i, -1) for i in range(R)), *((-1, j) for j in range(C)), *swaps]).T
        count, K = R + C + R * C, self.config.K
        shapes = {
            "additions": (C, _AP_FEATURES + K), "allowed": (count,), "estimates": (count,), "removals": (R, _AP_FEATURES + K),
            "state": (_STATE_FEATURES + K,),
        }  # fmt: skip
        self.observation_space = spaces.Dict(
            {key: spaces.Box(-LIMIT, LIMIT, shape, np.float32) for key, shape in shapes.items()}
        )
        self.action_space = spaces.Discrete(count)
        self._rule = MostInformativePolicy()
        self._left = 0
        self._priced: set[bytes] = set()

    @property
    def decision(self) -> Decision:
        """The present set with its powers."""
        self._current()
        return self._decision

    def action_masks(self) -> NDArray[np.bool_]:
        """(actions,) bool: which moves propose a set that hasn't been priced."""
        self._current()
        allowed: NDArray[np.bool_] = self._allowed.copy()
        return allowed

    def _set_config(self, config: Any) -> None:
        super()._set_config(config)
        if self._left > 0:
            self._priced.clear()
            self._enter(self._decision.active)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin with a new drop and the set of the rule."""
        super().reset(seed=seed, options=options)
        self._left = self.moves
        self._priced.clear()
        self._enter(self._rule.decide(self.scenario.problem).decision.active)
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Price another set, and change to it if that saves power.

        Raises:
            ValueError: not a whole number from 0 to R + C + R C − 1.
            RuntimeError: the environment hasn't been reset, or its episode is over.
        """
        self._current()
        if self._left == 0:
            raise RuntimeError("the episode is over; call reset() before the next step()")
        if np.shape(action) != () or not self.action_space.contains(np.asarray(action)[()]):
            raise ValueError(
                f"the action must be a whole number from 0 to {len(self._allowed) - 1} (a removal, an addition or a swap), got {action!r}"
            )
        before = self._score
        if self._allowed[move := int(action)]:
            active = self._proposed(move)
            allocation = allocate_with_margin(self._task, active, _ONE_THREAD)
            total_w = float(allocation.transmit_power) + self._task.circuit_power_w * int(active.sum())
            if allocation.feasible and total_w < self._total_w:
                self._enter(active, allocation)
            else:
                self._priced.add(active.tobytes())
                self._allowed[move] = False
        self._left -= 1
        over = self._left == 0 or not self._allowed.any()
        self._left = 0 if over else self._left
        return self._observe(), self._score - before, over, False, self._info()

    def _proposed(self, move: int) -> NDArray[np.bool_]:
        active: NDArray[np.bool_] = self._decision.active.copy()
        i, j = self._places[:, move]
        if i >= 0:
            active[self._on[i]] = False
        if j >= 0:
            active[self._off[j]] = True
        return active

    def _enter(self, active: NDArray[np.bool_], allocation: Allocation | None = None) -> None:
        """Change to a set, and prepare what there is to see of it."""
        self._task = self.scenario.problem
        allocation = allocation or allocate_with_margin(self._task, active, _ONE_THREAD)
        self._priced.add(active.tobytes())
        self._decision = decision_of(allocation, self._task)
        self._outcome = physics.evaluate(self._task, self._decision)
        self._total_w = float(self._outcome.total_power) if allocation.feasible else np.inf
        self._score, _ = self._scored(self._task, self._decision, self._outcome)
        self._arrange(allocation)
        if self.render_mode is not None:
            self._show(self._decision, self._outcome)

    def _arrange(self, allocation: Allocation) -> None:
        """Sort the APs by their value, and describe them and the moves."""
        problem, active = self._task, allocation.active
        cap = problem.max_ap_power_w
        unit_w = problem.circuit_power_w or cap
        users, value, level, worth = valued(allocation, problem)
        information = problem.fisher[..., :2].sum((-2, -1)) * (cap * problem.crlb_threshold_m2 / 4.0)
        value = np.maximum(value, unit_w * np.exp(-LIMIT))
        order = np.lexsort((-information, -value))
        self._on, self._off = order[active[order]][::-1][: self.removals], order[~active[order]][: self.additions]
        features = np.column_stack([
            np.ones(problem.M),
            np.log(value / unit_w),
            np.log10(np.maximum(information, 10**-LIMIT)),
            level / cap,
            worth[:, users] / np.maximum(worth.sum(-1, keepdims=True), 1e-300),
        ])  # fmt: skip
        R, C = self.removals, self.additions
        described = np.zeros((R + C, features.shape[1]))
        described[: len(self._on)], described[R : R + len(self._off)] = features[self._on], features[self._off]
        margin = np.zeros(R + C)  # of its value over its circuit power
        margin[: len(self._on)] = value[self._on] / unit_w - 1.0
        margin[R : R + len(self._off)] = value[self._off] / unit_w - 1.0
        i, j = self._places
        fewest, size = float(physics.fewest_active(problem)), int(active.sum())
        self._allowed = (
            (i < len(self._on)) & (j < len(self._off)) & ~((j < 0) & (size <= fewest or not allocation.feasible))
        )
        for move in np.flatnonzero(self._allowed):
            self._allowed[move] = self._proposed(int(move)).tobytes() not in self._priced
        multipliers = allocation.multipliers.sinr[users]
        state = [
            0.0,
            size - fewest,
            np.log(self._total_w / (fewest * unit_w)),
            self._outcome.transmit_power / (size * unit_w),
        ]
        self._seen = {
            "additions": described[R:],
            "allowed": self._allowed,
            "estimates": np.where(j < 0, 0.0, margin[R + j]) - np.where(i < 0, 0.0, margin[i]),
            "removals": described[:R],
            "state": np.array([*state, *multipliers / max(multipliers.sum(), 1e-300)]),
        }

    def _observe(self) -> Observation:
        self._seen["allowed"], self._seen["state"][0] = self._allowed, self._left / self.moves
        return {key: np.clip(value, -LIMIT, LIMIT).astype(np.float32) for key, value in self._seen.items()}

    def _info(self) -> info.Info:
        return self._scored(self._task, self._decision, self._outcome)[1]


def valued(allocation: Allocation, problem: Problem) -> tuple[NDArray[np.int64], Float, Float, Float]:
    """Users by their multipliers, largest first (K,), value of every AP (M,) and its power or best power (M,) in W, and c_k v_mk (M, K).

    Values are zero where no powers serve.
    """
    multipliers, gain = allocation.multipliers, np.asarray(problem.estimate_gain)
    if not allocation.feasible:
        return np.arange(problem.K), np.zeros(problem.M), np.zeros(problem.M), np.zeros(gain.shape)
    signal = np.sqrt(allocation.power * gain).sum(0)
    worth = (multipliers.sinr * signal) ** 2 * gain
    price = 1.0 + problem.sinr_threshold * problem.gain @ multipliers.sinr - multipliers.sensing_credits(problem)
    total, cap = worth.sum(-1), problem.max_ap_power_w
    best = np.where(price > 0.0, np.minimum(total / np.maximum(price, 1e-9) ** 2, cap), cap)
    level = np.where(allocation.active, allocation.power.sum(-1), best)
    return np.argsort(-multipliers.sinr, kind="stable"), 2.0 * np.sqrt(level * total) - price * level, level, worth
