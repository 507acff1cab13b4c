"""Group relative policy optimisation (GRPO) for actors that build sets of APs: several decisions on a drop are compared with each other."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from torch import Tensor

from agents.hetgnn.graph import Graph
from agents.rl.drop_batch import DropBatch, turned
from agents.rl.set_actor import Grown, SetActor, grow
from agents.rl.set_policy import ActorPolicy

LONGEST = 1.0
"""Norm to which a gradient is clipped."""

SPREAD = 1e-3
"""Added to the standard deviation by which rewards on a drop are divided."""


class GRPO(BaseAlgorithm):
    """Policy gradient with clipped ratios whose policy is `ActorPolicy`; there is no critic.

    Every drop is played `decisions` times, each with a set drawn AP by AP from the actor. The advantage of a set is its reward less the
    mean on its drop, divided by their standard deviation. Noise is drawn anew at every AP, so that the gradient is that of the
    distribution which was played; the entropy of the draws is rewarded.

    Args:
        policy: `ActorPolicy`.
        env: of `CfIsac-v0`, or several as one `VecEnv`, with `decisions_per_drop` equal to `decisions` and rewards comparable between drops
            (`RelativePower`).
        learning_rate: of Adam at first; it falls to 0 in proportion to the steps that are left.
        decisions: on each drop.
        epochs: gradient steps on the decisions of a batch of drops.
        clip_range: of the ratio between the probabilities of an AP now and when it was drawn.
        tau: of the running average that decides, for each gradient step.
        entropy: weight of the entropy of a draw.
        training_completions: APs that are priced as the last one of a set in training.
        options: of `BaseAlgorithm`.

    References:
        Shao et al., "DeepSeekMath", 2024 (GRPO). Kwon et al., "POMO", NeurIPS 2020 (a baseline shared by decisions on one problem).
    """

    policy: ActorPolicy

    def __init__(
        self,
        policy: Any = ActorPolicy,
        env: Any = None,
        learning_rate: float = 2e-3,
        decisions: int = 12,
        epochs: int = 3,
        clip_range: float = 0.2,
        tau: float = 0.02,
        entropy: float = 0.02,
        training_completions: int = 4,
        _init_setup_model: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(policy, env, learning_rate, support_multi_env=True, **options)
        self.decisions, self.epochs, self.clip_range = decisions, epochs, clip_range
        self.tau, self.entropy, self.training_completions = tau, entropy, training_completions
        self._n_updates = 0
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        policy: Any = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        )
        self.policy = policy.to(self.device)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.actor.optimizer"], []

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 10,
        tb_log_name: str = "grpo",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn for so many environment steps, rounded up to whole drops.

        Args:
            total_timesteps: environment steps.
            callback: called at every step and around every batch of drops.
            log_interval: updates between entries of the log.
            tb_log_name: of TensorBoard's run.
            reset_num_timesteps: whether the count starts at 0.
            progress_bar: whether one is shown.
        """
        total, called = self._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        called.on_training_start(locals(), globals())
        while self.num_timesteps < total:
            played = self._play(called)
            if played is None:
                break
            self._update_current_progress_remaining(self.num_timesteps, total)
            self._update(*played)
            if self._n_updates % log_interval == 0:
                self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
                self.logger.dump(self.num_timesteps)
        called.on_training_end()
        return self

    def _play(self, callback: BaseCallback) -> tuple[Graph, Grown, NDArray[np.float64]] | None:
        """Draw sets for the drops of the environments and play them: their graph, the sets, and rewards (decisions, B); None to stop."""
        callback.on_rollout_start()
        env, observation = self.env, self._last_obs
        assert env is not None
        assert isinstance(observation, dict)
        batch = DropBatch(observation)
        B, rng = len(batch), np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002 (what Stable-Baselines3 seeds)
        graph = turned(batch.graph, rng)
        grown = drawn(self.policy.actor, batch, graph, self.decisions, self.training_completions, rng)
        rewards = np.empty((self.decisions, B))
        for i, sets in enumerate(grown.sets.reshape(self.decisions, B, -1)):
            actions, _ = batch.actions(sets, np.arange(B))
            self._last_obs, rewards[i], dones, infos = env.step(actions)  # type: ignore[assignment]
            self.num_timesteps += B
            self._update_info_buffer(infos, dones)
            callback.update_locals(locals())
            if not callback.on_step():
                return None
        callback.on_rollout_end()
        return graph, grown, rewards

    def _update(self, graph: Graph, grown: Grown, rewards: NDArray[np.float64]) -> None:
        """Take `epochs` gradient steps, and as many of the running average."""
        share, actor = self._current_progress_remaining, self.policy.actor
        for group in actor.optimizer.param_groups:
            group["lr"] = share * self.lr_schedule(share)
        spread = np.where(np.ptp(rewards, axis=0) > 0.0, rewards.std(0) + SPREAD, np.inf)
        advantage = torch.from_numpy(((rewards - rewards.mean(0)) / spread).reshape(-1)).float()[:, None]
        average: list[Tensor] = list(self.policy.actor_target.parameters())
        learned: list[Tensor] = list(actor.parameters())
        before: Tensor | None = None
        for _ in range(self.epochs):
            chance, entropy = log_probabilities(actor, graph, grown, priced=self.training_completions > 1)
            before = chance.detach() if before is None else before
            ratio = torch.exp(chance - before)
            clipped = ratio.clamp(1.0 - self.clip_range, 1.0 + self.clip_range)
            gain = torch.minimum(ratio * advantage, clipped * advantage)
            loss = -(gain + self.entropy * entropy).sum() / len(gain)
            actor.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(actor.parameters(), LONGEST)
            actor.optimizer.step()
            self._n_updates += 1
            with torch.no_grad():
                torch._foreach_lerp_(average, learned, max(self.tau, 1.0 / self._n_updates))
        self.logger.record("train/reward", float(rewards.mean()))
        self.logger.record("train/entropy", float(entropy.detach().sum()) / len(entropy))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")


