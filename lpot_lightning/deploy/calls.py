"""What a method is called with and gives, as the flat tensors that a file knows."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch._dynamo as dynamo
from torch import Tensor
from torch.utils import _pytree as pytree

from lpot_lightning.deploy.options import Dynamic
from lpot_lightning.deploy.origin import Call
from lpot_lightning.errors import ConfError, ExportError, did_you_mean, quoted

BATCH = "batch"
OUTPUT = "output"


@dataclass(frozen=True)
class Input:
    """A tensor that a method is called with.

    Args:
        name: in the file.
        value: of the example; sizes of one name are one, another one for each name, and above 1,
            so that a capture takes none for another or for a fixed one.
        dynamic: names of the sizes that may be any, by their dimension.
    """

    name: str
    value: Tensor
    dynamic: Mapping[int, str]

    @property
    def shape(self) -> tuple[int | str, ...]:
        """Its sizes; those that may be any by their name."""
        return tuple(self.dynamic.get(dim, size) for dim, size in enumerate(self.value.shape))


@dataclass(frozen=True)
class Signature:
    """How a method is called.

    Args:
        method: for people.
        inputs: the tensors of a call.
        leaves: all that a call holds: the number of an input, or a value that is the same always.
        spec: how it holds that.

    Example::

        signature = Signature.of("forward", net.forward, Call((images,)))
        signature.tensors_of(Call((other_images,)))
    """

    method: str
    inputs: tuple[Input, ...]
    leaves: tuple[Any, ...]
    spec: pytree.TreeSpec

    @classmethod
    def of(
        cls,
        method: str,
        function: Callable[..., Any],
        example: Call,
        dynamic: Dynamic = True,
        names: Sequence[str] | None = None,
    ) -> Signature:
        """Return how ``example`` calls ``function``.

        Args:
            method: for people.
            function: see above.
            example: see above.
            dynamic: as in ``ExportOptions``.
            names: of the tensors; by default those of the arguments.

        Raises:
            ConfError: if ``dynamic`` or ``names`` do not fit.
            ExportError: if the example does not, or has no tensor.
        """
        given = example.args, dict(example.kwargs)
        keyed, spec = list(_keyed(given)), pytree.tree_structure(given)
        found = [one for one in keyed if isinstance(one[1], Tensor)]
        if not found:
            raise ExportError(f"`{method}` is called with no tensor in `example`: give one")
        own = _own_names(method, function, example, [path for path, _ in found])
        called = _chosen("input_names", names, own)
        tensors = [one.detach().clone() for _, one in found]
        dims = _dims(dynamic, called, tensors)
        sized = _sized(tensors, dims)
        inputs = tuple(map(Input, called, sized, dims))
        numbers = iter(range(len(found)))
        leaves = tuple(
            TensorPlace(next(numbers)) if isinstance(one, Tensor) else one for _, one in keyed
        )
        return cls(method, inputs, leaves, spec)

    def marked(self) -> tuple[Call, list[Tensor]]:
        """Return a call for a capture, and its tensors: copies whose sizes are marked."""
        tensors = [one.value.clone() for one in self.inputs]
        for tensor, one in zip(tensors, self.inputs, strict=True):
            for dim in one.dynamic:
                dynamo.mark_dynamic(tensor, dim)
        return self.call_of(tensors), tensors

    def call_of(self, tensors: Sequence[Tensor]) -> Call:
        """Return the call whose tensors these are."""
        leaves = [tensors[one] if isinstance(one, TensorPlace) else one for one in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return Call(args, kwargs)

    def tensors_of(self, call: Call) -> tuple[Tensor, ...]:
        """Return the tensors of another call.

        Raises:
            ExportError: if it is of another form than the example, or gives other values that are
                no tensors.
        """
        if not self.takes(call):
            raise ExportError(
                f"`{self.method}` is called in another way than the one that it was exported for:"
                " what is no tensor is a part of the file; give `example` as it will be called"
            )
        return tuple(tensors_in((call.args, dict(call.kwargs))))

    def takes(self, call: Call) -> bool:
        """Whether another call has the form of the example, and the values that are no tensors."""
        found, spec = pytree.tree_flatten((call.args, dict(call.kwargs)))
        return spec == self.spec and all(map(_fits, found, self.leaves))


class TensorPlace(int):
    """The number of an input, where a call holds a tensor."""


@dataclass(frozen=True)
class ResultForm:
    """What a method gives.

    Args:
        names: of its tensors.
        leaves: all of it: the number of a tensor, or a value that is the same always.
        spec: how it holds that.
    """

    names: tuple[str, ...]
    leaves: tuple[Any, ...]
    spec: pytree.TreeSpec

    @classmethod
    def of(
        cls, result: Any, names: Sequence[str] | None = None, taken: Collection[str] = ()
    ) -> ResultForm:
        """Return the form of a result.

        Args:
            result: see above.
            names: of its tensors; by default keys of it.
            taken: names of inputs, which no output may have.

        Raises:
            ConfError: if the names do not fit.
            ExportError: if there is no tensor in it.
        """
        keyed, spec = list(_keyed(result)), pytree.tree_structure(result)
        paths = [path for path, one in keyed if isinstance(one, Tensor)]
        if not paths:
            raise ExportError("what is to be exported gives no tensor")
        called = _chosen("output_names", names, list(_unique(map(_output_name, paths), taken)))
        if both := [one for one in called if one in taken]:
            raise ConfError(f"`output_names` has {quoted(both)}, which an input is called")
        numbers = iter(range(len(paths)))
        leaves = tuple(TensorPlace(next(numbers)) if isinstance(v, Tensor) else v for _, v in keyed)
        return cls(tuple(called), leaves, spec)

    def result_of(self, tensors: Sequence[Tensor]) -> Any:
        """Return the result whose tensors these are."""
        leaves = [tensors[one] if isinstance(one, TensorPlace) else one for one in self.leaves]
        return pytree.tree_unflatten(leaves, self.spec)


def own(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies, for what may write into its inputs."""
    return [one.clone() for one in tensors]


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors of what a method gave, in the order of ``ResultForm``."""
    return [one for one in pytree.tree_leaves(value) if isinstance(one, Tensor)]


def _keyed(value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the leaves of ``value``, each with its path, as ``tree_flatten_with_path`` does.

    Types without keys are taken too: outputs of transformers are registered that way (4.57).
    """
    for path, one in pytree.tree_flatten_with_path(value, is_leaf=_without_keys)[0]:
        if _without_keys(one):
            parts, _ = pytree.SUPPORTED_NODES[type(one)].flatten_fn(one)
            keys: Any = one.keys() if isinstance(one, Mapping) else range(len(parts))
            for key, part in zip(keys, parts, strict=True):
                yield from (((*path, pytree.MappingKey(key), *m), leaf) for m, leaf in _keyed(part))
        else:
            yield path, one


