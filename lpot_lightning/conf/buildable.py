"""What LPOT's YAML may name, and is not built here: who needs it says so, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping

from lpot_lightning.conf.blocks import NamedConf
from lpot_lightning.errors import ConfError, NotYetError

NOT_BUILT = {
    "COCORaw": "boxes and their metric are the user's",
    "COCONpy": "boxes and their metric are the user's",
    "ImagenetRaw": "put the images into a folder for each class, and use `ImageFolder`",
}
"""LPOT's data sets for PyTorch that are not built, and what to do."""


def check_built(named: NamedConf, foreign: Mapping[str, str], where: str) -> None:
    """Check that something of LPOT's that a conf names can be made here.

    Args:
        named: a data set, a transform, a metric or a step after the model.
        foreign: such names of LPOT's for other frameworks, and what to use here.
        where: file and key, for errors.

    Raises:
        ConfError: if it is for other frameworks than PyTorch.
        NotYetError: if it is not built yet.

    Example::

        check_built(metric, OTHER_METRICS, "q.yaml: `evaluation.accuracy.metric`")
    """
    if named.name in foreign:
        raise ConfError(
            f"{where}: `{named.name}` is for other frameworks than PyTorch; {foreign[named.name]}"
        )
    if named.name in NOT_BUILT:
        raise NotYetError(
            f"{where}: the data set `{named.name}` is not built yet: {NOT_BUILT[named.name]}, or"
            " give a loader in code, `quantization.dataloader(dataset)`"
        )
    if named.name == "bert":
        check_bert(where=f"{where}, `dataset`: ", **named.options)


def check_bert(
    *, task: str = "classifier", model_type: str = "bert", where: str = "", **files: str
) -> None:
    """Check that sentences are asked for in a form that is built; files are not looked at.

    Raises:
        NotYetError: if it is not built yet.
    """
    if task != "classifier" or model_type != "bert":
        raise NotYetError(
            f"{where}`bert` is asked for `task: {task}` and `model_type: {model_type}`; of them"
            " `classifier` and `bert` are built: give your own data with"
            " `quantization.dataloader(dataset)`"
        )
