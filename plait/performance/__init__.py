"""Primitives that save work: the cache."""

from plait.performance._cache import CachePrimitive, CacheStats, CacheStore, MemoryStore
from plait.primitives._public import publish as _publish

__all__ = ["CachePrimitive", "CacheStats", "CacheStore", "MemoryStore"]

_publish(globals())
