"""What griffe, which reads the sources for the reference, is told of docstrings here."""

from __future__ import annotations

from typing import Any

from griffe import Attribute, Extension, Object


class Docstrings(Extension):
    """Finds examples, and what decorators that are objects do."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Name a section of doctests as griffe knows it, in the plural."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")

    def on_attribute(self, *, attr: Attribute, **_: Any) -> None:
        """Describe `step = StepDecorator()` by what the class says."""
        maker = str(attr.value).removesuffix("()")
        if attr.docstring is None and attr.parent is not None and maker in attr.parent.members:
            attr.docstring = attr.parent.members[maker].docstring
