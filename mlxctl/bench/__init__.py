"""Measuring clusters over HTTP: workloads, statistics, reports, comparisons. Used by `mlxctl bench`."""
