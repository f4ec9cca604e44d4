"""Loading and converting models without the libraries' progress bars, of which there are several a load.

They come from tqdm, some by way of transformers' own switch and some directly (its GGUF reader): all of them end here.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partialmethod
from typing import Any


@contextmanager
def no_bars() -> Generator[None]:
    """Bars that are begun meanwhile show nothing."""
    from tqdm import std

    bar: Any = std.tqdm
    stock = bar.__init__
    bar.__init__ = partialmethod(stock, disable=True)
    try:
        yield
    finally:
        bar.__init__ = stock
