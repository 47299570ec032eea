"""Made-up rows of the comparison with others; the folder of its scripts has to be on the path."""

from __future__ import annotations

from dataclasses import replace

from rows import DONE, FP32, TORCH, FormRow, Row
from ways import WAYS

OUR_WAY = WAYS[0].label
STATIC = next(way.label for way in WAYS if way.name.startswith("ONNX Runtime"))


def made_up_row(way: str, runtime: str, lost: float = 0.0, ms: float = 1.0, **told: object) -> Row:
    form = FormRow(runtime=runtime, accuracy=0.5 * (1 - lost), seconds=2.0, lost=1, mib=0.25)
    seconds = {FP32 + TORCH: [0.004], FP32 + runtime: [0.002], runtime: [ms / 1000]}
    made = Row(
        net="ViT",
        way=way,
        key="k",
        status=DONE,
        fp32=0.5,
        fp32_mib=1.0,
        layers=14,
        forms=(form,),
        seconds={"1": seconds, "8": seconds},
        versions={"torch": "2"},
    )
    return replace(made, **told)


def table_of(*some: Row) -> dict[tuple[str, str], Row]:
    return {(one.net, one.way): one for one in some}
