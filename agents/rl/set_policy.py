"""Policies that choose sets of APs: an actor ranks the APs, sets are priced as they grow, and a search may follow, guided by a critic."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
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
from agents.rl.set_actor import NETWORK, Score, SetActor, grow
from agents.rl.set_beam import beam_search
from agents.rl.set_critic import SetCritic
from baselines.policy import read_observation, with_margin
from baselines.set_search import Budget, SetScore, guided_search
from cfisac_env.env import checked_count

Bools = NDArray[np.bool_]

DECIDING = Budget()
"""Of the search behind a decision."""

ETA = 0.04
"""Of the critic's advice to the actor, in units of the reward."""

SHORTLIST = 16
"""APs, those of the highest scores, on which the critic advises."""

SEEN = 256
"""Neighbours of a set that the critic compares."""


class ActorPolicy(BasePolicy):
    """Decides about drops of any size by an actor that builds sets of APs; the spaces only say what it was built in.

    `actor` learns; `actor_target`, its running average, decides.

    Args:
        observation_space: of a `CfIsac` environment.
        action_space: of `CfIsac-v0`.
        lr_schedule: of the optimiser at first.
        network: sizes of the layers.
        completions: APs that are priced as the last one of a set.
        beams: sets of a drop that grow side by side.
        search: whether a local search with exact prices follows, over neighbours in random order.
        budget: of the search.
    """

    name = "grpo"
    OPTIONS: tuple[str, ...] = ("completions", "beams", "search", "budget")
    """Names of `configure`."""

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        network: NetworkConfig = NETWORK,
        completions: int = 8,
        beams: int = 16,
        search: bool = True,
        budget: Budget = DECIDING,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.actor = SetActor(network)
        self.actor_target = copy.deepcopy(self.actor)
        self.actor_target.requires_grad_(False)
        self.actor.optimizer = torch.optim.Adam(self.actor.parameters(), lr=lr_schedule(1.0), fused=True)
        self.network, self.completions, self.beams, self.search, self.budget = (
            network,
            completions,
            beams,
            search,
            budget,
        )

    def configure(
        self,
        *,
        completions: int | None = None,
        beams: int | None = None,
        search: bool | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Change how it decides; None leaves an option as it is.

        Raises:
            ValueError: an option is out of range.
        """
        for name, count in (("completions", completions), ("beams", beams)):
            if count is not None:
                setattr(self, name, checked_count(name, count))
        if search is not None:
            self.search = _flag("search", search)
        if budget is not None:
            if not isinstance(budget, Budget):
                raise ValueError(f"budget must be a Budget (baselines.set_search), got {budget!r}")
            self.budget = budget

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        return {
            **data, "lr_schedule": lambda _: 1e-3, "network": self.network,
            **{name: getattr(self, name) for name in self.OPTIONS},
        }  # fmt: skip

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
        single = not read_observation(observation, self.name)[0].batch_shape
        assert isinstance(observation, Mapping)
        batch = DropBatch({key: np.asarray(value)[None] if single else value for key, value in observation.items()})
        actions = self.decide(batch)
        return actions[0] if single else actions, state

    def _guides(self, batch: DropBatch) -> tuple[Score, Callable[[int], SetScore]]:
        """The score of next APs, and for each drop the order of the sets of its search; a decision depends on its drop alone."""
        embedding = self.actor_target.embed(batch.graph)
        return lambda rows, on: self.actor_target(embedding[rows], on), lambda drop: at_random(np.random.default_rng(0))

    @torch.no_grad()
    def decide(self, batch: DropBatch) -> NDArray[np.float32]:
        """Raw actions (B, M, K + 1)."""
        score, order = self._guides(batch)
        sets, found = beam_search(score, batch.scaled, batch.fewest, self.completions, self.beams)
        if self.search:
            for drop in np.flatnonzero(found).tolist():
                problem, fewest = with_margin(batch.problem(drop)), int(batch.fewest[drop])
                sets[drop] = guided_search(problem, sets[drop], order(drop), self.budget, fewest)
        actions, served = batch.actions(sets, np.arange(len(batch)))
        left = np.flatnonzero(~(served & found))
        if len(left) > 0:
            grown = grow(score, batch.scaled, batch.fewest, self.completions, left)
            for i, ranking in zip(left, grown.ranking, strict=True):
                actions[i], _ = batch.fallback(int(i), ranking)
        return actions


class SetPolicy(ActorPolicy):
    """`ActorPolicy` with a critic that advises the actor and orders the moves of the search.

    `critic` learns; `critic_target`, its running average, decides.

    Args:
        observation_space: of a `CfIsac` environment.
        action_space: of `CfIsac-v0`.
        lr_schedule: of the critic.
        network: sizes of the layers.
        actor_learning_rate: of the actor at first.
        beams: sets of a drop that grow side by side.
        advised: whether the critic has a say in the next AP.
        options: of `ActorPolicy`.
    """

    name = "ddpg"
    OPTIONS = (*ActorPolicy.OPTIONS, "advised")

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        network: NetworkConfig = NETWORK,
        actor_learning_rate: float = 5e-4,
        beams: int = 8,
        advised: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            lambda _: actor_learning_rate,
            network=network,
            beams=beams,
            **options,
        )
        self.critic = SetCritic(network)
        self.critic_target = copy.deepcopy(self.critic)
        self.critic_target.requires_grad_(False)
        self.critic.optimizer = torch.optim.Adam(self.critic.parameters(), lr=lr_schedule(1.0), fused=True)
        self.actor_learning_rate, self.advised = actor_learning_rate, advised

    def configure(self, *, advised: bool | None = None, **options: Any) -> None:
        """Change how it decides; None leaves an option as it is.

        Raises:
            ValueError: an option is out of range.
        """
        super().configure(**options)
        if advised is not None:
            self.advised = _flag("advised", advised)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "actor_learning_rate": self.actor_learning_rate}

    def _guides(self, batch: DropBatch) -> tuple[Score, Callable[[int], SetScore]]:
        views = self.critic_target.embed(batch.graph)
        return self._score(batch, views), lambda drop: alternating(
            self.critic_target, views[drop : drop + 1], np.random.default_rng(0), SEEN
        )

    def _score(self, batch: DropBatch, views: Embedding) -> Score:
        """The actor's logarithm of probability and, if it is advised, Q/η of the critic: the actor after one regularised improvement.

        π exp(Q/η) is the maximum of E Q − η KL(· ‖ π), with Q the best that a set with the AP can come to.
        """
        embedding = self.actor_target.embed(batch.graph)
        if not self.advised:
            return lambda rows, on: self.actor_target(embedding[rows], on)
        one = torch.eye(batch.M, dtype=torch.bool, device=embedding.ap.device)

        def score(rows: torch.Tensor, on: torch.Tensor) -> torch.Tensor:
            own = self.actor_target(embedding[rows], on).log_softmax(-1)
            some = own.topk(min(SHORTLIST, batch.M), dim=-1).indices
            value = self.critic_target(views[rows], on[:, None] | one[some])[..., 1] / ETA
            total: torch.Tensor = own + value.amin(-1, keepdim=True)
            return total.scatter(-1, some, own.gather(-1, some) + value)

        return score


def at_random(rng: np.random.Generator) -> SetScore:
    """Sets in random order."""
    return lambda pool: rng.random(len(pool))


def alternating(critic: SetCritic, view: Embedding, rng: np.random.Generator, seen: int) -> SetScore:
    """An order of sets of one drop: in turn the one that the critic values most and a random one.

    The random ones keep a critic that errs, at sizes far from those of training for instance, from hiding every move that pays. The critic
    sees at most `seen` sets, drawn at random.
    """

    def order(pool: Bools) -> NDArray[np.float64]:
        drawn = rng.permutation(len(pool))
        values = critic(view, torch.from_numpy(pool[drawn[:seen]])[None])[0, :, 0].numpy()
        place = np.empty(len(pool))
        place[drawn] = 2.0 * np.arange(len(pool)) + 1.0
        named = drawn[np.argsort(-values, kind="stable")]
        place[named] = np.minimum(place[named], 2.0 * np.arange(len(named)))
        return -place

    return order


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)
