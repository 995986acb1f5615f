"""Serves resource types over Pulumi's provider protocol; what all three providers share.

Inputs, differences, previews, secrets, logging: all that follows from a type's table and is
the same for every type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import any_pb2, empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc

from toolchain.standins.interruption import Cancelled, Interruption, OperationFailed
from toolchain.standins.properties import Change, Table
from toolchain.standins.resource_type import Log, Made, PartlyDone, ResourceType
from toolchain.standins.serving import OPTIONS, serve
from toolchain.standins.values import UNKNOWN, Values, holds_unknown, reveal, whole


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """A provider of some resource types."""

    def __init__(
        self,
        name: str,
        version: str,
        types: list[ResourceType],
        *,
        config: Table,
        configure: Callable[[Values], None],
        interruption: Interruption,
    ) -> None:
        self._name = name
        self._version = version
        self._types: Mapping[str, ResourceType] = {kind.pulumi_type: kind for kind in types}
        self._config = config
        self._configure = configure
        self._interruption = interruption
        self._engine: engine_pb2_grpc.EngineStub | None = None

    # -- the plugin --

    def connect_engine(self, address: str) -> None:
        """Where log messages go."""
        channel = grpc.insecure_channel(address, options=OPTIONS)
        self._engine = engine_pb2_grpc.EngineStub(channel)

    def run(self, arguments: list[str]) -> None:
        """Serve until the engine goes away; its address is the last argument."""
        if arguments:
            self.connect_engine(arguments[-1])
        serve(
            lambda server: provider_pb2_grpc.add_ResourceProviderServicer_to_server(self, server),
            cancel=self._interruption.happen,
        )

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Take the engine's address and say what this plugin understands."""
        if request.engine_address:
            self.connect_engine(request.engine_address)
        return provider_pb2.ProviderHandshakeResponse(
            accept_secrets=False, accept_resources=False, accept_outputs=False
        )

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Take the engine's address."""
        self.connect_engine(request.address)
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return the version of the plugin that this one stands in for."""
        return plugin_pb2.PluginInfo(version=self._version)

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Abort everything that is running."""
        self._interruption.happen()
        return empty_pb2.Empty()

    # -- the provider's own configuration --

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse settings that the stand-in does not know."""
        given = _values(request.news)
        failures = [
            provider_pb2.CheckFailure(
                property=key,
                reason=f"the stand-in knows no setting {key!r} of provider {self._name}; "
                f"it has: {', '.join(sorted(self._config))}",
            )
            for key in given
            if key not in self._config and key not in ("version", "__internal", "pluginDownloadURL")
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return whether the provider's settings differ; they never replace anything."""
        old, new = _values(request.olds), _values(request.news)
        changed = sorted(
            key for key in {*old, *new} - {"version", "__internal"} if old.get(key) != new.get(key)
        )
        some = (
            provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE
        )
        return provider_pb2.DiffResponse(changes=some, diffs=changed)

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Take the provider's settings."""
        with _shown(context):
            self._configure(_values(request.args))
        return provider_pb2.ConfigureResponse(
            acceptSecrets=False, supportsPreview=True, acceptResources=False, acceptOutputs=False
        )

    # -- resources --

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Fill in defaults, and report what is wrong with the inputs."""
        with _shown(context):
            kind = self._type_of(request.urn)
            inputs, mistakes = kind.check(
                _values(request.news), request.urn, Log(self._engine, request.urn)
            )
            return provider_pb2.CheckResponse(
                inputs=_struct(inputs),
                failures=[
                    provider_pb2.CheckFailure(property=item.property, reason=item.reason)
                    for item in mistakes
                ],
            )

    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return what the inputs change."""
        with _shown(context):
            kind = self._type_of(request.urn)
            changes = kind.diff(
                _values(request.olds), _values(request.news), frozenset(request.ignoreChanges)
            )
            response = provider_pb2.DiffResponse
            replaces = sorted({change.top for change in changes if change.replaces})
            return response(
                changes=response.DIFF_SOME if changes else response.DIFF_NONE,
                diffs=sorted({change.top for change in changes}),
                replaces=replaces,
                deleteBeforeReplace=bool(replaces) and kind.delete_before_replace,
                hasDetailedDiff=bool(changes),
                detailedDiff={
                    change.path: provider_pb2.PropertyDiff(kind=_kind(change)) for change in changes
                },
            )

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Make a resource, or in a preview say what it would be."""
        with _shown(context):
            kind = self._type_of(request.urn)
            planned = kind.plan(_values(request.properties), None)
            if request.preview:
                return provider_pb2.CreateResponse(properties=_struct(kind.preview_create(planned)))
            self._interruption.check()
            with _remembered(context):
                made = kind.create(planned, Log(self._engine, request.urn))
            return provider_pb2.CreateResponse(
                id=made.identifier, properties=_struct(_kept(kind, made))
            )

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return the resource as it is now; an empty answer says that it is gone."""
        with _shown(context):
            kind = self._type_of(request.urn)
            self._interruption.check()
            state = _values(request.properties)
            made = kind.read(_identifier(request.id, state), state)
            if made is None:
                return provider_pb2.ReadResponse()
            inputs = kind.refreshed_inputs(made.state, _values(request.inputs))
            return provider_pb2.ReadResponse(
                id=made.identifier, properties=_struct(_kept(kind, made)), inputs=_struct(inputs)
            )

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Change a resource in place, or in a preview say what it would be."""
        with _shown(context):
            kind = self._type_of(request.urn)
            old = _values(request.olds)
            inputs = _values(request.news)
            for name in request.ignoreChanges:
                if name in kind.table and name in old:
                    inputs[name] = old[name]
            planned = kind.plan(inputs, old)
            if request.preview:
                return provider_pb2.UpdateResponse(properties=_struct(planned))
            self._interruption.check()
            with _remembered(context):
                made = kind.update(
                    _identifier(request.id, old), old, planned, Log(self._engine, request.urn)
                )
            return provider_pb2.UpdateResponse(properties=_struct(_kept(kind, made)))

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Remove a resource."""
        with _shown(context):
            kind = self._type_of(request.urn)
            self._interruption.check()
            state = _values(request.properties)
            kind.delete(_identifier(request.id, state), state)
            return empty_pb2.Empty()

    def _type_of(self, urn: str) -> ResourceType:
        token = urn.split("::")[2].split("$")[-1]
        kind = self._types.get(token)
        if kind is None:
            raise OperationFailed(
                f"the stand-in of pulumi-resource-{self._name} does not know {token}; it has: "
                + ", ".join(sorted(self._types))
                + ". Use the official plugin, or extend toolchain/standins (needs an ADR)"
            )
        return kind


