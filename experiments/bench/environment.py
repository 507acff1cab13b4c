"""Decisions a second of the environments, beside mobile-env's steps, and a profile of their time."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from scipy.optimize import lsq_linear

from cfisac_env import CfIsacVectorEnv, SystemConfig, actions, observations, physics
from cfisac_env.sampling import RandomInputs, build
from experiments.results import Column, Table

MOBILE_ENV = "mobile-large-central-v0"
"""Largest setting of mobile-env: 13 base stations and 30 users."""

MOBILE = 256
"""Environments of `CfIsacMobile-v0`, at most: each keeps a whole episode."""


@dataclass(frozen=True)
class Rate:
    """Decisions a second of one environment; fresh drops are part of the time."""

    what: str
    M: int
    K: int
    environments: int
    decisions_per_drop: int
    threads: int
    decisions: int
    wall_s: float
    processor_s: float  # of the whole process

    @property
    def per_second(self) -> float:
        """Decisions a second of wall time."""
        return self.decisions / self.wall_s

    @property
    def per_processor_second(self) -> float:
        """Decisions a second of processor time, which other work on the machine doesn't change."""
        return self.decisions / self.processor_s

    @property
    def share(self) -> float:
        """Processor time of the process over the wall time of its threads."""
        return self.processor_s / (self.wall_s * self.threads)


@dataclass(frozen=True)
class Load:
    """Environments that are timed together."""

    config: SystemConfig
    environments: int = 1
    decisions_per_drop: int = 1
    threads: int = 1

    def actions(self, seed: int) -> Any:
        """Draw an action for every environment."""
        shape = (self.environments, self.config.M, self.config.K + 1)
        return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def timed(what: str, load: Load, play: Callable[[], int], seconds: float) -> Rate:
    """Call `play`, which returns its number of decisions, for so many seconds, once at least, after a warm-up."""
    play()
    wall, processor = time.perf_counter(), time.process_time()
    decisions = play()
    while time.perf_counter() - wall < seconds:
        decisions += play()
    spent = time.perf_counter() - wall, time.process_time() - processor
    M, K = load.config.M, load.config.K
    return Rate(what, M, K, load.environments, load.decisions_per_drop, load.threads, decisions, *spent)


def measure(
    configs: Sequence[SystemConfig], environments: int, threads: int, seed: int, seconds: float, *, scaling_too: bool
) -> tuple[list[Table[Any]], dict[str, Any]]:
    """Measure rates, their growth with the size, and a profile.

    Args:
        configs: sizes; the first one is profiled and scaled.
        threads: of the vector environment, besides one.
        seconds: for each rate.

    Returns:
        The tables, and the content of the JSON file.
    """
    rates = []
    for config in configs:
        rates.append(scalar(config, seed, seconds))
        for (decisions, instants), n in itertools.product(((1, 1), (1, 50), (50, 1)), sorted({1, threads})):
            rates.append(vector(Load(config, environments, decisions, n), seed, seconds, episode_steps=instants))
        rates.append(scoring(Load(config, environments, 50), seed, seconds))
        for n in sorted({1, threads}):
            rates.append(mobile(Load(config, min(environments, MOBILE), threads=n), seed, seconds))
    with contextlib.suppress(ImportError):  # the row is left out without torch
        rates.append(vector(Load(configs[0], environments), seed, seconds, "torch"))
    reference, shares = mobile_env(seed, seconds), profile(configs[0], seed)
    traffic, bandwidth = bytes_per_decision(configs[0]), copy_bandwidth()
    tables: list[Table[Any]] = [table(rates, reference)]
    grown, fitted = [], None
    if scaling_too:
        sizes = [(10, 10), (50, 10), (100, 30), (300, 50), (1000, 100)]
        grown = list(scaling(configs[0], [4**i for i in range(7)], sizes, seed, seconds / 3))
        fitted = growth(grown)
        tables.append(growth_table(grown, fitted))
    tables.append(profile_table(shares, traffic, bandwidth))
    return tables, {
        "rates": rates,
        "mobile_env": reference,
        "scaling": grown,
        "growth": fitted,
        "profile": shares,
        "bytes_per_decision": traffic,
        "copy_bandwidth_bytes_per_s": bandwidth,
    }


def scalar(config: SystemConfig, seed: int, seconds: float) -> Rate:
    """Measure `CfIsac-v0` with a reset after every decision."""
    env = gym.make("CfIsac-v0", **config.as_dict())
    chosen = Load(config, 64).actions(seed)
    env.reset(seed=seed)

    def play() -> int:
        for action in chosen:
            env.reset()
            env.step(action)
        return len(chosen)

    return timed("single", Load(config), play, seconds)


def vector(load: Load, seed: int, seconds: float, backend: str = "numpy", episode_steps: int = 1) -> Rate:
    """Measure the vector environment, which resets in the same step; whole drops are played, so that each counts in full."""
    what = f"vector, {backend}" + ("" if episode_steps == 1 else f", {episode_steps} instants of a network")
    options = {"episode_steps": episode_steps, "decisions_per_drop": load.decisions_per_drop, "backend": backend}
    return _stepped(what, "CfIsac-v0", options, load, seed, seconds, load.decisions_per_drop)


