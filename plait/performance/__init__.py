"""Primitives that save work: the cache."""

from plait.performance._cache import CachePrimitive, CacheStats
from plait.performance._redis import RedisStore
from plait.performance._store import CacheStore, Kept, MemoryStore
from plait.primitives._public import publish as _publish

__all__ = ["CachePrimitive", "CacheStats", "CacheStore", "Kept", "MemoryStore", "RedisStore"]

_publish(globals())
