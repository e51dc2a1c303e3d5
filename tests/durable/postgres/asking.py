"""What the tests of the command execute on PostgreSQL."""

from plait import SignalPrimitive, step


@step
async def bring(what: str) -> str:
    return f"brought {what}"


ask = (bring >> SignalPrimitive("answered", str, combine=lambda *both: " ".join(both))).named("ask")
