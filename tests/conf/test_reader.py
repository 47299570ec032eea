"""What may be handed to `read_conf`, and what it never does."""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path

import pytest
import yaml
from conf_scenes import conf_of, everything, refusal
from lpots_yamls import READERS, REFUSED, TEXTS
from omegaconf import OmegaConf

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ConfError, NotYetError

RECIPES = "quantization.recipes"
WEIGHT = "quantization.model_wise.weight"
WEIGHTS = "pruning.approach.weight_compression"
MINIMAL = "model: {name: net, framework: pytorch_fx}\n"


def test_a_model_is_enough(write):
    conf = read_conf(write(MINIMAL))
    assert (conf.model.name, conf.model.framework) == ("net", "pytorch_fx")
    assert (conf.version, conf.device, conf.quantizes) == ("1.0", "cpu", True)
    assert conf.quantization.calibration.sampling_size == 100
    assert conf.tuning.accuracy_criterion.relative == 0.01
    assert (conf.tuning.strategy.name, conf.tuning.random_seed) == ("auto", 1978)
    assert (conf.evaluation, conf.pruning, conf.source) == (None, None, "ptq.yaml")


def test_file_path_mapping_and_omegaconf_mean_the_same(write):
    name = write(yaml.safe_dump(everything(), sort_keys=False))
    from_file = read_conf(name)
    assert from_file == read_conf(Path(name)) == read_conf(everything())
    assert from_file == read_conf(OmegaConf.create(everything()))


def test_a_conf_is_returned_as_it_is():
    conf = read_conf(conf_of())
    assert read_conf(conf) is conf


def test_a_tilde_is_the_home_folder(write, monkeypatch, tmp_path):
    write(MINIMAL)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_conf("~/ptq.yaml").source == "~/ptq.yaml"


def test_omegaconf_resolves_the_users_own_interpolation():
    conf = OmegaConf.create({"seed": 3, **conf_of(tuning={"random_seed": "${seed}"})})
    inner = OmegaConf.masked_copy(conf, ["model"])
    inner.tuning = {"random_seed": conf.tuning.random_seed}
    assert read_conf(inner).tuning.random_seed == 3


def test_an_interpolation_that_leads_nowhere_is_an_error():
    text = refusal(OmegaConf.create(conf_of(device="${nowhere}")))
    assert text.startswith("the OmegaConf object cannot be resolved: Interpolation key 'nowhere'")


def test_nothing_is_interpolated_in_a_file(write, monkeypatch):
    monkeypatch.setenv("SECRET", "42")
    name = write("model: {name: '${oc.env:SECRET}', framework: pytorch}")
    assert read_conf(name).model.name == "${oc.env:SECRET}"


def test_only_an_omegaconf_object_of_the_user_is_interpolated(monkeypatch):
    monkeypatch.setenv("SECRET", "42")
    asked = conf_of(device="${oc.env:SECRET}")
    assert "${oc.env:SECRET}" in refusal(asked)
    assert "`42`" in refusal(OmegaConf.create(asked))


def test_the_file_is_not_touched(write):
    text = "# model: old\nmodel:   {name: net, framework: pytorch}  # model: here\n"
    name = write(text)
    read_conf(name)
    assert Path(name).read_bytes() == text.encode()


def test_the_mapping_is_not_touched():
    given = everything()
    read_conf(given)
    assert given == everything()


def test_the_global_safe_loader_is_not_touched(write):
    before = (
        copy.copy(yaml.SafeLoader.yaml_constructors),
        copy.copy(yaml.SafeLoader.yaml_implicit_resolvers),
    )
    read_conf(write(MINIMAL))
    assert before == (yaml.SafeLoader.yaml_constructors, yaml.SafeLoader.yaml_implicit_resolvers)
    assert yaml.safe_load("[~, 012, 1e-2]") == [None, 10, "1e-2"]
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load("!Pruner {}")


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ("no/such.yaml", "no such file: `no/such.yaml`."),
        (
            "model:\n  name: net",
            "conf is a text that looks like YAML, and no such file exists; give "
            "the name of a file, or a mapping such as `yaml.safe_load(text)`.",
        ),
        (3, "conf is a `int`; allowed: a path, a mapping or an OmegaConf DictConfig."),
        (None, "conf is a `NoneType`; allowed: a path, a mapping or an OmegaConf DictConfig."),
        (
            OmegaConf.create([1]),
            "conf is a `ListConfig`; allowed: a path, a mapping or an OmegaConf DictConfig.",
        ),
        ({"model": object()}, "`model` is a `object`; allowed: plain YAML values."),
        ({"model": {None: 1}}, "`model` has a key that is a `NoneType`."),
        (
            {"quantization": {"op_wise": {0: {}, "0": {}}}},
            "`quantization.op_wise.0` is given twice.",
        ),
    ],
)
def test_what_is_no_configuration_is_refused(conf, said):
    assert refusal(conf) == said


