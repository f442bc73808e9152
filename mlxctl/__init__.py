"""mlxctl turns a handful of Macs into one machine for large language models."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mlxctl")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
