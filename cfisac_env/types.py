"""Common data types: the problem of a drop, a decision, and its outcome.

Arrays may have leading batch axes, written `…` in the shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Array = Any
"""Array of the array API, such as a NumPy array or a torch tensor."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Optimisation problem of one drop, or of a batch of drops.

    Only the ratio of gains to noise matters: observations decode to gains divided by the noise, and `noise_w = 1`.
    """

    gain: Array  # (…, M, K) large-scale fading ς, linear
    estimate_gain: Array  # (…, M, K) mean square v of the channel estimate
    noise_w: float
    fisher: Array  # (…, M, S, 3) q_a, q_b, q_c in 1/(W m²)
    sinr_threshold: float  # linear
    crlb_threshold_m2: float
    max_ap_power_w: float
    circuit_power_w: float
    pilot_overlap: Array | None = None  # (…, K, K) in {0, 1}; None when every user has its own pilot
    ap_xy: Array | None = None  # (…, M, 2) positions in a common unit, used by rankings by distance only
    ue_xy: Array | None = None  # (…, K, 2)
    target_xy: Array | None = None  # (…, S, 2)
    prior: Array | None = (
        None  # (…, S, 3) prior information J_a, J_b, J_c about each target's position, 1/m²; None is none
    )

    @property
    def M(self) -> int:
        """Number of access points."""
        return int(self.gain.shape[-2])

    @property
    def K(self) -> int:
        """Number of users."""
        return int(self.gain.shape[-1])

    @property
    def S(self) -> int:
        """Number of targets."""
        return int(self.fisher.shape[-2])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes; empty for a single drop."""
        return tuple(self.gain.shape[:-2])

    def __getitem__(self, index: Any) -> Problem:
        """Select the drops at `index` of the leading axes."""
        if not self.batch_shape:
            raise IndexError("this problem holds a single drop and cannot be indexed; batched ones have leading axes")
        return self._at(index)

    def batch(self) -> Problem:
        """Return a single drop as a batch of one; a batch is unchanged."""
        return self if self.batch_shape else self._at(None)

    def _at(self, index: Any) -> Problem:
        arrays = self.pilot_overlap, self.ap_xy, self.ue_xy, self.target_xy, self.prior
        return Problem(
            self.gain[index],
            self.estimate_gain[index],
            self.noise_w,
            self.fisher[index],
            self.sinr_threshold,
            self.crlb_threshold_m2,
            self.max_ap_power_w,
            self.circuit_power_w,
            *[None if array is None else array[index] for array in arrays],
        )


@dataclass(frozen=True, eq=False)
class Decision:
    """Activation of the APs, and power of each AP for each user."""

    active: Array  # (…, M) bool
    power: Array  # (…, M, K) W, zero where the AP is off


@dataclass(frozen=True, eq=False)
class Outcome:
    """Evaluation of a decision by the physics."""

    sinr: Array  # (…, K) linear
    crlb: Array  # (…, S) m², posterior with a prior; infinite when a target cannot be located
    transmit_power: Array  # (…,) W
    circuit_power: Array  # (…,) W
    total_power: Array  # (…,) W
    sinr_violation: Array  # (…, K) max(0, 1 − γ_k/γ_thr), within [0, 1]
    crlb_violation: Array  # (…, S) max(0, 1 − ν/CRLB_s), within [0, 1]
    cap_violation: (
        Array  # (…,) largest max(0, P_m/(P_max a_m) − 1) over the APs, infinite when an AP that is off radiates
    )
    feasible: Array  # (…,) bool: every violation within the relative tolerance
