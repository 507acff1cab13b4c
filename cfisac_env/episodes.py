"""Episodes of `CfIsacMobile-v0`: consecutive instants of a network, random or supplied by the user."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces

from cfisac_env import observations, physics, pilots
from cfisac_env.config import SystemConfig
from cfisac_env.drops import Block, DropSource
from cfisac_env.mobility import Generators, Motion, Shadowing, Track
from cfisac_env.sampling import RandomInputs, build
from cfisac_env.scenario import Scenario
from cfisac_env.strategies import motion_of, moved, series_of, shadowed

FASTEST = 1e4
"""Largest observed velocity component, in radii of the disc per second, and turn rate, in rad/s."""


@dataclass(frozen=True, eq=False)
class Episodes:
    """One episode or a batch: a scenario with leading axes (…, steps), and the tracks of users and targets."""

    scenario: Scenario
    users: Track
    targets: Track

    def __getitem__(self, index: Any) -> Episodes:
        """Select episodes along the first axis."""
        users, targets = (
            Track(track.xy[index], track.velocity[index], track.turn_rate[index])
            for track in (self.users, self.targets)
        )
        return Episodes(self.scenario[index], users, targets)

    @classmethod
    def through(cls, scenario: Scenario, step_s: float) -> Episodes:
        """Build episodes from instants (…, steps), `step_s` apart, with velocities derived from the positions."""
        return cls(
            scenario,
            Track.through(np.asarray(scenario.ue_xy), step_s),
            Track.through(np.asarray(scenario.target_xy), step_s),
        )

    def observe(self, velocities: bool = True) -> observations.Observation:
        """Encode the observations of all instants, including those of `velocity_spaces` with `velocities`."""
        observation = observations.encode(self.scenario)
        if velocities:
            radius_m = self.scenario.config.area_diameter_m / 2
            for name, track in (("ue", self.users), ("target", self.targets)):
                rates = ((f"{name}_velocity", track.velocity / radius_m), (f"{name}_turn_rate", track.turn_rate))
                observation |= {key: physics.clip(rate, -FASTEST, FASTEST).astype(np.float32) for key, rate in rates}
        return observation


def velocity_spaces(config: SystemConfig) -> dict[str, spaces.Box]:
    """Return the spaces of velocities (K, 2), (S, 2) in radii of the disc per second, and turn rates (K,), (S,) in rad/s."""
    shapes = {
        "target_turn_rate": (config.S,), "target_velocity": (config.S, 2),
        "ue_turn_rate": (config.K,), "ue_velocity": (config.K, 2),
    }  # fmt: skip
    return {key: spaces.Box(-FASTEST, FASTEST, shape, np.float32) for key, shape in shapes.items()}


@dataclass(frozen=True)
class Dynamics:
    """Dynamics of a network over time."""

    users: Motion
    targets: Motion
    shadowing: Shadowing

    def __post_init__(self) -> None:
        motion_of(self.users, "users")
        motion_of(self.targets, "targets")
        series_of(self.shadowing)

    def episodes(self, config: SystemConfig, rngs: Generators, steps: int, step_s: float) -> Episodes:
        """Generate episodes of `steps` consecutive instants of one network each, (n, steps), each with its own generator.

        Initial positions are those of `sample`. APs, receivers, pilots and radar cross-sections are constant; gains and Fisher information
        follow from the positions of users and targets.

        Raises:
            ValueError, TypeError: an invalid result of a strategy.
        """
        n = len(rngs)
        inputs = RandomInputs(config, (n,))
        inputs.fill_each(rngs)
        network = build(config, inputs)
        users = moved(self.users, "users", rngs, network.ue_xy, config, steps, step_s)
        targets = moved(self.targets, "targets", rngs, network.target_xy, config, steps, step_s)
        shadowing_db = shadowed(self.shadowing, rngs, network.ap_xy, users.xy, config)
        ap_xy, sr_xy = (np.repeat(xy[:, None], steps, axis=1) for xy in (network.ap_xy, network.sr_xy))
        distance = physics.link_distance(ap_xy, users.xy, config.min_distance_m)
        gain = physics.path_gain(distance, config.path_loss_intercept_db, config.path_loss_per_decade_db, shadowing_db)
        rcs: Any = config.rcs_m2
        if config.rcs_model == "exponential":
            shape = (config.M, config.S, config.T)
            rcs = np.stack([rng.exponential(config.rcs_m2, shape) for rng in rngs])[:, None]
        pilot = None
        if config.pilots_reused:
            assigned = np.array([pilots.assign(config, gain[i, 0], rng) for i, rng in enumerate(rngs)])
            pilot = np.repeat(assigned[:, None], steps, axis=1)
        scenario = Scenario.derive(
            config,
            ap_xy=ap_xy,
            ue_xy=users.xy,
            sr_xy=sr_xy,
            target_xy=targets.xy,
            gain=gain,
            rcs_gain=physics.radar_gain(ap_xy, sr_xy, targets.xy, config.wavelength_m, rcs, config.min_distance_m),
            pilot=pilot,
        )
        return Episodes(scenario, users, targets)

    def trajectory(self, config: SystemConfig, rng: np.random.Generator, steps: int, step_s: float) -> Scenario:
        """Generate one episode as a batch of `steps` consecutive instants."""
        return self.episodes(config, [rng], steps, step_s).scenario[0]


def checked_trajectories(scenario: Scenario, steps: int | None, step_s: float) -> Episodes:
    """Validate user-supplied trajectories, and convert them to episodes with leading axes (n, steps).

    Args:
        scenario: leading axes (steps,) or (n, steps).
        steps: instants per episode; None for all.
        step_s: time between instants, s.

    Raises:
        ValueError: other leading axes, too few instants, or moving APs or receivers.
    """
    lead = scenario.batch_shape
    if len(lead) not in (1, 2):
        raise ValueError(
            f"trajectories must have leading axes (instants,) or (episodes, instants), got {lead or 'a single drop'}"
        )
    if 0 in lead:
        raise ValueError(f"trajectories must have at least one episode of one instant, got leading axes {lead}")
    if steps is not None and steps > lead[-1]:
        raise ValueError(
            f"episode_steps={steps}, but the trajectories have {lead[-1]} instants; leave episode_steps out to play them whole"
        )
    batch = scenario[None] if len(lead) == 1 else scenario
    for name in ("ap_xy", "sr_xy"):
        xy = getattr(batch, name)
        if (xy != xy[:, :1]).any():
            what = "APs" if name == "ap_xy" else "receivers"
            raise ValueError(
                f"the {what} of a trajectory must stay where they are, but {name} changes from instant to instant; "
                "play unrelated drops with CfIsac-v0"
            )
    return Episodes.through(batch[:, :steps], step_s)


class TrajectorySource(DropSource):
    """Source of random episodes, each generated as a whole."""

    def __init__(
        self, config: SystemConfig, dynamics: Dynamics, steps: int, step_s: float, velocities: bool = True
    ) -> None:
        self._dynamics, self._steps, self._step_s, self._velocities = dynamics, steps, step_s, velocities
        super().__init__(config)

    def restart(self) -> None:
        """Discard the episode."""
        self.block = None
        self.targets: Track | None = None
        """Track of the targets in the current episode."""
        self._index = 0

    def first(self, rng: np.random.Generator, drop: int | None = None) -> tuple[Block, int]:
        """Return the first instant of a new episode."""
        return self._begin(self._dynamics.episodes(self.config, [rng], self._steps, self._step_s)[0])

    def next(self, rng: np.random.Generator) -> tuple[Block, int]:
        """Return the next instant."""
        if self.block is None:
            raise RuntimeError("an episode has to begin with first() before next()")
        self._index += 1
        return self.block, self._index

    def _begin(self, episode: Episodes) -> tuple[Block, int]:
        self.targets = episode.targets
        self.block, self._index = Block(episode.scenario, episode.observe(self._velocities)), 0
        return self.block, 0


class StoredTrajectories(TrajectorySource):
    """Episodes of a `Scenario` with a time axis, played in order and repeatedly."""

    def __init__(self, episodes: Episodes, velocities: bool = True) -> None:
        self._episodes, self._velocities = episodes, velocities
        self.count: int = len(episodes.scenario)
        DropSource.__init__(self, episodes.scenario.config)

    def restart(self) -> None:
        """Go back to the first episode."""
        super().restart()
        self._played = -1

    def first(self, rng: np.random.Generator, drop: int | None = None) -> tuple[Block, int]:
        """Return the first instant of the selected episode, or of the next one."""
        self._played = (self._played + 1) % self.count if drop is None else drop
        return self._begin(self._episodes[self._played])

    def configure(self, config: SystemConfig) -> None:
        """Change the requirements."""
        super().configure(config)
        self._episodes = replace(self._episodes, scenario=replace(self._episodes.scenario, config=config))
