"""Serves a workflow that writes down each payment: run by the load test, and killed by it."""

import sqlite3
import sys

from plait import WorkflowContext, step
from plait.durable import DurableRunner
from plait.server import Limits, app, serve

journal, ledger, port = sys.argv[1:]
connection = sqlite3.connect(ledger, isolation_level=None)
connection.execute("PRAGMA synchronous=OFF")


@step
async def check(number: int) -> int:
    return number


@step
async def book(number: int, context: WorkflowContext) -> int:
    connection.execute("INSERT INTO paid VALUES (?, ?)", (number, context.idempotency_key))
    return number


runner = DurableRunner(f"sqlite:///{journal}", workflows=[(check >> book).named("pay")])
serve(app(runner, limits=Limits(rate=None)), port=int(port), announce=print)
