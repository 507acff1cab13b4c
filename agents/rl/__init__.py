"""Reinforcement learning on the suite: environments with structured actions.

Importing the package registers `CfIsacActivation-v0` and `CfIsacSequential-v0`, whose powers come from the exact allocator;
`gym.make("agents.rl:CfIsacActivation-v0")` imports it on the way.
"""

from gymnasium.envs.registration import register

register(id="CfIsacActivation-v0", entry_point="agents.rl.environments:CfIsacActivationEnv")
register(id="CfIsacSequential-v0", entry_point="agents.rl.environments:CfIsacSequentialEnv")
