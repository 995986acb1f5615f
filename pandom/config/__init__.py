"""What a stack is configured to be, as plain data: settings, containers, readers, outputs."""
