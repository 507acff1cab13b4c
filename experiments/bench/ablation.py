"""Ablations of the network, its loss and its labels: small trainings that differ in one choice, measured on validation drops."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cfisac_env
from agents import tensorfile
from agents.hetgnn import training, weights
from agents.hetgnn.config import LossConfig, NetworkConfig, TrainingConfig
from agents.hetgnn.data import prepare
from agents.hetgnn.labels import Labels
from agents.hetgnn.network import HetGnn
from agents.hetgnn.policy import GraphPolicy, HetGnnExactPolicy, HetGnnPolicy
from cfisac_env import actions, observations
from cfisac_env.config import nearest
from experiments import results
from experiments.results import Column, percent

_LOSS = LossConfig(unsupervised_weight=0.2)

VARIANTS: Mapping[str, tuple[NetworkConfig, LossConfig]] = {
    "reference": (NetworkConfig(), _LOSS),
    "labels only": (NetworkConfig(), replace(_LOSS, unsupervised_weight=0.0)),
    "unsupervised only": (NetworkConfig(), LossConfig(power_weight=0.0, activation_weight=0.0)),
    "unsupervised weight 1": (NetworkConfig(), replace(_LOSS, unsupervised_weight=1.0)),
    "ε₁ = 0.02": (NetworkConfig(), replace(_LOSS, power_weight=0.02)),
    "ε₁ = ε₂ = 1": (NetworkConfig(), replace(_LOSS, power_weight=1.0, activation_weight=1.0)),
    "1 layer": (NetworkConfig(layers=1), _LOSS),
    "2 layers": (NetworkConfig(layers=2), _LOSS),
    "no edge updates": (NetworkConfig(edge_updates=False), _LOSS),
    "paper's widths": (NetworkConfig.paper(), _LOSS),
    "labels of modified-bb": (NetworkConfig(), _LOSS),
    "fixed α, β": (NetworkConfig(), replace(_LOSS, multipliers="fixed")),
    "soft activation": (NetworkConfig(), replace(_LOSS, activation="soft")),
    "powers in W": (NetworkConfig(), replace(_LOSS, power_scale="watt")),
    "powers as amplitudes": (NetworkConfig(), replace(_LOSS, power_scale="amplitude")),
    "powers as fractions": (NetworkConfig(), replace(_LOSS, power_scale="fraction")),
}
"""Name → network and loss; `labels of modified-bb` differs from the reference in its labels."""


SHIPPED = "shipped"
"""Variant without training: the network with the shipped weights."""


@dataclass(frozen=True)
class Measure:
    """Measures of one variant on the validation drops; gaps are means, relative to the labels' total power."""

    variant: str
    hits: float  # share of the label's APs that the ranking puts first
    activated: float  # share of drops that the activation threshold (σ ≥ 0.5) with the network's own powers serves
    own_served: float  # share of drops that `hetgnn` serves
    own_gap: float  # its total power above the label's, where it serves
    prefix_gap: float  # the same for the best exactly priced prefix of one ranking, without moves
    exact_gap: float  # the same for `hetgnn-exact`


_MEASURE: tensorfile.Schema = {
    "type": "object",
    "properties": {
        "about": {"type": "object"},
        "measure": {
            "type": "object",
            "properties": {
                field.name: {"type": "string"} if field.name == "variant" else {"type": ["number", "null"]}
                for field in dataclasses.fields(Measure)
            },
            "required": [field.name for field in dataclasses.fields(Measure)],
            "additionalProperties": False,
        },
    },
    "required": ["about", "measure"],
}


