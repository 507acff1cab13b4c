"""Policies on the network: with its own powers (`hetgnn`), or with exact powers for the sets that it ranks first (`hetgnn-exact`).

The activation head is evaluated again after every AP, given those that are on. Rankings that start from several first APs give, by their
prefixes, the candidate sets of both policies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents import defaults, tensorfile
from agents.coverage import Fields, Watch
from agents.hetgnn import weights
from agents.hetgnn.compiled import CompiledHeads
from agents.hetgnn.graph import Graph, build
from agents.hetgnn.network import Embedding, HetGnn
from agents.hetgnn.search import Rankings, Search
from baselines.allocation import Status, fast
from baselines.bounds import fewest_active
from baselines.policy import Answer, ObservationPolicy, all_on_at_max_power, answer_from, encoded, with_margin
from cfisac_env.observations import Observation
from cfisac_env.types import Decision, Problem

Bools = NDArray[np.bool_]

ROUNDING = 3e-5
"""Relative violation at which own powers still serve: the float32 action adds less than 1e-5 to it, and 1e-4 counts as met."""


class GraphPolicy(ObservationPolicy):
    """Base class of both policies: the network, and Stable-Baselines3's `predict` around one decision a drop.

    Args:
        path: weights in safetensors; by default the shipped ones.
        network: used instead of weights, such as one in training.
        width: number of rankings.
        device: of torch, or `gpu`, or `auto`; None leaves the network where it is.
        M: number of APs that observations must have; None for any.
        K: number of users that observations must have; None for any.

    Attributes:
        digest: hash of the network's weights.
        trained: fields of the training configurations, see `agents.trained_for`; empty for a network.

    Raises:
        FileNotFoundError, ValueError: see `weights.load`; or there is no such device.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str] | None = None,
        network: HetGnn | None = None,
        width: int = 4,
        device: str | None = None,
        M: int | None = None,
        K: int | None = None,
    ) -> None:
        if width < 1:
            raise ValueError(f"width must be 1 or more, got {width}")
        super().__init__(M=M, K=K)
        self.trained: tuple[Fields, ...] = ()
        if network is None:
            network, provenance = weights.load(weights.SHIPPED if path is None else path)
            self.trained = tuple(provenance.get("labels", {}).get("configurations", ()))
        self.network = network if device is None else network.to(defaults.device(device))
        self.digest = tensorfile.digest(self.network)
        self.watch = Watch(self.name, self.trained)
        self.width = width

    def decide(self, problem: Problem, graph: Graph) -> Answer:
        """Decide one drop, given as a problem and as a graph."""
        raise NotImplementedError

    @torch.inference_mode()
    def _act(self, problem: Problem, observation: Observation, deterministic: bool) -> NDArray[np.float32]:
        self.watch.check(observation["requirement"])
        graph = build(observation, self.network.device)
        rows = range(len(graph))
        return np.stack([encoded(problem[i], self.decide(problem[i], graph[i : i + 1])) for i in rows])


