"""From an fp32 model to an int8 one, and back from its files, in one call each."""

import copy
from pathlib import Path

import torch
from torch import nn
from torch.utils import _pytree as pytree

from lpot_lightning import load as restore
from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.traits import Traits
from lpot_lightning.artifacts.tune_config import with_rungs
from lpot_lightning.module.calls import recorded
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.fingerprint import content_hash, fingerprint
from lpot_lightning.module.stand_in import put, replaced
from lpot_lightning.quantization.onednn import OnednnBackend
from lpot_lightning.recipe import Recipe

BACKEND = OnednnBackend()


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
    BACKEND.join(int8, described)
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


def seeded(factory) -> nn.Module:
    """Build a model from a fixed seed, with batch norms that have seen data."""
    torch.manual_seed(0)
    model = factory().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model
