"""Description of a training run: everything that decides its outcome, as a value that files keep."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cfisac_env
from agents.hetgnn.config import NetworkConfig
from agents.rl.parameters import POLICIES, HyperParameters, family
from agents.rl.set_actor import NETWORK
from cfisac_env import SystemConfig, seeds

MOST_LINKS = 1_000_000
"""Largest M K of an agent; beyond it observations and actions alone fill the memory, and a header that says so is damaged."""

GRAPH_NETWORKS = {"ddpg": NETWORK, "grpo": NETWORK}
"""Algorithm with a graph policy → default sizes of its layers. Its agents serve every M and K."""


@dataclass(frozen=True)
class Run:
    """Everything that decides the outcome of a training run.

    Attributes:
        algorithm: one of `ALGORITHMS`.
        config: of the drops.
        parameters: hyper-parameters of the algorithm.
        seed: of all random numbers.
        network: sizes of the layers of a graph policy; None takes the default. The MLPs of the others are fixed.
        mixed: presets on which a graph policy trains besides that of `config`, at its size or, as in `urban:50x20`, at another.
        validation_drops: number of drops by which the best agent is chosen.

    Raises:
        ValueError: the seed is outside 0 … 399, there is no such algorithm, an option is another algorithm's, or M K is too large.
        TypeError: the hyper-parameters are those of another family.
    """

    algorithm: str
    config: SystemConfig
    parameters: HyperParameters
    seed: int = 0
    network: NetworkConfig | None = None
    mixed: tuple[str, ...] = ()
    validation_drops: int = 50

    def __post_init__(self) -> None:
        if self.config.M * self.config.K > MOST_LINKS:
            raise ValueError(
                f"agents are trained for at most {MOST_LINKS:,} AP–user links, got M={self.config.M}, K={self.config.K}"
            )
        wanted = family(self.algorithm)
        if not isinstance(self.parameters, wanted):
            raise TypeError(
                f"{self.algorithm} takes {wanted.__name__} hyper-parameters, got {type(self.parameters).__name__}; "
                f"make them with hyper_parameters({self.algorithm!r}, config, …)"
            )
        if self.network is None:
            object.__setattr__(self, "network", GRAPH_NETWORKS.get(self.algorithm))
        elif self.algorithm not in GRAPH_NETWORKS:
            raise ValueError(f"{self.algorithm} has fixed MLPs; leave network out")
        if len(self.configs) > 1 and not self.every_size:  # an unknown preset has been refused by now
            raise ValueError(
                f"only {' and '.join(GRAPH_NETWORKS)} train on several presets, got {self.algorithm} with {self.mixed}"
            )
        seeds.of_run(self.seed)  # refuses a seed without drops of its own

    @property
    def policy(self) -> str:
        """Kind of the policy: `sets` or `mlp`."""
        return POLICIES[self.algorithm]

    @property
    def environment(self) -> str:
        """Id of the training environment."""
        return "CfIsac-v0"

    @property
    def every_size(self) -> bool:
        """Support of every M and K, not only those of `config`."""
        return self.algorithm in GRAPH_NETWORKS

    @property
    def configs(self) -> list[SystemConfig]:
        """Configurations of the training drops."""
        return [self.config, *(self._mixed_in(name) for name in self.mixed)]

    def _mixed_in(self, name: str) -> SystemConfig:
        preset, _, size = name.partition(":")
        M, _, K = size.partition("x")
        if size and not (M.isdecimal() and K.isdecimal()):
            raise ValueError(f"mixed takes presets, or PRESET:MxK such as urban:50x20, got {name!r}")
        return SystemConfig(int(M or self.config.M), int(K or self.config.K), preset=preset)

    def as_dict(self) -> dict[str, Any]:
        """Return the run as JSON values, which `Run.from_dict` reads."""
        return {
            "algorithm": self.algorithm,
            "environment": self.environment,
            "version": cfisac_env.__version__,
            "config": self.config.as_dict(),
            "parameters": asdict(self.parameters),
            "seed": self.seed,
            "policy": self.policy,
            **({"network": asdict(self.network)} if self.network is not None else {}),
            **({"mixed": list(self.mixed)} if self.mixed else {}),
            "validation_drops": self.validation_drops,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Run:
        """Build the run that `as_dict` described.

        Raises:
            KeyError, TypeError, ValueError: the description is incomplete or names what doesn't exist.
        """
        algorithm = content["algorithm"]
        wanted = family(algorithm)
        if content["policy"] != POLICIES[algorithm]:
            raise ValueError(f"{algorithm} has the policy {POLICIES[algorithm]!r}, not {content['policy']!r}")
        network = None
        if "network" in content:
            sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content["network"].items()}
            network = NetworkConfig(**sizes)
        return cls(
            algorithm,
            SystemConfig(**content["config"]),
            wanted(**content["parameters"]),
            content["seed"],
            network,
            mixed=tuple(content.get("mixed", ())),
            validation_drops=content.get("validation_drops", 50),
        )
