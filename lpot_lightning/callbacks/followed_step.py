"""A `training_step` that tells where the outputs of frozen modules go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule

from lpot_lightning.module.flow import Flow


class FollowedStep:
    """Lets a ``Flow`` follow one training step of a module, which is as it was afterwards.

    Example::

        step = FollowedStep()
        step.begin(lit, Flow(lit))
        lit.training_step(batch, 0)
        step.end()
    """

    def __init__(self) -> None:
        self._give_back: Callable[[], None] | None = None

    def begin(self, module: LightningModule, flow: Flow) -> None:
        """Let ``flow`` follow the next step."""
        self.end()
        own, step = vars(module), module.training_step
        before = own.get("training_step")

        def followed(*args: Any, **kwargs: Any) -> Any:
            with flow.looking():
                return step(*args, **kwargs)

        # Lightning reads from its signature whether it wants the number of the batch
        vars(followed)["__wrapped__"] = getattr(step, "__wrapped__", step)
        own["training_step"] = followed

        def give_back() -> None:
            if own.get("training_step") is followed:
                del own["training_step"]
                own.update({} if before is None else {"training_step": before})

        self._give_back = give_back

    def end(self) -> None:
        """Leave the module as it was."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()
