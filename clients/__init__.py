"""Libraries for applications."""