def run(
    names: Sequence[str],
    labels: Mapping[str, Sequence[Labels]],
    validation: Sequence[Labels],
    base: TrainingConfig,
    folder: Path,
) -> Iterator[Measure]:
    """Train and measure variants one by one, except those whose measures are in the folder already.

    Args:
        labels: by oracle: `local-search`, and `modified-bb` if its variant is among the names.
        base: epochs, batches and learning rate of every variant.

    Raises:
        ValueError: an unknown variant, or labels of an oracle that are missing.
    """
    check(names)
    groups = {oracle: prepare(shards) for oracle, shards in labels.items()}
    checks = prepare(validation)
    for name in names:
        if name == SHIPPED:
            network, _ = weights.load()
            with torch.no_grad():
                named = [training.assess(network, network.embed(group.graph), group)[0] for group in checks]
            yield measure(name, network, float(torch.cat(named).mean()), validation)
            continue
        oracle = "modified-bb" if name == "labels of modified-bb" else "local-search"
        if oracle not in groups:
            raise ValueError(f"the variant {name!r} needs labels by {oracle}")
        network_config, loss_config = VARIANTS[name]
        config = replace(base, network=network_config, loss=loss_config)
        run_folder = folder / name.replace(" ", "-")
        path = run_folder / "measure.json"
        about = {
            "version": cfisac_env.__version__,
            "training": json.loads(json.dumps(dataclasses.asdict(config))),
            "labels": training.digest(groups[oracle]),
            "validation": training.digest(checks),
        }
        try:
            known = tensorfile.read_json(path, _MEASURE)
        except FileNotFoundError:
            known = {}
        if known.get("about") != about:
            network, scores = training.train(config, groups[oracle], checks, run_folder, resume=not known)
            result = measure(name, network, scores["val/hits"], validation)
            results.write(run_folder, {path.name: {"about": about, "measure": dataclasses.asdict(result)}})
            known = tensorfile.read_json(path, _MEASURE)
        values: dict[str, Any] = {key: np.nan if value is None else value for key, value in known["measure"].items()}
        yield Measure(**values)


def check(names: Sequence[str]) -> None:
    """Validate names of variants."""
    valid = [*VARIANTS, SHIPPED]
    for name in names:
        if name not in valid:
            raise ValueError(f"unknown variant {name!r}{nearest(name, valid)}; valid variants: {', '.join(valid)}")


def measure(name: str, network: HetGnn, hits: float, validation: Sequence[Labels]) -> Measure:
    """Measure a trained network's policies on labelled drops."""
    policies: dict[str, GraphPolicy] = {
        "bare": HetGnnPolicy(network=network, extend=False),
        "own": HetGnnPolicy(network=network),
        "prefix": HetGnnExactPolicy(network=network, width=1, rounds=0),
        "exact": HetGnnExactPolicy(network=network),
    }
    served: dict[str, float] = {}
    gaps: dict[str, float] = {}
    for kind, policy in policies.items():
        met, gap = [], []
        for shard in validation:
            drops = shard.drops()
            action, _ = policy.predict(observations.encode(drops))
            outcome = drops.evaluate(actions.decode(action, shard.config.max_ap_power_w))
            met.append(np.asarray(outcome.feasible)[shard.feasible])
            gap.append((np.asarray(outcome.total_power) / shard.total_power_w - 1.0)[shard.feasible])
        feasible = np.concatenate(met)
        served[kind] = float(feasible.mean())
        gaps[kind] = float(np.concatenate(gap)[feasible].mean()) if feasible.any() else np.nan
    return Measure(name, hits, served["bare"], served["own"], gaps["own"], gaps["prefix"], gaps["exact"])


_NEVER = "its powers serve no drop"

COLUMNS: tuple[Column[Measure], ...] = (
    Column("variant", lambda one: one.variant),
    Column("ranking names", lambda one: percent(one.hits, 1)),
    Column("σ ≥ 0.5 serves", lambda one: percent(one.activated, 1), rank=1),
    Column("hetgnn serves", lambda one: percent(one.own_served, 1), rank=1),
    Column("hetgnn above", lambda one: percent(one.own_gap), _NEVER),
    Column("best prefix above", lambda one: percent(one.prefix_gap), _NEVER, rank=1),
    Column("hetgnn-exact above", lambda one: percent(one.exact_gap), _NEVER),
)
