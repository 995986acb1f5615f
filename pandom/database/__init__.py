"""The database's life after it exists: migrate, converge, seed, check, retire."""
