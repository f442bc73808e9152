"""Frames to bytes and back, channels, credentials. Knows nothing of MLX. Used by worker and coordinator."""
