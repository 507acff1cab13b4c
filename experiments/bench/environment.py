"""How many decisions a second the environments take, beside mobile-env's steps, and where the time goes."""

from __future__ import annotations

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
"""13 base stations and 30 users."""


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
        """Decisions a second by the clock."""
        return self.decisions / self.wall_s

    @property
    def per_processor_second(self) -> float:
        """Decisions a second of processor time: what other work on the machine takes away doesn't count."""
        return self.decisions / self.processor_s

    @property
    def share(self) -> float:
        """Share of its threads' time that the process got."""
        return self.processor_s / (self.wall_s * self.threads)


def timed(
    what: str,
    config: SystemConfig,
    environments: int,
    decisions_per_drop: int,
    threads: int,
    play: Callable[[], int],
    seconds: float,
) -> Rate:
    """Play for so many seconds, once at least, after a warm-up; `play` returns how many decisions it took."""
    play()
    wall, processor = time.perf_counter(), time.process_time()
    decisions = play()
    while time.perf_counter() - wall < seconds:
        decisions += play()
    wall_s, processor_s = time.perf_counter() - wall, time.process_time() - processor
    return Rate(what, config.M, config.K, environments, decisions_per_drop, threads, decisions, wall_s, processor_s)


def scalar(config: SystemConfig, seed: int, seconds: float) -> Rate:
    """`CfIsac-v0` with a reset after every decision."""
    env = gym.make("CfIsac-v0", **_given(config))
    chosen = _actions(config, 64, seed)
    env.reset(seed=seed)

    def play() -> int:
        for action in chosen:
            env.reset()
            env.step(action)
        return len(chosen)

    return timed("single", config, 1, 1, 1, play, seconds)


def vector(
    config: SystemConfig,
    environments: int,
    decisions_per_drop: int,
    threads: int,
    seed: int,
    seconds: float,
    backend: str = "numpy",
    episode_steps: int = 1,
) -> Rate:
    """The vector environment, resetting in the same step; drops take all their decisions, so that each is paid for by as many."""
    envs = gym.make_vec(
        "CfIsac-v0", num_envs=environments, vectorization_mode="vector_entry_point", autoreset_mode="SameStep",
        episode_steps=episode_steps, decisions_per_drop=decisions_per_drop, threads=threads, backend=backend, **_given(config),
    )  # fmt: skip
    what = f"vector, {backend}" + ("" if episode_steps == 1 else f", {episode_steps} instants of a network")
    return _stepped(what, envs, config, environments, decisions_per_drop, threads, seed, seconds, decisions_per_drop)


def mobile(config: SystemConfig, environments: int, threads: int, seed: int, seconds: float) -> Rate:
    """The vector environment of `CfIsacMobile-v0`, resetting in the same step; episodes of 50 instants are played whole."""
    envs = gym.make_vec(
        "CfIsacMobile-v0", num_envs=environments, vectorization_mode="vector_entry_point", autoreset_mode="SameStep",
        switching_energy_j=2.0, wake_up_steps=2, threads=threads, **_given(config),
    )  # fmt: skip
    return _stepped("mobile vector", envs, config, environments, 1, threads, seed, seconds, 50)


def _stepped(
    what: str,
    envs: Any,
    config: SystemConfig,
    environments: int,
    decisions_per_drop: int,
    threads: int,
    seed: int,
    seconds: float,
    least: int,
) -> Rate:
    """A rate of steps with random actions, `least` at a time or more."""
    chosen = [_actions(config, environments, seed + i) for i in range(4)]
    rounds = max(len(chosen), least)
    envs.reset(seed=seed)

    def play() -> int:
        for i in range(rounds):
            envs.step(chosen[i % len(chosen)])
        return rounds * environments

    rate = timed(what, config, environments, decisions_per_drop, threads, play, seconds)
    envs.close()
    return rate


