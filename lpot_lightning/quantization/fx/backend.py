"""Int8 by torch's FX graph mode."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.quantization.calls import Calls
from lpot_lightning.quantization.fx import state
from lpot_lightning.quantization.fx.engine import choose_engine, needs_reduced_range, quiet
from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.quantization.fx.prepared import FxPrepared
from lpot_lightning.quantization.fx.search import Search
from lpot_lightning.quantization.fx.spec import PartSpec
from lpot_lightning.quantization.fx.trace import NotTraceable
from lpot_lightning.quantization.replace import StandIn
from lpot_lightning.recipe import OpConfig


class FxBackend:
    """Backend ``pytorch_fx``: the largest traceable modules become graphs of int8 kernels."""

    name = "pytorch_fx"

    def prepare(
        self,
        model: nn.Module,
        calls: Mapping[int, Calls],
        *,
        avoid: Collection[str] = (),
        whole: bool = True,
    ) -> FxPrepared:
        """Trace and observe what can be traced, from the outside in; ``model`` is left alone.

        Args:
            model: in eval mode, on the CPU, in float32.
            calls: of every module, from a dry run.
            avoid: paths of modules that may not become graphs; what they hold may.
            whole: whether the model itself is to be one graph, and not only where most of its
                layers are its own.

        Raises:
            QuantizationError: if the machine has no int8 engine.
        """
        choose_engine()
        search = Search(calls, reduce_range=needs_reduced_range(), avoid=avoid)
        with quiet(), torch.no_grad():
            search.go(model, whole=whole)
        return FxPrepared(search.parts, search.kept_calls, search.excluded)

    def rebuild(self, model: nn.Module, described: Mapping[str, Any]) -> dict[str, StandIn]:
        """Take exactly the path that tuning took; the tensors come afterwards, by ``fill``."""
        configs = {name: _config(op) for name, op in described["op"].items()}
        found: dict[str, StandIn] = {}
        known: set[str] = set()
        with quiet(described["engine"]), torch.no_grad():
            for plain in described["parts"]:
                fixed, kept = tuple(plain["fixed"].items()), tuple(plain["kept"])
                spec = PartSpec(plain["path"], plain["wrapped"], fixed, kept)
                part = self._rebuild_part(model, spec, configs, described["reduce_range"])
                known |= part.ops.nodes.keys()
                int8 = part.convert({op: configs[op] for op in part.ops.nodes})
                if int8 is not None:
                    found[spec.path] = int8
        for op in configs.keys() - known:
            raise ArtifactError(f"op `{op}` of the tune config is not in the model")
        return found

    def _rebuild_part(
        self, model: nn.Module, spec: PartSpec, configs: Mapping[str, OpConfig], reduce_range: bool
    ) -> Part:
        try:
            module = model.get_submodule(spec.path)
            part = Part.build(spec, module, reduce_range=reduce_range)
        except (AttributeError, NotTraceable) as error:
            raise ArtifactError(
                f"the model's `{spec.path}` is not the one that was quantized: {error}"
            ) from error
        unknown = [op for op in part.ops.nodes if op not in configs]
        if unknown:
            raise ArtifactError(f"op `{unknown[0]}` of the model is not in the tune config")
        part.settle()
        return part

    def to_plain(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state as dense tensors."""
        return state.to_plain(model)

    def fill(self, model: nn.Module, plain: Mapping[str, Tensor], engine: str) -> None:
        """Put such a state into a model of the same structure, packed for ``engine``."""
        with quiet(engine):
            state.fill(model, plain)


def _config(plain: Mapping[str, Any]) -> OpConfig:
    """Return the config of an op without its corrections: the tensors of the files have them."""
    fields = ("dtype", "scheme", "granularity", "algorithm")
    return OpConfig.from_dict(
        {
            which: {key: tensor[key] for key in fields if key in tensor}
            for which, tensor in plain.items()
            if which in ("activation", "weight")
        }
    )
