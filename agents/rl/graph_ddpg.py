"""DDPG on sets of APs: Stable-Baselines3's algorithm with a graph actor, a critic of sets, and a replay that keeps drops.

The action is the raw one of `CfIsac-v0`, and rewards are all that is learned from. Episodes have one step, so the critic's target is the
reward. The set is discrete: in place of the gradient of the critic at the action, the actor follows the critic's comparison of
all next APs, the discrete form of the deterministic policy gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DDPG
from torch import Tensor
from torch.nn import functional

from agents.hetgnn.graph import Graph, build
from agents.hetgnn.network import Embedding
from agents.rl.drop_batch import DropBatch, turned
from agents.rl.drop_replay import DropReplay, PlayedDrops
from agents.rl.relative_power import UNSERVED
from agents.rl.set_actor import grow
from agents.rl.set_moves import improved, random_moves
from agents.rl.set_policy import SetPolicy

RANKINGS = 4
"""Decisions on a fresh drop that the actor grows, the first without noise; the critic names the others."""

ROUND = 5
"""Moves that the critic names, from the best set so far, for the decisions after that."""

POOL = 96
"""Random moves among which it chooses them."""

NOISE = 2.0
"""Largest scale of the Gumbel noise on the scores of a ranking."""

TEMPERATURE = 0.05
"""Of the softmax over the critic's values that the actor follows."""


