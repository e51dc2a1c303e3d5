"""Models that need no network, and tell how often they were asked."""

from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel


def scripted(*answers):
    """A model that gives these answers in their order: text, or lists of tool calls.

    Which comes next is told from the conversation, as it is by real models: one that is asked the
    same again answers the same again.
    """
    asked = []

    def respond(messages, info):
        asked.append(messages)
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        answer = answers[turn]
        if isinstance(answer, str):
            return ModelResponse(parts=[TextPart(answer)])
        calls = enumerate(answer)
        return ModelResponse(
            parts=[ToolCallPart(name, args, f"call-{turn}-{n}") for n, (name, args) in calls]
        )

    model = FunctionModel(respond)
    model.asked = asked
    return model


def told(messages):
    """What the last message tells the model."""
    return [part.content for part in messages[-1].parts]