@torch.no_grad()
def drawn(
    actor: SetActor, batch: DropBatch, graph: Graph, decisions: int, completions: int, rng: np.random.Generator
) -> Grown:
    """Draw sets AP by AP from an actor, `decisions` of each of B drops; the d-th of drop b at d B + b."""
    embedding = actor.embed(graph)

    def noisy(rows: Tensor, on: Tensor) -> Tensor:
        scores: Tensor = actor(embedding[rows], on)
        return scores + torch.from_numpy(rng.gumbel(size=tuple(scores.shape)))

    return grow(noisy, batch.scaled, batch.fewest, completions, np.tile(np.arange(len(batch)), decisions))


def log_probabilities(actor: SetActor, graph: Graph, grown: Grown, *, priced: bool) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities with which the APs of sets were drawn, and the entropies of the draws.

    Args:
        actor: that they were drawn from.
        graph: of B drops.
        grown: n sets from `drawn`.
        priced: whether the last AP of a set that serves was chosen by its price among several; that counts as the environment's answer and
            not as a draw, which leaves a small bias.

    Returns:
        Each (n, draws), in the order of the draws, 0 where a set took fewer.
    """
    n, embedding = len(grown.sets), actor.embed(graph)
    steps = torch.from_numpy(grown.sets.sum(1) - (grown.served if priced else 0))
    drop, ranking = torch.arange(n) % len(graph), torch.from_numpy(grown.ranking)
    on, chances, entropies = torch.zeros(grown.sets.shape, dtype=torch.bool), [], []
    for i in range(int(steps.max())):
        use = torch.nonzero(steps > i)[:, 0]
        chance, chosen = actor(embedding[drop[use]], on[use]).log_softmax(-1), ranking[use, i]
        chances.append(torch.zeros(n).index_add(0, use, chance.gather(1, chosen[:, None])[:, 0]))
        entropies.append(torch.zeros(n).index_add(0, use, -(chance.exp() * chance.masked_fill(on[use], 0.0)).sum(-1)))
        on[use, chosen] = True
    none = torch.zeros(n, 0)
    return torch.stack(chances, 1) if chances else none, torch.stack(entropies, 1) if entropies else none
