"""A program as a `.pt2`: what `torch.export` makes of it, in a file for torch alone."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import fx

from lpot_lightning.deploy.exported_program import exported_program, quiet
from lpot_lightning.deploy.native.steps import native_program
from lpot_lightning.deploy.whole_graph import WholeGraph
from lpot_lightning.machine.files import write_file

_TOLD = "stack_trace", "from_node", "nn_module_stack", "source_fn_stack"


def write_pt2(whole: WholeGraph, path: Path) -> fx.GraphModule:
    """Write what a method computes as a program of torch's own ops.

    Weights are int8, and packed in each call: see ``fakes.packed_once`` for who runs it. The bits
    are those of the model with its fused graphs.

    Args:
        whole: what it computes.
        path: of the file, which is replaced.

    Returns:
        What the file computes.

    Raises:
        ExportError: if `torch.export` cannot take it.
        ArtifactError: if the file cannot be written.

    Example::

        write_pt2(whole, Path("model.pt2"))
        torch.export.load("model.pt2").module()(images)
    """
    written = native_program(whole)
    program, content = exported_program(written, whole.inputs), io.BytesIO()
    program.example_inputs = None  # which are data of the user's
    for node in program.graph.nodes:  # and so is what their code looks like, line by line
        for name in _TOLD:
            node.meta.pop(name, None)
    with quiet():
        torch.export.save(program, content)
    write_file(path, content.getvalue())
    return written
