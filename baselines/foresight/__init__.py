"""Causal policies for `CfIsacMobile-v0` that look ahead: simulated futures, and what a set of APs comes to in each of them."""

from __future__ import annotations

from baselines.foresight.policy import PredictivePolicy

__all__ = ["PredictivePolicy"]
