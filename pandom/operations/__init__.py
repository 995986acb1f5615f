"""What runs on a schedule: which tasks there are, when they run, what came of them.

Inside the container `operations` a scheduler starts each task as a process of its own; the host
reads the records that it keeps.
"""
