"""The shape of a workflow as a picture."""

from xml.etree import ElementTree

from plait import ConditionalPrimitive, MapPrimitive, RetryPrimitive, step
from plait.primitives._drawing import draw

SVG = "{http://www.w3.org/2000/svg}"


@step
async def left(number: int) -> int:
    return number


@step
async def right(number: int) -> int:
    return number


def texts(svg):
    return [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def boxes(svg):
    return {
        group.find(f"{SVG}text").text: group.find(f"{SVG}rect").attrib
        for group in ElementTree.fromstring(svg).iter(f"{SVG}g")
        if group.get("class", "").startswith("leaf")
    }


def test_what_follows_is_below_and_what_is_at_once_is_beside():
    drawn = boxes(draw(left >> right, is_standalone=True))
    assert float(drawn["left"]["y"]) < float(drawn["right"]["y"])
    drawn = boxes(draw(left | right, is_standalone=True))
    assert drawn["left"]["y"] == drawn["right"]["y"]
    assert float(drawn["left"]["x"]) < float(drawn["right"]["x"])


def test_wrappers_are_around_and_names_are_told():
    flow = (MapPrimitive(RetryPrimitive(left)) >> len).named("each")
    assert texts(draw(flow, is_standalone=True)) == [
        "each (sequential)",
        "map",
        "retry",
        "left",
        "len",
    ]
    choice = ConditionalPrimitive(lambda number, _: number > 1, left).named("conditional")
    assert texts(draw(choice, is_standalone=True))[0] == "conditional"


def test_states_become_classes_and_names_are_escaped():
    evil = left.named('<script>"&')
    drawn = draw(evil >> right, {(1,): "done", (): "failed"})
    assert '<g class="leaf done">' in drawn
    assert "<script>" not in drawn
