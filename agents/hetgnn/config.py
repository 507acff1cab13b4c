"""What a network, its loss and its training can be told; no torch here, so that a command line can be built from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PowerScale = Literal["log", "amplitude", "fraction", "watt"]

MOST_LAYERS, MOST_WIDTH, MOST_WIDTHS, MOST_STEPS = 32, 4096, 8, 10_000
"""Layers, neurons of an MLP's layer, its layers, and unrolled steps: beyond them a file is damaged, or an option mistyped."""

MOST_FACTOR = 1e6
"""Largest weight or multiplier of the loss: beyond it float32 overflows."""

MOST_EPOCHS, MOST_EDGES, MOST_SEED = 100_000, 2**31 - 1, 2**32 - 1


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a network; `NetworkConfig.paper()` has the paper's widths, the default is a compact one that trains in an hour."""

    layers: int = 3  # rounds of message passing
    edge_widths: tuple[int, ...] = (64,)  # of the MLPs on edges: ψ in (11) and ω in (13)
    node_widths: tuple[int, ...] = (64, 64)  # of φ in (12)
    head_width: int = 64  # of the heads' hidden layer
    edge_updates: bool = True  # (13); without it, every layer sees the edges' own features
    steps: int = 12  # of the unrolled allocation behind the power head

    def __post_init__(self) -> None:
        lists = (self.edge_widths, self.node_widths, (self.head_width,))
        counts = ((self.layers, MOST_LAYERS), *((width, MOST_WIDTH) for widths in lists for width in widths))
        if (
            not all(type(count) is int and 1 <= count <= most for count, most in counts)
            or not all(1 <= len(widths) <= MOST_WIDTHS for widths in lists)
            or not (type(self.steps) is int and 0 <= self.steps <= MOST_STEPS)
        ):
            raise ValueError(
                f"a network needs from 1 to {MOST_LAYERS} layers, from 1 to {MOST_WIDTHS} widths from 1 to {MOST_WIDTH} for edges and for "
                f"nodes, and from 0 to {MOST_STEPS} steps, all whole numbers; got {self}"
            )

    @classmethod
    def paper(cls) -> NetworkConfig:
        """Three layers of two MLPs with 256 and 128 neurons each (section IV)."""
        return cls(edge_widths=(256, 128), node_widths=(256, 128), head_width=128)


@dataclass(frozen=True)
class LossConfig:
    """Weights and choices of the loss."""

    power_weight: float = 0.2
    """ε₁, weight of the difference to the labels' powers."""
    activation_weight: float = 0.2
    """ε₂, weight of the difference to the labels' activation."""
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
        if not all(0.0 <= x <= MOST_FACTOR for x in numbers) or sum(weights) == 0.0:
            raise ValueError(
                f"weights and multipliers of the loss must be from 0 to {MOST_FACTOR:g}, and not all weights 0, got {self}"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """How to train."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    epochs: int = 14
    """Passes over the labels."""
    edges: int = 16_384
    """AP–user edges of a batch."""
    learning_rate: float = 2e-3
    """Largest learning rate of AdamW's cycle."""
    patience: int = 5
    """Epochs without a better validation after which training stops."""
    seed: int = 0
    """Of the initial weights and the order of the labels."""

    def __post_init__(self) -> None:
        for name, most in (
            ("epochs", MOST_EPOCHS),
            ("edges", MOST_EDGES),
            ("patience", MOST_EPOCHS),
            ("seed", MOST_SEED),
        ):
            least = 0 if name == "seed" else 1
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from {least} to {most:,}, got {getattr(self, name)}")
        if not 0.0 < self.learning_rate <= 1.0:
            raise ValueError(f"learning_rate must be above 0, at most 1, got {self.learning_rate}")
