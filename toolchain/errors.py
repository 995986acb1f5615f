"""What goes wrong when tools are looked for or provided."""

from __future__ import annotations

from pandom.runtime.errors import Failure


class ToolMissing(Failure):
    """A tool is not there and could not be provided; the message says what to do next."""
