"""Whole numbers that somebody typed: of 0 to 9, where Python takes the digits of every script."""

from __future__ import annotations


def is_number(text: str) -> bool:
    """Return whether the text is digits, and nothing else."""
    return text.isascii() and text.isdigit()


def number(text: str) -> int:
    """Return a whole number; raises ValueError, which argparse shows."""
    if not is_number(text):
        raise ValueError(text)
    return int(text)
