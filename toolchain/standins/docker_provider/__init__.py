"""Stand-in of pulumi-resource-docker: Network, Volume, Image, Container."""

from __future__ import annotations

from toolchain.standins import DOCKER_VERSION
from toolchain.standins.docker_provider.container import Container
from toolchain.standins.docker_provider.engine import Engine
from toolchain.standins.docker_provider.image import Image
from toolchain.standins.docker_provider.network import Network
from toolchain.standins.docker_provider.volume import Volume
from toolchain.standins.interruption import Interruption
from toolchain.standins.properties import Property
from toolchain.standins.provider import Provider


def main(arguments: list[str]) -> None:
    """Serve the provider."""
    interruption = Interruption()
    engine = Engine()
    provider = Provider(
        "docker",
        DOCKER_VERSION,
        [
            Network(engine, interruption),
            Volume(engine, interruption),
            Image(engine, interruption),
            Container(engine, interruption),
        ],
        config={"host": Property(kind="string")},
        configure=engine.configure,
        interruption=interruption,
    )
    provider.run(arguments)
