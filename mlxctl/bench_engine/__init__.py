"""The engine's own benchmarks: stages against one stage, against mlx-lm, against mlx_lm.server; and the wire."""
