"""The paper's decoupled method: allocation for communication, then power scaling for sensing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from baselines import ap_sets
from baselines.allocation.certificate import refuse_prior
from baselines.bounds import fewest_active
from baselines.policy import AllocatingPolicy, Answer, all_on_at_max_power, with_margin
from cfisac_env import physics
from cfisac_env.types import Decision, Problem


class DecoupledPolicy(AllocatingPolicy):
    """Growing sets by the users' channels, powers for communication alone, scaled by κ until sensing holds.

    κ = max(1, max_s CRLB_s/ν), as the CRLB is inversely proportional to the powers. If κ violates a cap, the next larger set is tried
    (paper, section IV). The paper leaves the order of the APs open; here it is Σ_k v_mk/Σ_i v_ik, their share of the users' gain.
    """

    name = "decoupled"

    def decide(self, problem: Problem) -> Answer:
        """Grow, allocate, scale."""
        refuse_prior(problem, self.name)
        aim = with_margin(problem)
        communication = replace(aim, fisher=aim.fisher[:, :0])
        channel = (problem.estimate_gain / problem.estimate_gain.sum(0)).mean(1)
        information = problem.fisher[..., 0] + problem.fisher[..., 1]
        rankings = [
            np.argsort(-score, kind="stable")
            for score in (channel, channel + (information / information.sum(0)).mean(1))
        ]
        for size, ranking in itertools.product(range(fewest_active(problem), problem.M + 1), rankings):
            active = ap_sets.prefixes(ranking, [size])[0]
            allocation = self._allocator(communication, active)
            if not allocation.feasible:
                continue
            crlb = physics.crlb(allocation.power.sum(-1), problem.fisher)
            power = allocation.power * max(1.0, float(crlb.max()) / aim.crlb_threshold_m2)
            if (power.sum(-1) <= problem.max_ap_power_w).all():
                return Answer(Decision(active=active, power=power), feasible=True)
        return Answer(all_on_at_max_power(problem), feasible=False)
