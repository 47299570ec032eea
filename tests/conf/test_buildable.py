"""What LPOT's YAML may name, and nobody here builds."""

from __future__ import annotations

import pytest

from lpot_lightning.conf.blocks import FrozenOptions, NamedConf
from lpot_lightning.conf.buildable import check_built
from lpot_lightning.conf.dataloader import OTHER_DATASETS, OTHER_TRANSFORMS
from lpot_lightning.conf.evaluation import OTHER_METRICS, OTHER_POSTPROCESSES
from lpot_lightning.errors import ConfError, NotYetError

SQUAD = FrozenOptions((("root", "a"), ("task", "squad")))


@pytest.mark.parametrize(
    ("named", "foreign", "kind", "said"),
    [
        (NamedConf("GLUE"), OTHER_DATASETS, ConfError, "than PyTorch; use `bert`"),
        (NamedConf("GLUE"), OTHER_METRICS, ConfError, "than PyTorch; another metric is logged in"),
        (NamedConf("Rescale"), OTHER_TRANSFORMS, ConfError, "than PyTorch; use `ToTensor`, which"),
        (NamedConf("SquadV1"), OTHER_POSTPROCESSES, ConfError, "than PyTorch; turn outputs into"),
        (NamedConf("COCONpy"), OTHER_DATASETS, NotYetError, "is not built yet: boxes and their"),
        (NamedConf("bert", SQUAD), OTHER_DATASETS, NotYetError, "`bert` is asked for `task: squad"),
    ],
)
def test_what_is_not_built_is_told_with_its_place(named, foreign, kind, said):
    with pytest.raises(kind) as caught:
        check_built(named, foreign, "q.yaml: `here`")
    assert str(caught.value).startswith("q.yaml: `here`")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["ImageFolder", "topk", "ToTensor", "LabelShift"])
def test_what_is_built_passes(name):
    check_built(NamedConf(name), OTHER_DATASETS, "here")
