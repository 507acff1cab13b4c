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
from baselines.most_informative import drops_and_swaps
from baselines.policy import read_observation

Bools = NDArray[np.bool_]


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
        moves: that the critic names, and that are priced, a round.
        rounds: at most; it ends after `patience` in a row without success.
        patience: rounds without success.
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
        moves: int = 24,
        rounds: int = 8,
        patience: int = 1,
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
        self.search, self.moves, self.rounds, self.patience = search, moves, rounds, patience

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        names = ("network", "actor_learning_rate", "completions", "search", "moves", "rounds", "patience")
        return {**data, "lr_schedule": lambda _: 1e-3, **{name: getattr(self, name) for name in names}}

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        action, _ = self.predict({key: value.cpu().numpy() for key, value in observation.items()})
        return torch.from_numpy(action)

    def predict(  # type: ignore[override]
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
        single = not read_observation(observation, "ddpg").batch_shape
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
            views = self.critic_target.embed(batch.graph)
            sets = np.stack(
                [self._searched(batch, views, i, sets[i]) if grown.served[i] else sets[i] for i in range(len(batch))]
            )
        actions, served = batch.actions(sets, np.arange(len(batch)))
        for i in np.flatnonzero(~(served & grown.served)):
            actions[i], _ = batch.fallback(int(i), grown.ranking[i])
        return actions

    def _searched(self, batch: DropBatch, views: Embedding, drop: int, active: Bools) -> Bools:
        """The set that drop, swap, add and merge moves named by the critic lead to, each priced exactly."""
        view = Embedding(*(getattr(views, name)[[drop]] for name in ("ap", "ue", "target", "drops")))
        total = float(batch.exact_total(drop, active[None], np.inf)[0])
        tried = {active.tobytes()}
        failures, pool = 0, None
        for _ in range(self.rounds):
            if pool is None:
                pool = neighbours(active, int(batch.fewest[drop]))
                if len(pool) == 0:
                    break
                value = self.critic_target(view, torch.from_numpy(pool)[None])[0, :, 0].numpy()
                order = iter(np.argsort(-value, kind="stable"))
            named = []
            for i in order:
                if (key := pool[i].tobytes()) not in tried:
                    tried.add(key)
                    named.append(i)
                    if len(named) == self.moves:
                        break
            if not named:
                break
            totals = batch.exact_total(drop, pool[named], total)
            best = int(np.argmin(totals))
            if totals[best] < total:
                active, total, pool, failures = pool[named[best]], float(totals[best]), None, 0
            else:
                failures += 1
                if failures >= self.patience:
                    break
        return active


def neighbours(active: Bools, fewest: int) -> Bools:
    """Every set that dropping, swapping or adding one AP, or putting one in the place of two, makes of (M,)."""
    on, off = np.flatnonzero(active), np.flatnonzero(~active)
    adds = np.repeat(active[None], len(off), axis=0)
    adds[np.arange(len(off)), off] = True
    first, second = np.triu_indices(len(on), 1)
    merges = np.repeat(active[None], len(first) * len(off), axis=0)
    pair, rows = np.repeat(np.arange(len(first)), len(off)), np.arange(len(first) * len(off))
    merges[rows, on[first[pair]]] = False
    merges[rows, on[second[pair]]] = False
    merges[rows, np.tile(off, len(first))] = True
    sets = np.concatenate([drops_and_swaps(active), adds, merges])
    return sets[sets.sum(-1) >= fewest]