def _identifier(identifier: str, state: Values) -> str:
    """Return the id as it is now: a rename changes it, and the engine keeps the first one."""
    return str(state.get("id") or identifier)


def _kind(change: Change) -> provider_pb2.PropertyDiff.Kind.ValueType:
    difference = provider_pb2.PropertyDiff
    plain, replacing = {
        "add": (difference.ADD, difference.ADD_REPLACE),
        "delete": (difference.DELETE, difference.DELETE_REPLACE),
        "update": (difference.UPDATE, difference.UPDATE_REPLACE),
    }[change.operation]
    return replacing if change.replaces else plain


def _kept(kind: ResourceType, made: Made) -> Values:
    """Return the state as the engine stores it; what the server never filled in is empty."""
    state = {
        name: ([] if kind.table[name].kind in ("list", "set") else None)
        if name in kind.table and holds_unknown(value) and value == UNKNOWN
        else value
        for name, value in made.state.items()
    }
    if kind.meta is not None:
        state["__meta"] = kind.meta
    return {**state, "id": made.identifier}


def _values(struct: struct_pb2.Struct) -> Values:
    values = whole(reveal(json_format.MessageToDict(struct)))
    return dict(values)


def _struct(values: Values) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


@contextmanager
def _shown(context: grpc.ServicerContext) -> Iterator[None]:
    """Errors become one message instead of a traceback."""
    try:
        yield
    except Cancelled as error:
        context.abort(grpc.StatusCode.CANCELLED, str(error))
    except OperationFailed as error:
        context.abort(grpc.StatusCode.UNKNOWN, str(error))


@contextmanager
def _remembered(context: grpc.ServicerContext) -> Iterator[None]:
    """Put a resource that exists although its operation failed into the state."""
    try:
        yield
    except PartlyDone as partly:
        # google.rpc.Status with one detail; the engine takes the state from it. Written by
        # hand because the package with that message would cost 40 ms at every start.
        detail = any_pb2.Any()
        detail.Pack(
            provider_pb2.ErrorResourceInitFailed(
                id=partly.identifier, properties=_struct(partly.state), reasons=[partly.reason]
            )
        )
        context.set_trailing_metadata(
            (("grpc-status-details-bin", _status(partly.reason, detail.SerializeToString())),)
        )
        context.abort(grpc.StatusCode.UNKNOWN, partly.reason)


def _status(message: str, detail: bytes) -> bytes:
    """``google.rpc.Status{code: 2, message, details: [detail]}`` on the wire."""
    text = message.encode()
    return (
        b"\x08\x02" + b"\x12" + _varint(len(text)) + text + b"\x1a" + _varint(len(detail)) + detail
    )


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
