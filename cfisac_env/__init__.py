"""Gymnasium environments for joint AP activation and power allocation in cell-free ISAC networks.

Importing the package registers `CfIsac-v0`, `CfIsacMobile-v0`, `CfIsacTracking-v0`, `CfIsacActivation-v0`, `CfIsacSequential-v0`,
`CfIsacPriority-v0` and `CfIsacImprovement-v0`; the last four are imported when they are made, as their powers come from the exact
allocator, which needs the extra `baselines`.
"""

from gymnasium.envs.registration import register

from cfisac_env import collisions, extras
from cfisac_env.config import PRESETS, SystemConfig
from cfisac_env.env import CfIsacEnv
from cfisac_env.mobile import CfIsacMobileEnv
from cfisac_env.mobile_vector import CfIsacMobileVectorEnv
from cfisac_env.sampling import sample
from cfisac_env.scenario import Scenario
from cfisac_env.tracking import CfIsacTrackingEnv
from cfisac_env.types import Decision, Outcome, Problem
from cfisac_env.vector import CfIsacVectorEnv

__version__ = "0.2.0"

READABLE = ("0.1", "0.2")
"""Versions whose drops, observations and physics are those of this one, so that it reads their weights and results."""

__all__ = [
    "PRESETS",
    "CfIsacEnv",
    "CfIsacMobileEnv",
    "CfIsacMobileVectorEnv",
    "CfIsacTrackingEnv",
    "CfIsacVectorEnv",
    "Decision",
    "Outcome",
    "Problem",
    "Scenario",
    "SystemConfig",
    "sample",
]

extras.watch()
collisions.warn()
register(
    id="CfIsac-v0",
    entry_point="cfisac_env.env:CfIsacEnv",
    vector_entry_point="cfisac_env.vector:CfIsacVectorEnv",
)
register(
    id="CfIsacMobile-v0",
    entry_point="cfisac_env.mobile:CfIsacMobileEnv",
    vector_entry_point="cfisac_env.mobile_vector:CfIsacMobileVectorEnv",
)
register(id="CfIsacTracking-v0", entry_point="cfisac_env.tracking:CfIsacTrackingEnv")
register(id="CfIsacActivation-v0", entry_point="agents.rl.environments:CfIsacActivationEnv")
register(id="CfIsacSequential-v0", entry_point="agents.rl.environments:CfIsacSequentialEnv")
register(id="CfIsacPriority-v0", entry_point="agents.rl.environments:CfIsacPriorityEnv")
register(id="CfIsacImprovement-v0", entry_point="agents.rl.improvement:CfIsacImprovementEnv")
