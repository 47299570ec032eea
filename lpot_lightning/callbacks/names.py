"""Names that a model cannot have, found before it is trained."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from lpot_lightning.errors import ConfError, did_you_mean

_LITERAL = re.compile(r"[\w.\-/]+")


def check_names(model: nn.Module, modules: Iterable[str], op_wise: Iterable[str]) -> None:
    """Refuse names of ``modules`` and literal ``op_wise`` keys that no module of ``model`` has.

    Whether a name means something that can be quantized is known only when the model was called;
    names of functional ops, with a ``#``, and regular expressions are left for then.

    Raises:
        ConfError: with the nearest name that there is.
    """
    known = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    for pattern in modules:
        if "#" not in pattern and not any(fnmatchcase(name, pattern) for name in known):
            raise ConfError(
                f"`modules` has `{pattern}`, which matches no module.{did_you_mean(pattern, known)}"
            )
    for key in op_wise:
        if _LITERAL.fullmatch(key) and key not in known:
            raise ConfError(
                f"`quantization.op_wise.{key}` matches no module.{did_you_mean(key, known)}"
            )
