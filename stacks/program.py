"""What Pulumi tells the program: its configuration and, after a killed run, what to adopt."""

from __future__ import annotations

import json
import os

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from pandom.config.settings import (
    SECRET_KEYS,
    UPGRADING,
    Settings,
    SettingsError,
    load,
    plain_secret,
    refuse_change,
)
from pandom.host.identity import refuse_renamed
from pandom.host.state import State
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import ADOPT_VARIABLE
from pandom.runtime.paths import states


def current_settings() -> Settings:
    """Return the running stack's settings.

    Raises ``pulumi.RunError`` with every problem, before any resource is registered.
    """
    raw = {**get_config_env(), **CONFIG.get()}
    stack = pulumi.get_stack()
    try:
        settings = load(stack, raw)
        recorded = State.of_file(states() / f"{stack}.json")
        refuse_renamed(stack, recorded)
        refuse_change(settings, recorded.environment, UPGRADING in os.environ)
    except UsageError as error:
        raise pulumi.RunError(str(error)) from None
    config = pulumi.Config()
    plain = [
        key
        for key in SECRET_KEYS
        if settings.overrides[key] and not pulumi.runtime.is_config_secret(config.full_key(key))
    ]
    if plain:
        problems = [plain_secret(stack, key) for key in plain]
        raise pulumi.RunError(str(SettingsError(stack, problems)))
    return settings


def adopted() -> frozenset[str]:
    """Return names that ``pandom up`` found in the cluster but not in the state."""
    return frozenset(json.loads(os.environ.get(ADOPT_VARIABLE, "[]")))
