"""docker Image: built from a local context by the engine's classic builder.

The official plugin treats this type by hand: every change is an update, reading it back
changes nothing, and deleting it leaves the image where it is.
"""

from __future__ import annotations

import json
import platform
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

from toolchain.standins import properties
from toolchain.standins.docker_provider import context
from toolchain.standins.docker_provider.engine import Engine, explained, watched
from toolchain.standins.interruption import Interruption, OperationFailed
from toolchain.standins.properties import Change, Mistake, Property, Table
from toolchain.standins.resource_type import Log, Made, ResourceType
from toolchain.standins.values import Values, holds_unknown, is_unknown, secret

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
# How much of a failing build is shown: enough to see the failing command's own message.
_LAST_LINES: Final = 20

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")

_BUILD: Final[Table] = {
    "args": Property(kind="map"),
    "builderVersion": Property(kind="string", allowed="BuilderV1"),
    "context": Property(kind="string"),
    "dockerfile": Property(kind="string"),
    "platform": Property(kind="string"),
    "target": Property(kind="string"),
}


class Image(ResourceType):
    """A local image; its ``repoDigest`` is the image's id, for it is pushed nowhere."""

    pulumi_type: ClassVar[str] = "docker:index/image:Image"
    table: ClassVar[Table] = {
        "imageName": Property(kind="string", required=True),
        "skipPush": Property(kind="boolean"),
        "build": Property(kind="block", items=_BUILD),
        "buildOnPreview": Property(kind="boolean"),
    }

    def __init__(self, engine: Engine, interruption: Interruption) -> None:
        self._engine = engine
        self._interruption = interruption

    def check(self, given: Values, urn: str, log: Log) -> tuple[Values, list[Mistake]]:
        """Fill in the build's place and a digest of its context.

        The digest is what makes a changed file a change of the resource.
        """
        inputs, mistakes = properties.check(self.table, given, self.name)
        if given.get("skipPush") is not True:
            mistakes.append(Mistake("skipPush", "the stand-in pushes nothing: set skip_push"))
        build = dict(inputs.get("build") or {})
        if build.get("builderVersion") != "BuilderV1":
            mistakes.append(
                Mistake("build.builderVersion", "the stand-in builds with BuilderV1 only: set it")
            )
        place = build.get("context", ".")
        dockerfile = build.get("dockerfile")
        if dockerfile is None and not is_unknown(place):
            dockerfile = f"{place}/Dockerfile" if place != "." else "Dockerfile"
        build.update(context=place, dockerfile=dockerfile)
        build.pop(properties.DEFAULTS, None)
        if not mistakes and not is_unknown(place) and not is_unknown(dockerfile):
            try:
                build["contextDigest"] = context.digest(Path(place), Path(str(dockerfile)))
            except OSError as error:
                mistakes.append(
                    Mistake("build.dockerfile", f"cannot read the build context: {error}")
                )
        build.setdefault("platform", f"linux/{_ARCHITECTURES.get(platform.machine(), 'amd64')}")
        inputs.pop(properties.DEFAULTS, None)
        inputs.update(build=build, buildOnPreview=bool(inputs.get("buildOnPreview")))
        return inputs, mistakes

    def diff(self, state: Values, inputs: Values, ignore: frozenset[str]) -> list[Change]:
        """Return a change of any input, against the inputs that the last build had."""
        before = state.get("__inputs") or {}
        return [
            Change(
                name,
                "add" if name not in before else "delete" if name not in inputs else "update",
                replaces=False,
            )
            for name in sorted({*before, *inputs})
            if name not in ignore and before.get(name) != inputs.get(name)
        ]

    def plan(self, inputs: Values, old: Values | None) -> Values:
        """Nothing is known of an image before it is built."""
        return dict(inputs)

    def create(self, state: Values, log: Log) -> Made:
        """Build the image, showing each step as it comes."""
        build = state["build"]
        place, dockerfile = Path(build["context"]), Path(build["dockerfile"])
        if holds_unknown(build):
            raise OperationFailed("the build's inputs are not known yet")
        archive, name_inside = context.archive(place, dockerfile)
        client = self._engine.patient_client()
        log.status("Starting Docker build")
        try:
            with archive, explained("error building image"):
                stream = client.build(
                    fileobj=archive,
                    custom_context=True,
                    dockerfile=name_inside,
                    tag=state["imageName"],
                    buildargs=build.get("args"),
                    target=build.get("target"),
                    platform=build["platform"],
                    rm=True,
                    forcerm=True,
                )
                identifier = self._built(stream, log, state["imageName"])
        finally:
            client.close()
        log.status(f'Image built successfully, local id "{identifier}"')
        return Made(
            state["imageName"],
            {
                "baseImageName": state["imageName"],
                "context": build["context"],
                "dockerfile": name_inside,
                "imageName": state["imageName"],
                "platform": build["platform"],
                "registryServer": "",
                "repoDigest": identifier,
                "__inputs": secret(state),
            },
        )

    def _built(self, stream: Iterator[bytes], log: Log, name: str) -> str:
        identifier: str | None = None
        last: deque[str] = deque(maxlen=_LAST_LINES)
        for message in messages(watched(stream, self._interruption)):
            if "error" in message:
                shown = "\n".join(f"  {line}" for line in last)
                raise OperationFailed(
                    f"building {name} failed: {message['error']}\n"
                    f"the last lines of the build were:\n{shown}"
                )
            text = str(message.get("stream") or message.get("status") or "")
            lines = [line for line in _COLOUR.sub("", text).splitlines() if line.strip()]
            if lines:
                last.extend(lines)
                log.status("\n".join(lines))
            identifier = (message.get("aux") or {}).get("ID", identifier)
        if identifier is None:
            raise OperationFailed(f"building {name}: no image id found in build output")
        return identifier

    def read(self, identifier: str, state: Values) -> Made | None:
        """As it was: the official plugin does not look, either."""
        kept = {key: value for key, value in state.items() if key != "id"}
        if "__inputs" in kept:
            kept["__inputs"] = secret(kept["__inputs"])
        return Made(identifier, kept)

    def refreshed_inputs(self, state: Values, old_inputs: Values) -> Values:
        """As they were."""
        return old_inputs

    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Build again."""
        return self.create(state, log)

    def delete(self, identifier: str, state: Values) -> None:
        """Leave the image: containers of other stacks may use it."""


def messages(stream: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of the engine's answer, which chunks may join or cut in two."""
    rest = ""
    decoder = json.JSONDecoder()
    for chunk in stream:
        rest += chunk.decode(errors="replace")
        while rest := rest.lstrip():
            try:
                message, end = decoder.raw_decode(rest)
            except json.JSONDecodeError:
                break
            rest = rest[end:]
            if isinstance(message, dict):
                yield message
