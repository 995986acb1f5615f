"""What runs on the host only: Pulumi, Docker, the stacks' files. Not in the jobs' image."""
