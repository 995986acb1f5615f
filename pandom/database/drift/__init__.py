"""Drift: facts declared, facts seen, where they differ, and the statements that take it back.

The one comparison of a server with its declaration. The audit reports what it finds, `up` heals
it, and the jobs apply it as the role that may.
"""
