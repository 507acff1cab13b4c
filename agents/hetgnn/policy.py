"""Policies on the network: with its own powers (`hetgnn`), or with exact powers for the sets that it ranks first (`hetgnn-exact`).

`hetgnn-paper` is the network as the paper prints it, with its threshold. For the others, the activation head is evaluated again after every
AP, given those that are on. Rankings that start from several first APs give, by their prefixes, the candidate sets.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from agents import defaults, tensorfile
from agents.coverage import Fields, Watch
from agents.hetgnn import weights
from agents.hetgnn.compiled import CompiledHeads
from agents.hetgnn.graph import Graph, build
from agents.hetgnn.network import Embedding, HetGnn
from agents.hetgnn.search import Search
from baselines.allocation import Allocation, Multipliers, Status, fast
from baselines.allocation.closed_form import ScaledDrops
from baselines.policy import Answer, ObservationPolicy, all_on_at_max_power, answer_from, encoded, with_margin
from cfisac_env.observations import Observation
from cfisac_env.types import Decision, Problem

Bools = NDArray[np.bool_]


class GraphPolicy(ObservationPolicy):
    """Base class of the policies: the network, and Stable-Baselines3's `predict` around one decision a drop.

    Args:
        path: weights in safetensors; by default the shipped ones.
        network: used instead of weights, such as one in training.
        width: number of rankings; without meaning for `hetgnn-paper`.
        device: of torch, or `gpu`, or `auto`; None leaves the network where it is.
        M: number of APs that observations must have; None for any.
        K: number of users that observations must have; None for any.

    Attributes:
        digest: hash of the network's weights.
        trained: fields of the training configurations, see `agents.trained_for`; empty for a network.

    Raises:
        FileNotFoundError, ValueError: see `weights.load`; or there is no such device, or the network is of the other architecture.
    """

    printed: ClassVar[bool] = False
    """Architecture of the network: the paper's or the compact one."""

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
            shipped = weights.PRINTED if self.printed else weights.SHIPPED
            network, provenance = weights.load(shipped if path is None else path)
            self.trained = tuple(provenance.get("labels", {}).get("configurations", ()))
        if network.config.printed != self.printed:
            mine, other = ("printed", "compact") if self.printed else ("compact", "printed")
            raise ValueError(
                f"{self.name} needs the {mine} network, got the {other} one; "
                f"load such weights as {'hetgnn' if self.printed else 'hetgnn-paper'}"
            )
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
    """Activation and powers of the network: the cheapest set that its own powers serve, from prefixes of its rankings and local moves.

    Args:
        rounds: of moves from the best prefix, see `HetGnnExactPolicy`.
        outsiders: candidates that a round tries to add.
        extend: False takes the activation head's threshold σ ≥ 0.5, as in the paper, and its powers, even where they don't serve.
        options: see `GraphPolicy`.
    """

    name = "hetgnn"

    def __init__(
        self,
        *,
        rounds: int = 8,
        outsiders: int = 8,
        extend: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        _check_moves(rounds, outsiders)
        self.rounds, self.outsiders, self.extend = rounds, outsiders, extend

    def decide(self, problem: Problem, graph: Graph) -> Answer:
        """Search with the network's own powers."""
        embedding = self.network.embed(graph)
        heads, scaled = CompiledHeads(self.network, embedding), ScaledDrops.of(problem)

        def allocate(sets: Bools, room: NDArray[np.float64] | None = None) -> Allocation:
            power, transmit = scaled.power(sets, start=heads.start(sets))
            n = len(sets)
            return Allocation(
                active=sets,
                power=power,
                transmit_power=transmit * problem.max_ap_power_w,
                bound=np.zeros(n),
                status=np.where(np.isfinite(transmit), str(Status.LOCAL), str(Status.UNKNOWN)),
                multipliers=Multipliers(np.zeros((n, problem.K)), np.zeros(sets.shape), np.zeros((n, problem.S, 3))),
                iterations=np.zeros(n, np.int64),
            )

        if not self.extend:
            likely = heads.logits(np.zeros((1, problem.M), dtype=bool)) >= 0.0
            own = allocate(likely)[0]
            power = own.power if own.feasible else self._unserved(embedding, likely) * problem.max_ap_power_w
            return Answer(Decision(active=own.active, power=power), feasible=bool(own.feasible))
        search = Search(problem, heads, allocate)
        if search.price_prefixes(self.width) is None:
            return Answer(all_on_at_max_power(problem), feasible=False)
        best = search.improve(self.rounds, self.outsiders)
        return Answer(Decision(active=best.active, power=best.power), feasible=True)

    def _unserved(self, embedding: Embedding, active: Bools) -> NDArray[np.float64]:
        """Compute the powers (M, K) over P_max after the steps of training, which miss requirements, for a set (1, M)."""
        on = torch.as_tensor(active, device=self.network.device)
        power = self.network.power(embedding, on, drops=embedding.drops.to(torch.float64))[0]
        return np.asarray(power.cpu().numpy(), dtype=np.float64)


def _check_moves(rounds: int, outsiders: int) -> None:
    if rounds < 0 or outsiders < 1:
        raise ValueError(f"rounds must be 0 or more and outsiders 1 or more, got {rounds} and {outsiders}")


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
        _check_moves(rounds, outsiders)
        if not accept >= 0.0:
            raise ValueError(f"accept must be 0 or more, got {accept}")
        self.rounds, self.outsiders, self.accept = rounds, outsiders, accept

    def decide(self, problem: Problem, graph: Graph) -> Answer:
        """Rank the APs, price prefixes, and improve the cheapest."""
        heads = CompiledHeads(self.network, self.network.embed(graph))
        search = Search(with_margin(problem), heads, accept=self.accept)
        if search.price_prefixes(self.width) is None:
            exact = fast.solve(problem, np.ones(problem.M, dtype=bool))  # there may be no room for a margin
            if exact.status != Status.OPTIMAL:
                return answer_from(exact, problem)
            search.start(exact)
        best = search.improve(self.rounds, self.outsiders)
        return Answer(Decision(active=best.active, power=best.power), feasible=True)


class HetGnnPaperPolicy(GraphPolicy):
    """The paper's network as printed: an AP is on where σ ≥ 0.5, with the powers of the network's own head; requirements may be missed."""

    name = "hetgnn-paper"
    printed = True

    def decide(self, problem: Problem, graph: Graph) -> Answer:
        """Decide by the threshold."""
        embedding = self.network.embed(graph)
        active = self.network.propose(embedding, torch.zeros_like(graph.ap[..., 0], dtype=torch.bool)) >= 0.0
        power = self.network.power(embedding, active)
        met = (torch.cat(embedding.drops.margins(power), -1) >= 1.0).all()
        watts = power[0].double().cpu().numpy() * problem.max_ap_power_w
        return Answer(Decision(active=active[0].cpu().numpy(), power=watts), feasible=bool(met))
