"""Way 3: TorchScript. The file needs neither the class nor lpot_lightning.

python torchscript.py model.pt images.pt    # what the model says to the images
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

PACKS = ("onednn::qconv_prepack", "onednn::qlinear_prepack")


def export(int8: nn.Module, images: Tensor, file: Path) -> None:
    """Trace the int8 model as it stands; the batch may be of another size later."""
    with _deprecated(), torch.no_grad():
        torch.jit.save(torch.jit.freeze(torch.jit.trace(int8, images).eval()), file)


def load(file: Path) -> nn.Module:
    """Return the model, its weights packed."""
    with _deprecated():
        model = torch.jit.load(file)
    _pack_once(model)
    return model


def _pack_once(model: torch.jit.ScriptModule) -> None:
    """Pack the weights of a frozen model, which each call would do else; the file stays as it is.

    A model that is packed cannot be saved: torch has no form for packs.
    """
    graph = model.graph
    torch._C._jit_pass_constant_propagation(graph)  # lists are put together by nodes in a file
    for number, node in enumerate(one for one in list(graph.nodes()) if one.kind() in PACKS):
        prepack = getattr(torch.ops.onednn, node.kind().partition("::")[2])
        packed = prepack(*(value.toIValue() for value in node.inputs()))
        model._c._register_attribute(f"pack_{number}", torch._C.TensorType.get(), packed)
        held = graph.create("prim::GetAttr", [next(graph.inputs())], 1).s_("name", f"pack_{number}")
        held.insertBefore(node)
        held.output().setType(torch._C.TensorType.get())
        node.output().replaceAllUsesWith(held.output())
        node.destroy()


@contextmanager
def _deprecated() -> Iterator[None]:
    """Torch 2.13 says of each of these functions that it will not stay."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        yield


if __name__ == "__main__":
    with torch.no_grad():
        scores = load(Path(sys.argv[1]))(torch.load(sys.argv[2], weights_only=True))
    torch.save(scores, f"{sys.argv[1]}.scores")
