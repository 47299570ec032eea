"""What of a Conf a benchmark does not use."""

from __future__ import annotations

import pytest
from conf_scenes import LOADER, conf_of

from lpot_lightning.conf.benchmarking import check_for_judging, check_for_timing
from lpot_lightning.conf.reader import read_conf


def test_a_benchmark_says_what_has_no_effect():
    asked = {"dataloader": LOADER, "postprocess": {"transform": {"LabelShift": 1}}}
    conf = read_conf(conf_of(evaluation={"performance": asked}))
    with pytest.warns(UserWarning, match="without effect on a benchmark") as caught:
        check_for_timing(conf, "the `b_func`")
    assert str(caught[0].message) == (
        "<mapping>: without effect on a benchmark: `evaluation.performance.dataloader` is replaced"
        " by the `b_func`; `evaluation.performance.postprocess` changes outputs, which nobody"
        " times."
    )


def test_a_benchmark_that_has_what_it_needs_from_the_yaml_says_nothing():
    check_for_timing(read_conf(conf_of(evaluation={"performance": {"dataloader": LOADER}})), None)
    check_for_timing(read_conf(conf_of()), "the `b_dataloader`")


def test_a_benchmark_says_what_is_replaced_where_it_judges():
    asked = {"metric": {"topk": 1}, "dataloader": LOADER, "iteration": 3}
    conf = read_conf(conf_of(evaluation={"accuracy": asked}))
    check_for_judging(conf, [])
    with pytest.warns(UserWarning, match="without effect on a benchmark") as caught:
        check_for_judging(conf, ["b_func"])
    assert str(caught[0].message) == (
        "<mapping>: without effect on a benchmark: `evaluation.accuracy.metric` is replaced by the"
        " `b_func`; `evaluation.accuracy.dataloader` is replaced by the `b_func`;"
        " `evaluation.accuracy.iteration` is replaced by the `b_func`."
    )
