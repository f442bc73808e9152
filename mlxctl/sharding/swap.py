"""Another `__call__` for one decoder-layer instance; everything else about it stays. Called by Shard and the trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# The layer's own forward, its positional and its keyword arguments -> what the layer shall return.
Call = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def swap(layer: Any, call: Call) -> None:
    """Make `layer(*args, **kwargs)` run `call(forward, args, kwargs)`.

    The instance's class becomes a subclass of its old one, so `isinstance`, attributes, weight paths and the place in
    the module tree survive; a wrapper module would break models that look at their layers.
    """
    cls = type(layer)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return cls.__call__(layer, *args, **kwargs)

    def swapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return call(forward, args, kwargs)

    layer.__class__ = type(cls.__name__, (cls,), {"__call__": swapped, "__module__": cls.__module__})


def restore(layer: Any) -> None:
    """Undo the last `swap` of `layer`."""
    layer.__class__ = type(layer).__bases__[0]
