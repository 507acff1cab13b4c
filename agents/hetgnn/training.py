"""Semi-supervised training with lightning: checkpoints, resume, early stop, TensorBoard."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from agents.hetgnn import unrolled
from agents.hetgnn.config import TrainingConfig
from agents.hetgnn.data import Batches, Labelled, Shuffled
from agents.hetgnn.loss import Loss
from agents.hetgnn.network import HetGnn


class Module(lightning.LightningModule):
    """The network with its loss and optimiser."""

    def __init__(self, config: TrainingConfig, steps: int) -> None:
        super().__init__()
        self.config, self._steps = config, steps
        self.network = HetGnn(config.network)
        self.loss = Loss(config.loss)

    def configure_optimizers(self) -> Any:
        """Adam with one cycle of the learning rate."""
        optimiser = torch.optim.AdamW(self.parameters(), lr=self.config.learning_rate, weight_decay=1e-4)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.config.learning_rate, total_steps=self._steps, pct_start=0.15
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def training_step(self, batch: Labelled, index: int) -> Tensor:
        """One batch, seen from a random side."""
        rng = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.global_step)
        B = len(batch)
        angle = 2 * torch.pi * torch.rand(B, generator=rng)
        mirror = 1.0 - 2.0 * (torch.rand(B, generator=rng) < 0.5).float()
        graph = batch.graph.rotated(angle.to(batch.graph.ap), mirror.to(batch.graph.ap))
        share = torch.rand(B, 1, generator=rng)
        known = batch.active & (torch.rand(batch.active.shape, generator=rng) < share).to(batch.active.device)
        embedding = self.network.embed(graph)
        loss: Tensor
        loss, terms = self.loss(self.network, embedding, batch.active, batch.power, known)
        self._note("train", {"loss": loss, **terms, "alpha": self.loss.alpha, "beta": self.loss.beta}, B)
        return loss

    def validation_step(self, batch: Labelled, index: int) -> None:
        """What counts in the end: whether the ranking names the label's set, and whether the powers serve it."""
        embedding = self.network.embed(batch.graph)
        hits, served, excess = assess(self.network, embedding, batch)
        # Lower is better: APs of the best set that the ranking misses, drops that the own powers don't serve.
        score = 2.0 - hits.mean() - served.mean()
        self._note(
            "val", {"hits": hits.mean(), "served": served.mean(), "excess": excess.mean(), "score": score}, len(batch)
        )

    def _note(self, stage: str, values: dict[str, Tensor], size: int) -> None:
        self.log_dict(
            {f"{stage}/{name}": value.detach() for name, value in values.items()},
            on_step=False, on_epoch=True, batch_size=size, sync_dist=True,
        )  # fmt: skip


@torch.no_grad()
def assess(network: HetGnn, embedding: Any, batch: Labelled) -> tuple[Tensor, Tensor, Tensor]:
    """How good the network is on labelled drops, each (B,).

    Returns:
        Share of the label's APs among as many that the network names one after the other; whether its own powers serve the label's set
        within 1e-3; how much more transmit power than the label they take, over the label's total power.
    """
    active = batch.active
    size = active.sum(-1)
    on = torch.zeros_like(active)
    for i in range(int(size.max())):
        logits = network.propose(embedding, on).masked_fill(on, -torch.inf)
        first = torch.nn.functional.one_hot(logits.argmax(-1), on.shape[-1]).bool()
        on = on | (first & (i < size)[:, None])
    power = network.power(embedding, active)
    met = (unrolled.sinr(embedding.drops, power) > 1 - 1e-3).all(-1)
    met &= (unrolled.crlb(embedding.drops, power) < 1 + 1e-3).all(-1)
    more = (power - batch.power).sum((-2, -1)) * embedding.drops.max_ap_power_w / batch.total_power_w
    return (on & active).sum(-1) / size, met.float(), more.float()


def train(
    config: TrainingConfig,
    groups: Sequence[Labelled],
    validation: Sequence[Labelled],
    folder: Path,
    *,
    resume: bool = True,
    start: HetGnn | None = None,
    callbacks: Sequence[Callback] = (),
    **trainer: Any,
) -> tuple[HetGnn, dict[str, float]]:
    """Train, and give back the network of the epoch with the best validation, and what was measured there.

    The folder holds `last.ckpt` and `best.ckpt` and the logs. A run that was killed goes on after its last whole epoch.

    Args:
        config: see `TrainingConfig`.
        groups: labelled drops to learn from.
        validation: others, by which the best epoch is chosen.
        folder: of this run.
        resume: go on from `last.ckpt` when it is there.
        start: a trained network to begin with, instead of random weights.
        callbacks: of lightning, besides.
        trainer: options of `lightning.Trainer`, such as `devices` and `accelerator`.

    Raises:
        ValueError: `last.ckpt` was made with another configuration, or `start` is of another architecture.
    """
    if start is not None and start.config != config.network:
        raise ValueError(
            f"the weights to start from are of {start.config}, the network to train is {config.network}; give both the same options"
        )
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    sampler = Shuffled(groups, config.edges, config.seed)
    learning = DataLoader(Batches(groups), sampler=sampler, batch_size=None)
    checking = DataLoader(Batches(validation), sampler=Shuffled(validation, config.edges, None), batch_size=None)
    last = folder / "last.ckpt"
    checkpoint = None
    steps = config.epochs * len(sampler)
    if resume and last.exists():
        checkpoint = _checkpoint(last)
        if checkpoint["config"] != dataclasses.asdict(config):
            raise ValueError(
                f"{last} was trained with another configuration; choose another folder, the same options, or --no-resume"
            )
        steps = checkpoint["steps"]
    module = Module(config, max(steps, 2))
    if start is not None:
        module.network.load_state_dict(start.state_dict())
    best = ModelCheckpoint(
        folder, "best", monitor="val/score", save_last=True, enable_version_counter=False, save_on_train_epoch_end=False
    )
    keep = _Configuration(dataclasses.asdict(config), steps)
    stop = EarlyStopping("val/score", patience=config.patience, check_on_train_epoch_end=False)
    runner = lightning.Trainer(
        max_epochs=config.epochs, max_steps=steps, logger=TensorBoardLogger(folder, name="", version="logs"),
        callbacks=[best, stop, keep, *callbacks], deterministic=True, gradient_clip_val=1.0, num_sanity_val_steps=0,
        enable_model_summary=False, log_every_n_steps=1, **trainer,
    )  # fmt: skip
    with warnings.catch_warnings():
        # Drops are prepared in memory, so workers would only copy them; and a run is resumed after a whole epoch.
        warnings.filterwarnings("ignore", message=r"The '\w+_dataloader' does not have many workers")
        warnings.filterwarnings("ignore", message=r".*checkpoint directory .* exists and is not empty")
        path, whole = (None, None) if checkpoint is None else (last, False)
        runner.fit(module, learning, checking, ckpt_path=path, weights_only=whole)
    state = _checkpoint(folder / "best.ckpt")
    module.load_state_dict(state["state_dict"])
    return module.network.eval(), {"epoch": state["epoch"], **state["metrics"]}


class _Configuration(Callback):
    """Puts the configuration and the measures of the epoch into every checkpoint."""

    def __init__(self, config: dict[str, Any], steps: int) -> None:
        self._config, self._steps = config, steps

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        checkpoint.update(config=self._config, steps=self._steps, metrics=metrics)


def _checkpoint(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
        content["config"], content["metrics"]
    except Exception as error:
        raise ValueError(
            f"{path} is truncated or not a checkpoint of this network ({error}); delete it to start over"
        ) from None
    return content