@pytest.mark.parametrize(
    ("name", "shown", "near"),
    [
        ("", "", ""),
        ("none", "none", ""),
        ("pt.yaml", "pt.yaml", " Did you mean `ptq.yaml`?"),
        ("a\0b", "a\\x00b", ""),
        ("x" * 5000, f"{'x' * 57}...", ""),
    ],
)
def test_a_file_that_is_not_there_is_looked_for_in_a_folder(name, shown, near, write):
    write("")
    assert refusal(name) == f"no such file: `{shown}`, looked for in `{Path.cwd()}`.{near}"


def test_a_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    assert refusal("run") == "run is a folder; allowed: a YAML file."


def test_what_is_no_file_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("run.yaml")
    assert refusal("run.yaml") == (
        "run.yaml cannot be read: it is a FIFO; allowed: a regular file."
    )
    assert refusal("/dev/zero").startswith("/dev/zero cannot be read: it is a device;")


def test_errors_of_a_file_name_the_line_and_errors_of_a_mapping_the_key(write):
    name = write(MINIMAL + "tuning:\n  strategy:\n    name: basicc\n")
    where, _, problem = refusal(name).partition(": ")
    assert where == "ptq.yaml:4"
    assert problem.startswith("`tuning.strategy.name` is `basicc`; allowed: `auto`, ")
    assert refusal(conf_of(tuning={"strategy": {"name": "basicc"}})) == problem


def test_a_missing_key_names_the_line_of_its_section(write):
    assert refusal(write("\nmodel:\n  name: net\n")) == (
        "ptq.yaml:2: `model.framework` is missing; allowed: `pytorch_fx`, `pytorch`."
    )
    assert refusal(write("device: cpu\n")) == (
        "ptq.yaml:1: `model` is missing; it needs `name` and `framework`, such as"
        " `{name: my_net, framework: pytorch_fx}`."
    )


def test_null_means_not_given(write):
    name = write(
        MINIMAL + "device:\nquantization: ~\nevaluation: null\n"
        "tuning:\n  workspace:\n    path: null\n    resume: a.jsonl\n"
    )
    conf = read_conf(name)
    assert conf == read_conf(conf_of(tuning={"workspace": {"resume": "a.jsonl"}}))
    assert (conf.tuning.workspace.path, conf.tuning.workspace.resume) == (None, "a.jsonl")


@pytest.mark.parametrize(
    "document",
    [
        "model:\n  name: blendcnn\n  framework: pytorch\n\ntuning:\n  accuracy_criterion:\n"
        "    relative:  0.01\n  exit_policy:\n    timeout: 0\n  random_seed: 9527\n",
        "model:\n  name: blendcnn\n  framework: pytorch\ntuning:\n  workspace:\n"
        "    path: /path/to/saving/directory\n",
    ],
)
def test_the_files_of_lpots_users_are_read(write, document):
    conf = read_conf(write(document))
    assert conf.model.framework == "pytorch"
    assert conf.tuning.exit_policy.timeout == 0
    assert conf.tuning.accuracy_criterion.relative == 0.01


