"""A method as a `.ts`: what `torch.jit.trace` records of it, in a file for torch alone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.deploy.calls import own, tensors_in
from lpot_lightning.deploy.whole_graph import WholeGraph, method_of
from lpot_lightning.errors import ExportError, in_one_line
from lpot_lightning.machine.files import write_file
from lpot_lightning.module.copying import copy_of
from lpot_lightning.quantization.kernels.loaded import packed_on_load


def write_torchscript(model: nn.Module, whole: WholeGraph, path: Path) -> None:
    """Write a trace of a method; its file packs each weight once, when it is loaded.

    It takes the tensors of a call and gives a tensor or a tuple of them, the bits of the model. Of
    that it records what runs, graphs where it has them.

    Args:
        model: in eval mode; it is left as it is.
        whole: of the method, which says how it is called.
        path: of the file, which is replaced.

    Raises:
        ExportError: if it cannot be traced.
        ArtifactError: if the file cannot be written.

    Example::

        write_torchscript(result.model, whole, Path("model.ts"))
        torch.jit.load("model.ts")(images)
    """
    copied = _traceable(model)
    flat = _Flat(copied, method_of(copied, whole.signature.method), whole)
    given, content = tuple(own([one.value for one in whole.inputs])), io.BytesIO()
    try:
        with _quiet(), torch.no_grad():
            trace: Any = torch.jit.trace(flat.eval(), given, check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(packed_on_load(trace), content)
    except Exception as error:  # whatever the tracer, or the user's code, says
        raise ExportError(
            f"`torch.jit.trace` cannot record `{whole.signature.method}`: {in_one_line(error)};"
            " export to `.pt2`, or a part of it by `method`"
        ) from error
    write_file(path, content.getvalue())


def _traceable(model: nn.Module) -> nn.Module:
    """Return a copy whose properties may be asked for, as the tracer does.

    That of a LightningModule for its Trainer is an error where there is none, unless this is set.
    """
    copied = copy_of(model, share_tensors=True)
    for module in copied.modules():
        if hasattr(module, "_jit_is_scripting"):
            module._jit_is_scripting = True  # type: ignore[assignment]
    return copied


class _Flat(nn.Module):
    """Calls a method with tensors alone, and gives tensors alone.

    Args:
        model: whose method it is.
        method: see above.
        whole: says which tensors are inputs of the file.
    """

    def __init__(self, model: nn.Module, method: Callable[..., Any], whole: WholeGraph) -> None:
        super().__init__()
        self.model = model
        self._method, self._whole = method, whole

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what the method gives, a tensor or those of it."""
        signature = self._whole.signature
        everything = [one.value for one in signature.inputs]
        for number, tensor in zip(self._whole.used, tensors, strict=True):
            everything[number] = tensor
        call = signature.call_of(everything)
        found = self._method(*call.args, **call.kwargs)
        return found if isinstance(found, Tensor) else tuple(tensors_in(found))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what is said of tracing: that it is old, and that sizes are looked at.

    The tracer asks for every property of each module, those of torchmetrics, too, which are old.
    """
    with warnings.catch_warnings():  # a DeprecationWarning in torch 2.13, a FutureWarning in 2.14
        warnings.filterwarnings("ignore", message=".*torch.jit")
        warnings.filterwarnings("ignore", message="This property will be removed")
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
