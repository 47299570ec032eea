"""The plain attributes of a model's modules, which no `state_dict` has."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.plain_tree import NotPlain, from_plain, to_plain

_OF_NO_EFFECT = frozenset(
    (
        "training",
        "prepare_data_per_node",
        "allow_zero_length_dataloader_with_multiple_devices",
    )
)
_LONGEST, _MOST = 200, 5000
_NOT_PLAIN, _ABSENT = object(), object()
_NO_PLACE = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True)
class Difference:
    """A plain attribute that a model has not as a file has it.

    Args:
        path: of the module.
        name: of the attribute.
        stored: its value in the file.
        found: that of the model, for people.
    """

    path: str
    name: str
    stored: Any
    found: str

    @property
    def is_text(self) -> bool:
        """Whether it holds a text: more than a number it may be of a place, as a folder is."""
        return any(isinstance(leaf, str) for leaf in pytree.tree_leaves(self.stored))

    def __str__(self) -> str:
        return f"`{_dotted(self.path, self.name)}` = {self.stored!r} (here {self.found})"


def modules_of(model: nn.Module) -> dict[str, Any]:
    """Return the class and the plain attributes of each module, as a tune config has them.

    Private ones, and what torch and Lightning keep that changes nothing, are left out; so are
    values of more than 200 characters, and all beyond 5,000.

    Example::

        modules_of(nn.LeakyReLU())
        # {"": {"class": "LeakyReLU", "constants": {"negative_slope": 0.01, "inplace": False}}}
    """
    found: dict[str, Any] = {}
    left = _MOST
    for path, module in model.named_modules():
        constants = dict(_constants(module))
        left -= 1 + len(constants)
        if left < 0:
            break
        found[path] = {"class": type(module).__name__, "constants": constants}
    return found


def _constants(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if not is_constant(name):
            continue
        plain = _plain(value)
        if plain is not _NOT_PLAIN:
            yield name, plain


def is_constant(name: object) -> bool:
    """Whether an attribute of this name is kept."""
    if not isinstance(name, str) or not name.isidentifier():
        return False
    return not name.startswith("_") and name not in _OF_NO_EFFECT


def _plain(value: object) -> Any:
    try:
        found = to_plain(value)
    except NotPlain:
        return _NOT_PLAIN
    return found if len(repr(found)) <= _LONGEST else _NOT_PLAIN


def check_modules(modules: Mapping[Any, Any]) -> None:
    """Raise ``ArtifactError`` unless ``modules`` is what ``modules_of`` gives."""
    for path, held in modules.items():
        constants = held.get("constants") if isinstance(held, dict) else None
        if not isinstance(path, str) or not isinstance(constants, dict):
            raise ArtifactError(f"`modules.{path}` needs `class` and `constants`")
        for name, plain in constants.items():
            if not is_constant(name):
                raise ArtifactError(f"`modules.{path}.constants` names `{name}`, which is none")
            from_plain(plain)


def differences(model: nn.Module, modules: Mapping[str, Any]) -> list[Difference]:
    """Return the plain attributes that ``model`` has not as ``modules`` has them.

    What cannot be set is left out: a method of this name, or a module that is not there.
    """
    here = dict(model.named_modules())
    return [
        Difference(path, name, from_plain(plain), "not there" if own is _ABSENT else repr(own))
        for path, held in modules.items()
        for name, plain in (held["constants"].items() if path in here else ())
        if not _is(vars(here[path]).get(name, _ABSENT), plain)  # most are, and the next is slow
        and (own := _own(here[path], name)) is not _NOT_PLAIN
        and not _is(own, plain)
    ]


def _is(own: object, plain: Any) -> bool:
    """Whether a value is the one of the file, of the same types in it as well."""
    kind = type(own)
    if kind in (bool, int) or own is None:  # as most are
        return type(plain) is kind and own == plain
    if isinstance(own, tuple) and kind is tuple and all(type(one) is int for one in own):
        return repr(plain) == repr({"tuple": [*own]})
    return repr(_plain(own)) == repr(plain)


def _own(module: nn.Module, name: str) -> Any:
    """Return the plain value of an attribute, of a class as well; no code of the user's runs."""
    if any(name in (vars(module).get(held) or ()) for held in _NO_PLACE):
        return _NOT_PLAIN
    own = inspect.getattr_static(module, name, _ABSENT)
    return own if own is _ABSENT or _plain(own) is not _NOT_PLAIN else _NOT_PLAIN


def set_constants(model: nn.Module, unlike: Iterable[Difference]) -> None:
    """Give ``model`` the attributes of the file."""
    for one in unlike:
        vars(model.get_submodule(one.path))[one.name] = one.stored


def other_classes(model: nn.Module, modules: Mapping[str, Any]) -> list[str]:
    """Return for people which modules of ``model`` are of another class than in ``modules``."""
    here = {path: type(module).__name__ for path, module in model.named_modules()}
    return [
        f"{f'`{path}`' if path else 'it'} is a `{kind}` and was a `{modules[path].get('class')}`"
        for path, kind in here.items()
        if path in modules and modules[path].get("class") != kind
    ]


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
