"""Workflows with mocks and faults keep their types; read by mypy and basedpyright, never run."""

from typing import Any, assert_type

from plait import MockPrimitive, WorkflowPrimitive, step
from plait.testing import VirtualClock, explore, fail, with_faults


@step
async def charge(total: int) -> str:
    return f"paid {total}"


# A workflow with mocks, or with faults, is a workflow of the same types.
assert_type(charge.with_mocks({"charge": MockPrimitive()}), WorkflowPrimitive[int, str])
assert_type(charge.with_mocks({"charge": str, "other": charge}), WorkflowPrimitive[int, str])
assert_type(with_faults(charge, fail("charge"), fail("charge")), WorkflowPrimitive[int, str])
charge.with_mocks({"charge": 3})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]

# A mock of a primitive has its types.
assert_type(MockPrimitive.of(charge, return_value="paid"), MockPrimitive[int, str])

# One by itself needs no annotation, and may have one.
bank = MockPrimitive(side_effect=[ConnectionError("down"), "paid"])
assert_type(bank, MockPrimitive[Any, Any])
assert_type(MockPrimitive[int, str](return_value="paid"), MockPrimitive[int, str])


async def main() -> None:
    assert_type(await charge.with_mocks({})(42), str)
    assert_type((await explore(charge, 42)).runs, int)
    async with VirtualClock() as clock:
        assert_type(clock, VirtualClock)


async def add(left: int, right: int) -> int:
    return left + right


assert_type(VirtualClock().run(add, 1, 2), int)
VirtualClock().run(add, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
