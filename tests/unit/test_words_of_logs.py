"""The end of a container's log, for people."""

from __future__ import annotations

import pytest

from pandom.host.engine import _message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pandom-minio: the volume is full \n", "pandom-minio: the volume is full"),
        ('{"level": "INFO", "error": "", "message": "Exiting on signal\\n"}', "Exiting on signal"),
        ('{"level": "FATAL", "error": {"message": "Unable to write"}}', "Unable to write"),
        ('{"level": "WARN", "msg": "deprecated"}', "deprecated"),
        ('{"task": "seal"}', '{"task": "seal"}'),
        ("7", "7"),
    ],
)
def test_of_a_line_of_json_people_get_the_message(line: str, words: str) -> None:
    assert _message(line) == words
