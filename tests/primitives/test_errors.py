"""A failure keeps its type and traceback, and says where it happened."""

import dataclasses
import traceback

import pytest

from plait import (
    ConditionalPrimitive,
    MapPrimitive,
    MockPrimitive,
    ParallelPrimitive,
    PermanentError,
    PlaitError,
    RecordedError,
    RetryPrimitive,
    SerializationError,
    StepTimeoutError,
    TimeoutPrimitive,
    UnknownRouteError,
    WorkflowContext,
    step,
)
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@step
async def charge(order: str) -> str:
    raise ConnectionError("the bank is closed")


async def test_the_note_names_step_path_attempt_and_run():
    orders = RetryPrimitive(charge, 2, backoff=constant(0)) >> str
    with pytest.raises(ConnectionError) as caught:
        await orders.execute("order", WorkflowContext("order-42", workflow_id="orders"))
    assert caught.value.__notes__ == [
        "in step 'charge' (orders/1:charge, attempt 3 of 3, run order-42)",
        "gave up after 3 attempts: " + str([repr(ConnectionError("the bank is closed"))] * 3),
    ]


@pytest.mark.parametrize(
    ("workflow", "note"),
    [
        (step(str) >> charge, "in step 'charge' (sequential/2:charge)"),
        ((step(str) >> charge).named("pay"), "in step 'charge' (pay/2:charge)"),
        (step(str) | charge, "in step 'charge' (parallel/2:charge)"),
        (ParallelPrimitive({"bank": charge}), "in step 'charge' (parallel/bank)"),
        (MapPrimitive(charge), "in step 'charge' (charge[0])"),
        (MapPrimitive(charge) >> list, "in step 'charge' (sequential/1:charge[0])"),
        (ConditionalPrimitive(bool, charge), "in step 'charge' (conditional/then)"),
        (RetryPrimitive(charge, 0), "in step 'charge' (charge, attempt 1 of 1)"),
        (TimeoutPrimitive(charge, 1), "in step 'charge' (charge/timed)"),
        (charge.named("bill") >> str, "in step 'bill' (sequential/1:bill)"),
        (
            step(str) >> RetryPrimitive(step(str) >> charge, 0),
            "in step 'charge' (sequential/2:sequential/attempt 1/2:charge)",
        ),
        (
            step(str) >> RetryPrimitive(TimeoutPrimitive(charge, 1), 0),
            "in step 'charge' (sequential/2:charge/attempt 1/timed)",
        ),
    ],
)
async def test_the_note_names_the_place(workflow, note):
    with pytest.raises(ConnectionError) as caught:
        await workflow("o")
    assert caught.value.__notes__ == [note]


async def test_the_deepest_node_is_named_and_only_once():
    deep = step(str) >> (step(str) | MapPrimitive(charge)).named("both")
    with pytest.raises(ConnectionError) as caught:
        await deep("o")
    assert caught.value.__notes__ == ["in step 'charge' (sequential/2:both/2:charge[0])"]


async def test_type_and_traceback_are_those_of_the_failure():
    error = ConnectionError("the bank is closed")

    def fail(_):
        raise error

    with pytest.raises(ConnectionError) as caught:
        await (step(str) >> (step(fail) | str))("o")
    assert caught.value is error
    assert traceback.extract_tb(error.__traceback__)[-1].name == "fail"


async def test_the_note_is_part_of_the_printed_traceback():
    with pytest.raises(ConnectionError) as caught:
        await (step(str) >> charge)("o")
    assert traceback.format_exception_only(caught.value) == [
        "ConnectionError: the bank is closed\n",
        "in step 'charge' (sequential/2:charge)\n",
    ]


async def test_an_error_that_is_raised_again_in_another_run_names_its_place_there():
    error = OSError("once for all")
    workflow = MockPrimitive("first", side_effect=error) >> str
    other = MockPrimitive("second", side_effect=error) >> str
    for failing in (workflow, other):
        with pytest.raises(OSError, match="once for all"):
            await failing("o")
    assert error.__notes__ == ["in step 'second' (sequential/1:second)"]


async def test_an_error_that_is_raised_again_in_another_run_names_that_run():
    error = OSError("once for all")
    workflow = MockPrimitive("charge", side_effect=error) >> str
    for run in ("first", "second"):
        with pytest.raises(OSError, match="once for all"):
            await workflow.execute("o", WorkflowContext(run))
    assert error.__notes__[-1] == "in step 'charge' (sequential/1:charge, run second)"


async def test_paths_that_begin_alike_are_told_apart():
    error = OSError("once for all")
    failing = MockPrimitive("fail", side_effect=error)
    for key in ("user2", "user"):
        with pytest.raises(OSError, match="once for all"):
            await ParallelPrimitive({key: failing})("o")
    assert error.__notes__ == ["in step 'fail' (parallel/user)"]


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


async def test_an_error_that_takes_no_note_is_raised_as_it_is():
    with pytest.raises(FrozenError) as caught:
        await (MockPrimitive(side_effect=FrozenError(3)) >> str)("o")
    assert caught.value.code == 3


async def test_what_is_no_exception_passes_untouched():
    class Stop(BaseException):
        pass

    with pytest.raises(Stop) as caught:
        await (MockPrimitive(side_effect=Stop) >> str)("o")
    assert not hasattr(caught.value, "__notes__")


def test_every_error_of_plait_is_a_plait_error():
    for error in (
        PermanentError,
        RecordedError,
        SerializationError,
        StepTimeoutError,
        UnknownRouteError,
    ):
        assert issubclass(error, PlaitError)
        assert error.__module__ == "plait"
    assert issubclass(StepTimeoutError, TimeoutError)


def test_errors_say_what_they_know():
    assert str(RecordedError("shop.bank:Closed", "until monday")) == "Closed: until monday"
    assert str(StepTimeoutError("'charge' is late", 5)) == "'charge' is late"
    assert StepTimeoutError("'charge' is late", 5).seconds == 5
    assert str(SerializationError(object, ".items[3]", "no form")) == (
        "cannot encode builtins.object at .items[3]: no form"
    )
    assert str(SerializationError(object, "", "no form")) == (
        "cannot encode builtins.object: no form"
    )
