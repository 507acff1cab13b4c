"""The policy of the graph DDPG: an actor ranks the APs, sets are priced as they grow, and a critic names moves that are priced in turn."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule

from agents.hetgnn.config import NetworkConfig
from agents.hetgnn.network import Embedding
from agents.rl.drop_batch import DropBatch
from agents.rl.set_actor import NETWORK, SetActor, grow
from agents.rl.set_critic import SetCritic
from baselines.policy import read_observation, with_margin
from baselines.set_search import Budget, guided_search

Bools = NDArray[np.bool_]

DECIDING = Budget()
"""Of the search behind a decision."""


class SetPolicy(BasePolicy):
    """Decides about drops of any size; the spaces only say what it was built in.

    Actor and critic learn; `actor_target` and `critic_target`, their running averages, decide.

    Args:
        observation_space: of a `CfIsac` environment.
        action_space: of `CfIsac-v0`.
        lr_schedule: of the critic.
        network: sizes of the layers.
        actor_learning_rate: of the actor at first.
        completions: APs that are priced as the last one of a set.
        search: whether the critic's moves follow.
        budget: of these moves.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        network: NetworkConfig = NETWORK,
        actor_learning_rate: float = 5e-4,
        completions: int = 8,
        search: bool = True,
        budget: Budget = DECIDING,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.actor, self.critic = SetActor(network), SetCritic(network)
        self.actor_target, self.critic_target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_target.requires_grad_(False)
        self.critic_target.requires_grad_(False)
        self.actor.optimizer = torch.optim.Adam(self.actor.parameters(), lr=actor_learning_rate)
        self.critic.optimizer = torch.optim.Adam(self.critic.parameters(), lr=lr_schedule(1.0))
        self.actor_learning_rate = actor_learning_rate
        self.network, self.completions = network, completions
        self.search, self.budget = search, budget

    def configure(
        self, *, completions: int | None = None, search: bool | None = None, budget: Budget | None = None
    ) -> None:
        """Change how it decides; None leaves an option as it is.

        Raises:
            ValueError: an option is out of range.
        """
        if completions is not None:
            whole = isinstance(completions, int | np.integer) and not isinstance(completions, bool)
            if not whole or completions < 1:
                raise ValueError(f"completions must be a whole number of 1 or more, got {completions!r}")
            self.completions = int(completions)
        if search is not None:
            if not isinstance(search, bool | np.bool_):
                raise ValueError(f"search must be True or False, got {search!r}")
            self.search = bool(search)
        if budget is not None:
            if not isinstance(budget, Budget):
                raise ValueError(f"budget must be a Budget (baselines.set_search), got {budget!r}")
            self.budget = budget

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        names = ("network", "actor_learning_rate", "completions", "search", "budget")
        return {**data, "lr_schedule": lambda _: 1e-3, **{name: getattr(self, name) for name in names}}

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        action, _ = self.predict({key: value.cpu().numpy() for key, value in observation.items()})
        return torch.from_numpy(action)

    def predict(
        self,
        observation: Mapping[str, NDArray[Any]] | NDArray[Any],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], tuple[NDArray[Any], ...] | None]:
        """The action for one observation or for a batch, of any size.

        Args:
            observation: a `CfIsac` observation, or a batch of them along one leading axis.
            state: returned as it is.
            episode_start: not used.
            deterministic: not used; there is no noise.

        Returns:
            (M, K + 1) or (n, M, K + 1) float32, and `state`.

        Raises:
            ValueError: the observation lacks a key, holds NaN, or users share pilots.
        """
        single = not read_observation(observation, "ddpg")[0].batch_shape
        assert isinstance(observation, Mapping)
        batch = DropBatch({key: np.asarray(value)[None] if single else value for key, value in observation.items()})
        actions = self.decide(batch)
        return actions[0] if single else actions, state

    @torch.no_grad()
    def decide(self, batch: DropBatch) -> NDArray[np.float32]:
        """Raw actions (B, M, K + 1)."""
        embedding = self.actor_target.embed(batch.graph)
        grown = grow(self.actor_target, embedding, batch.scaled, batch.fewest, self.completions)
        sets = grown.sets
        if self.search:
            sets = searched(self.critic_target, batch, sets, grown.served, self.budget)
        actions, served = batch.actions(sets, np.arange(len(batch)))
        for i in np.flatnonzero(~(served & grown.served)):
            actions[i], _ = batch.fallback(int(i), grown.ranking[i])
        return actions


@torch.no_grad()
def searched(critic: SetCritic, batch: DropBatch, sets: Bools, served: Bools, budget: Budget) -> Bools:
    """Sets (B, M) after a search on each drop whose set serves it; the critic says which neighbours are priced first."""
    views = critic.embed(batch.graph)
    result = sets.copy()
    for i in np.flatnonzero(served).tolist():
        view = Embedding(views.ap[[i]], views.ue[[i]], views.target[[i]], views.drops[[i]])

        def value(pool: Bools, view: Embedding = view) -> NDArray[np.float64]:
            values: NDArray[np.float64] = critic(view, torch.from_numpy(pool)[None])[0, :, 0].double().numpy()
            return values

        result[i] = guided_search(with_margin(batch.problem(i)), sets[i], value, budget, int(batch.fewest[i]))
    return result
