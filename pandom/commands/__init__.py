"""The command line: parses, and calls what does the work."""