def _without_keys(value: Any) -> bool:
    node = pytree.SUPPORTED_NODES.get(type(value))
    return node is not None and node.flatten_with_keys_fn is None


def _fits(value: Any, leaf: Any) -> bool:
    if isinstance(leaf, TensorPlace) or isinstance(value, Tensor):
        return isinstance(leaf, TensorPlace) and isinstance(value, Tensor)
    return bool(value == leaf)


def _own_names(
    method: str, function: Callable[..., Any], example: Call, paths: Sequence[Any]
) -> list[str]:
    """Return names of tensors by the arguments that hold them."""
    try:
        bound = inspect.signature(function).bind(*example.args, **example.kwargs)
    except TypeError as error:
        raise ExportError(f"`example` does not fit `{method}`: {error}") from error
    by_place = list(_by_place(bound, len(example.args)))
    return list(_unique(_input_name(path, by_place) for path in paths))


def _by_place(bound: inspect.BoundArguments, count: int) -> Iterator[str]:
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            yield from (f"{name}_{number}" for number in range(count))
        elif parameter.kind in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            yield name


def _input_name(path: Sequence[Any], by_place: Sequence[str]) -> str:
    which, *keys = path
    words = [_word(key) for key in keys]
    if which.idx == 0:
        words[0] = by_place[int(words[0])]
    return _telling(words)


