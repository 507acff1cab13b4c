"""Permutation-equivariant policy of Stable-Baselines3's PPO for `CfIsacPriority-v0`: a ranking that is drawn AP by AP, at any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.rl.ranking_features import AP_FEATURES, DropView, RankingFeatures, places

SPARE = 2
"""Places above n_min that are drawn; the APs after them stand by their last score, since few sets get that far."""

SHARPNESS = 1.5
"""Initial weight of the logarithm of the relaxed power in the scores."""

SLOPE = 0.1
"""Negative slope of the LeakyReLU."""


class RankingHead(nn.Module):
    """Scores of every AP as the next one of a set: those of the relaxed powers, and a learned correction that is 0 at first.

    Args:
        width: of the layers.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.context = nn.Sequential(nn.Linear(AP_FEATURES, width), nn.LeakyReLU(SLOPE))
        self.around = nn.Linear(2 * width + 5, width)
        self.ap = nn.Linear(AP_FEATURES, width, bias=False)
        self.joined = nn.Linear(8, width, bias=False)
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.rest = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Linear(width, width), nn.LeakyReLU(SLOPE), last)
        self.sharpness = nn.Parameter(torch.tensor([SHARPNESS, 0.0]))  # of powers and of information

    def forward(self, view: DropView, sets: Tensor) -> Tensor:
        """Scores (B, L, M) for sets (B, L, M) bool; −∞ for the APs that are in."""
        around, joined = self._relations(view, sets)
        context = self.context(view.ap)
        pooled = torch.cat([context.mean(1), context.amax(1)], -1)[:, None].expand(-1, sets.shape[1], -1)
        hidden = self.ap(view.ap)[:, None] + self.around(torch.cat([pooled, around], -1))[:, :, None]
        given = self.sharpness[0] * view.log_power + self.sharpness[1] * view.log_information
        scores: Tensor = given[:, None] + self.rest(hidden + self.joined(joined))[..., 0]
        return scores.masked_fill(sets, -torch.inf)

    @staticmethod
    @torch.no_grad()
    def _relations(view: DropView, sets: Tensor) -> tuple[Tensor, Tensor]:
        """Margins and size of the sets, (B, L, 5), and of every AP what its joining makes of the margins, (B, L, M, 8)."""
        mask = sets.to(view.ap.dtype)
        sums, size = view.sums(mask), mask.sum(-1)
        before = view.margins(*sums)
        each = (view.fisher, view.reach, view.gain)
        after = view.margins(*(total[:, :, None] + one[:, None] for total, one in zip(sums, each, strict=True)))
        best = after.masked_fill(sets[..., None], -torch.inf).amax(2, keepdim=True)
        around = torch.cat(
            [before, torch.log((size + 1.0) / view.fewest[:, None])[..., None], torch.log1p(size)[..., None]], -1
        )
        return around, torch.cat([after, after - best, (after - before[:, :, None])[..., :2]], -1)


class ValueHead(nn.Module):
    """Value of a drop, from its APs and the margins of the APs of the largest relaxed powers.

    Args:
        width: of the layers.
    """

    sizes = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        self.context = nn.Sequential(
            nn.Linear(AP_FEATURES, width), nn.LeakyReLU(SLOPE), nn.Linear(width, width), nn.LeakyReLU(SLOPE)
        )
        self.value = nn.Sequential(
            nn.Linear(2 * width + 3 * self.sizes, 64), nn.LeakyReLU(SLOPE), nn.Linear(64, 64), nn.LeakyReLU(SLOPE), nn.Linear(64, 1)
        )  # fmt: skip

    def forward(self, view: DropView) -> Tensor:
        """(B, 1)."""
        sizes = view.fewest[:, None] + torch.arange(self.sizes, device=view.fewest.device)
        prefixes = (places(view.log_power)[:, None] < sizes[..., None]).to(view.ap.dtype)
        margins = view.margins(*view.sums(prefixes)).flatten(1)
        context = self.context(view.ap)
        value: Tensor = self.value(torch.cat([context.mean(1), context.amax(1), margins], -1))
        return value


