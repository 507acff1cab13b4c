"""One page for each environment, from its docstring, its spaces and a picture of it that is drawn here."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from PIL import Image

import baselines
import cfisac_env  # noqa: F401  (registers them)

POLICIES = {"CfIsacMobile-v0": "hysteresis"}
"""Policy that plays for the picture of an environment with the action of `CfIsac-v0`; `local-search` elsewhere."""


SIZE = (840, 540)
"""Width and height of a picture."""


def ids() -> list[str]:
    """Ids of the suite's environments, in the order of their registration."""
    return [
        name
        for name, spec in gym.registry.items()
        if str(spec.entry_point).partition(".")[0] in {"cfisac_env", "agents"}
    ]


def write(docs: Path) -> None:
    """Write `environments/<id>.md` and `images/<id>.gif`, where they are missing or differ.

    Args:
        docs: folder of the documentation.
    """
    for name in ids():
        picture = docs / "images" / f"{name}.gif"
        if not picture.exists():
            draw(name, picture)
        page = docs / "environments" / f"{name}.md"
        text = content(name)
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.parent.mkdir(exist_ok=True)
            page.write_text(text, encoding="utf-8")


def content(name: str) -> str:
    """The page of an environment, in Markdown."""
    description = inspect.getdoc(load_env_creator(str(gym.spec(name).entry_point))) or ""
    description, _, _ = description.partition("\nRaises:\n")
    description, _, arguments = description.partition("\nArgs:\n")
    summary, _, rest = description.partition("\n\n")
    env = gym.make(name, M=30, K=6)
    lines = [
        f"# {name}",
        "",
        summary,
        "",
        f"![{name}](../images/{name}.gif)",
        "",
        f'| at M = 30, K = 6 | |\n|---|---|\n| import | `gym.make("cfisac_env:{name}", M=30, K=6)` |',
        f"| action space | `{_shortened(env.action_space)}` |",
        *(f'| `observation["{key}"]` | `{_shortened(space)}` |' for key, space in _entries(env.observation_space)),
        "",
        rest,
        *_arguments(arguments),
    ]
    env.close()
    return "\n".join(lines) + "\n"


def _entries(space: gym.Space[Any]) -> list[tuple[str, gym.Space[Any]]]:
    return list(space.items()) if isinstance(space, gym.spaces.Dict) else []


def _shortened(space: gym.Space[Any]) -> str:
    if isinstance(space, gym.spaces.Box):
        return f"Box({space.low.min():g}, {space.high.max():g}, {space.shape}, {space.dtype})"
    return str(space)


def _arguments(text: str) -> list[str]:
    items: list[str] = []
    for line in inspect.cleandoc(text).split("\n"):
        if line.startswith(" "):
            items[-1] += f" {line.strip()}"
        elif line:
            name, _, meaning = line.partition(":")
            items.append(f"- `{name}`:{meaning}")
    return ["", *items]


def draw(name: str, path: Path, frames: int = 20) -> None:
    """Play an episode, and write what is rendered as an animation.

    Args:
        name: of the environment.
        path: of the GIF.
        frames: to record.
    """
    env: Any = gym.make(name, M=24, K=5, preset="urban", render_mode="rgb_array")
    policy = baselines.make(POLICIES.get(name, "local-search"), M=24, K=5)
    observation, _ = env.reset(seed=3)
    images = []
    for _ in range(frames):
        if "estimates" in observation:  # of moves, made for agents: the policies of the suite don't read it
            action = np.where(observation["allowed"] > 0.0, observation["estimates"], -np.inf).argmax()
        else:
            action = _translated(policy.predict(observation)[0], observation, env.action_space)
        observation, _, terminated, truncated, _ = env.step(action)
        images.append(Image.fromarray(env.render()).resize(SIZE, Image.Resampling.LANCZOS))
        if terminated or truncated:
            observation, _ = env.reset()
    env.close()
    path.parent.mkdir(exist_ok=True)
    images[0].save(path, save_all=True, append_images=images[1:], duration=500, loop=0, optimize=True)


def _translated(action: Any, observation: Any, space: gym.Space[Any]) -> Any:
    """An action of `CfIsac-v0` as one of an environment whose actions are about the set alone."""
    if isinstance(space, gym.spaces.Discrete):
        missing = (action[:, 0] >= 0) != (observation["ap"][:, 2] > 0)
        return int(missing.argmax()) if missing.any() else int(space.n) - 1
    return action if space.shape == action.shape else action[:, 0]
