"""`cfisac play`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from experiments.commands.common import Command, Output, Range, Seed
from experiments.commands.mobile import Environment


@dataclass(frozen=True)
class Play(Command):
    """Switch access points by hand on a local page (extra `play`): SINR, CRLB and watts at once, beside any policy, also in motion."""

    configured: ClassVar[bool] = True
    output: ClassVar[Output] = "own"
    out: ClassVar[None] = None
    kept: ClassVar[str] = "the page is closed"

    environment: Annotated[Environment, tyro.conf.arg(name="")] = field(
        default_factory=lambda: Environment(episode_steps=30, switching_energy_j=2.0, wake_up_steps=1)
    )
    policy: str = "most-informative-search"
    """Policy to begin with, beside one's own choice."""
    seed: Seed = 0
    """Seed of the first drop."""
    episode: bool = False
    """Begin with an episode in motion instead of a drop."""
    port: Annotated[int, Range(0, 65535)] = 8050
    """Port on the loopback address; 0 is any free one."""

    def run(self, fields: dict[str, Any], console: Console) -> None:
        """Serve until interrupted."""
        from experiments.play import page
        from experiments.play.session import Kind, Network, Session, checked_policy

        kind: Kind = "episode" if self.episode else "drop"
        rest = dict(fields)
        preset, M, K = rest.pop("preset", "paper"), rest.pop("M", 30), rest.pop("K", 6)
        network, session = Network(kind, preset, M, K, self.seed), Session(rest, vars(self.environment))
        checked_policy(kind, self.policy)
        session.instants(network)
        with page.server(page.build(session, network, self.policy), self.port) as server:
            console.print(
                f"the page is at http://{page.HOST}:{server.port}; Ctrl+C closes it", highlight=False, soft_wrap=True
            )
            server.serve_forever()
