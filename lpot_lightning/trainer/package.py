"""`lightning.pytorch` and `pytorch_lightning`: one code, installed under two names."""

from __future__ import annotations

import inspect
import sys
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, TypeVar

import lightning
from lightning.pytorch import Callback

from lpot_lightning.errors import EvaluationError

NAMES = NEWER, OLDER = ("lightning.pytorch", "pytorch_lightning")

T = TypeVar("T")


def package_of(thing: object) -> str | None:
    """Return the package whose class ``thing`` is, or is an instance of; ``None`` for others.

    Example::

        package_of(Trainer())  # "lightning.pytorch"
    """
    kind = thing if isinstance(thing, type) else type(thing)
    homes = (f"{one.__module__}." for one in kind.__mro__)
    return next((name for home in homes for name in NAMES if home.startswith(f"{name}.")), None)


def of(owner: object, thing: T) -> T:
    """Return a class or function of ``lightning.pytorch`` as the package of ``owner`` has it.

    Args:
        owner: a Trainer, a module or anything else that is derived from a class of a package.
        thing: as it is imported from ``lightning.pytorch``.
    """
    return thing if package_of(owner) != OLDER else _older(thing)


def either(*kinds: type[Any]) -> tuple[type[Any], ...]:
    """Return classes of ``lightning.pytorch``, for ``isinstance``, with those of the older name.

    Nobody has an object of these before ``pytorch_lightning`` was imported, which it is not here.
    """
    homes = (vars(sys.modules.get(_home(one), object)).get(one.__name__) for one in kinds)
    return (*kinds, *(one for one in homes if one is not None))


def derived(ours: type[T], base: type[Any]) -> type[T]:
    """Return a class that is ``ours`` over a ``base`` of a package, the same each time."""
    given: Any = ours, base
    made: type[T] = _derived(*given)
    return made


@cache
def _derived(ours: type[Any], base: type[Any]) -> type[Any]:
    return type(ours.__name__, (ours, base), {"__module__": ours.__module__})


def check_packages(trainer: object, *others: object) -> None:
    """Raise an ``EvaluationError`` if a Trainer cannot work with a module or its data.

    Args:
        others: what is given to the trainer; ``None`` is passed by.
    """
    name = package_of(trainer)
    for one in others:
        its = package_of(one)
        if name is not None and its is not None and its != name:
            raise EvaluationError(
                f"`{type(one).__name__}` is of `{its}`, and the Trainer of `{name}`, which are the"
                " same code under two names but take no classes of each other: import both from"
                f" `{name}`"
            )
    if name == OLDER:
        _check_version()


def _check_version() -> None:
    found = import_module(OLDER).__version__
    if found.split(".")[:2] != lightning.__version__.split(".")[:2]:
        raise EvaluationError(
            f"`{OLDER}` is {found}, and `lightning` {lightning.__version__}: install the same"
            " version of both, or import from `lightning.pytorch`"
        )


def _older(thing: T) -> T:
    """Return what ``pytorch_lightning`` has in place of a class or function."""
    found: T = getattr(import_module(_home(thing)), thing.__name__)  # type: ignore[attr-defined]
    return found


def _home(thing: object) -> str:
    return f"{OLDER}{thing.__module__.removeprefix(NEWER)}"


class EitherCallback(Callback):
    """A callback for the Trainers of both packages.

    Some of their code asks for a ``Callback`` of its own package, as where one is given alone, not
    in a list, and as the command lines do. So it is one of both, once there are both.
    """

    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        made = inspect.signature(cls.__init__)  # that of `__new__` says nothing to `help`
        cls.__signature__ = made.replace(parameters=[*made.parameters.values()][1:])
        _be_of_both()

    def __new__(cls, *_: Any, **__: Any) -> EitherCallback:
        _be_of_both()
        return super().__new__(cls)


def _be_of_both() -> None:
    bases = either(Callback)
    if EitherCallback.__bases__ != bases:
        EitherCallback.__bases__ = bases
