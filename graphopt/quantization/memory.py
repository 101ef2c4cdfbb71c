"""Memory that one stage needed and the next does not, given back to the system."""

from __future__ import annotations

import ctypes
import gc

__all__ = ["give_back"]


def give_back() -> None:
    """Free what only cycles hold (graphs are full of them), and let the allocator return its free pages."""
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return  # Other allocators than glibc's do it by themselves.
    trim(0)