class RankingDistribution(Distribution):
    """Plackett–Luce distribution of rankings whose scores depend on the APs drawn before, as priorities from 1 down to −1.

    The first n_min + `SPARE` places are drawn, and the probability is theirs.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def proba_distribution_net(self, width: int) -> RankingHead:
        """Build the head that scores APs."""
        return RankingHead(width)

    def proba_distribution(self, head: RankingHead, view: DropView) -> Self:
        """Set the head and B drops."""
        self.head, self.view = head, view
        self.drawn = (view.fewest + SPARE).clamp(max=view.ap.shape[1]).long()
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        """(B,) for priorities (B, M)."""
        M, most = self.view.ap.shape[1], int(self.drawn.max())
        ranking = torch.argsort(actions, dim=1, descending=True, stable=True)[:, :most]
        chosen = nn.functional.one_hot(ranking, M)
        before = (chosen.cumsum(1) - chosen).bool()
        taken = self.head(self.view, before).log_softmax(-1).gather(-1, ranking[..., None])[..., 0]
        within = torch.arange(most, device=taken.device) < self.drawn[:, None]
        total: Tensor = (taken * within).sum(1)
        return total

    def entropy(self) -> None:
        """There is no closed form; PPO takes the mean of −log_prob."""

    def sample(self) -> Tensor:
        """Draw priorities (B, M)."""
        return self._ranked(noisy=True)

    def mode(self) -> Tensor:
        """Take the likeliest AP at every place, (B, M)."""
        return self._ranked(noisy=False)

    @torch.no_grad()
    def _ranked(self, noisy: bool) -> Tensor:
        M, drawn = self.view.ap.shape[1], self.drawn[:, None]
        scores = self.view.log_power
        sets = torch.zeros_like(scores, dtype=torch.bool)
        place = torch.zeros_like(scores, dtype=torch.long)
        for i in range(int(drawn.max())):
            scores = torch.where(i < drawn, self.head(self.view, sets[:, None])[:, 0], scores)
            noise = -torch.empty_like(scores).exponential_().log() if noisy else torch.zeros_like(scores)  # Gumbel
            next_one = nn.functional.one_hot((scores + noise).argmax(1), M).bool() & (i < drawn)
            place, sets = torch.where(next_one, i, place), sets | next_one
        place = torch.where(sets, place, drawn + places(scores.masked_fill(sets, -torch.inf)))
        return 1.0 - 2.0 * place.to(scores.dtype) / max(M - 1, 1)

    def actions_from_params(self, head: RankingHead, view: DropView, deterministic: bool = False) -> Tensor:
        """Draw priorities, or take the likeliest."""
        return self.proba_distribution(head, view).get_actions(deterministic)

    def log_prob_from_params(self, head: RankingHead, view: DropView) -> tuple[Tensor, Tensor]:
        """Draw priorities, and compute their log-probability."""
        actions = self.actions_from_params(head, view)
        return actions, self.log_prob(actions)


class PassThrough(nn.Module):
    """Hand the features to actor and critic as they are, in place of SB3's MLP extractor."""

    def forward(self, features: Any) -> tuple[Any, Any]:
        """Return the features of the actor and of the critic."""
        return features, features

    def forward_actor(self, features: Any) -> Any:
        """Return the features of the actor."""
        return features

    def forward_critic(self, features: Any) -> Any:
        """Return the features of the critic."""
        return features


class RankingPolicy(ActorCriticPolicy):
    """Policy class for PPO on `CfIsacPriority-v0` with `relaxed=True`; permuting APs permutes the priorities.

    Before training its deterministic decision ranks the APs by the powers that they have with every AP on. No weight depends on M or K, so
    a model that was trained at one size predicts at every other; `save` and `load` are those of Stable-Baselines3.

    ```python
    import gymnasium as gym
    import cfisac_env
    from agents.rl.ranking_policy import RankingPolicy
    from stable_baselines3 import PPO

    env = gym.make("CfIsacPriority-v0", M=10, K=3, preset="urban", completions=8, relaxed=True, reward="log")
    model = PPO(RankingPolicy, env, n_steps=64).learn(64)
    ```

    Args:
        observation_space: of the environment.
        action_space: of the environment.
        lr_schedule: of Adam.
        width: of the layers.
        options: of `ActorCriticPolicy`.

    Raises:
        TypeError: another environment's spaces.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        width: int = 32,
        **options: Any,
    ) -> None:
        entries = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
        missing = [key for key in ("ap", "comm", "power", "sensing") if key not in entries]
        if missing or "pilots" in entries or action_space.shape != (entries["ap"].shape or ())[:1]:
            raise TypeError(
                "RankingPolicy needs CfIsacPriority-v0 with relaxed=True, at most as many users as pilot_length and its observations and "
                f"actions as they are, got the observations {', '.join(entries) or observation_space} and the actions {action_space}"
            )
        self.width = width
        super().__init__(
            observation_space, action_space, lr_schedule, **{**options, "features_extractor_class": RankingFeatures}
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "width": self.width}

    def _build(self, lr_schedule: Schedule) -> None:
        self.mlp_extractor = PassThrough()  # type: ignore[assignment]
        self.action_dist = RankingDistribution()
        self.action_net = self.action_dist.proba_distribution_net(self.width)
        self.value_net = ValueHead(self.width)  # type: ignore[assignment]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_action_dist_from_latent(self, latent_pi: Any) -> Distribution:
        assert isinstance(self.action_net, RankingHead)
        return RankingDistribution().proba_distribution(self.action_net, latent_pi)

    def predict(
        self,
        observation: NDArray[Any] | Mapping[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[NDArray[Any], ...] | None]:
        """Priorities (M,) for one observation or (n, M) for a batch, of any size.

        Args:
            observation: of the environment, or a batch of them along one leading axis.
            state: returned as it is.
            episode_start: not used.
            deterministic: whether every place is the likeliest AP's; otherwise it is drawn.

        Raises:
            TypeError: an array in place of the Dict of observations.
            ValueError: an entry is missing, has another shape, or holds values that aren't finite.
        """
        if not isinstance(observation, Mapping):
            raise TypeError(
                f"RankingPolicy reads the Dict observation of CfIsacPriority-v0, got {type(observation).__name__}"
            )
        if "power" not in observation:
            raise ValueError("the observation lacks power: make CfIsacPriority-v0 with relaxed=True")
        self.set_training_mode(False)
        single = np.ndim(observation["power"]) == 2
        batch = {key: np.asarray(value)[None] if single else np.asarray(value) for key, value in observation.items()}
        tensors = {key: torch.as_tensor(value, device=self.device) for key, value in batch.items()}
        with torch.no_grad():
            actions: NDArray[np.float32] = self._predict(tensors, deterministic).cpu().numpy()
        return (actions[0] if single else actions), state
