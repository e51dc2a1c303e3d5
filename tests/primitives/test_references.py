"""Names in data: they find what the program has imported, and make nothing happen."""

import subprocess
import sys
import types
from typing import Generic, TypeVar

import pytest

from plait import step
from plait.primitives._encoding import decode, encode
from plait.primitives._references import find, find_type, reference_to, type_reference

T = TypeVar("T")


class Outer:
    class Inner:
        pass

    @staticmethod
    def helper():
        pass

    @property
    def computed(self):
        raise AssertionError

    @step
    async def charge(self, order):
        pass


class Lazy(type):
    def __getattr__(cls, name):
        raise AssertionError


class Shelf(metaclass=Lazy):
    pass


class Greedy:
    """Does something when it is asked what it is of."""

    def __class_getitem__(cls, item):
        raise AssertionError


@pytest.mark.parametrize("thing", [int, Outer, Outer.Inner, Outer.helper, Outer.charge, len])
def test_what_a_module_holds_is_found_by_its_name(thing):
    assert find(reference_to(thing)) is thing


def test_a_module_that_is_not_imported_is_not_imported_for_a_name(tmp_path):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    script = """if True:
        import sys
        from plait.primitives._encoding import decode
        for name in ("trap:Trap", "antigravity:a", "this:s"):
            for text in ('{"$global":"%s"}', '{"$type":"%s","fields":{}}',
                         '{"$error":"%s","message":"a","args":{"$tuple":[]}}'):
                try:
                    print(repr(decode((text % name).encode())))
                except ValueError as error:
                    assert "import" in str(error), error
        assert not {"trap", "this", "antigravity"} & set(sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("RecordedError(") == 3


def test_the_message_says_to_import_the_module():
    with pytest.raises(
        LookupError, match=r"there is no 'shop\.orders:Order': import 'shop.orders'"
    ):
        find("shop.orders:Order")


@pytest.mark.parametrize(
    "name",
    [
        "test_references:Shelf.lazy",
        "test_references:Outer.gone",
        "test_references:Outer.computed.fget.gone",
        "test_references:",
        "test_references",
        "lazy_module:anything",
    ],
)
def test_no_attribute_is_computed_for_a_name(name, monkeypatch):
    module = types.ModuleType("lazy_module")
    module.__getattr__ = lambda _: pytest.fail("asked")
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    with pytest.raises(LookupError, match="there is no"):
        find(name)


def test_a_class_that_was_defined_anew_is_found_as_it_is_now(monkeypatch):
    module = types.ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", module)
    for _ in range(2):
        source = "import dataclasses\n@dataclasses.dataclass\nclass Order:\n    number: int"
        exec(source, vars(module))
        order = module.Order(1)
        assert type(decode(encode(order))) is type(order)


@pytest.mark.parametrize(
    "reference",
    [
        ["test_references:Greedy", "builtins:int"],
        ["test_references:Outer.helper", "builtins:int"],
        ["test_references:Shelf", "builtins:int"],
    ],
)
def test_only_generic_classes_are_asked_what_they_are_of(reference):
    with pytest.raises(TypeError, match="is no generic type"):
        find_type(reference)


class Own(Generic[T]):
    pass


@pytest.mark.parametrize("kind", [int, list[int], Own[str], int | str, Own[list[int] | None]])
def test_a_type_is_found_by_its_names(kind):
    assert find_type(type_reference(kind)) == kind


def test_a_type_that_cannot_be_found_again_has_no_name():
    class Local:
        pass

    assert type_reference(list[Local]) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"$type":"pydantic.types:ImportString","value":"os.getcwd"}',
        '{"$type":"builtins:memoryview","items":[1]}',
        '{"$type":"subprocess:Popen","items":[["true"]]}',
        '{"$type":"subprocess:Popen","fields":{}}',
        '{"$type":"types:ModuleType","value":"a"}',
        '{"$type":"datetime:timedelta","fields":{}}',
        '{"$type":"decimal:Decimal","items":[1]}',
        '{"$type":"test_references:Own","spec":{},"name":null}',
    ],
)
def test_a_class_is_made_in_its_own_form_alone(text):
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode(text.encode())
