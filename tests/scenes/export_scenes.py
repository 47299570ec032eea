"""Exports that write next to nothing, and remember what they were asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from lpot_lightning.deploy.exported import Exported
from lpot_lightning.deploy.options import ExportOptions, form_of
from lpot_lightning.deploy.origin import Origin
from lpot_lightning.errors import ExportError
from lpot_lightning.module.copying import second_model


@dataclass
class Asked:
    """One export: what it was given."""

    model: nn.Module
    path: Path
    options: ExportOptions
    origin: Origin


@dataclass
class MadeUpExports:
    """Stands where models are exported; asks the judge, where one is asked for.

    Args:
        fails: what every export fails with, if it does.
    """

    fails: Exception | None = None
    asked: list[Asked] = field(default_factory=list)

    def __call__(
        self, model: nn.Module, path: Any, options: ExportOptions, origin: Origin, say: Any
    ) -> Exported:
        self.asked.append(Asked(model, path, options, origin))
        if self.fails is not None:
            raise self.fails
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a model")
        say(f"wrote `{path}`")
        judged = options.judge and origin.judge is not None
        return Exported(
            path=path,
            form=form_of(path),
            target=options.target or "onnxruntime",
            bytes=7,
            inputs={"x": ("batch", 8)},
            outputs=("output",),
            int8_ops=2,
            monitor=origin.monitor,
            accuracy=origin.judge(second_model(model)) if judged else None,
            int8_accuracy=origin.accuracy,
        )


def made_up(patch: pytest.MonkeyPatch, fails: str = "") -> MadeUpExports:
    """Let exports be made up, and every package be there."""
    exports = MadeUpExports(ExportError(fails) if fails else None)
    patch.setattr("lpot_lightning.deploy.export.export_model", exports)
    return exports
