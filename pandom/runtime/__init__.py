"""What everything else stands on; the standard library only."""
