"""Several vector environments of one size as one, so that an agent learns from drops of several configurations at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn


class _Composite(VecEnv):
    """Environments made of others, which are seeded and closed together."""

    parts: list[VecEnv]

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed every environment with the number after that of the one before."""
        given: list[int | None] = []
        for part in self.parts:
            given += part.seed(None if seed is None else seed + len(given))
        return given

    def close(self) -> None:
        """Close all."""
        for part in self.parts:
            part.close()


class MixedVecEnv(_Composite):
    """The environments of several `VecEnv`s one after the other.

    Args:
        parts: with the same action space and the same shapes of observations; the spaces are those of the first.

    Raises:
        ValueError: there are no parts, or their spaces differ in shape.
    """

    def __init__(self, parts: Sequence[VecEnv]) -> None:
        if not parts:
            raise ValueError("a mixed environment needs at least one part, got none")
        shapes = [{key: space.shape for key, space in part.observation_space.items()} for part in parts]  # type: ignore[attr-defined]
        for i, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
            if shape != shapes[0] or part.action_space != parts[0].action_space:
                raise ValueError(
                    f"parts must share one size, but part {i} has observations {shape} and the first {shapes[0]}"
                )
        self.parts = list(parts)
        edges = np.cumsum([0, *(part.num_envs for part in parts)])
        self._spans = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
        super().__init__(int(edges[-1]), parts[0].observation_space, parts[0].action_space)

    def reset(self) -> VecEnvObs:
        """Reset all."""
        observation = _joined([part.reset() for part in self.parts])
        self.reset_infos = [info for part in self.parts for info in part.reset_infos]
        return observation

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Hand every part its actions."""
        for part, span in zip(self.parts, self._spans, strict=True):
            part.step_async(actions[span])

    def step_wait(self) -> VecEnvStepReturn:
        """Step all."""
        results = [part.step_wait() for part in self.parts]
        observations, rewards, dones, infos = zip(*results, strict=True)
        self.reset_infos = [info for part in self.parts for info in part.reset_infos]
        joined = [info for some in infos for info in some]
        return _joined(observations), np.concatenate(rewards), np.concatenate(dones), joined

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of environments."""
        return self._of_each(indices, lambda part, chosen: part.get_attr(attr_name, chosen))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of environments."""
        self._of_each(indices, lambda part, chosen: part.set_attr(attr_name, value, chosen))

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of environments."""
        return self._of_each(
            indices, lambda part, chosen: part.env_method(method_name, *method_args, indices=chosen, **method_kwargs)
        )

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return whether environments have a wrapper."""
        return self._of_each(indices, lambda part, chosen: part.env_is_wrapped(wrapper_class, chosen))

    def _of_each(self, indices: VecEnvIndices, ask: Callable[[VecEnv, list[int]], list[Any] | None]) -> list[Any]:
        wanted = list(self._get_indices(indices))
        found: dict[int, Any] = {}
        for part, span in zip(self.parts, self._spans, strict=True):
            mine = [i for i in wanted if span.start <= i < span.stop]
            if mine:
                answers = ask(part, [i - span.start for i in mine])
                found.update(zip(mine, answers or [None] * len(mine), strict=True))
        return [found[i] for i in wanted]


class RotatingVecEnv(_Composite):
    """Environments of several sizes in turn: when the episodes of one part end, the next part plays.

    All episodes of a part end in the same step. Spaces are those of the first part; `num_envs` is that of the part that plays.
    """

    def __init__(self, parts: Sequence[VecEnv]) -> None:
        if not parts:
            raise ValueError("a rotating environment needs at least one part, got none")
        self.parts, self._turn = list(parts), 0
        self._waiting: list[VecEnvObs] = []
        super().__init__(parts[0].num_envs, parts[0].observation_space, parts[0].action_space)

    def reset(self) -> VecEnvObs:
        """Reset all; the first part plays."""
        self._waiting, self._turn = [part.reset() for part in self.parts], 0
        return self._play()

    def _play(self) -> VecEnvObs:
        part = self.parts[self._turn]
        self.num_envs, self.reset_infos = part.num_envs, part.reset_infos
        return self._waiting[self._turn]

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Hand the part that plays its actions."""
        self.parts[self._turn].step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Step it."""
        observation, rewards, dones, infos = self.parts[self._turn].step_wait()
        self._waiting[self._turn] = observation
        if dones.all():
            self._turn = (self._turn + 1) % len(self.parts)
        return self._play(), rewards, dones, infos

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of all environments of all parts."""
        return [value for part in self.parts for value in part.get_attr(attr_name)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all environments of all parts."""
        for part in self.parts:
            part.set_attr(attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of all environments of all parts."""
        return [value for part in self.parts for value in part.env_method(method_name, *method_args, **method_kwargs)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return whether environments have a wrapper."""
        return [value for part in self.parts for value in part.env_is_wrapped(wrapper_class)]


def _joined(observations: Sequence[Any]) -> dict[str, Any]:
    return {key: np.concatenate([one[key] for one in observations]) for key in observations[0]}
