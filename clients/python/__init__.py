"""For Python applications."""
