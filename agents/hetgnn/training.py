"""Semi-supervised training: validation after every epoch, a checkpoint after each, early stop, TensorBoard events."""

from __future__ import annotations

import dataclasses
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents import checkpoint, defaults, tensorfile
from agents.events import Events
from agents.hetgnn.config import TrainingConfig
from agents.hetgnn.data import BatchSampler, Labelled
from agents.hetgnn.loss import Loss
from agents.hetgnn.network import HetGnn
from agents.hetgnn.printed import build
from cfisac_env import files


class Module(nn.Module):
    """Network and loss as one module, whose state is saved."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.network = build(config.network)
        self.loss = Loss(config.loss)

    def forward(self, batch: Labelled, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch and its terms, on randomly rotated and mirrored drops."""
        B = len(batch)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=rng, dtype=torch.float32, device="cpu")

        angle = 2 * torch.pi * uniform(B)
        mirror = 1.0 - 2.0 * (uniform(B) < 0.5).float()
        graph = batch.graph.rotated(angle.to(batch.graph.ap), mirror.to(batch.graph.ap))
        share = uniform(B, 1)
        known = batch.active & (uniform(*batch.active.shape) < share).to(batch.active.device)
        loss, terms = self.loss(self.network, self.network.embed(graph), batch.active, batch.power, known)
        return loss, {"loss": loss, **terms, "alpha": self.loss.alpha, "beta": self.loss.beta}


@torch.no_grad()
def assess(network: HetGnn, embedding: Any, batch: Labelled) -> tuple[Tensor, Tensor, Tensor]:
    """Measure the network on labelled drops, each (B,).

    Returns:
        Share of the label's APs among as many that the network ranks first; whether its own powers serve the label's set within 1e-3;
        their transmit power above the label's, over the label's total power.
    """
    active = batch.active
    size = active.sum(-1)
    on = torch.zeros_like(active)
    for i in range(int(size.max())):
        logits = network.propose(embedding, on).masked_fill(on, -torch.inf)
        first = torch.nn.functional.one_hot(logits.argmax(-1), on.shape[-1]).bool()
        on = on | (first & (i < size)[:, None])
    power = network.power(embedding, active)
    met = (torch.cat(embedding.drops.margins(power), -1) > 1 - 1e-3).all(-1)
    more = (power - batch.power).sum((-2, -1)) * embedding.drops.max_ap_power_w / batch.total_power_w
    return (on & active).sum(-1) / size, met.float(), more.float()


@dataclass
class Progress:
    """State of a run besides weights and optimiser."""

    epoch: int = 0  # completed
    seconds: float = 0.0
    best: float = math.inf  # score of the best epoch; lower is better
    best_epoch: int = -1
    measures: dict[str, float] = field(default_factory=dict)  # of the best epoch


def train(
    config: TrainingConfig,
    groups: Sequence[Labelled],
    validation: Sequence[Labelled],
    folder: Path,
    *,
    resume: bool = True,
    start: HetGnn | None = None,
    device: str = "cpu",
    limit_s: float = math.inf,
    step: Callable[[int, int, str], None] = lambda done, total, text: None,
    warn: Callable[[str], None] = warnings.warn,
) -> tuple[HetGnn, dict[str, float]]:
    """Train, and return the network of the epoch with the best validation, and its measures.

    The folder gets TensorBoard events, and a checkpoint after every epoch. A killed run resumes after its last completed epoch, and on the
    same processor ends with the weights of an undisturbed one.

    Args:
        validation: labels of other drops, by which the best epoch is chosen.
        folder: of this run alone.
        resume: from the checkpoint in the folder; False removes it.
        start: trained network to start from, instead of random weights.
        device: of torch, or `gpu`, or `auto`.
        limit_s: stop after so many seconds, counted over all runs in the folder; an epoch that is cut off counts only if it is the first.
        step: called after every batch with the number of batches done, their total, and a line about the last validation.

    Raises:
        BlockingIOError: another process trains in the folder.
        OSError: the folder can't be written, or its disk is full; the last checkpoint is whole.
        ValueError: the folder's run is of another configuration or of other labels, or its checkpoints are damaged; `start` is of another
            architecture; there is no such device; or training diverges.
    """
    if start is not None and start.config != config.network:
        raise ValueError(
            f"the weights to start from are of {start.config}, the network to train is {config.network}; give both the same options"
        )
    run = _Run(config, groups, validation, start, defaults.device(device))
    with files.locked(folder):
        if not resume:
            checkpoint.remove(folder)
        run.restore(folder, warn)
        with Events(folder / "logs") as events:
            run.train(folder, limit_s, events, step)
    return run.result()


