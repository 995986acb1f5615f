"""Measurements (`make bench`): ratios of one run, written to docs/figures.md. No asserts."""
