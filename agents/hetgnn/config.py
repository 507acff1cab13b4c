"""What a network, its loss and its training can be told; no torch here, so that a command line can be built from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

PowerScale = Literal["log", "amplitude", "fraction", "watt"]


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a network; `NetworkConfig.paper()` has the paper's widths, the default is a compact one that trains in an hour."""

    layers: int = 3
    edge_widths: tuple[int, ...] = (64,)  # of the MLPs on edges: ψ in (11) and ω in (13)
    node_widths: tuple[int, ...] = (64, 64)  # of φ in (12)
    head_width: int = 64
    edge_updates: bool = True  # (13); without it, every layer sees the edges' own features
    steps: int = 12  # of the unrolled allocation behind the power head

    def __post_init__(self) -> None:
        numbers = (self.layers, self.head_width, *self.edge_widths, *self.node_widths)
        if min(numbers) < 1 or not self.edge_widths or not self.node_widths or self.steps < 0:
            raise ValueError(f"a network needs layers and widths of 1 or more and steps of 0 or more, got {self}")

    @classmethod
    def paper(cls) -> NetworkConfig:
        """Three layers of two MLPs with 256 and 128 neurons each (section IV)."""
        return cls(edge_widths=(256, 128), node_widths=(256, 128), head_width=128)


@dataclass(frozen=True)
class LossConfig:
    """Weights and choices of the loss."""

    power_weight: float = 0.2
    """ε₁."""
    activation_weight: float = 0.2
    """ε₂."""
    unsupervised_weight: float = 1.0
    """Of the bracket; 0 trains on labels alone."""
    power_scale: PowerScale = "log"
    """Scale in which powers are compared: log and fraction (of the AP's power) see users far below the sensing power, watt (the paper's)
    does not."""
    activation: Literal["straight-through", "soft"] = "straight-through"
    """How the gradient passes the threshold at 0.5."""
    multipliers: Literal["adaptive", "fixed"] = "adaptive"
    """Whether α and β grow while requirements are missed (dual ascent)."""
    alpha: float = 1.0
    """α, or where it starts."""
    beta: float = 1.0
    """β, or where it starts."""
    ascent: float = 0.02
    """Step of α and β a batch, times the mean miss."""

    def __post_init__(self) -> None:
        weights = (self.power_weight, self.activation_weight, self.unsupervised_weight)
        numbers = (*weights, self.alpha, self.beta, self.ascent)
        if not all(math.isfinite(x) and x >= 0.0 for x in numbers) or sum(weights) == 0.0:
            raise ValueError(f"weights and multipliers must be 0 or more, and not all weights 0, got {self}")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    epochs: int = 14
    edges: int = 16_384
    """AP–user edges of a batch."""
    learning_rate: float = 2e-3
    patience: int = 5
    """Epochs without a better validation after which training stops."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.edges, self.patience) < 1 or not self.learning_rate > 0.0 or self.seed < 0:
            raise ValueError(
                "epochs, edges and patience must be 1 or more, the learning rate above 0 and the seed 0 or more; "
                f"got {self.epochs}, {self.edges}, {self.patience}, {self.learning_rate} and {self.seed}"
            )