class _Run:
    """Training run: network, optimiser and progress, restored from and saved to checkpoints."""

    def __init__(
        self,
        config: TrainingConfig,
        groups: Sequence[Labelled],
        validation: Sequence[Labelled],
        start: HetGnn | None,
        device: torch.device,
    ) -> None:
        self._config, self._groups, self._validation, self._device = config, groups, validation, device
        self._sampler = BatchSampler(groups, config.edges, config.seed)
        self._steps = config.epochs * len(self._sampler)
        with defaults.float32_on_cpu(config.seed):
            module = Module(config)
        if start is not None:
            module.network.load_state_dict(start.state_dict())
        self._module = module.to(device)
        self._optimiser = torch.optim.AdamW(module.parameters(), lr=config.learning_rate, weight_decay=1e-4)
        self._cycle = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, config.learning_rate, total_steps=max(self._steps, 2), pct_start=0.15
        )
        self._progress = Progress()
        self._best: dict[str, Tensor] = {}
        self._identity: dict[str, Any] = {
            "configuration": json.loads(json.dumps(dataclasses.asdict(config))),
            "set of labels": digest(groups),
            "set of validation labels": digest(validation),
            "network to start from": None if start is None else tensorfile.digest(start),
        }

    def restore(self, folder: Path, warn: Callable[[str], None]) -> None:
        """Restore the newest readable checkpoint of the folder, if there is any."""
        state = checkpoint.load(folder, _SCHEMA, self._identity, warn)
        if state is None:
            return
        try:
            self._module.load_state_dict(state["module"])
            checkpoint.load_optimiser_state(self._optimiser, state["optimiser"])
            self._cycle.load_state_dict(state["cycle"])
            self._progress, self._best = Progress(**state["progress"]), dict(state["best"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"the checkpoint in {folder} doesn't fit its run ({error}); remove it to start over"
            ) from None

    def train(self, folder: Path, limit_s: float, events: Events, step: Callable[[int, int, str], None]) -> None:
        """Train to the last epoch, the early stop or the time limit, keeping the best epoch's network."""
        config, progress = self._config, self._progress
        text, before = "", progress.seconds
        since = time.perf_counter()
        while progress.epoch < config.epochs and progress.epoch - progress.best_epoch <= config.patience:
            self._sampler.set_epoch(progress.epoch)
            sums, count = dict[str, float](), 0
            for i, (group, rows) in enumerate(self._sampler, start=progress.epoch * len(self._sampler)):
                if before + time.perf_counter() - since >= limit_s and (self._best or count):
                    if not self._best:
                        self._validate(self._progress.epoch)
                    return
                batch = self._groups[group][rows].to(self._device)
                terms = self._learn(batch, i)
                sums = {name: sums.get(name, 0.0) + len(batch) * value for name, value in terms.items()}
                count += len(batch)
                step(i + 1, self._steps, text)
            measures = self._validate(progress.epoch)
            progress.epoch += 1
            progress.seconds = before + time.perf_counter() - since
            events.add(progress.epoch, {**{f"train/{name}": total / count for name, total in sums.items()}, **measures})
            checkpoint.save(folder, progress.epoch, self._state())
            text = f"names {measures['val/hits']:.1%} of the best sets, serves {measures['val/served']:.1%}"

    def result(self) -> tuple[HetGnn, dict[str, float]]:
        """Return the network of the best epoch and its measures."""
        network = self._module.network
        network.load_state_dict(self._best)
        return network.cpu().eval(), {"epoch": self._progress.best_epoch, **self._progress.measures}

    def _learn(self, batch: Labelled, index: int) -> dict[str, float]:
        """Take one step of the optimiser."""
        rng = torch.Generator().manual_seed(self._config.seed * 1_000_003 + index)
        loss, terms = self._module(batch, rng)
        self._optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
        if not bool(torch.isfinite(norm)):
            raise ValueError(
                f"training diverged: after {index} batches the gradient isn't finite; lower --learning-rate or the weights of the loss, "
                "and train in another folder"
            )
        self._optimiser.step()
        self._cycle.step()
        return {name: float(value.detach()) for name, value in terms.items()}

    @torch.no_grad()
    def _validate(self, epoch: int) -> dict[str, float]:
        """Measure how far rankings name the labels' sets and own powers serve them, and keep the best epoch."""
        network, parts = self._module.network, []
        for group, rows in BatchSampler(self._validation, self._config.edges, None):
            batch = self._validation[group][rows].to(self._device)
            parts.append(torch.stack(assess(network, network.embed(batch.graph), batch)))
        hits, served, excess = torch.cat(parts, -1).double().mean(-1).tolist()
        # Shares of APs that the ranking misses and of drops that own powers don't serve; lower is better.
        score = 2.0 - hits - served
        measures = {"val/hits": hits, "val/served": served, "val/excess": excess, "val/score": score}
        if score < self._progress.best or not self._best:
            self._progress.best, self._progress.best_epoch, self._progress.measures = score, epoch, measures
            self._best = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        return measures

    def _state(self) -> dict[str, Any]:
        return {
            "about": self._identity,
            "module": self._module.state_dict(),
            "optimiser": checkpoint.optimiser_state(self._optimiser),
            "cycle": self._cycle.state_dict(),
            "progress": dataclasses.asdict(self._progress),
            "best": self._best,
        }


_SCHEMA: tensorfile.Schema = {name: {"type": "object"} for name in ("module", "optimiser", "cycle", "progress", "best")}


def digest(groups: Sequence[Labelled]) -> str:
    """Hash labels to sixteen digits."""
    return tensorfile.digest(
        {
            f"{i:04d}/{name}": tensor
            for i, group in enumerate(groups)
            for name, tensor in {
                "active": group.active, "power": group.power, "total": group.total_power_w, "ap": group.graph.ap, **group.graph.edges,
            }.items()
        }
    )  # fmt: skip
