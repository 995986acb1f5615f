"""Stand-in of pulumi-resource-random: RandomPassword."""

from __future__ import annotations

import secrets
import string
from typing import Any, ClassVar, Final

from toolchain.standins import RANDOM_VERSION, properties
from toolchain.standins.interruption import Interruption, OperationFailed
from toolchain.standins.properties import Change, Property, Table
from toolchain.standins.provider import Provider
from toolchain.standins.resource_type import Log, Made, ResourceType
from toolchain.standins.values import Values, secret

_SPECIAL: Final = "!@#$%&*()-_=+[]{}<>:?"
# bcrypt reads no further, and newer libraries refuse what is longer.
_BCRYPT_BYTES: Final = 72
# The least there is: a state that holds the hash holds the password, too.
_BCRYPT_COST: Final = 4


def _option(kind: properties.Kind, default: bool | int) -> Property:
    return Property(kind=kind, default=default, computed=True, replaces=True)


class RandomPassword(ResourceType):
    """A password that is made once and lives in the state, encrypted."""

    pulumi_type: ClassVar[str] = "random:index/randomPassword:RandomPassword"
    meta: ClassVar[str | None] = '{"schema_version":"3"}'
    table: ClassVar[Table] = {
        "length": Property(kind="integer", required=True, replaces=True, least=1),
        "keepers": Property(kind="map", replaces=True),
        "lower": _option("boolean", True),
        "upper": _option("boolean", True),
        "numeric": _option("boolean", True),
        "number": Property(kind="boolean", output=True),
        "special": _option("boolean", True),
        "overrideSpecial": Property(kind="string", replaces=True),
        "minLower": _option("integer", 0),
        "minUpper": _option("integer", 0),
        "minNumeric": _option("integer", 0),
        "minSpecial": _option("integer", 0),
        "result": Property(kind="string", output=True),
        "bcryptHash": Property(kind="string", output=True),
    }

    def check(self, given: Values, urn: str, log: Log) -> tuple[Values, list[properties.Mistake]]:
        """Check the inputs; this plugin, unlike the others, writes no defaults into them."""
        inputs, mistakes = super().check(given, urn, log)
        return {key: value for key, value in inputs.items() if key in given}, mistakes

    def diff(self, state: Values, inputs: Values, ignore: frozenset[str]) -> list[Change]:
        """Replace the password on every change."""
        return super().diff(state, inputs, ignore)

    def create(self, state: Values, log: Log) -> Made:
        """Draw the password from the system's random source."""
        import bcrypt  # 20 ms, and most runs make no password

        settings = _settings(state)
        password = draw(settings)
        digest = bcrypt.hashpw(
            password.encode()[:_BCRYPT_BYTES], bcrypt.gensalt(_BCRYPT_COST, b"2a")
        )
        kept: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
        kept.update(
            number=settings["numeric"],
            result=secret(password),
            bcryptHash=secret(digest.decode()),
        )
        return Made("none", kept)

    def read(self, identifier: str, state: Values) -> Made | None:
        """Nothing outside the state knows the password."""
        if not state:
            raise OperationFailed("the stand-in cannot import a RandomPassword")
        return Made(identifier, _sealed(state))

    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Never asked for: every change is a replacement."""
        return Made(identifier, _sealed({**old, **state}))

    def delete(self, identifier: str, state: Values) -> None:
        """Do nothing: the password is in no other place."""


def _settings(state: Values) -> Values:
    """Return the inputs with the defaults of those that were not given."""
    settings: Values = {}
    for name, rule in RandomPassword.table.items():
        if rule.output:
            continue
        value = state.get(name)
        known = (value is not None and not isinstance(value, str)) or name == "overrideSpecial"
        settings[name] = value if known else rule.default
    return settings


def _sealed(state: Values) -> Values:
    return {
        name: secret(value) if name in ("result", "bcryptHash") else value
        for name, value in state.items()
        if not name.startswith("__") and name != "id"
    }


def draw(settings: Values) -> str:
    """Return a password of ``length`` characters with at least so many of each class.

    Raises ``OperationFailed`` if no class is allowed or the minimums are too many.
    """
    classes = {
        "Lower": (settings["lower"], string.ascii_lowercase),
        "Upper": (settings["upper"], string.ascii_uppercase),
        "Numeric": (settings["numeric"], string.digits),
        "Special": (settings["special"], settings.get("overrideSpecial") or _SPECIAL),
    }
    alphabet = "".join(characters for allowed, characters in classes.values() if allowed)
    if not alphabet:
        raise OperationFailed("a password needs at least one class of characters")
    least = [
        secrets.choice(characters)
        for name, (_, characters) in classes.items()
        for _ in range(settings[f"min{name}"])
    ]
    if len(least) > settings["length"]:
        raise OperationFailed(
            f"the least numbers of characters add up to {len(least)}, "
            f"more than the length {settings['length']}"
        )
    rest = [secrets.choice(alphabet) for _ in range(settings["length"] - len(least))]
    characters = least + rest
    secrets.SystemRandom().shuffle(characters)
    return "".join(characters)


def main(arguments: list[str]) -> None:
    """Serve the provider."""
    interruption = Interruption()
    provider = Provider(
        "random",
        RANDOM_VERSION,
        [RandomPassword()],
        config={},
        configure=lambda _settings: None,
        interruption=interruption,
    )
    provider.run(arguments)
