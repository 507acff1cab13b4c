"""Options of the network, its loss and its training; free of torch, so that a command line can be built from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PowerScale = Literal["log", "amplitude", "fraction", "watt"]

MAX_LAYERS, MAX_WIDTH, MAX_WIDTHS, MAX_STEPS = 32, 4096, 8, 10_000
"""Upper limits of layers, neurons per layer, layers of an MLP and unrolled steps, against damaged files and mistyped options."""

MAX_FACTOR = 1e6
"""Upper limit of weights and multipliers of the loss: beyond it float32 overflows."""

MAX_EPOCHS, MAX_EDGES, MAX_SEED = 100_000, 2**31 - 1, 2**32 - 1


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a network: by default a compact one that trains in an hour; `NetworkConfig.paper()` has the paper's widths."""

    layers: int = 3  # of message passing
    edge_widths: tuple[int, ...] = (64,)  # of the MLPs on edges: ψ in (11) and ω in (13)
    node_widths: tuple[int, ...] = (64, 64)  # of φ in (12)
    head_width: int = 64  # of the heads' hidden layer
    edge_updates: bool = True  # (13); without them, every layer gets the edges' input features
    steps: int = 12  # of the unrolled allocation behind the power head
    printed: bool = False
    """Layers, power head and loss (14) as the paper prints them; of the sizes only the number of layers and their widths apply."""

    def __post_init__(self) -> None:
        lists = (self.edge_widths, self.node_widths, (self.head_width,))
        counts = ((self.layers, MAX_LAYERS), *((width, MAX_WIDTH) for widths in lists for width in widths))
        if (
            not all(type(count) is int and 1 <= count <= most for count, most in counts)
            or not all(1 <= len(widths) <= MAX_WIDTHS for widths in lists)
            or not (type(self.steps) is int and 0 <= self.steps <= MAX_STEPS)
        ):
            raise ValueError(
                f"a network needs from 1 to {MAX_LAYERS} layers, from 1 to {MAX_WIDTHS} widths from 1 to {MAX_WIDTH} for edges and for "
                f"nodes, and from 0 to {MAX_STEPS} steps, all whole numbers; got {self}"
            )

    @classmethod
    def paper(cls) -> NetworkConfig:
        """Build the sizes of section IV: three layers of two MLPs with 256 and 128 neurons each."""
        return cls(edge_widths=(256, 128), node_widths=(256, 128), head_width=128)


@dataclass(frozen=True)
class LossConfig:
    """Weights and variants of the loss."""

    power_weight: float = 0.2
    """ε₁, weight of the difference to the labels' powers."""
    activation_weight: float = 0.2
    """ε₂, weight of the difference to the labels' activation."""
    unsupervised_weight: float = 1.0
    """Weight of the power and the constraint violations; 0 trains on labels alone."""
    power_scale: PowerScale = "log"
    """Scale on which powers are compared: log and fraction (of the AP's power) resolve users far below the sensing power, unlike watt (the
    paper's)."""
    activation: Literal["straight-through", "soft"] = "straight-through"
    """Gradient of the activation threshold at 0.5."""
    multipliers: Literal["adaptive", "fixed"] = "adaptive"
    """Multipliers α and β: adaptive ones grow while constraints are violated (dual ascent)."""
    alpha: float = 1.0
    """α, or its initial value."""
    beta: float = 1.0
    """β, or its initial value."""
    ascent: float = 0.02
    """Step size of the dual ascent: each batch raises α and β by it times the mean violation."""

    def __post_init__(self) -> None:
        weights = (self.power_weight, self.activation_weight, self.unsupervised_weight)
        numbers = (*weights, self.alpha, self.beta, self.ascent)
        if not all(0.0 <= x <= MAX_FACTOR for x in numbers) or sum(weights) == 0.0:
            raise ValueError(
                f"weights and multipliers of the loss must be from 0 to {MAX_FACTOR:g}, and not all weights 0, got {self}"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """Options of a training run."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    epochs: int = 14
    """Passes over the labels."""
    edges: int = 16_384
    """AP–user edges per batch."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW's one-cycle schedule."""
    patience: int = 5
    """Epochs without a better validation after which training stops."""
    seed: int = 0
    """Seed of the initial weights and of the order of the labels."""

    def __post_init__(self) -> None:
        for name, most in (
            ("epochs", MAX_EPOCHS),
            ("edges", MAX_EDGES),
            ("patience", MAX_EPOCHS),
            ("seed", MAX_SEED),
        ):
            least = 0 if name == "seed" else 1
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from {least} to {most:,}, got {getattr(self, name)}")
        if not 0.0 < self.learning_rate <= 1.0:
            raise ValueError(f"learning_rate must be above 0, at most 1, got {self.learning_rate}")
