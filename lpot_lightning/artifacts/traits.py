"""What a model is known by besides its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lpot_lightning.artifacts.constants import differences, modules_of, set_constants
from lpot_lightning.artifacts.first_calls import FirstCall, first_calls
from lpot_lightning.artifacts.probe import answered
from lpot_lightning.module.calls import ModuleCalls, roots_of


@dataclass(frozen=True)
class Traits:
    """What the fp32 model was when it was quantized.

    Args:
        modules: the class and the plain attributes of each.
        signatures: of each module that is called from outside, how it is called.
        calls: the first of each such module.
    """

    modules: Mapping[str, Any] = field(default_factory=dict)
    signatures: Mapping[str, Any] = field(default_factory=dict)
    calls: tuple[FirstCall, ...] = ()

    @classmethod
    def of(cls, model: nn.Module, calls: Mapping[int, ModuleCalls]) -> Traits:
        """Return those of ``model``, which was shown data.

        Args:
            model: fp32.
            calls: of its modules.
        """
        roots = {path: calls[id(model.get_submodule(path))] for path in roots_of(model, calls)}
        signatures = {path: list(seen.signatures) for path, seen in roots.items()}
        return cls(modules_of(model), signatures, first_calls(model, calls))

    def described(self, int8: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the fields of the tune config, and the tensors that belong to them.

        Args:
            int8: as it is to be restored; it is run, and what a run leaves in it stays there.
        """
        set_constants(int8, differences(int8, self.modules))
        probe, tensors = answered(int8, self.calls)
        fields = {"modules": self.modules, "signatures": self.signatures, "probe": probe}
        return fields, tensors
