"""Which op of an ONNX file computes something else than it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from lpot_lightning.deploy.calls import own
from lpot_lightning.deploy.comparing import distance
from lpot_lightning.deploy.onnx.onnx_file import OP
from lpot_lightning.deploy.onnx.placing import Placed
from lpot_lightning.deploy.running.runtimes import open_file
from lpot_lightning.machine.files import write_file

_FAR = 0.005
"""Relative error of an op that is looked at; those before it are below."""


def first_fault(path: Path, placed: Placed, call: Sequence[Tensor], runtime: str) -> str:
    """Return what of a file differs first from what was written, for people.

    Args:
        path: of the file, which computes something else.
        placed: what it was made of.
        call: inputs of the file, for which it does.
        runtime: that computes it.
    """
    wrong = other_tensor(path, placed)
    if wrong is not None:
        return wrong
    return _other_result(path, placed, call, runtime)


def other_tensor(path: Path, placed: Placed) -> str | None:
    """Return which tensor of a file is not what was written, ``None`` if all are; for people."""
    import onnx

    return _other_tensor(onnx.load(str(path)), placed)


def _other_tensor(model: Any, placed: Placed) -> str | None:
    """Return which tensor of an int8 op is another one, of the first op that has one.

    Those of floats the exporter may have folded into each other.
    """
    from onnx import numpy_helper

    held = {one.name: one for one in model.graph.initializer}
    for name, tensor in nn.Module.state_dict(placed.module).items():
        module, _, what = name.partition(".")
        if name not in held or module not in placed.ops:
            continue
        found = torch.from_numpy(numpy_helper.to_array(held[name]).copy())
        if found.shape != tensor.shape or not torch.equal(found, tensor):
            return f"`{what}` of `{placed.ops[module]}` is not what was written"
    return None


def _other_result(path: Path, placed: Placed, call: Sequence[Tensor], runtime: str) -> str:
    """Return of which op the result differs first, when the file shows all of them."""
    import onnx

    model = onnx.load(str(path))
    shown = _results_of(model)
    known = {one.name for one in model.graph.output}
    names = [name for name in shown.values() if name not in known]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    beside = path.with_name(f"shown_{path.name}")
    try:
        write_file(beside, model.SerializeToString())
        found = open_file(beside, runtime=runtime)(*call)
    finally:
        beside.unlink(missing_ok=True)
    results = dict(zip([one.name for one in model.graph.output], found, strict=True))
    wanted = _wanted(placed, call)
    for op, name in shown.items():
        if op in wanted and distance([results[name]], [wanted[op]]).relative > _FAR:
            return f"`{op}` is the first op that gives something else"
    return "each op by itself gives what it should: what the runtime makes of several does not"


def _results_of(model: Any) -> dict[str, str]:
    """Return the name of what each op gives, in the order of the file."""
    found: dict[str, str] = {}
    for node in model.graph.node:
        op = next((one.value for one in node.metadata_props if one.key == OP), None)
        if op is not None:
            found[op] = node.output[0]
    return found


def _wanted(placed: Placed, call: Sequence[Tensor]) -> Mapping[str, Tensor]:
    """Return what the ops give in torch."""
    run = _Noting(placed)
    with torch.no_grad():
        run.run(*own(call))
    return run.results


class _Noting(fx.Interpreter):
    """Computes a placed program, and keeps what its ops give."""

    def __init__(self, placed: Placed) -> None:
        super().__init__(placed.module)
        self._ops = placed.ops
        self.results: dict[str, Tensor] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute a step."""
        found = super().call_module(target, args, kwargs)
        if target in self._ops:
            self.results[self._ops[target]] = found
        return found