def mobile(load: Load, seed: int, seconds: float) -> Rate:
    """Measure the vector environment of `CfIsacMobile-v0`, which resets in the same step, on whole episodes of 50 instants."""
    return _stepped(
        "mobile vector", "CfIsacMobile-v0", {"switching_energy_j": 2.0, "wake_up_steps": 2}, load, seed, seconds, 50
    )


def _stepped(
    what: str, env_id: str, options: dict[str, Any], load: Load, seed: int, seconds: float, rounds: int
) -> Rate:
    """Measure steps of a vector environment with random actions, `rounds` at a time or more."""
    options = {**options, "vectorization_mode": "vector_entry_point", "autoreset_mode": "SameStep"}
    envs = gym.make_vec(env_id, load.environments, threads=load.threads, **options, **load.config.as_dict())
    chosen = [load.actions(seed + i) for i in range(4)]
    rounds = max(len(chosen), rounds)
    envs.reset(seed=seed)

    def play() -> int:
        for i in range(rounds):
            envs.step(chosen[i % len(chosen)])
        return rounds * load.environments

    rate = timed(what, load, play, seconds)
    envs.close()
    return rate


def scoring(load: Load, seed: int, seconds: float) -> Rate:
    """Measure the scoring of decisions on batches of new drops."""
    envs = CfIsacVectorEnv(load.environments, threads=1, **load.config.as_dict())
    chosen = [load.actions(seed + i) for i in range(4)]
    envs.reset(seed=seed)

    def play() -> int:
        envs.reset()
        problem = envs.scenario.problem
        for i in range(load.decisions_per_drop):
            physics.evaluate(problem, actions.decode(chosen[i % 4], load.config.max_ap_power_w))
        return load.decisions_per_drop * load.environments

    return timed("scoring alone", load, play, seconds)


def mobile_env(seed: int, seconds: float) -> Rate | None:
    """Measure mobile-env's largest setting with random actions; None where it isn't installed."""
    try:
        import mobile_env  # noqa: F401
    except ImportError:
        return None
    env = gym.make(MOBILE_ENV, disable_env_checker=True)
    core: Any = env.unwrapped
    env.reset(seed=seed)
    env.action_space.seed(seed)

    def play() -> int:
        for _ in range(10):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        return 10

    size = SystemConfig(M=len(core.stations), K=len(core.users))
    return timed("mobile-env, single", Load(size), play, seconds)


@dataclass(frozen=True)
class Share:
    """Time of a part of the vector environment on one thread."""

    what: str
    us_per_decision: float


def profile(config: SystemConfig, seed: int, environments: int = 256, rounds: int = 60) -> list[Share]:
    """Profile a decision, one a drop: each part alone, the whole step, and the difference as overhead."""
    generators = [np.random.default_rng(seed + i) for i in range(environments)]
    action = Load(config, environments).actions(seed)

    def numbers() -> RandomInputs:
        inputs = RandomInputs(config, (environments,))
        inputs.fill_each(generators)
        return inputs

    inputs = numbers()
    drops = build(config, inputs)
    pieces: dict[str, Callable[[], Any]] = {
        "random numbers": numbers,
        "drops from random numbers": lambda: build(config, inputs),
        "observation": lambda: observations.encode(drops),
        "decoding and scoring": lambda: drops.evaluate(actions.decode(action, config.max_ap_power_w)),
    }
    shares = [Share(name, _microseconds(piece, rounds) / environments) for name, piece in pieces.items()]
    rate = vector(Load(config, environments), seed, 1.0)
    whole = 1e6 / rate.per_processor_second
    return [*shares, Share("overhead: layout of results, episodes, calls", whole - sum(s.us_per_decision for s in shares)),
            Share("all", whole)]  # fmt: skip


def bytes_per_decision(config: SystemConfig) -> int:
    """Return the least memory traffic: actions read, drops written and read again, observations written."""
    space = observations.space(config)
    observed = sum(int(np.prod(entry.shape or ())) for entry in space.values()) * 4
    acted = config.M * (config.K + 1) * 4
    drop = (2 * config.M * config.K + config.M * config.S * (3 + config.T)) * 8
    return observed + acted + 2 * drop


def copy_bandwidth(seconds: float = 0.5) -> float:
    """Measure the bytes a second that one thread reads and writes while it copies a large array."""
    source = np.ones(2**23)
    target = np.empty_like(source)
    done, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        np.copyto(target, source)
        done += 2 * source.nbytes
    return done / (time.process_time() - start)


