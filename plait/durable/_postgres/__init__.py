"""The journal that many machines share: a PostgreSQL database."""

from plait.durable._postgres._journal import PostgresJournal

__all__ = ["PostgresJournal"]
