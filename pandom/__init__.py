"""The ``pandom`` command: on the host it drives Pulumi, in the jobs' image it is the jobs."""

__version__ = "0.1.0"  # the wheel's, too
