"""From a profile to workers that have loaded their layers, and back to nothing."""
