"""What LPOT's YAML may name, and nobody here builds."""

from __future__ import annotations

import pytest

from lpot_lightning.conf.blocks import FrozenOptions, NamedConf
from lpot_lightning.conf.buildable import check_built
from lpot_lightning.errors import ConfError, NotYetError


@pytest.mark.parametrize(
    ("named", "kind", "said"),
    [
        (NamedConf("TFRecordDataset"), ConfError, "other frameworks than PyTorch; use `ImageF"),
        (NamedConf("ParseDecodeImagenet"), ConfError, "other frameworks than PyTorch; leave it"),
        (NamedConf("COCOmAP"), ConfError, "other frameworks than PyTorch; another metric is l"),
        (NamedConf("SquadV1"), ConfError, "other frameworks than PyTorch; turn outputs into a"),
        (NamedConf("COCONpy"), NotYetError, "is not built yet: boxes and their metric are the"),
        (
            NamedConf("bert", FrozenOptions((("root", "a"), ("task", "squad")))),
            NotYetError,
            "`bert` is asked for `task: squad`",
        ),
    ],
)
def test_what_is_not_built_is_told_with_its_place(named, kind, said):
    with pytest.raises(kind) as caught:
        check_built(named, "q.yaml: `here`")
    assert str(caught.value).startswith("q.yaml: `here`")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["ImageFolder", "topk", "ToTensor", "LabelShift"])
def test_what_is_built_passes(name):
    check_built(NamedConf(name), "here")
