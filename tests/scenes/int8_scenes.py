"""From an fp32 model to an int8 one, and back from its files, in one call each."""

import copy
import inspect
import itertools
import re
from pathlib import Path

import torch
from pairs import all_pairs
from torch import nn
from torch.ao.nn.quantized import Embedding, EmbeddingBag
from torch.fx import GraphModule, Interpreter
from torch.utils import _pytree as pytree

from lpot_lightning import load as restore
from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.traits import Traits
from lpot_lightning.artifacts.tune_config import with_rungs
from lpot_lightning.module.calls import recorded
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.fingerprint import content_hash, fingerprint
from lpot_lightning.module.stand_in import put, replaced
from lpot_lightning.quantization.fx.backend import FxBackend
from lpot_lightning.quantization.fx.graph import kind_of
from lpot_lightning.recipe import Recipe

BACKEND = FxBackend()


class Batch:
    """The arguments of one call."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs

    def __call__(self, model):
        with torch.no_grad():
            return model(*copy.deepcopy(self.args), **copy.deepcopy(self.kwargs))


def prepared(model, batch, **how):
    """Return the model's parts, observed and not calibrated."""
    with recorded(model) as calls:
        batch(model)
    return BACKEND.prepare(model, calls, **how)


def calibrated(model, *batches, **how):
    """Return the model's parts, calibrated and proved; the first batch is the dry run's."""
    found = prepared(model, batches[0], **how)
    with replaced(model, found.observed) as observed:
        for batch in batches:
            batch(observed)
    found.settle()
    return found


def all_int8(found) -> Recipe:
    """Return the recipe with every op's first choice."""
    return Recipe.of({op.name: op.configs[0] for op in found.ops})


def int8_ops(found) -> tuple[str, ...]:
    return all_int8(found).int8_ops


def only(found, name) -> Recipe:
    """Return the recipe with one op in int8."""
    return all_int8(found).with_fp32(other for other in int8_ops(found) if other != name)


def converted(model, found, recipe=None):
    """Return a second model, in int8."""
    second = second_model(model)
    put(second, found.convert(recipe or all_int8(found)))
    return second


def quantized(model, *batches):
    return converted(model, calibrated(model, *batches))


def save(folder: Path, model, found, recipe=None, calls=None):
    """Write both files and return the int8 model that they hold; ``calls`` gives it a probe."""
    recipe = recipe or all_int8(found)
    int8 = converted(model, found, recipe)
    described = found.describe(recipe)
    traits, probe = Traits.of(model, calls or {}).described(second_model(int8))
    configure = {
        "backend": BACKEND.name,
        **described,
        "op": with_rungs(described["op"]),
        **traits,
        "fp32_model": fingerprint(model),
    }
    storage.save(folder, configure, BACKEND.to_plain(int8) | probe)
    return int8


def load(folder: Path, model):
    return restore(folder / storage.CONFIGURE, folder / storage.WEIGHTS, model)


def other_weights(model):
    """Return a copy with other random weights, as a newly built model has."""
    torch.manual_seed(4711)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for value in (*other.parameters(), *other.buffers()):
            if value.is_floating_point():
                value.uniform_(0.5, 1.5)
    return other


def same(one, two) -> bool:
    """Whether two outputs are equal to the last bit."""
    return pytree.tree_structure(one) == pytree.tree_structure(two) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(pytree.tree_leaves(one), pytree.tree_leaves(two), strict=True)
    )


def distance(one, two) -> float:
    """Return the largest relative error of ``one`` against ``two``, over all outputs."""
    pairs = zip(pytree.tree_leaves(one), pytree.tree_leaves(two), strict=True)
    return max(float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in pairs)


def state_of(model):
    """Return everything about a model that has to be the same afterwards."""
    return content_hash(
        [
            dict(model.state_dict()),
            {
                name: [
                    module.training,
                    type(module).__name__,
                    sorted(vars(module)),
                    {key: len(hooks) for key, hooks in vars(module).items() if "hooks" in key},
                    {key: p.requires_grad for key, p in module.named_parameters(recurse=False)},
                ]
                for name, module in model.named_modules(remove_duplicate=False)
            },
        ]
    )


class _Watch(Interpreter):
    """Notes which nodes of a converted graph compute in int8."""

    def __init__(self, graph):
        super().__init__(graph)
        self.layers: dict[str, bool] = {}
        self.functions: dict[str, list[bool]] = {}

    def run_node(self, n):
        value = super().run_node(n)
        args, _ = self.fetch_args_kwargs_from_env(n)
        reads = any(
            isinstance(x, torch.Tensor) and x.is_quantized for x in pytree.tree_leaves(args)
        )
        if n.op == "call_module":
            layer = self.module.get_submodule(str(n.target))
            self.layers[str(n.target)] = reads or isinstance(layer, Embedding | EmbeddingBag)
        elif n.op in ("call_function", "call_method"):
            kind = re.sub("(add|mul)_relu", r"\1", kind_of(n, self.module))
            self.functions.setdefault(kind, []).append(reads)
        return value


def truly_int8(part, module, calls) -> set[str]:
    """Return the ops that a converted part computes in int8, whatever the recipe said."""
    if not isinstance(module, GraphModule):
        return set()
    watch = _Watch(module)
    bound = inspect.signature(module.forward).bind(*calls.args, **calls.kwargs)
    bound.apply_defaults()
    with torch.no_grad():
        watch.run(*bound.arguments.values())
    found = set()
    turn: dict[str, int] = {}
    for op, nodes in part.ops.nodes.items():
        for node in nodes:
            if node.op == "call_module":
                is_int8 = watch.layers.get(str(node.target), False)
            else:
                kind = part.ops.kinds[op]
                is_int8 = watch.functions[kind][turn.get(kind, 0)]
                turn[kind] = turn.get(kind, 0) + 1
            if is_int8:
                found.add(op)
    return found


def seeded(factory) -> nn.Module:
    """Build a model from a fixed seed, with batch norms that have seen data."""
    torch.manual_seed(0)
    model = factory().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model


def recipes(found):
    """Return the whole in int8, and patterns in which each op is in int8 and fp32 beside each."""
    whole, names = all_int8(found), int8_ops(found)
    yield whole
    for kept in all_pairs(*[(True, False)] * len(names)):
        if 0 < sum(kept) < len(names):
            yield whole.with_fp32(itertools.compress(names, [not one for one in kept]))


def recipes_apart(found):
    """Return every pattern with one op apart from the others, and the one without any apart."""
    whole = all_int8(found)
    yield whole
    for name in int8_ops(found):
        yield whole.with_fp32([name])
        yield only(found, name)


def truth_of(found, recipe) -> set[str]:
    """Return the ops that really compute in int8, over all parts."""
    parts = found.convert(recipe)
    pairs = zip(found._parts, found._calls, strict=True)
    return set().union(
        *(
            truly_int8(part, parts[part.spec.path].graph, calls)
            for part, calls in pairs
            if part.spec.path in parts
        )
    )
