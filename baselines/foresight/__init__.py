"""Causal policies for `CfIsacMobile-v0` with look-ahead over simulated futures."""

from __future__ import annotations

from baselines.foresight.policy import PredictivePolicy

__all__ = ["PredictivePolicy"]
