"""One page: complete, small, that runs nothing but its own script."""

import base64
import hashlib
import re

import pytest
from report_scenes import HOSTILE, facts, large, tuning

from lpot_lightning.recipe import Rung
from lpot_lightning.report.facts import FileFacts, OpFacts, RunState
from lpot_lightning.report.page import page

ASKS = re.compile(
    r"""\b(?:src|href|action|poster|data|formaction)\s*=|url\(|@import|(?<!-)\bhttps?:|\bfetch\(""",
    re.IGNORECASE,
)


def ids(found):
    return re.findall(r'<section id="(\w+)"', found)


def test_what_is_known_is_told_and_nothing_else_has_a_section():
    found = page(facts(large().tuning, files=(FileFacts("result.json", 9, "it"),))).decode()
    wanted = ["trials", "pareto", "speed", "ops", "map", "excluded", "conditions", "files"]
    assert ids(found) == wanted
    bare = tuning(trials=(), ops=(), speed=None, size_ratio=None, about=None, best=None)
    assert ids(page(facts(bare, state=RunState.GOING_ON)).decode()) == []


def test_nothing_is_asked_of_a_network():
    assert not ASKS.search(page(large()).decode().replace("data-", ""))


def test_the_policy_names_our_script_and_style_and_nothing_else():
    text = page(facts()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    policy = policy.replace("&#x27;", "'")
    for kind in ("script", "style"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_there_is_no_style_and_no_script_in_an_attribute():
    assert not re.search(r"<[^>]+\s(?:style|on\w+)=", page(large()).decode())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name):
    hostile = facts(
        tuning(
            monitor=name,
            ops=(OpFacts(name=name, rung=Rung.STATIC, why=name),),
            excluded={name: name},
        ),
        title=name,
        folder=name,
        notes=(name,),
    )
    text = page(hostile).decode()
    assert text.count("<script>") == text.count("</script>") == 1
    assert "<img" not in text
    assert not re.search(r"<[^>]*\son\w+=", re.sub(r'="[^"]*"', '=""', text))


def test_a_large_model_is_a_small_page():
    assert len(page(large(ops=500, trials=1200))) < 1_000_000


def test_the_same_facts_are_the_same_page():
    assert page(facts()) == page(facts())
