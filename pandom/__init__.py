"""The ``pandom`` command: on the host it drives Pulumi, in the jobs' image it is the jobs."""
