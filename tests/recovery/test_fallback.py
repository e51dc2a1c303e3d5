import pytest

from plait import FallbackPrimitive, MockPrimitive, RetryPrimitive, WorkflowContext, step
from plait.recovery import constant

pytestmark = pytest.mark.anyio


async def test_where_the_primary_succeeds_no_fallback_runs():
    other = MockPrimitive()
    assert await FallbackPrimitive(len, [other])("abc") == 3
    assert other.call_count == 0


async def test_where_it_fails_each_fallback_is_tried_in_order():
    first, second = MockPrimitive(side_effect=OSError), MockPrimitive(return_value="second")
    third = MockPrimitive()
    workflow = FallbackPrimitive(MockPrimitive(side_effect=OSError), [first, second, third])
    assert await workflow("in") == "second"
    assert (first.calls, second.calls, third.calls) == (["in"], ["in"], [])


async def test_where_all_fail_the_primarys_error_is_raised_with_a_note_for_each():
    workflow = FallbackPrimitive(
        MockPrimitive("bank", side_effect=OSError("closed")),
        [
            MockPrimitive("card", side_effect=ValueError("expired")),
            MockPrimitive("cash", side_effect=KeyError("empty")),
        ],
    )
    with pytest.raises(OSError, match="closed") as caught:
        await workflow.execute("in", WorkflowContext(workflow_id="pay"))
    assert caught.value.__notes__ == [
        "in step 'bank' (pay/primary)",
        "fallback 1 (card) failed: ValueError('expired')",
        "fallback 2 (cash) failed: KeyError('empty')",
    ]


@pytest.mark.parametrize(
    "fallback_on", [OSError, (KeyError, OSError), lambda error: isinstance(error, OSError)]
)
async def test_fallback_on_says_which_errors_of_the_primary_count(fallback_on):
    other = MockPrimitive(return_value="other")
    primary = MockPrimitive(side_effect=[OSError(), ValueError("raised at once")])
    workflow = FallbackPrimitive(primary, [other], fallback_on=fallback_on)
    assert await workflow("in") == "other"
    with pytest.raises(ValueError, match="raised at once") as caught:
        await workflow("in")
    assert other.call_count == 1
    assert caught.value.__notes__ == ["in step 'Mock' (Mock/primary)"]


async def test_a_fallback_goes_on_after_any_error_of_another_fallback():
    ways = [MockPrimitive(side_effect=ValueError), MockPrimitive(return_value="last")]
    workflow = FallbackPrimitive(MockPrimitive(side_effect=OSError), ways, fallback_on=OSError)
    assert await workflow("in") == "last"


async def test_programming_errors_fall_back_too():
    assert await FallbackPrimitive(MockPrimitive(side_effect=TypeError), [str])(1) == "1"


async def test_a_fallback_around_a_retry_waits_until_it_gave_up():
    flaky = MockPrimitive(side_effect=OSError)
    workflow = FallbackPrimitive(RetryPrimitive(flaky, 2, backoff=constant(0)), [str])
    assert await workflow(1) == "1"
    assert flaky.call_count == 3


async def test_it_goes_by_the_label_of_its_primary():
    workflow = step(abs) >> FallbackPrimitive(step(name="charge")(str), [repr])
    with pytest.raises(ValueError, match="broken") as caught:
        await (workflow >> MockPrimitive("m", side_effect=ValueError("broken")))(1)
    assert caught.value.__notes__ == ["in step 'm' (sequential/3:m)"]
    assert workflow.children[1].label == "charge"
    assert workflow.children[1].named("pay").label == "pay"


async def test_every_way_has_a_path_of_its_own(runtime):
    failing = MockPrimitive("failing", side_effect=OSError)
    workflow = FallbackPrimitive(failing, [failing, step(name="ok")(str)])
    await workflow.execute(1, runtime.context(workflow_id="w"))
    assert runtime.paths == ["w", "w/primary", "w/fallback 1", "w/fallback 2"]


def test_it_needs_a_fallback():
    with pytest.raises(ValueError, match="over str needs at least one fallback, got none"):
        FallbackPrimitive(str, [])


def test_fallback_on_must_be_exceptions_or_a_function():
    with pytest.raises(TypeError, match="fallback_on=3 must be exception classes or a function"):
        FallbackPrimitive(str, [repr], fallback_on=3)


def test_its_fallbacks_are_a_list():
    with pytest.raises(TypeError, match="must be a list of primitives"):
        FallbackPrimitive(str, str.title)


async def test_observers_are_told_of_each_fallback(runtime):
    ways = [MockPrimitive("card", side_effect=KeyError), MockPrimitive("cash")]
    workflow = FallbackPrimitive(MockPrimitive("bank", side_effect=OSError), ways)
    await workflow.execute(0, runtime.context(workflow_id="pay"))
    assert runtime.events == [
        ("fallback", "pay/fallback 1", {"fallback": "card", "error": "OSError"}),
        ("fallback", "pay/fallback 2", {"fallback": "cash", "error": "OSError"}),
    ]
