"""Training state of a Stable-Baselines3 model as plain values and tensors, for `agents.checkpoint`.

SB3's own files are pickles. Here model and environments are rebuilt from the run's description, and the state is loaded into them.

Of the environments only the random generators are kept: after writing a checkpoint, a run continues in fresh environments with these
generators, and so does a run that resumes from it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecEnvWrapper

from agents import checkpoint, tensorfile

COUNTERS = ("num_timesteps", "_episode_num", "_n_updates", "_current_progress_remaining")
"""Numbers of a model that training continues from."""

_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
"""Arrays of a replay buffer: one entry a transition along the first axis, or a dict of such arrays."""

SCHEMA: tensorfile.Schema = {
    "modules": {"type": "object"},
    "tensors": {"type": "object"},
    "counters": {"type": "object", "additionalProperties": {"type": "number"}},
    "replay": {"type": ["object", "null"]},
    "generators": {"type": "array", "items": {"type": "object"}},
    "action_space": {"type": "object"},
    "random": {"type": "object"},
}


def state_of(model: BaseAlgorithm) -> dict[str, Any]:
    """Return the training state of a model between two rollouts.

    Args:
        model: on-policy, or off-policy with a `DictReplayBuffer` or a buffer that has `state()` and `load_state(state)`.
    """
    assert model.env is not None
    names, tensors = model._get_torch_save_params()
    replay = None
    if isinstance(model, OffPolicyAlgorithm):
        buffer: Any = model.replay_buffer
        replay = _replay_state(buffer) if isinstance(buffer, DictReplayBuffer) else buffer.state()
    return {
        "modules": {name: _module_state(recursive_getattr(model, name)) for name in names},
        "tensors": {name: recursive_getattr(model, name) for name in tensors},
        "counters": {name: getattr(model, name) for name in COUNTERS if hasattr(model, name)},
        "replay": replay,
        "generators": [generator.bit_generator.state for generator in model.env.get_attr("np_random")],
        "action_space": model.action_space.np_random.bit_generator.state,
        "random": _random_state(),
    }


def continue_in(model: BaseAlgorithm, venv: VecEnvWrapper, state: Mapping[str, Any]) -> None:
    """Continue the training of a model in fresh environments.

    Args:
        model: after `state_of` or `restore`; its environments are wrapped as those of `venv`.
        venv: environments that were neither seeded nor reset.
        state: with the generators that they get.
    """
    outer = model.env
    assert isinstance(outer, VecEnvWrapper)
    for generator, known in zip(venv.get_attr("np_random"), state["generators"], strict=True):
        generator.bit_generator.state = known
    outer.venv.close()
    outer.venv = venv.venv  # the rollout that is about to begin holds the wrapper
    model._last_obs = outer.reset()  # type: ignore[assignment]
    model._last_episode_starts = np.ones(venv.num_envs, dtype=bool)


def restore(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    """Load a state from `state_of` into a freshly built model and the random generators of this process; call `continue_in` next.

    Raises:
        ValueError, KeyError, TypeError, RuntimeError: the state is of another model.
    """
    names, tensors = model._get_torch_save_params()
    for name in names:
        part = recursive_getattr(model, name)
        if isinstance(part, torch.optim.Optimizer):
            checkpoint.load_optimiser_state(part, state["modules"][name])
        else:
            part.load_state_dict(state["modules"][name])
    for name in tensors:
        recursive_getattr(model, name).data.copy_(state["tensors"][name])
    for name in COUNTERS:
        if hasattr(model, name):
            setattr(model, name, state["counters"][name])
    if isinstance(model, OffPolicyAlgorithm):
        buffer: Any = model.replay_buffer
        if isinstance(buffer, DictReplayBuffer):
            _load_replay_state(buffer, state["replay"])
        else:
            buffer.load_state(state["replay"])
    model.action_space.np_random.bit_generator.state = state["action_space"]
    _set_random_state(state["random"])


def _module_state(part: Any) -> dict[str, Any]:
    state: dict[str, Any] = (
        checkpoint.optimiser_state(part) if isinstance(part, torch.optim.Optimizer) else part.state_dict()
    )
    return state


def _replay_state(buffer: DictReplayBuffer) -> dict[str, Any]:
    size = buffer.size()
    content = {name: getattr(buffer, name) for name in _REPLAY}
    filled = {
        name: {key: array[:size] for key, array in value.items()} if isinstance(value, dict) else value[:size]
        for name, value in content.items()
    }
    return {"pos": int(buffer.pos), "full": bool(buffer.full), **filled}


def _load_replay_state(buffer: DictReplayBuffer, state: Mapping[str, Any]) -> None:
    for name in _REPLAY:
        whole, filled = getattr(buffer, name), state[name]
        pairs = [(whole[key], filled[key]) for key in whole] if isinstance(whole, dict) else [(whole, filled)]
        for array, part in pairs:
            found = part.numpy()
            if found.shape[1:] != array.shape[1:] or len(found) > len(array) or found.dtype != array.dtype:
                raise ValueError(
                    f"{name} of the replay buffer are {found.dtype} of shape {found.shape}, expected {array.dtype} of {array.shape}"
                )
            array[: len(found)] = found
    buffer.pos, buffer.full = state["pos"], state["full"]


def _random_state() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 (what Stable-Baselines3 draws from)
        "torch": torch.get_rng_state(),
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    known = dict(state["numpy"])
    known["state"] = {**known["state"], "key": known["state"]["key"].numpy()}
    np.random.set_state(known)  # noqa: NPY002
    torch.set_rng_state(state["torch"])
