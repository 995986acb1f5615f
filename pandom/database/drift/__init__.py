"""Drift: declared facts, actual facts, their differences, and the statements that correct them.

The audit reports differences, `up` corrects them, and the jobs do so as the role that may.
"""