def quietly(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_conf(text)


@pytest.mark.parametrize("text", [TEXTS[name] for name in READERS], ids=READERS)
def test_the_examples_and_templates_of_lpot_are_read(write, text):
    conf = quietly(write(text))
    assert read_conf(conf.to_dict()) == conf  # without a warning: what has no effect is gone


@pytest.mark.parametrize(("name", "why"), REFUSED.items())
def test_an_example_of_lpot_that_cannot_be_done_says_why(write, name, why):
    assert why in refusal(write(TEXTS[name]))
    assert len(READERS) - 3 >= 31  # of the 35 examples; three are templates


def faults_of(conf):
    with pytest.raises(ConfError) as caught:
        read_conf(conf)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return [fault.split(" is ")[0].split(" asks ")[0] for fault in caught.value.faults]


def test_all_faults_of_a_file_are_told_each_with_its_line(write):
    name = write("""
model: {name: net, framework: pytorch}
quantization:
  approach: post_training
  op_wise:
    a: {weight: {dtype: int4, scheme: odd}}
    b: {}
evaluation:
  accuracy:
    metric: {topk: 3}
    dataloader: {batch_size: 0, dataset: {ImageFoldr: {}}, transform: {Resize: {size: x}, No: }}
pruning:
  approach: {weight_compression: {pruners: [{start_epoch: -1, kind: 1}, {names: [1]}]}}
""")
    loader, pruners = "`evaluation.accuracy.dataloader", "`pruning.approach.weight_compression.p"
    assert faults_of(name) == [
        "ptq.yaml:4: `quantization.approach`",
        "ptq.yaml:6: `quantization.op_wise.a.weight.dtype`",
        "ptq.yaml:6: `quantization.op_wise.a.weight.scheme`",
        "ptq.yaml:7: `quantization.op_wise.b`",
        "ptq.yaml:10: `evaluation.accuracy.metric.topk`",
        f"ptq.yaml:11: {loader}.dataset.ImageFoldr`",
        f"ptq.yaml:11: {loader}.batch_size`",
        f"ptq.yaml:11: {loader}.transform.Resize.size`",
        f"ptq.yaml:11: {loader}.transform.No`",
        f"ptq.yaml:13: {pruners}runers[0].kind`",
        f"ptq.yaml:13: {pruners}runers[0].start_epoch`",
        f"ptq.yaml:13: {pruners}runers[1].names`",
    ]


@pytest.mark.parametrize(
    "faults",
    [
        {"tuning": [], "evaluation": {"accuracy": "x"}},
        {"tuning.metric.topk": "x", "evaluation.accuracy.iteration": "x"},
        {"evaluation.accuracy.configs": 3, "evaluation.performance.iteration": "x"},
        {"graph_optimization.precisions": 3, "graph_optimization.op_wise": 3},
        {"tuning.strategy.name": "x", "tuning.strategy.accuracy_weight": "x"},
        {f"{RECIPES}.first_conv_or_matmul_quantization": 3, f"{RECIPES}.weight_correction": 3},
        {f"{WEIGHT}.bit": 8, f"{WEIGHT}.dtype": "x"},
        {f"{WEIGHT}.algorithm": "percentile", f"{WEIGHT}.scheme": "x"},
        {f"{WEIGHTS}.start_step": 1, f"{WEIGHTS}.end_epoch": "x", f"{WEIGHTS}.pruners": [3]},
        {f"{WEIGHTS}.target_sparsity": "x", f"{WEIGHTS}.pruners": 3},
        {"evaluation.accuracy.metric": {"F1": {}, "topk": "x"}},
    ],
    ids=str,
)
def test_no_fault_hides_another(faults):
    asked = {"model": {"name": "net", "framework": "pytorch"}, **nested(faults)}
    with pytest.raises(ConfError) as caught:
        read_conf(asked)
    said = str(caught.value)
    deep = [place for key, value in nested(faults).items() for place in leaves(value, key)]
    assert [place for place in deep if f"`{place}`" not in said] == []


def nested(flat):
    """Return nested mappings of keys with dots."""
    found = {}
    for key, value in flat.items():
        *sections, last = key.split(".")
        inner = found
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return found


def leaves(value, key):
    """Yield the keys of what is wrong; an entry that is right has none."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}")
    elif value == [3]:
        yield f"{key}[0]"
    else:
        yield key


def test_what_is_in_a_misspelt_section_is_read_too_and_not_missed():
    asked = {"modle": {"name": "a", "framework": "pytorchfx"}, "tunning": {"strategy": {"nam": 1}}}
    assert faults_of(asked) == [
        "`modle`",
        "`tunning`",
        "`modle.framework`",
        "`tunning.strategy.nam`",
        "`tunning.strategy.nam`",
    ]


def test_what_is_no_framework_of_pytorch_is_told_what_writes_files_for_others():
    def said(name):
        return refusal({"model": {"name": "a", "framework": name}})

    assert "`result.export` writes it for ONNX Runtime" in said("onnxruntime")
    assert said("torch").endswith("allowed: `pytorch_fx`, `pytorch`. Did you mean `pytorch`?")


def test_a_file_of_another_framework_says_so_first():
    model = {"name": "a", "framework": "tensorflow", "inputs": "image", "nme": 1}
    asked = {"model": model, "grph": 1, "device": "gpu"}
    assert faults_of(asked) == ["`model.framework`", "`grph`", "`model.nme`", "`device`"]


def test_faults_that_are_all_not_built_yet_are_one_error_of_that_kind():
    asked = conf_of()
    asked["model"]["framework"] = "pytorch_pt2e"
    with pytest.raises(NotYetError) as caught:
        read_conf(asked)
    assert len(caught.value.faults) == 1
