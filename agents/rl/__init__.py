"""Reinforcement learning: environments with structured actions, agents and their training.

`CfIsacActivation-v0`, `CfIsacPriority-v0`, `CfIsacSequential-v0` and `CfIsacImprovement-v0`, whose powers come from the exact allocator,
are registered by `import cfisac_env`.
"""

import cfisac_env  # noqa: F401  (registers the environments)
