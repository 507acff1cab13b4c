"""PPO of RLlib on any environment of the suite, by the flat wrappers.

python -m experiments.examples.rllib_ppo --env-id CfIsacImprovement-v0 --iterations 10
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import tyro

from cfisac_env.wrappers import FlatAction, FlatObservation

NAME = "cfisac"


@dataclass(frozen=True)
class RllibCommand:
    """Train with RLlib.

    Attributes:
        env_id: of the environment.
        preset: of the drops.
        M: access points.
        K: users.
        runners: worker processes; 0 trains within this one.
        iterations: of training.
        rollout: steps of an iteration.
        seed: of the run.
    """

    env_id: str = "CfIsacImprovement-v0"
    preset: str = "urban"
    M: int = 30
    K: int = 6
    runners: int = 0
    iterations: int = 10
    rollout: int = 1024
    seed: int = 0


def environment(options: dict[str, Any]) -> gym.Env[Any, Any]:
    """Make an environment with flat observations and actions; it imports the suite, as workers start without."""
    env = FlatObservation(gym.make("cfisac_env:{env_id}".format(**options), **options["fields"]))
    return FlatAction(env) if isinstance(env.action_space, gym.spaces.Box) else env


def config(command: RllibCommand) -> Any:
    """The configuration of an algorithm, to build or to change.

    Raises:
        ModuleNotFoundError: a package of the extra `rllib` is missing.
    """
    import lz4  # noqa: F401  (RLlib imports these five)
    import ormsgpack  # noqa: F401
    import pyarrow  # noqa: F401
    import tensorboardX  # noqa: F401
    import tree  # noqa: F401
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    register_env(NAME, environment)
    fields = {"M": command.M, "K": command.K, "preset": command.preset}
    return (
        PPOConfig()  # type: ignore[no-untyped-call]
        .environment(NAME, env_config={"env_id": command.env_id, "fields": fields})
        .framework("torch")
        .env_runners(num_env_runners=command.runners, num_envs_per_env_runner=4)
        .training(train_batch_size=command.rollout, minibatch_size=min(128, command.rollout), num_epochs=4, gamma=1.0)
        .debugging(seed=command.seed)
    )


def main() -> None:
    """Train, and print the mean return after every iteration."""
    command = tyro.cli(RllibCommand, description=RllibCommand.__doc__)
    algorithm = config(command).build_algo()
    for i in range(command.iterations):
        print(f"iteration {i + 1}: mean return {algorithm.train()['env_runners']['episode_return_mean']:.4f}")
    algorithm.stop()


if __name__ == "__main__":
    main()