def scoring(config: SystemConfig, environments: int, decisions: int, seed: int, seconds: float) -> Rate:
    """New drops for every environment, then `decisions` decisions scored on each without moving on."""
    envs = CfIsacVectorEnv(environments, threads=1, **_given(config))
    chosen = [_actions(config, environments, seed + i) for i in range(4)]
    envs.reset(seed=seed)

    def play() -> int:
        envs.reset()
        problem = envs.scenario.problem
        for i in range(decisions):
            physics.evaluate(problem, actions.decode(chosen[i % 4], config.max_ap_power_w))
        return decisions * environments

    return timed("scoring alone", config, environments, decisions, 1, play, seconds)


def mobile_env(seed: int, seconds: float) -> Rate | None:
    """Steps of mobile-env's largest setting with random actions; None when it isn't installed."""
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
    return timed("mobile-env, single", size, 1, 1, 1, play, seconds)


@dataclass(frozen=True)
class Share:
    """One piece of work of the vector environment, on one thread."""

    what: str
    us_per_decision: float


def profile(config: SystemConfig, seed: int, environments: int = 256, rounds: int = 60) -> list[Share]:
    """Where a decision's time goes with one decision a drop: each piece alone, the whole step, and the rest as overhead."""
    generators = [np.random.default_rng(seed + i) for i in range(environments)]
    action = _actions(config, environments, seed)

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
    rate = vector(config, environments, 1, 1, seed, 1.0)
    whole = 1e6 / rate.per_processor_second
    return [*shares, Share("overhead: layout of results, episodes, calls", whole - sum(s.us_per_decision for s in shares)),
            Share("all", whole)]  # fmt: skip


def bytes_per_decision(config: SystemConfig) -> int:
    """What has to cross the memory bus at least: actions read, drops written and read again, observations written."""
    space = observations.space(config)
    observed = sum(int(np.prod(entry.shape or ())) for entry in space.values()) * 4
    acted = config.M * (config.K + 1) * 4
    drop = (2 * config.M * config.K + config.M * config.S * (3 + config.T)) * 8
    return observed + acted + 2 * drop


def copy_bandwidth(seconds: float = 0.5) -> float:
    """Bytes read and written a second by one thread that copies a large array."""
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
    """Rates over the number of environments, and over the size of the network at about as many links as the base has with 256."""
    for n in environments:
        yield vector(base, n, 1, 1, seed, seconds)
    for M, K in sizes:
        config = SystemConfig(**{**_given(base), "M": M, "K": K, "pilot_length": max(K, base.pilot_length)})
        yield vector(config, max(1, 256 * base.M * base.K // (M * K)), 1, 1, seed, seconds)


@dataclass(frozen=True)
class Growth:
    """The time of one step as a line in its numbers of environments N and of links N·M·K, fitted to measured rates."""

    us_a_step: float
    us_an_environment: float
    ns_a_link: float
    deviation: float  # largest relative distance of a measured time from the line


def growth(rates: Sequence[Rate]) -> Growth:
    """Fit by least squares of relative distances; no coefficient is negative."""
    size = np.array([(1, one.environments, one.environments * one.M * one.K) for one in rates], dtype=np.float64)
    step_s = np.array([one.environments / one.per_processor_second for one in rates])
    fit = lsq_linear(size / step_s[:, None] * [1e-6, 1e-6, 1e-9], np.ones(len(rates)), bounds=(0.0, np.inf))
    step, environment, link = map(float, fit.x)
    return Growth(step, environment, link, float(np.abs(fit.fun).max()))


def table(rates: Sequence[Rate], reference: Rate | None) -> Table[Rate]:
    """Rates, with the ratio to mobile-env's."""

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
    """Time of a step and of a decision beside the fitted line."""

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
    """Where the time goes, and the distance from memory bandwidth."""
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


def _given(config: SystemConfig) -> dict[str, Any]:
    return config.as_dict()


def _actions(config: SystemConfig, n: int, seed: int) -> Any:
    shape = (n, config.M, config.K + 1)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def _microseconds(work: Callable[[], Any], rounds: int) -> float:
    """Median processor time of a call."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time_ns()
        work()
        times.append((time.process_time_ns() - start) / 1000)
    return float(np.median(times))
