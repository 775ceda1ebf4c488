import inspect
import pickle
import typing
from pathlib import Path

import umbel

PACKAGE = Path(umbel.__file__).parent


def test_the_public_names_are_few_sorted_and_defined():
    assert len(umbel.__all__) <= 28
    assert sorted(umbel.__all__) == umbel.__all__
    for name in umbel.__all__:
        assert getattr(umbel, name) is not None


def test_nothing_else_looks_public():
    public = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith(("_", "."))}
    assert public == {
        "client",
        "demo",
        "exceptions",
        "load",
        "logs",
        "presence",
        "py",
        "resolvers",
        "testing",
    }
    extra = {name for name in vars(umbel) if not name.startswith("_")} - set(umbel.__all__) - public
    assert extra == set()


def test_classes_say_where_they_are_imported_from():
    for name in umbel.__all__:
        value = getattr(umbel, name)
        if inspect.isclass(value):
            assert f"{value.__module__}.{value.__qualname__}" == f"umbel.{name}"
            assert typing.get_type_hints(value) is not None  # annotations mean something there


def test_settings_and_identities_can_be_pickled():
    for value in (umbel.Settings(tick=1.0), umbel.Identity("ann", {"admin": True})):
        assert pickle.loads(pickle.dumps(value)) == value


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
