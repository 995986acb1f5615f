"""What the wheel needs beside itself: only what its code uses in the processes of others.

The program runs in an environment of its own, with everything that requirements.txt pins.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

# With which `pandom.ci` connects to a test's database.
_DRIVER: Final = r"(?m)^(psycopg\[binary\])==(\d+)"


class Dependencies(MetadataHookInterface):
    """Read them from the file that pins them; any version of that major will do."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add them to the wheel's metadata."""
        pins = Path(self.root, "app_image", "operations", "requirements.txt").read_text()
        found = re.search(_DRIVER, pins)
        if found is None:
            raise LookupError(f"requirements.txt of the operations image pins no {_DRIVER}")
        metadata["dependencies"] = [f"{found[1]}~={found[2]}.0"]
