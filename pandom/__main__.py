"""``python -m pandom``."""

from __future__ import annotations

import sys

from pandom.commands.cli import main

sys.exit(main())
