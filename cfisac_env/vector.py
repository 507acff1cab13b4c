"""`CfIsac-v0` many times over: the drops of all environments drawn, observed and scored as batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from cfisac_env.backend import backend as choose_backend
from cfisac_env.drops import checked_drop, load
from cfisac_env.env import CfIsacEnv, checked_count
from cfisac_env.part import Part, Rows
from cfisac_env.scenario import Scenario, joined
from cfisac_env.types import Array, Decision, Outcome

_PART_LINKS = 2**17  # AP–user links in a part: fewer leave the caches less often, more leave Python less often
_PART_ENVS = 512
_Results = dict[str, Any]


class CfIsacVectorEnv(VectorEnv[Any, Any, Any]):
    """N environments `CfIsac-v0` in one, step for step what N single ones give from the same seeds.

    ```python
    import gymnasium as gym
    import cfisac_env

    envs = gym.make_vec("CfIsac-v0", num_envs=256, vectorization_mode="vector_entry_point", M=50, K=10)
    observations, infos = envs.reset(seed=0)  # environment i has seed i
    observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
    ```

    Observations, rewards and infos are those of `CfIsacEnv` with a leading axis over the environments, laid out as
    `gymnasium.vector.SyncVectorEnv` lays them out: an info `x` comes with a mask `_x` of the environments that gave it; with `SAME_STEP`,
    `final_obs` and `final_info` hold what an episode ended with. `reset(options={"reset_mask": mask})` resets the environments in the
    mask and leaves the others where they are.

    Args:
        num_envs: N.
        autoreset_mode: `NEXT_STEP` (a finished environment is reset by the next step, which ignores its action), `SAME_STEP`, or
            `DISABLED`: finished environments have to be reset with a mask before the next step.
        threads: to work on the environments with; the numbers don't depend on it.
        backend: `numpy` or `torch`: what kind of arrays everything is computed with and returned as. Random numbers are NumPy's in both.
        device: of torch tensors; None is the processor.
        episode_steps: as for `CfIsacEnv`.
        decisions_per_drop: as for `CfIsacEnv`; a step on which every drop stays draws and encodes nothing.
        drops: as for `CfIsacEnv`; every environment plays them from the first.
        render_mode: None; only single environments draw.
        fields: any field of `SystemConfig`, and `preset`.

    Raises:
        ValueError, TypeError: as `CfIsacEnv`; or fewer than one environment or thread; or a device that isn't there.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int = 1,
        backend: str = "numpy",
        device: Any = None,
        episode_steps: int = 1,
        decisions_per_drop: int = 1,
        drops: str | os.PathLike[str] | Scenario | None = None,
        render_mode: str | None = None,
        **fields: Any,
    ) -> None:
        single = CfIsacEnv(
            episode_steps=episode_steps,
            decisions_per_drop=decisions_per_drop,
            drops=drops,
            render_mode=render_mode,
            **fields,
        )
        self._set_up(single, num_envs, autoreset_mode, threads, backend, device)
        self._stored = None if drops is None else load(drops, fields).batch().to(self._backend)
        self._terminates = self.episode_steps == 1
        self._parts: Sequence[Part] = [
            Part(
                self.config,
                span,
                self.episode_steps,
                self.decisions_per_drop,
                self._autoreset_mode,
                self._backend,
                self._stored,
            )
            for span in self._spans(_PART_LINKS)
        ]

    def _set_up(
        self,
        single: CfIsacEnv,
        num_envs: int,
        autoreset_mode: AutoresetMode | str,
        threads: int,
        backend: str,
        device: Any,
    ) -> None:
        """Everything but the parts, of environments like `single`."""
        self.num_envs = checked_count("num_envs", num_envs)
        self._autoreset_mode = AutoresetMode(autoreset_mode)
        self._threads = checked_count("threads", threads)
        self._backend = choose_backend(backend, device)
        if single.render_mode is not None:
            raise ValueError(
                f'render_mode={single.render_mode!r}: only single environments draw; use gym.make, or vectorization_mode="sync"'
            )
        self.config = single.config
        self.episode_steps, self.decisions_per_drop = single.episode_steps, single.decisions_per_drop
        self.metadata = {**single.metadata, "autoreset_mode": self._autoreset_mode}
        self.single_observation_space, self.single_action_space = single.observation_space, single.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds = [-1] * self.num_envs
        self._began = False
        self._pool: ThreadPoolExecutor | None = None

    def _spans(self, links: int) -> list[slice]:
        """The environments in parts of about so many AP–user links."""
        size = max(1, min(_PART_ENVS, links // (self.config.M * self.config.K)))
        if self._backend.name == "torch":  # torch has its own threads, and devices want large batches
            size = self.num_envs
        return [slice(start, min(start + size, self.num_envs)) for start in range(0, self.num_envs, size)]

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of every environment."""
        return tuple(self._begun_generators())

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of every environment."""
        self._begun_generators()
        return tuple(self._seeds)

    @property
    def scenario(self) -> Scenario:
        """The drops that the next decisions are for, with a leading axis over the environments."""
        self._check_began()
        return joined([part.scenario for part in self._parts])

    def evaluate(self, decision: Decision) -> Outcome:
        """Score decisions, `active` (N, M) and `power` (N, M, K), on the current drops without stepping."""
        return self.scenario.evaluate(decision)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin new episodes, in all environments or those of `options["reset_mask"]`.

        Args:
            seed: an int for seed, seed + 1, …; or one for every environment, where None goes on with its generator.
            options: `reset_mask` (N,) bool; `drop`, an int or one for every environment: which of the given drops to play.

        Raises:
            ValueError, TypeError: not one seed for every environment, a mask that is none, or options that no environment takes.
            RuntimeError: the mask leaves out environments that have never been reset.
        """
        seeds = self._checked_seeds(seed)
        each = dict(options or {})
        rows = self._checked_mask(each.pop("reset_mask", None))
        drop = self._checked_drops(each.get("drop"))
        seeded = np.array([one is not None for one in seeds]) & rows
        for i in np.flatnonzero(seeded).tolist():
            self._generators[i], self._seeds[i] = seeding.np_random(seeds[i])
        generators = self._begun_generators()
        observation = self._observation()

        def begin(part: Part) -> None:
            span = part.span
            part.reset(
                rows[span], seeded[span], None if drop is None else drop[span], generators[span], _at(observation, span)
            )

        self._each(begin)
        self._began = True
        return observation, {}

    def step(self, actions: Array) -> tuple[dict[str, Array], Array, Array, Array, dict[str, Any]]:
        """Score a decision in every environment.

        Args:
            actions: (N, M, K + 1).

        Raises:
            ValueError: another shape, or NaN.
            RuntimeError: an environment hasn't been reset, or (`DISABLED`) its episode is over.
        """
        self._check_began()
        over = np.concatenate([part.over for part in self._parts])
        if self._autoreset_mode is AutoresetMode.DISABLED and over.any():
            raise RuntimeError(
                f"the episodes of environments {_some(over)} are over; call reset(options={{'reset_mask': ...}}) before step()"
            )
        action = self._checked_actions(actions, ~over)
        generators: Any = self._generators  # all of them, since a reset
        observation, scores = self._observation(), self._scores()

        def play(part: Part) -> None:
            span = part.span
            part.step(action[span], generators[span], _at(observation, span), _at(scores, span))

        self._each(play)
        ended = np.concatenate([part.ended for part in self._parts])
        none = np.zeros(self.num_envs, np.bool_)
        both = (ended, none) if self._terminates else (none, ended)
        terminations, truncations = (self._backend.array(flags) for flags in both)
        rewards = scores.pop("reward")
        return observation, rewards, terminations, truncations, self._infos(scores, ~over, ended)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of every environment: its own where they differ, such as `scenario`, the common one otherwise."""
        value = getattr(self, name)
        if name in ("np_random", "np_random_seed"):
            return tuple(value)
        return tuple(value[i] if name == "scenario" else value for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy starts its own threads."""
        return {**self.__dict__, "_pool": None}

    def _begun_generators(self) -> list[np.random.Generator]:
        for i, generator in enumerate(self._generators):
            if generator is None:
                self._generators[i], self._seeds[i] = seeding.np_random()
        return [generator for generator in self._generators if generator is not None]

    def _check_began(self) -> None:
        if not self._began:
            raise RuntimeError("the environments have to be reset before they are used: call reset()")

    def _checked_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
            return range(int(seed), int(seed) + self.num_envs)
        if not isinstance(seed, Sequence | np.ndarray) or isinstance(seed, str) or len(seed) != self.num_envs:
            raise ValueError(
                f"seed must be None, an int, or a list of {self.num_envs} ints or Nones (one an environment), got {seed!r}"
            )
        return [None if one is None else int(one) for one in seed]

    def _checked_drops(self, drop: Any) -> NDArray[np.int64] | None:
        """Which given drop every environment plays; None is the next."""
        if self._stored is None or drop is None:
            return None
        each = drop if isinstance(drop, Sequence | np.ndarray) and not isinstance(drop, str) else [drop] * self.num_envs
        if len(each) != self.num_envs:
            raise ValueError(
                f"options['drop'] must be one index, or a list of {self.num_envs} (one an environment), got {drop!r}"
            )
        return np.array([checked_drop(one, len(self._stored)) for one in each])

    def _checked_mask(self, mask: Any) -> Rows:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            kind = f"{type(mask).__name__} of {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise TypeError(f"options['reset_mask'] must be a NumPy array of bool, got {kind}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must have shape ({self.num_envs},) and at least one True, "
                f"got shape {mask.shape} with {mask.sum()} True"
            )
        if not self._began and not mask.all():
            raise RuntimeError(
                f"environments {_some(~mask)} have never been reset; reset all of them before some by a mask"
            )
        return mask

    def _checked_actions(self, actions: Any, playing: Rows) -> Array:
        """The actions, rounded to float32, or a ValueError that says what is wrong with them."""
        xp = self._backend.xp
        array = self._backend.array(actions, "float32")
        shape = self.action_space.shape
        if tuple(array.shape) != shape:
            raise ValueError(
                f"the actions must have shape {shape} (environments, APs, 1 activation + users), got {tuple(array.shape)}; "
                f"every step takes one action for each of the {self.num_envs} environments"
            )
        with np.errstate(invalid="ignore"):
            finite = xp.isfinite(array.sum())  # then there is no NaN, and this is sooner known
        if not finite:
            bad = xp.any(xp.isnan(array), axis=(1, 2)) & self._backend.array(playing)
            if bad.any():
                raise ValueError(
                    f"the actions hold NaN (environments {_some(bad)}); every entry must be a number in [-1, 1]"
                )
        return array if self._backend.name == "numpy" else xp.astype(array, xp.float64)

    def _observation(self) -> dict[str, Array]:
        space: Any = self.single_observation_space
        return {key: self._backend.empty((self.num_envs, *entry.shape), "float32") for key, entry in space.items()}

    def _scores(self) -> _Results:
        N, K, S = self.num_envs, self.config.K, self.config.S
        zeros = np.zeros if self._backend.name == "numpy" else self._backend.zeros
        return {
            "reward": zeros((N,)),
            "total_power_w": zeros((N,)),
            "transmit_power_w": zeros((N,)),
            "circuit_power_w": zeros((N,)),
            "active_aps": zeros((N,), "int64"),
            "sinr_db": zeros((N, K)),
            "crlb_m2": zeros((N, S)),
            "feasible": zeros((N,), "bool"),
            "reward_terms": {name: zeros((N,)) for name in ("power", "sinr", "crlb")},
        }

    def _infos(self, scores: _Results, played: Rows, ended: Rows) -> dict[str, Any]:
        if self._autoreset_mode is not AutoresetMode.SAME_STEP or not ended.any():
            return self._masked(scores, played) if played.any() else {}
        final: Any = np.full(self.num_envs, None, dtype=object)
        for part in self._parts:
            if part.final is not None:
                each: list[dict[str, Array]] = [{} for _ in range(int(part.ended.sum()))]
                for name, entry in part.final.items():
                    for seen, row in zip(each, entry, strict=True):
                        seen[name] = row
                final[part.span][part.ended] = each
        going = played & ~ended
        return {
            **(self._masked(scores, going) if going.any() else {}),
            "final_obs": final,
            "_final_obs": self._mask(ended),
            "final_info": self._masked(scores, ended),
            "_final_info": self._mask(ended),
        }

    def _masked(self, results: Mapping[str, Any], rows: Rows) -> _Results:
        """An info in Gymnasium's layout: every value beside a mask of the rows that have it, and zero in the others."""
        laid_out: _Results = {}
        everywhere = rows.all()
        for name, value in results.items():
            if isinstance(value, dict):
                laid_out[name] = self._masked(value, rows)
            elif everywhere:
                laid_out[name] = value
            else:
                chosen = self._backend.array(rows)
                laid_out[name] = self._backend.xp.zeros_like(value)
                laid_out[name][chosen] = value[chosen]
            laid_out[f"_{name}"] = self._mask(rows)
        return laid_out

    def _mask(self, rows: Rows) -> Array:
        mask = rows.copy()
        return mask if self._backend.name == "numpy" else self._backend.array(mask)

    def _each(self, work: Callable[[Part], None]) -> None:
        """Do the work of every part, on as many threads as there are parts and processors for."""
        parts = iter(self._parts)
        workers = min(self._threads, len(self._parts))
        if workers > 1 and self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="cfisac")

        def take_turns() -> None:
            for part in parts:
                work(part)

        others = [] if self._pool is None else [self._pool.submit(take_turns) for _ in range(workers - 1)]
        take_turns()
        for other in others:
            other.result()


def _at(results: Mapping[str, Any], span: slice) -> _Results:
    """Views of the rows of some environments."""
    return {name: _at(value, span) if isinstance(value, dict) else value[span] for name, value in results.items()}


def _some(rows: Array) -> str:
    """The first ten of the rows that are marked."""
    marked = [i for i, is_marked in enumerate(rows.tolist()) if is_marked]
    return f"{marked[:10]}{f' and {len(marked) - 10} more' if len(marked) > 10 else ''}"