class HetGnnPolicy(GraphPolicy):
    """Activation and powers of the network: the cheapest prefix of its rankings that its own powers serve.

    Args:
        checkpoints: steps of the unrolled allocation after which its powers are evaluated, ascending; the cheapest that serve are taken.
        extend: False takes the activation head's threshold σ ≥ 0.5, as in the paper, and its powers, even where they don't serve.
        options: see `GraphPolicy`.
    """

    name = "hetgnn"

    def __init__(
        self, *, checkpoints: Sequence[int] = (12, 40, 100), extend: bool = True, width: int = 12, **options: Any
    ) -> None:
        super().__init__(width=width, **options)
        if not checkpoints or min(checkpoints) < 0 or list(checkpoints) != sorted(checkpoints):
            raise ValueError(f"checkpoints must be numbers of steps, 0 or more and ascending, got {tuple(checkpoints)}")
        self.checkpoints, self.extend = tuple(checkpoints), extend

    def decide(self, problem: Problem, graph: Graph) -> Answer:
        """Extend the proposed set until own powers serve."""
        embedding = self.network.embed(graph)
        if not self.extend:
            none = torch.zeros(1, problem.M, dtype=torch.bool, device=self.network.device)
            likely = (self.network.propose(embedding, none) >= 0.0).cpu().numpy()
            power, served = self._powers(embedding, likely)
            bare = Decision(active=likely[0], power=power[0] * problem.max_ap_power_w)
            return Answer(bare, feasible=bool(served[0]))
        rankings = Rankings(CompiledHeads(self.network, embedding), problem.M, self.width)
        best, least = all_on_at_max_power(problem), np.inf
        for sizes in _growing(fewest_active(problem), problem.M):
            if sizes[0] * problem.circuit_power_w >= least:
                break
            sets = _distinct(np.concatenate([rankings.prefixes(size) for size in sizes]))
            power, served = self._powers(embedding, sets)
            watts = power * problem.max_ap_power_w
            total = watts.sum((-2, -1)) + problem.circuit_power_w * sets.sum(-1)
            total[~served] = np.inf
            winner = int(total.argmin())
            if total[winner] < least:
                best, least = Decision(active=sets[winner], power=watts[winner]), float(total[winner])
        return Answer(best, feasible=bool(np.isfinite(least)))

    def _powers(self, embedding: Embedding, sets: Bools) -> tuple[NDArray[np.float64], Bools]:
        """Compute own powers (n, M, K) over P_max for sets of one drop, and whether they meet every requirement."""
        many, on = embedding.repeated(len(sets)), torch.as_tensor(sets, device=self.network.device)
        drops = many.drops.to(torch.float64)
        best = torch.zeros_like(drops.log_gain)
        least = torch.full_like(drops.sinr_threshold, torch.inf)
        for power in self.network.powers(many, on, self.checkpoints, drops):
            served = (torch.cat(drops.margins(power), -1) >= 1.0 - ROUNDING).all(-1)
            total = power.sum((-2, -1))
            better = (served & (total < least)) | (torch.isinf(least) & ~served)  # or else the last checkpoint
            best = torch.where(better[:, None, None], power, best)
            least = torch.where(better & served, total, least)
        return best.cpu().numpy(), torch.isfinite(least).cpu().numpy()


class HetGnnExactPolicy(GraphPolicy):
    """Exact powers for the cheapest prefix of the network's rankings, improved by local moves.

    Feasible whenever the drop is: the longest prefix holds all APs.

    Args:
        rounds: of moves from the best prefix: exchanges, removals and additions.
        outsiders: candidates that a round tries to add: so many with the highest logits, and so many with the best reduced costs.
        accept: stop when the total power is certified to be at most this far (relative) above the optimum.
        options: see `GraphPolicy`.
    """

    name = "hetgnn-exact"

    def __init__(self, *, rounds: int = 8, outsiders: int = 6, accept: float = 0.005, **options: Any) -> None:
        super().__init__(**options)
        if rounds < 0 or outsiders < 1 or not accept >= 0.0:
            raise ValueError(
                f"rounds and accept must be 0 or more and outsiders 1 or more, got {rounds}, {accept} and {outsiders}"
            )
        self.rounds, self.outsiders, self.accept = rounds, outsiders, accept

    def decide(self, problem: Problem, graph: Graph) -> Answer:
        """Rank the APs, price prefixes, and improve the cheapest."""
        search = Search(with_margin(problem), CompiledHeads(self.network, self.network.embed(graph)), self.accept)
        if search.price_prefixes(self.width) is None:
            exact = fast.solve(problem, np.ones(problem.M, dtype=bool))  # there may be no room for a margin
            if exact.status != Status.OPTIMAL:
                return answer_from(exact, problem)
            search.start(exact)
        best = search.improve(self.rounds, self.outsiders)
        return Answer(Decision(active=best.active, power=best.power), feasible=True)


def _distinct(sets: Bools) -> Bools:
    """Remove repeated sets, keeping the order."""
    return sets[np.sort(np.unique(sets, axis=0, return_index=True)[1])]


def _growing(first: int, last: int) -> Iterator[range]:
    """Yield ranges of sizes from `first` to `last` of growing length."""
    count = 2
    while first <= last:
        yield range(first, min(first + count, last + 1))
        first, count = first + count, min(2 * count, 8)
