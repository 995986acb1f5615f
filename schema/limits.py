"""How large a value may be: the numbers of CHECKs in schema/models.py.

Functions of the trail, which shorten values, repeat them; a test compares. Rates are settings.
"""

from __future__ import annotations

from typing import Final

# Metadata as JSON text, and so each side of a change in an event.
METADATA_BYTES: Final = 64 * 1024
TAGS: Final = 100
TAGS_BYTES: Final = 8 * 1024
USER_AGENT_CHARACTERS: Final = 512
USER_AGENT_BYTES: Final = 4 * USER_AGENT_CHARACTERS
# Details that an application records, as JSON text.
RECORDED_BYTES: Final = 8 * 1024
# Details of any event as stored, which may take four times the JSON text.
EVENT_BYTES: Final = 1024 * 1024
ENCRYPTED_HASH_BYTES: Final = 1024
# Larger rows of the trail enter their block by digest.
BLOCK_ROW_BYTES: Final = 1024
BLOCK_ROWS: Final = 10_000
BATCH_BYTES: Final = 64 * 1024 * 1024
