"""What a model is known by besides its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lpot_lightning.artifacts.constants import differences, modules_of, set_constants
from lpot_lightning.artifacts.first_calls import FirstCall, first_calls
from lpot_lightning.artifacts.probe import answered
from lpot_lightning.module.calls import ModuleCalls, roots_of, signature_of


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

    @classmethod
    def of_calls(
        cls, model: nn.Module, calls: Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]
    ) -> Traits:
        """Return those of ``model``, which was called by somebody.

        Args:
            model: that is to be stored.
            calls: the first of each module that was called from outside, by its path: arguments,
                and those by name.
        """
        seen = {id(model.get_submodule(path)): _once(*call) for path, call in calls.items()}
        if not seen:
            return cls(modules_of(model), calls=(FirstCall("", refused="no call of it was seen"),))
        return cls.of(model, seen)

    def described(self, int8: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the fields of the tune config, and the tensors that belong to them.

        Args:
            int8: as it is to be restored; it is run, and what a run leaves in it stays there. What
                was pruned is fp32.
        """
        set_constants(int8, differences(int8, self.modules))
        probe, tensors = answered(int8, self.calls)
        fields = {"modules": self.modules, "signatures": self.signatures, "probe": probe}
        return fields, tensors


def _once(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ModuleCalls:
    return ModuleCalls(
        args=args,
        kwargs=dict(kwargs),
        count=1,
        above=[frozenset()],
        signatures=[signature_of(args, kwargs)],
    )
