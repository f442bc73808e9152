"""`python -m mlxctl`, for hosts where the console script is not on the path."""

import sys

from mlxctl.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
