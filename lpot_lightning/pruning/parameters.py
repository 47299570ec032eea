"""The parameters of a model by name, whatever objects they are by now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from lpot_lightning.errors import PruningError


class Parameters(Mapping[str, nn.Parameter]):
    """Looks each parameter up when it is asked for.

    A head may be exchanged while a model trains, and ``load_state_dict(assign=True)`` puts other
    objects in the place of all: who holds on to an object prunes what nobody uses any more.

    Args:
        model: whose parameters; the names, also those of tied ones, are those that it has now.

    Example::

        parameters = Parameters(model)
        model.net.head = nn.Linear(64, 10)
        assert parameters["net.head.weight"] is model.net.head.weight
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        names = (name for name, _ in model.named_parameters(remove_duplicate=False))
        self._paths = {name: name.split(".") for name in names}

    def __getitem__(self, name: str) -> nn.Parameter:
        """Return the parameter that the model has under this name.

        Raises:
            PruningError: if it has none any more.
        """
        *path, attribute = self._paths[name]
        owner: nn.Module | None = self._model
        for piece in path:
            owner = None if owner is None else owner._modules.get(piece)
        found = None if owner is None else owner._parameters.get(attribute)
        if found is None:
            raise PruningError(
                f"`{name}` was there when pruning began, and the model has it no more: exchange a"
                " layer for one whose parameters have the same names, or leave it out by"
                " `excluded_names`"
            )
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)
