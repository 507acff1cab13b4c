"""Configurations that agents were trained for, and a warning where they decide others."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cfisac_env.config import SystemConfig

NEUTRAL = ("preset", "reward", "sinr_penalty", "crlb_penalty")
"""Fields that don't affect decisions."""

SIZES = ("M", "K")
"""Fields that may differ for an agent that serves every size."""

Fields = Mapping[str, Any]


class UntrainedConfigurationWarning(UserWarning):
    """An agent decides drops of a configuration that it wasn't trained for: expect worse or infeasible decisions."""


def trained_fields(config: SystemConfig, every_size: bool) -> dict[str, Any]:
    """Select the fields of a configuration to which an agent trained for it is bound."""
    left_out = (*NEUTRAL, *(SIZES if every_size else ()))
    return {name: value for name, value in config.as_dict().items() if name not in left_out}


def trained_for(policy: Any, config: SystemConfig) -> dict[str, tuple[Any, Any]]:
    """Compare a configuration with those that an agent was trained for.

    Args:
        policy: an agent; oracles, and networks of unknown origin, aren't bound to any configuration.

    Returns:
        Field → (training value, value here) for the closest training configuration; empty if the agent was trained for this one.
    """
    return _differences(getattr(policy, "trained", ()), config.as_dict())


def described(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """Describe differing fields: `sinr_threshold_db -4 (trained: -5.6)`."""
    return ", ".join(f"{name} {_shown(here)} (trained: {_shown(there)})" for name, (there, here) in differing.items())


def warn_untrained(policy: Any, config: SystemConfig) -> None:
    """Warn if an agent wasn't trained for a configuration; the requirements in its observations then go unchecked."""
    if differing := trained_for(policy, config):
        policy.watch.warn(differing, stacklevel=4)


class Watch:
    """Check of the requirements in an agent's observations, which warns once if the agent wasn't trained for them.

    Args:
        trained: fields of the training configurations; empty if unknown.
    """

    def __init__(self, name: str, trained: Sequence[Fields]) -> None:
        self._name, self._trained = name, trained
        self._last = b""

    def check(self, requirement: Any) -> None:
        """Check the requirements (4,) or (n, 4) of drops, which are the same throughout a batch."""
        if not self._trained:
            return
        row = np.asarray(requirement, dtype=np.float64).reshape(-1, 4)[0]
        if (key := row.tobytes()) == self._last:
            return
        self._last = key
        gamma, nu, cap, circuit = row.tolist()
        here = {
            "sinr_threshold_db": 10.0 * math.log10(gamma), "crlb_threshold_m2": nu, "max_ap_power_w": cap, "circuit_power_w": circuit,
        }  # fmt: skip
        if differing := _differences(self._trained, here):
            self.warn(differing, stacklevel=6)

    def warn(self, differing: Mapping[str, tuple[Any, Any]], stacklevel: int) -> None:
        """Warn, and disable the check."""
        self._trained = ()
        warnings.warn(
            f"{self._name} wasn't trained for {described(differing)}: expect worse decisions, or train one for it",
            UntrainedConfigurationWarning,
            stacklevel,
        )


def _differences(trained: Sequence[Fields], here: Fields) -> dict[str, tuple[Any, Any]]:
    each = [
        {
            name: (value, here[name])
            for name, value in fields.items()
            if name in here and not _same(name, value, here[name])
        }
        for fields in trained
    ]
    return min(each, key=lambda differing: (len(differing), _distance(differing)), default={})


def _distance(differing: Mapping[str, tuple[Any, Any]]) -> float:
    """Sum the distances of values, each relative to the larger."""
    pairs = [pair for pair in differing.values() if all(isinstance(value, int | float) for value in pair)]
    return float(sum(abs(there - here) / max(abs(there), abs(here)) for there, here in pairs))


def _same(name: str, there: Any, here: Any) -> bool:
    if isinstance(there, str) or isinstance(here, str) or there is None or here is None:
        return bool(there == here)
    return math.isclose(
        there, here, rel_tol=1e-5, abs_tol=1e-5 if name.endswith("_db") else 0.0
    )  # float32 in observations


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
