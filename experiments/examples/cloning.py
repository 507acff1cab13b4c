"""Behaviour cloning from a Minari dataset of `cfisac dataset`: learn which APs an oracle switches on, and play that as priorities.

    cfisac dataset --preset urban --M 30 --K 6 --drops 2000 --policies most-informative-search --out runs/datasets
    python -m experiments.examples.cloning runs/datasets/cfisac-urban-30x6/most-informative-search-v0

The logits of the APs are the priorities of `CfIsacPriority-v0`, which serves every drop that can be served: so the clone is compared with
the rule `most-informative`, whose priorities are the Fisher information, at the same decision layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import minari
import numpy as np
import torch
import tyro
from torch import Tensor, nn

import baselines
import cfisac_env  # noqa: F401  (registers the environments)
from cfisac_env import seeds
from experiments.errors import UserError


@dataclass(frozen=True)
class CloningCommand:
    """Clone the activation of a dataset's decisions, and compare the clone with the rule on test drops.

    Attributes:
        dataset: folder of the dataset.
        epochs: passes over the dataset.
        batch: drops of a gradient step.
        learning_rate: of Adam.
        seed: of the weights and the order of the drops.
        drops: test drops.
    """

    dataset: Annotated[Path, tyro.conf.Positional]
    epochs: int = 30
    batch: int = 64
    learning_rate: float = 1e-3
    seed: int = 0
    drops: int = 200


class ApScorer(nn.Module):
    """Score every AP from its links and those of all APs, in any number and order of APs and users."""

    def __init__(self, targets: int, width: int = 64) -> None:
        super().__init__()
        self.link = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width))
        self.ap = nn.Sequential(nn.Linear(width + 5 * targets, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.score = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, comm: Tensor, sensing: Tensor) -> Tensor:
        """Return logits (n, M) for `comm` (n, M, K, 2) and `sensing` (n, M, S, 3) of observations."""
        best, strongest = comm - comm.amax(1, keepdim=True), comm[..., :2] / 10
        links = self.link(torch.cat([best, strongest], -1)).mean(2)
        informed = sensing[..., :2] - sensing[..., :2].amax(1, keepdim=True)
        aps = self.ap(torch.cat([links, (sensing / 10).flatten(2), informed.flatten(2)], -1))
        everyone = torch.cat([aps.mean(1, keepdim=True), aps.amax(1, keepdim=True)], -1).expand(-1, aps.shape[1], -1)
        scores: Tensor = self.score(torch.cat([aps, everyone], -1))[..., 0]
        return scores


def read(folder: Path) -> tuple[minari.MinariDataset, Tensor, Tensor, Tensor]:
    """The dataset, and of its served drops `comm`, `sensing` and the activation (n, M).

    Raises:
        UserError: the folder has no dataset.
    """
    if not (folder / "data" / "metadata.json").is_file():
        raise UserError(f"{folder} holds no dataset of Minari; `cfisac dataset` writes one, and says its folder")
    dataset = minari.MinariDataset(folder / "data")
    about = dataset.storage.get_episode_metadata(dataset.episode_indices)
    episodes = [episode for episode, one in zip(dataset, about, strict=True) if one["feasible"]]
    comm, sensing = (np.stack([episode.observations[key][0] for episode in episodes]) for key in ("comm", "sensing"))
    active = np.stack([episode.actions[0, :, 0] >= 0.0 for episode in episodes])
    return dataset, torch.as_tensor(comm), torch.as_tensor(sensing), torch.as_tensor(active, dtype=torch.float32)


def cloned(command: CloningCommand, comm: Tensor, sensing: Tensor, active: Tensor) -> tuple[ApScorer, list[float]]:
    """Train a scorer on the cross-entropy of the activation; also return the mean loss of every epoch."""
    torch.manual_seed(command.seed)
    scorer = ApScorer(sensing.shape[2])
    optimizer = torch.optim.Adam(scorer.parameters(), lr=command.learning_rate)
    losses = []
    for _ in range(command.epochs):
        total = 0.0
        for rows in torch.split(torch.randperm(len(comm)), command.batch):
            loss = nn.functional.binary_cross_entropy_with_logits(scorer(comm[rows], sensing[rows]), active[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / len(comm))
    return scorer, losses


def gaps(scorer: ApScorer, config: dict[str, Any], drops: int) -> dict[str, tuple[float, float]]:
    """Share of the drops that `local-search` serves, and mean gap to it over those, of the clone and of the rule."""
    env = gym.make("CfIsacPriority-v0", **config)
    core: Any = env.unwrapped
    oracle, rule = baselines.make("local-search"), baselines.make("most-informative")
    total = np.full((3, drops), np.nan)
    for i in range(drops):
        observation, _ = env.reset(seed=seeds.TEST + i)
        problem = core.scenario.problem
        for row, policy in enumerate((oracle, rule)):
            outcome = core.evaluate(policy.decide(problem).decision)
            total[row, i] = outcome.total_power if outcome.feasible else np.nan
        with torch.no_grad():
            logits = scorer(*(torch.as_tensor(observation[key])[None] for key in ("comm", "sensing")))[0]
        info = env.step(torch.tanh(logits / 10).numpy())[-1]
        total[2, i] = info["total_power_w"] if info["feasible"] else np.nan
    best = total[0]
    found = {}
    for name, one in (("most-informative", total[1]), ("clone", total[2])):
        both = np.isfinite(best) & np.isfinite(one)
        found[name] = float(both.sum() / np.isfinite(best).sum()), float((one[both] / best[both] - 1.0).mean())
    return found


def main() -> None:
    """Read, clone, compare."""
    command = tyro.cli(CloningCommand, description=CloningCommand.__doc__)
    torch.set_num_threads(1)
    dataset, *tensors = read(command.dataset)
    scorer, losses = cloned(command, *tensors)
    print(
        f"{len(tensors[0])} served drops; cross-entropy {losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last"
    )
    for name, (served, gap) in gaps(scorer, dataset.spec.env_spec.kwargs, command.drops).items():
        print(f"{name}: {served:.1%} served, gap to local-search {gap:.1%}")


if __name__ == "__main__":
    main()
