"""Primitives that save work: the cache, limits on rate and concurrency, batches."""

from plait.performance._batch import BatchPrimitive
from plait.performance._cache import CachePrimitive, CacheStats
from plait.performance._concurrency_limit import ConcurrencyLimit, ConcurrencyLimitPrimitive
from plait.performance._rate_limit import RateLimit, RateLimitPrimitive
from plait.performance._redis import RedisStore
from plait.performance._store import CacheStore, Kept, MemoryStore
from plait.primitives._public import publish as _publish

__all__ = [
    "BatchPrimitive",
    "CachePrimitive",
    "CacheStats",
    "CacheStore",
    "ConcurrencyLimit",
    "ConcurrencyLimitPrimitive",
    "Kept",
    "MemoryStore",
    "RateLimit",
    "RateLimitPrimitive",
    "RedisStore",
]

_publish(globals())