class GraphDDPG(DDPG):
    """DDPG whose policy is `SetPolicy`.

    Environments should give several decisions a drop (`decisions_per_drop`): the first are sets that the actor grows, the next is where a
    search from the best of them leads, the others are moves that the critic names.

    Args:
        env: of `CfIsac-v0`, or several as one `VecEnv`; rewards comparable between drops (`RelativePower`).
        learning_rate: of the critic at first; both rates fall to 0 in proportion to the steps that are left.
        buffer_size: decisions that the replay keeps.
        batch_size: drops of a gradient step, each with every decision on it.
        tau: of the running averages that decide.
        train_freq: steps of the environments between updates.
        gradient_steps: of the critic in an update.
        policy_delay: gradient steps of the critic for one of the actor.
        actor_from: gradient steps of the critic before the actor's first.
        training_completions: APs that are priced as the last one of a set while sets grow for training.
        imitation: weight of the actor's loss towards the best sets that were played.
        options: as for Stable-Baselines3's DDPG.
    """

    policy: SetPolicy  # type: ignore[assignment]
    replay_buffer: DropReplay

    def __init__(
        self,
        policy: Any = SetPolicy,
        env: Any = None,
        learning_rate: float = 1e-3,
        buffer_size: int = 40_000,
        batch_size: int = 24,
        tau: float = 0.02,
        train_freq: int = 10,
        gradient_steps: int = 8,
        policy_delay: int = 1,
        actor_from: int = 40,
        training_completions: int = 4,
        imitation: float = 1.0,
        **options: Any,
    ) -> None:
        defaults = {"learning_starts": 0, "replay_buffer_class": DropReplay, "gamma": 0.0}
        super().__init__(
            policy, env, learning_rate, buffer_size, batch_size=batch_size, tau=tau, train_freq=train_freq,
            gradient_steps=gradient_steps, **{**defaults, **options},
        )  # fmt: skip
        self.policy_delay = policy_delay
        self.actor_from, self.training_completions = actor_from, training_completions
        self.imitation = imitation
        self._batch: DropBatch | None = None
        self._plan: list[NDArray[np.bool_]] = []
        self._searched = False

    def _setup_model(self) -> None:
        self.policy_kwargs.pop("n_critics", None)  # which DDPG adds for policies with several
        super()._setup_model()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_batch", "_views", "_plan", "_searched"]

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Sets to play: rankings with noise on fresh drops, then moves."""
        observation: Any = self._last_obs
        if self._batch is None or self.replay_buffer.fresh(observation):
            self._begin(observation)
        assert self._batch is not None
        if not self._plan:
            self._plan = self._moves() if self._searched else [self._search()]
        action, _ = self._batch.actions(self._plan.pop(0), np.arange(len(self._batch)))
        return action, action

    @torch.no_grad()
    def _begin(self, observation: Any) -> None:
        """Grow the first sets of fresh drops, all at once."""
        batch = self._batch = DropBatch(observation)
        B = len(batch)
        actor = self.policy.actor_target
        drop = np.tile(np.arange(B), RANKINGS)
        noise = np.random.gumbel(size=(len(drop), batch.M)) * np.random.uniform(0.0, NOISE, (len(drop), 1))  # noqa: NPY002
        noise[:B] = 0.0
        embedding = actor.embed(batch.graph)
        grown = grow(
            lambda rows, on: actor(embedding[rows], on),
            batch.scaled,
            batch.fewest,
            self.training_completions,
            drop,
            noise,
        )
        self._plan = list(grown.sets.reshape(RANKINGS, B, -1))
        self._views = self.policy.critic_target.embed(batch.graph)
        self._searched = False

    def _search(self) -> NDArray[np.bool_]:
        """Return the sets at which the critic's moves from the best set of every drop end."""
        self._searched = True
        assert self._batch is not None
        sets, _ = self._best()
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
        return improved(self.policy.critic_target, self._batch.scaled, self._views, sets, rng)

    def _best(self) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """The best set of every drop so far, and what it earned."""
        played = self.replay_buffer.current()
        rows, best = np.arange(len(played.sets)), np.nanargmax(played.rewards, axis=1)
        return played.sets[rows, best], played.rewards[rows, best]

    @torch.no_grad()
    def _moves(self) -> list[NDArray[np.bool_]]:
        """The moves from the best set of every drop that the critic values most, among random ones."""
        best, _ = self._best()
        pool = random_moves(best, POOL, np.random.default_rng(np.random.randint(2**31)))  # noqa: NPY002
        value = self.policy.critic_target(self._views, torch.from_numpy(pool))[..., 0].numpy()
        order = np.argsort(-value, axis=1, kind="stable")[:, :ROUND]
        return [np.take_along_axis(pool, order[:, i, None, None], 1)[:, 0] for i in range(ROUND)]

    def _store_transition(
        self, replay_buffer: Any, buffer_action: Any, new_obs: Any, reward: Any, dones: Any, infos: Any
    ) -> None:
        replay_buffer.add(self._last_obs, new_obs, buffer_action, reward, dones, infos)
        self._last_obs = new_obs

    def train(self, gradient_steps: int, batch_size: int = 24) -> None:
        """Update the critic, the actor, and their averages."""
        share = self._current_progress_remaining
        rates = {"actor": self.policy.actor_learning_rate, "critic": self.lr_schedule(share)}
        pairs = []
        for name, rate in rates.items():
            module, average = getattr(self.policy, name), getattr(self.policy, f"{name}_target")
            pairs.append((list(average.parameters()), list(module.parameters())))
            for group in module.optimizer.param_groups:
                group["lr"] = share * rate
            self.logger.record(f"train/{name}_learning_rate", share * rate)
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002 (what Stable-Baselines3 seeds)
        logs: dict[str, list[float]] = {"critic_loss": [], "actor_loss": []}
        for _ in range(gradient_steps):
            self._n_updates += 1
            played = self.replay_buffer.draw(batch_size, rng)
            graph = turned(build(played.observation), rng)
            logs["critic_loss"].append(self._learn_critic(graph, played, rng))
            if self._n_updates > self.actor_from and self._n_updates % self.policy_delay == 0:
                logs["actor_loss"].append(self._learn_actor(graph, played, rng))
            with torch.no_grad():
                for average, learned in pairs:
                    torch._foreach_lerp_(average, learned, max(self.tau, 1.0 / self._n_updates))
        for name, losses in logs.items():
            if losses:
                self.logger.record(f"train/{name}", float(np.mean(losses)))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _learn_critic(self, graph: Graph, played: PlayedDrops, rng: np.random.Generator) -> float:
        """Both outputs at the sets that were played, the second at random parts of them as well."""
        critic = self.policy.critic
        parts = played.sets & (rng.random(played.sets.shape) < rng.random((*played.sets.shape[:2], 1)))
        rewards = torch.from_numpy(played.rewards)
        sets = torch.from_numpy(np.concatenate([played.sets, parts], 1))
        values = critic(critic.embed(graph), sets)
        best = torch.from_numpy(best_containing(np.concatenate([played.sets, parts], 1), played))
        known = torch.isfinite(rewards)
        exact = functional.smooth_l1_loss(values[:, : known.shape[1], 0][known], rewards[known], beta=0.25)
        seen = torch.isfinite(best)
        coming = functional.smooth_l1_loss(values[..., 1][seen], best[seen], beta=0.25)
        loss = exact + coming
        critic.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        critic.optimizer.step()
        return float(loss.detach())

    def _learn_actor(self, graph: Graph, played: PlayedDrops, rng: np.random.Generator) -> float:
        """Two losses: towards the softmax of the critic over all next APs, and towards the best set that was played on the drop.

        The first is a KL divergence at prefixes of the actor's own. The second, at prefixes of the best set, is the negative logarithm
        of the probability that the next AP is one of those that are left of it.
        """
        actor, critic = self.policy.actor, self.policy.critic
        embedding = actor.embed(graph)
        rows = np.arange(len(played.sets))
        place = np.nanargmax(played.rewards, 1)
        best = torch.from_numpy(played.sets[rows, place])
        served = torch.from_numpy(played.rewards[rows, place] > -UNSERVED)
        with torch.no_grad():
            views = critic.embed(graph)
            size = torch.from_numpy(rng.random(len(best))).mul(best.sum(-1)).long()
            own, ours = self._prefixes(embedding, torch.ones_like(best), size + 1, rng)
            last = own.sum(-1) == size[ours]
            own, ours = own[last], ours[last]
            longer = own[:, None] | torch.eye(own.shape[1], dtype=torch.bool)
            wanted = critic(views[ours], longer)[..., 1].masked_fill(own, -torch.inf) / TEMPERATURE
            target = wanted.softmax(-1)
            part, theirs = self._prefixes(embedding, best, best.sum(-1) * served, rng)
        both, drop = torch.cat([own, part]), torch.cat([ours, theirs])
        score = actor(embedding[drop], both).log_softmax(-1)
        first = (torch.xlogy(target, target) - target * score[: len(own)].masked_fill(own, 0.0)).sum() / len(own)
        left = best[theirs] & ~part
        second = -torch.logsumexp(score[len(own) :].masked_fill(~left, -torch.inf), -1).sum() / max(len(part), 1)
        loss = first + self.imitation * second
        actor.optimizer.zero_grad()
        loss.backward()
        actor.optimizer.step()
        return float(loss.detach())

    def _prefixes(
        self, embedding: Embedding, allowed: Tensor, sizes: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sets (n, M) of 0 to `sizes` (B,) less one APs that the actor grows with noise of those `allowed` (B, M); their drops (n,)."""
        on = torch.zeros_like(allowed)
        scale = torch.from_numpy(rng.uniform(0, 1, (len(on), 1)))
        sets, drops = [], []
        for size in range(int(sizes.max())):
            use = torch.nonzero(sizes > size)[:, 0]
            sets.append(on[use])
            drops.append(use)
            scores = self.policy.actor(embedding[use], on[use]).masked_fill(~allowed[use], -torch.inf)
            noise = torch.from_numpy(rng.gumbel(size=tuple(scores.shape))) * scale[use]
            on[use] = on[use].scatter(1, (scores + noise).argmax(1, keepdim=True), True)
        return torch.cat(sets), torch.cat(drops)


def best_containing(sets: NDArray[np.bool_], played: PlayedDrops) -> NDArray[np.float32]:
    """The best reward of a set that was played and contains each of (B, n, M), (B, n); NaN where none does."""
    inside = ~(sets[:, :, None] & ~played.sets[:, None]).any(-1)
    rewards = np.where(inside & np.isfinite(played.rewards)[:, None], played.rewards[:, None], -np.inf)
    best = rewards.max(-1)
    return np.where(np.isfinite(best), best, np.nan).astype(np.float32)
