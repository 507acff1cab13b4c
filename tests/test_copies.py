"""Every public object goes on as the original did: pickled, deep-copied, in a new process and in a forked one.

`SUBJECTS` holds them, each in the state in which it is copied, with what is asked of it afterwards. Add objects there.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import agents
import baselines
from agents.rl.agent import agent_of
from agents.rl.building import empty_policy
from agents.rl.parameters import hyper_parameters
from agents.rl.run import Run
from cfisac_env import Decision, Scenario, SystemConfig, actions, observations, sample
from cfisac_env.mobility import CorrelatedShadowing, RandomWaypoint, SmoothTurns

SMALL: dict[str, Any] = {"M": 6, "K": 3, "T": 4, "crlb_threshold_m2": 5.0}


@dataclass(frozen=True)
class Still:
    """Users that stay where they are: a strategy of a user's own."""

    shift_m: float = 1.0

    def trajectory(self, rng: Any, start_xy: Any, radius_m: float, steps: int, step_s: float) -> Any:
        """Positions, (steps, N, 2) m."""
        return np.repeat(start_xy[None] + self.shift_m, steps, axis=0)


def seen(value: Any) -> Any:
    """A result in plain containers and arrays, to be sent from process to process and compared."""
    if isinstance(value, dict):
        return {key: seen(item) for key, item in value.items()}
    if isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [seen(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: seen(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    return value


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(np.array_equal(ours, theirs, equal_nan=isinstance(ours, float | np.ndarray)))


def played(env: Any, steps: int = 7) -> Any:
    """What an environment in the middle of an episode says from here on."""
    env.action_space.seed(11)
    results: list[Any] = []
    for _ in range(steps):
        _, _, terminated, truncated, _ = step = env.step(env.action_space.sample())
        results += [step, env.render() if env.render_mode == "rgb_array" else None]
        if terminated or truncated:
            results.append(env.reset())
    env.close()
    return seen(results)


def single(name: str, steps: int = 2, **options: Any) -> Any:
    env = gym.make(name, **(SMALL | options))
    env.action_space.seed(1)
    env.reset(seed=5)
    for _ in range(steps):
        if env.step(env.action_space.sample())[2]:
            env.reset()
        if env.render_mode is not None:
            env.render()
    return env


def vector(name: str, **options: Any) -> Any:
    envs = gym.make_vec(name, **({"num_envs": 3} | SMALL | LONG.get(name, {}) | options))
    envs.action_space.seed(1)
    envs.reset(seed=5)
    for _ in range(2):
        envs.step(acted(envs))
    return envs


def acted(envs: Any) -> Any:
    action = envs.action_space.sample()
    if getattr(envs, "backend", "numpy") == "torch":
        import torch

        return torch.tensor(action)
    return action


def played_together(envs: Any) -> Any:
    envs.action_space.seed(11)
    results = [seen(envs.step(acted(envs))) for _ in range(5)]
    envs.close()
    return results


def in_threads() -> Any:
    """A vector environment that has threads: several shards, two of which are worked on at once."""
    return vector("CfIsac-v0", num_envs=1100, M=3, K=2, threads=2)


def for_sb3() -> Any:
    from agents.rl.vec_env import SB3VecEnv

    envs = SB3VecEnv(gym.make_vec("CfIsac-v0", num_envs=3, autoreset_mode="SameStep", episode_steps=3, **SMALL))
    envs.seed(5)
    envs.reset()
    envs.step(np.zeros((3, 6, 4), np.float32))
    return envs


def stepped(envs: Any) -> Any:
    results = [envs.step(np.full((3, 6, 4), 0.1 * i, np.float32)) for i in range(4)]
    for *_, infos in results:
        for info in infos:
            info.get("episode", {}).pop("t", None)
    return seen(results)


def drops(n: int | None = 4, **options: Any) -> Scenario:
    return sample(SystemConfig(**(SMALL | options)), np.random.default_rng(3), n)


def scored(drop: Scenario) -> Any:
    decision = actions.decode(np.linspace(-1, 1, 6 * 4, dtype=np.float32).reshape(6, 4), 0.1)
    frozen = [not getattr(drop, field.name).flags.writeable for field in fields(drop) if field.name.endswith("_xy")]
    return seen(
        [drop.evaluate(decision), observations.encode(drop), drop.config.as_dict(), frozen, drop.config.noise_w]
    )


def decided() -> Decision:
    return actions.decode(np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4), 0.1)


def moved(strategy: Any) -> Any:
    start = np.full((2, 2), 20.0)
    return strategy.trajectory(np.random.default_rng(2), start, 250.0, 9, 1.0)


def shadowed(strategy: Any) -> Any:
    return strategy.series(np.random.default_rng(2), np.zeros((3, 2)), np.arange(12.0).reshape(3, 2, 2), 7.0)


def configured(config: SystemConfig) -> Any:
    return [config.as_dict(), hash(config) == hash(SystemConfig(**config.as_dict())), config.noise_w]


def specified(name: str) -> Any:
    return single(name, **LONG.get(name, {})).spec


def made(spec: EnvSpec) -> Any:
    env = spec.make()
    return [seen(env.reset(seed=1)), played(env)]


def policy(name: str) -> Any:
    """A policy that has decided already, and the observations that it is to decide about next."""
    M, K = (30, 6) if name == "ddpg-paper" else (8, 3)  # shipped for some sizes alone
    env = gym.make("CfIsacMobile-v0", M=M, K=K, episode_steps=4, wake_up_steps=1, switching_energy_j=3.0)
    observation, _ = env.reset(seed=3)
    if name in agents.AGENTS:
        config = SystemConfig(M, K)
        run = Run(name, config, hyper_parameters(name)) if name in UNTRAINED else None
        made = agents.load(name, M=M, K=K) if run is None else agent_of(empty_policy(run), run)
    else:
        made = baselines.make(name, M=M, K=K, **({"env": env} if name == "clairvoyant" else {}))
    action, _ = made.predict(observation)
    return made, [env.step(action)[0] for _ in range(2)]


def predicted(policy_and_observations: Any) -> Any:
    made, observations_ = policy_and_observations
    return [made.predict(observation)[0] for observation in observations_]


UNTRAINED = ("td3", "sac", "ppo")
"""Agents that are not shipped."""

POLICIES = [*baselines.POLICIES, *baselines.SEQUENTIAL, *agents.AGENTS]

IDS = sorted(name for name in gym.registry if name.startswith("CfIsac"))
NATIVE = [name for name in IDS if gym.spec(name).vector_entry_point is not None]
LONG: dict[str, dict[str, Any]] = {
    "CfIsac-v0": {"episode_steps": 3, "decisions_per_drop": 2},
    "CfIsacMobile-v0": {"episode_steps": 5, "wake_up_steps": 1, "user_motion": Still()},
    "CfIsacActivation-v0": {"episode_steps": 4},
}

SUBJECTS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    **{f"{name} in an episode": (partial(single, name, **LONG.get(name, {})), played) for name in IDS},
    **{f"{name} between episodes": (partial(single, name, steps=0), played) for name in IDS},
    **{f"{name} rendered": (partial(single, name, steps=1, render_mode="rgb_array"), partial(played, steps=1)) for name in IDS},
    "CfIsac-v0 in a window": (partial(single, "CfIsac-v0", render_mode="human"), partial(played, steps=1)),
    **{f"{name} specified": (partial(specified, name), made) for name in IDS},
    **{f"{name} in vectors": (partial(vector, name, autoreset_mode="SameStep"), played_together) for name in NATIVE},
    **{f"{name} in tensors": (partial(vector, name, backend="torch"), played_together) for name in NATIVE},
    "CfIsac-v0 in threads": (in_threads, played_together),
    "CfIsac-v0 on given drops": (lambda: single("CfIsac-v0", drops=drops()), played),
    "CfIsac-v0 for SB3": (for_sb3, stepped),
    **{f"policy {name}": (partial(policy, name), predicted) for name in POLICIES},
    "configuration": (lambda: SystemConfig(preset="urban", M=7), configured),
    "drop": (partial(drops, None), scored),
    "drops": (lambda: drops(4)[1:3], scored),
    "drops with shared pilots": (partial(drops, 2, pilot_length=2, rcs_model="exponential"), scored),
    "problem": (lambda: drops(2).problem, lambda problem: seen(problem)),
    "decision": (decided, seen),
    "outcome": (lambda: drops(None).evaluate(decided()), seen),
    "walk": (lambda: RandomWaypoint(2.0), moved),
    "drive": (lambda: SmoothTurns(20.0), moved),
    "shadowing": (lambda: CorrelatedShadowing(20.0), shadowed),
    "switching": (lambda: single("CfIsacMobile-v0", wake_up_steps=2).unwrapped.switching, lambda one: seen(one.after(np.ones(6, bool)))),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _windows_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.mark.parametrize("name", list(SUBJECTS))
def test_pickled_and_deep_copied_objects_go_on_as_the_original(name: str) -> None:
    make, go_on = SUBJECTS[name]
    original = make()
    twins = {
        "pickled": pickle.loads(pickle.dumps(original)),
        "copied": copy.deepcopy(original),
        "copied twice": copy.deepcopy(pickle.loads(pickle.dumps(original))),
    }
    expected = go_on(original)
    for way, twin in twins.items():
        assert same(go_on(twin), expected), way


def test_objects_go_on_as_the_original_in_a_new_process(tmp_path: Path) -> None:
    originals = {name: make() for name, (make, _) in SUBJECTS.items()}
    sent, answer = tmp_path / "sent.pickle", tmp_path / "answer.pickle"
    pickled = {name: pickle.dumps(original) for name, original in originals.items()}
    sent.write_bytes(pickle.dumps((Still.__module__, pickled)))
    subprocess.run([sys.executable, __file__, str(sent), str(answer)], check=True, timeout=300)
    answers = pickle.loads(answer.read_bytes())
    wrong = [name for name, original in originals.items() if not same(answers[name], SUBJECTS[name][1](original))]
    assert wrong == []


def _answer(connection: Any, go_on: Callable[[Any], Any], original: Any) -> None:
    connection.send(go_on(original))
    connection.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_objects_go_on_as_the_original_in_a_forked_process() -> None:
    context = multiprocessing.get_context("fork")
    wrong = []
    for name, (make, go_on) in SUBJECTS.items():
        original = make()
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_answer, args=(theirs, go_on, original))
        child.start()
        theirs.close()
        answered = ours.poll(60)
        try:
            answer = ours.recv() if answered else None
        except EOFError:
            answer = None
        child.join(5)
        if child.is_alive():
            child.kill()
        if answer is None or not same(answer, go_on(original)):
            wrong.append(name)
    assert wrong == []


if __name__ == "__main__":  # the new process
    own_name, originals = pickle.loads(Path(sys.argv[1]).read_bytes())
    sys.modules[own_name] = sys.modules["__main__"]  # where the objects say that this module's classes are
    results = {name: SUBJECTS[name][1](pickle.loads(data)) for name, data in originals.items()}
    Path(sys.argv[2]).write_bytes(pickle.dumps(results))