def scaling(
    base: SystemConfig, environments: Sequence[int], sizes: Sequence[tuple[int, int]], seed: int, seconds: float
) -> Iterator[Rate]:
    """Measure rates over the number of environments, and over the size at about as many links as 256 environments of the base have."""
    for n in environments:
        yield vector(Load(base, n), seed, seconds)
    for M, K in sizes:
        config = SystemConfig(**{**base.as_dict(), "M": M, "K": K, "pilot_length": max(K, base.pilot_length)})
        yield vector(Load(config, max(1, 256 * base.M * base.K // (M * K))), seed, seconds)


@dataclass(frozen=True)
class Growth:
    """Time of a step as a linear function of its numbers of environments N and of links N·M·K."""

    us_a_step: float
    us_an_environment: float
    ns_a_link: float
    deviation: float  # largest relative deviation of a measured time


def growth(rates: Sequence[Rate]) -> Growth:
    """Fit the line to measured rates by non-negative least squares of the relative deviations."""
    size = np.array([(1, one.environments, one.environments * one.M * one.K) for one in rates], dtype=np.float64)
    step_s = np.array([one.environments / one.per_processor_second for one in rates])
    fit = lsq_linear(size / step_s[:, None] * [1e-6, 1e-6, 1e-9], np.ones(len(rates)), bounds=(0.0, np.inf))
    step, environment, link = map(float, fit.x)
    return Growth(step, environment, link, float(np.abs(fit.fun).max()))


def table(rates: Sequence[Rate], reference: Rate | None) -> Table[Rate]:
    """Return the table of rates, with their ratios to mobile-env's."""

    def ratio(one: Rate) -> str | None:
        return None if reference is None else f"{one.per_processor_second / reference.per_processor_second:,.0f}"

    columns: tuple[Column[Rate], ...] = (
        Column("environment", lambda one: one.what),
        Column("M", lambda one: str(one.M), rank=1),
        Column("K", lambda one: str(one.K), rank=1),
        Column("environments", lambda one: str(one.environments), rank=2),
        Column("decisions a drop", lambda one: str(one.decisions_per_drop), rank=2),
        Column("threads", lambda one: str(one.threads), rank=3),
        Column("decisions/s", lambda one: f"{one.per_second:,.0f}"),
        Column("processor share", lambda one: f"{one.share:.0%}", rank=5),
        Column("decisions/processor s", lambda one: f"{one.per_processor_second:,.0f}", rank=4),
        Column("ns a link", lambda one: f"{1e9 / one.per_processor_second / (one.M * one.K):.0f}", rank=5),
        Column("times mobile-env", ratio, "mobile-env isn't installed", rank=4),
    )
    return Table(columns, [*rates, *([] if reference is None else [reference])])


def growth_table(rates: Sequence[Rate], fitted: Growth) -> Table[Rate]:
    """Return the table of times beside the fitted line."""

    def us(one: Rate) -> float:
        return 1e6 / one.per_processor_second

    def line_ms(one: Rate) -> float:
        links = one.environments * one.M * one.K
        return 1e-3 * (fitted.us_a_step + fitted.us_an_environment * one.environments + 1e-3 * fitted.ns_a_link * links)

    columns: tuple[Column[Rate], ...] = (
        Column("M", lambda one: str(one.M)),
        Column("K", lambda one: str(one.K)),
        Column("environments", lambda one: str(one.environments)),
        Column("ms a step", lambda one: f"{us(one) * one.environments / 1e3:.2f}"),
        Column("line", lambda one: f"{line_ms(one):.2f}"),
        Column("µs a decision", lambda one: f"{us(one):,.1f}"),
        Column("ns a link", lambda one: f"{1e3 * us(one) / (one.M * one.K):.0f}"),
    )
    notes = (
        f"The line: {fitted.us_a_step:.0f} µs a step, {fitted.us_an_environment:.1f} µs an environment and {fitted.ns_a_link:.1f} ns a "
        f"link; measured times are within {fitted.deviation:.0%} of it."
    )
    return Table(columns, rates, "One decision a drop, one thread, processor time:", notes)


def profile_table(shares: Sequence[Share], traffic: int, bandwidth: float) -> Table[Share]:
    """Return the table of the profile, with a note on memory bandwidth."""
    whole = shares[-1].us_per_decision
    least = traffic / bandwidth * 1e6
    columns: tuple[Column[Share], ...] = (
        Column("work, one thread", lambda one: one.what),
        Column("µs a decision", lambda one: f"{one.us_per_decision:.1f}"),
        Column("share", lambda one: f"{one.us_per_decision / whole:.0%}"),
    )
    notes = (
        f"A decision moves at least {traffic / 1000:.1f} kB; at the {bandwidth / 1e9:.1f} GB/s that a copy of a large array reaches that "
        f"takes {least:.2f} µs, {least / whole:.0%} of the time."
    )
    return Table(columns, shares, notes=notes)


def _microseconds(work: Callable[[], Any], rounds: int) -> float:
    """Return the median processor time of a call."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time_ns()
        work()
        times.append((time.process_time_ns() - start) / 1000)
    return float(np.median(times))
