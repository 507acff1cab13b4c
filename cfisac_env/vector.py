"""Vector environment `CfIsac-v0`: drops generated, observed and scored as batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import logger
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from cfisac_env.attributes import Configurable, Fixed, unknown_attribute
from cfisac_env.backend import backend as choose_backend
from cfisac_env.config import FIELDS, REQUIREMENT_FIELDS, SystemConfig, check_keywords
from cfisac_env.drops import check_options, load
from cfisac_env.env import CfIsacEnv, checked_count, checked_decision, keywords
from cfisac_env.scenario import Scenario, joined
from cfisac_env.shard import Episode, Rows, Shard
from cfisac_env.types import Array, Decision, Outcome
from cfisac_env.vector_inputs import checked_actions, checked_drops, checked_mask, checked_seeds, some
from cfisac_env.vector_results import Results, infos, scored

_SHARD_LINKS = 2**17  # AP–user links per shard, a trade-off of cache use and Python overhead
_SHARD_ENVS = 512


class CfIsacVectorEnv(Configurable, VectorEnv[Any, Any, Any]):
    """Batch of N environments `CfIsac-v0`, identical step by step to N single ones with the same seeds.

    ```python
    import gymnasium as gym
    import cfisac_env

    envs = gym.make_vec("CfIsac-v0", num_envs=256, vectorization_mode="vector_entry_point", M=50, K=10)
    observations, infos = envs.reset(seed=0)  # environment i has seed i
    observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
    ```

    Observations, rewards and infos are those of `CfIsacEnv` with a leading axis over the environments, in the layout of
    `gymnasium.vector.SyncVectorEnv`: an info `x` has a mask `_x` of the environments that provide it; with `SAME_STEP`, `final_obs` and
    `final_info` hold the end of an episode. `reset(options={"reset_mask": mask})` resets only the environments in the mask.

    Args:
        num_envs: N.
        autoreset_mode: `NEXT_STEP` (a finished environment is reset by the next step, which ignores its action), `SAME_STEP`, or
            `DISABLED`: finished environments must be reset with a mask before the next step.
        threads: number of threads; results do not depend on it.
        backend: array library of all computations and results, `numpy` or `torch`. Random numbers are NumPy's in both.
        device: of torch tensors; None is the CPU.
        max_episode_steps: steps after which episodes are truncated, as with `gym.make`; None and −1 are no limit.
        episode_steps: as for `CfIsacEnv`.
        decisions_per_drop: as for `CfIsacEnv`.
        drops: as for `CfIsacEnv`; every environment plays them from the first.
        render_mode: `rgb_array`: `render` gives the map of every environment, which `gymnasium.wrappers.vector.RecordVideo` puts in a grid.
        fields: any field of `SystemConfig`, and `preset`.

    Raises:
        ValueError, TypeError: as `CfIsacEnv`; or fewer than one environment or thread; or an unavailable device.
    """

    episode_steps = Fixed[int]()
    decisions_per_drop = Fixed[int]()
    autoreset_mode = Fixed[AutoresetMode]()
    _stored: Scenario | None
    _shards: Sequence[Shard]

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int = 1,
        backend: str = "numpy",
        device: Any = None,
        max_episode_steps: int | None = None,
        episode_steps: int = 1,
        decisions_per_drop: int = 1,
        drops: str | os.PathLike[str] | Scenario | None = None,
        render_mode: str | None = None,
        **fields: Any,
    ) -> None:
        self._check_keywords(CfIsacEnv, fields)
        single = CfIsacEnv(
            episode_steps=episode_steps,
            decisions_per_drop=decisions_per_drop,
            drops=drops,
            render_mode=render_mode,
            **fields,
        )
        self._set_up(single, num_envs, autoreset_mode, threads, backend, device, max_episode_steps)
        self._stored = None if drops is None else load(drops, fields).batch().to(self._backend)
        self._shards = [
            Shard(self.config, span, self._episode, self._backend, self._stored) for span in self._spans(_SHARD_LINKS)
        ]

    def _check_keywords(self, single: type[CfIsacEnv], fields: Mapping[str, Any]) -> None:
        """Refuse unknown keywords."""
        valid = dict.fromkeys([*keywords(type(self)), *keywords(single), *FIELDS])
        check_keywords(
            f"{type(self).__name__}.__init__()", [name for name in fields if name not in single.not_taken], valid
        )

    def _set_up(
        self,
        single: CfIsacEnv,
        num_envs: int,
        autoreset_mode: AutoresetMode | str,
        threads: int,
        backend: str,
        device: Any,
        max_episode_steps: int | None,
    ) -> None:
        """Initialise everything but the shards, for environments like `single`."""
        self.num_envs = checked_count("num_envs", num_envs)
        modes = [mode.value for mode in AutoresetMode]
        if not isinstance(autoreset_mode, AutoresetMode) and autoreset_mode not in modes:
            raise ValueError(f"autoreset_mode must be one of {', '.join(modes)}, got {autoreset_mode!r}")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self._threads = checked_count("threads", threads)
        self._backend = choose_backend(backend, device)
        if self._threads > 1 and self._backend.name == "torch":
            raise ValueError(
                f"threads={threads}: torch has threads of its own, see torch.set_num_threads; leave it out"
            )
        if single.render_mode not in (None, "rgb_array"):
            raise ValueError(
                f'render_mode={single.render_mode!r}: batches draw "rgb_array" alone; use gym.make for a window'
            )
        self.render_mode = single.render_mode
        limit = None if max_episode_steps in (None, -1) else checked_count("max_episode_steps", max_episode_steps)
        self._config = single.config
        self.episode_steps, self.decisions_per_drop = single.episode_steps, single.decisions_per_drop
        self._episode = Episode(
            self.episode_steps, self.decisions_per_drop, single._terminates, limit, self.autoreset_mode
        )
        self.metadata = {**single.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = single.observation_space, single.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        if self._backend.name == "torch":  # TorchRL assumes float32 rewards otherwise
            self.reward_space = gym.spaces.Box(-np.inf, 0.0, (self.num_envs,), np.float64)
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds = [-1] * self.num_envs
        self._began = False
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._viewer: Any = None

    def _spans(self, links: int) -> list[slice]:
        """Divide the environments into shards of about so many AP–user links."""
        size = max(1, min(_SHARD_ENVS, links // (self.config.M * self.config.K)))
        if self._backend.name == "torch":  # torch has its own threads, and devices want large batches
            size = self.num_envs
        return [slice(start, min(start + size, self.num_envs)) for start in range(0, self.num_envs, size)]

    def _set_config(self, config: SystemConfig) -> None:
        self._config = config
        for shard in self._shards:
            shard.configure(config)

    @property
    def _horizon(self) -> int | None:
        return self._episode.limit if self._episode.terminates else self._episode.length

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Generators of the environments."""
        return tuple(self._begun_generators())

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """Seeds of the environments."""
        self._begun_generators()
        return tuple(self._seeds)

    @property
    def backend(self) -> str:
        """Array library, `numpy` or `torch`."""
        return self._backend.name

    @property
    def scenario(self) -> Scenario:
        """Current drops, with a leading axis over the environments."""
        self._check_began()
        return joined([shard.scenario for shard in self._shards])

    def evaluate(self, decision: Decision) -> Outcome:
        """Score decisions, `active` (N, M) and `power` (N, M, K), or one for all of them, on the current drops without stepping.

        Raises:
            ValueError: other shapes, or powers that are not finite and nonnegative.
            RuntimeError: the environments have not been reset.
        """
        scenario, xp = self.scenario, self._backend.xp
        if self._backend.name == "numpy":
            decision = checked_decision(decision, (self.config.M, self.config.K))
        if decision.power.ndim == 2:
            each = decision.active[None], decision.power[None]
            decision = Decision(*(xp.concat([one] * self.num_envs) for one in each))
        return scenario.evaluate(decision)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Start new episodes in all environments, or in those of `options["reset_mask"]`.

        Args:
            seed: an int for seed, seed + 1, …; or one per environment, where None continues its generator.
            options: `reset_mask` (N,) bool; `drop`, index of the stored drop to play, an int or one per environment.

        Raises:
            ValueError, TypeError: a wrong number of seeds, an invalid mask, or unknown options.
            RuntimeError: a mask without environments that have never been reset.
        """
        check_options(options, ("reset_mask", *(() if self._stored is None else ("drop",))))
        seeds = checked_seeds(seed, self.num_envs)
        each = options or {}
        rows = checked_mask(each.get("reset_mask"), self.num_envs, self._began)
        drop = checked_drops(each.get("drop"), self.num_envs, None if self._stored is None else len(self._stored))
        seeded = np.array([one is not None for one in seeds]) & rows
        for i in np.flatnonzero(seeded).tolist():
            self._generators[i], self._seeds[i] = seeding.np_random(seeds[i])
        generators = self._begun_generators()
        observation = self._observation()

        def begin(shard: Shard) -> None:
            span = shard.span
            shard.reset(
                rows[span], seeded[span], None if drop is None else drop[span], generators[span], _at(observation, span)
            )

        self._each(begin)
        self._began = True
        for shard in self._shards:
            shard.draws = self.render_mode is not None
        return observation, {}

    def step(self, actions: Array) -> tuple[dict[str, Array], Array, Array, Array, dict[str, Any]]:
        """Score a decision in every environment.

        Args:
            actions: (N, M, K + 1).

        Raises:
            ValueError: another shape, NaN, or not numeric.
            RuntimeError: an environment has not been reset, or (`DISABLED`) its episode is over.
        """
        self._check_began()
        over = self._flags("over")
        if self.autoreset_mode is AutoresetMode.DISABLED and over.any():
            raise RuntimeError(
                f"the episodes of environments {some(over)} are over; call reset(options={{'reset_mask': ...}}) before step()"
            )
        playing = ~over
        action = checked_actions(actions, playing, self.action_space.shape or (), self._backend)
        generators: Any = self._generators  # none is None after a reset
        observation = self._observation()

        def play(shard: Shard) -> None:
            shard.step(action[shard.span], generators[shard.span], _at(observation, shard.span))

        self._each(play)
        ended = self._flags("ended")
        terminations, truncations = (self._backend.array(self._flags(name)) for name in ("terminated", "truncated"))
        rewards, scores = scored(self._shards, self._backend, playing)
        same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        laid_out = infos(self._shards, self._backend, scores, playing, ended, same_step)
        return observation, rewards, terminations, truncations, laid_out

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Draw the map of every environment with its last decision, also where that ended the episode; after a reset without one.

        Returns:
            N frames (512, 480, 3); None without a `render_mode`, with a warning.

        Raises:
            RuntimeError: the environments have not been reset.
        """
        if self.render_mode is None:
            logger.warn('render() needs gym.make_vec(..., render_mode="rgb_array")')
            return None
        self._check_began()
        if self._viewer is None:
            try:
                from cfisac_env.rendering import MapViewer
            except ImportError as error:
                raise gym.error.DependencyNotInstalled(f"rendering needs matplotlib: {error}") from error
            self._viewer = MapViewer()
        return tuple(self._viewer.frame(*one) for shard in self._shards for one in shard.views())

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of every environment, or read an attribute; return one result per environment.

        Available methods are `configure`, which changes all environments, and `evaluate`.

        Raises:
            AttributeError: an unknown attribute or method.
        """
        if name == "configure":
            self.configure(*args, **kwargs)
            return (None,) * self.num_envs
        if name == "evaluate":
            outcome = self.evaluate(*args, **kwargs)
            names = [field.name for field in fields(outcome)]
            return tuple(Outcome(**{name: getattr(outcome, name)[i] for name in names}) for i in range(self.num_envs))
        name = {space: f"single_{space}" for space in ("observation_space", "action_space")}.get(name, name)
        if name.startswith("_") or not hasattr(self, name):
            raise unknown_attribute(self, name)
        value = getattr(self, name)
        if callable(value) and not isinstance(value, gym.Space):
            raise AttributeError(
                f"{name} of {type(self).__name__} is a method of the whole batch, not of each environment: call it itself, "
                'or make environments that exist one by one with vectorization_mode="sync"'
            )
        each = name in ("np_random", "np_random_seed", "scenario")
        return tuple(value[i] if each else value for i in range(self.num_envs))

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute for every environment, individual where they differ, such as `scenario`."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Change a requirement or the reward of all environments.

        Args:
            name: one of `cfisac_env.config.REQUIREMENT_FIELDS`.
            values: the value, or a list with the same value for each environment.

        Raises:
            AttributeError: an unknown or read-only attribute.
            ValueError: different values, or a wrong number of them.
        """
        each = list(values) if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs or any(value != each[0] for value in each):
            raise ValueError(
                f"{name} must be one value, or the same {self.num_envs} times: the environments of a batch share one configuration; "
                'vectorization_mode="sync" has one for each'
            )
        if not hasattr(type(self), name) and not hasattr(self, name):
            raise unknown_attribute(self, name)
        if name not in FIELDS:
            raise AttributeError(
                f"{name} of {type(self).__name__} is read-only; writable attributes are {', '.join(REQUIREMENT_FIELDS)}"
            )
        setattr(self, name, each[0])

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the threads."""
        pool = getattr(self, "_pool", None)  # missing if the constructor failed
        if pool is not None and pool[0] == os.getpid():
            pool[1].shutdown()
        self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        """Exclude threads and figures from copies."""
        return {**self.__dict__, "_pool": None, "_viewer": None}

    def _flags(self, name: str) -> Rows:
        """Return a copy of a flag of every environment."""
        flags: list[Rows] = [getattr(shard, name) for shard in self._shards]
        return flags[0].copy() if len(flags) == 1 else np.concatenate(flags)

    def _begun_generators(self) -> list[np.random.Generator]:
        for i, generator in enumerate(self._generators):
            if generator is None:
                self._generators[i], self._seeds[i] = seeding.np_random()
        return [generator for generator in self._generators if generator is not None]

    def _check_began(self) -> None:
        if not self._began:
            raise RuntimeError("the environments have to be reset before they are used: call reset()")

    def _observation(self) -> dict[str, Array]:
        space: Any = self.single_observation_space
        return {key: self._backend.empty((self.num_envs, *entry.shape), "float32") for key, entry in space.items()}

    def _each(self, work: Callable[[Shard], None]) -> None:
        """Process every shard, in parallel if there are several shards and threads."""
        shards = iter(self._shards)
        workers = min(self._threads, len(self._shards))
        if workers > 1 and (self._pool is None or self._pool[0] != os.getpid()):  # threads do not survive a fork
            self._pool = os.getpid(), ThreadPoolExecutor(self._threads - 1, thread_name_prefix="cfisac")

        def take_turns() -> None:
            for shard in shards:
                work(shard)

        others = [] if self._pool is None else [self._pool[1].submit(take_turns) for _ in range(workers - 1)]
        take_turns()
        for other in others:
            other.result()


def _at(results: Mapping[str, Any], span: slice) -> Results:
    """Return views of the rows of some environments."""
    return {name: _at(value, span) if isinstance(value, dict) else value[span] for name, value in results.items()}