def _output_name(path: Sequence[Any]) -> str:
    words = [_word(key) for key in path]
    return OUTPUT if not words or all(word.isdigit() for word in words) else _telling(words)


def _telling(words: Sequence[str]) -> str:
    """Return the last word, with those before it as far as it takes for one that says something."""
    last = max(n for n, word in enumerate(words) if not word.isdigit())
    return "_".join(words[last:])


def _word(key: Any) -> str:
    for name in ("key", "idx", "name"):
        if hasattr(key, name):
            return "".join(one if one.isalnum() else "_" for one in str(getattr(key, name)))
    return str(key)


def _unique(names: Iterator[str], taken: Collection[str] = ()) -> Iterator[str]:
    seen = set(taken)
    for name in names:
        free = (f"{name}_{number}" if number else name for number in itertools.count())
        chosen = next(one for one in free if one not in seen)
        seen.add(chosen)
        yield chosen


def _chosen(what: str, names: Sequence[str] | None, own: list[str]) -> list[str]:
    if names is None:
        return own
    if len(names) != len(own):
        raise ConfError(
            f"`{what}` has {len(names)} names; there are {len(own)} tensors: {quoted(own)}"
        )
    return list(names)


def _dims(
    dynamic: Dynamic, names: Sequence[str], tensors: Sequence[Tensor]
) -> list[dict[int, str]]:
    """Return the names of the sizes that may be any, of each tensor."""
    if isinstance(dynamic, bool):
        first = next((one.shape[0] for one in tensors if one.dim()), None)
        asked = (bool(one.dim()) and one.shape[0] == first for one in tensors)
        return [{0: BATCH} if dynamic and one else {} for one in asked]
    for name, dims in dynamic.items():
        if name not in names:
            near = did_you_mean(name, names)
            raise ConfError(f"`dynamic` names `{name}`; the inputs are {quoted(names)}.{near}")
        most = tensors[names.index(name)].dim()
        if wrong := [dim for dim in dims if not -most <= dim < most]:
            raise ConfError(f"`dynamic` names dimension {wrong[0]} of `{name}`, which has {most}")
    given = [(one.dim(), dynamic.get(name, {})) for name, one in zip(names, tensors, strict=True)]
    return [{dim % most: called for dim, called in dims.items()} for most, dims in given]


def _sized(tensors: Sequence[Tensor], dims: Sequence[Mapping[int, str]]) -> list[Tensor]:
    """Return the tensors with another size above 1 for each name; what is added repeats."""
    sizes: dict[str, int] = {}
    for tensor, named in zip(tensors, dims, strict=True):
        for dim, name in named.items():
            size = sizes.setdefault(name, tensor.shape[dim])
            if size != tensor.shape[dim]:
                raise ConfError(
                    f"the example has two sizes for `{name}` in `dynamic`: {size} and"
                    f" {tensor.shape[dim]}"
                )
    wanted: dict[str, int] = {}
    for name, size in sizes.items():
        wanted[name] = max(size, 2)
        while wanted[name] in [one for other, one in wanted.items() if other != name]:
            wanted[name] += 1
    return [_grown(one, named, wanted) for one, named in zip(tensors, dims, strict=True)]


def _grown(tensor: Tensor, named: Mapping[int, str], wanted: Mapping[str, int]) -> Tensor:
    for dim, name in named.items():
        size = tensor.shape[dim]
        if size == 0:
            raise ExportError(f"the example is empty along `{name}`: give one with data")
        if size < wanted[name]:
            places = [number % size for number in range(wanted[name])]
            tensor = tensor.index_select(dim, tensor.new_tensor(places).long())
    return tensor
