"""Two files that are one model: killed, torn, flipped, exchanged and forged."""

import contextlib
import errno
import io
import os
import random
import time
import zipfile

import pytest
import torch
import yaml
from int8_scenes import all_int8, calibrated, converted, int8_ops, load, other_weights, same, save
from torch import nn
from zoo import made, rows, seeded

from lpot_lightning import load as restore
from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts import tune_config as configure_file
from lpot_lightning.errors import ArtifactError, ConfError
from lpot_lightning.machine.files import TEMPORARY, sha256
from lpot_lightning.module.fingerprint import content_hash

BOTH = (storage.CONFIGURE, storage.WEIGHTS)


@pytest.fixture(scope="module")
def scene():
    model, batches = made("residual")
    return model, batches[0], calibrated(model, *batches)


@pytest.fixture
def saved(scene, tmp_path):
    model, batch, found = scene
    save(tmp_path, model, found)
    return tmp_path


def recipe_of(found, turn):
    return all_int8(found).with_fp32([int8_ops(found)[turn]])


def refused(folder, model, *words):
    """Check that loading raises our error, naming a file of the folder and ``words``."""
    with pytest.raises(ArtifactError) as caught:
        load(folder, model)
    message = str(caught.value)
    assert str(folder) in message
    assert all(word in message for word in words), message


def load_or_message(folder, model):
    try:
        return load(folder, model), ""
    except ArtifactError as error:
        return None, str(error)


def rewrite(folder, change, weights=None):
    """Change the tune config as a forger would who also puts the hash right."""
    path = folder / storage.CONFIGURE
    configure = yaml.safe_load(path.read_text())
    change(configure)
    if weights is not None:
        content = storage.to_bytes(weights)
        (folder / storage.WEIGHTS).write_bytes(content)
        configure["weights"] |= {
            "sha256": sha256(content),
            "content": configure_file.seal(configure, weights),
        }
    path.write_text(yaml.safe_dump(configure, sort_keys=False))


def weights_in(folder):
    return torch.load(folder / storage.WEIGHTS, weights_only=True)


@pytest.mark.parametrize("name", BOTH)
def test_every_truncation_is_refused(saved, scene, name):
    whole = (saved / name).read_bytes()
    for share in (0, 1, 10, 30, 50, 70, 90, 99):
        (saved / name).write_bytes(whole[: len(whole) * share // 100])
        refused(saved, scene[0])


@pytest.mark.parametrize("name", BOTH)
def test_a_flipped_bit_is_refused_or_changes_nothing(saved, scene, name):
    model, batch, _ = scene
    expected, whole = batch(load(saved, model)), (saved / name).read_bytes()
    dice = random.Random(1)
    accepted = 0
    for _ in range(80):
        flipped = bytearray(whole)
        flipped[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        (saved / name).write_bytes(flipped)
        found, message = load_or_message(saved, model)
        assert str(saved) in message or same(batch(found), expected)
        accepted += not message
    assert accepted == 0 or name == storage.CONFIGURE


@pytest.mark.parametrize("name", BOTH)
def test_a_missing_file_is_named(saved, scene, name):
    (saved / name).unlink()
    refused(saved, scene[0], f"`{saved / name}`, which is not there")


def test_files_of_two_models_do_not_mix(scene, tmp_path):
    model, _, found = scene
    for turn in (0, 1):
        (tmp_path / str(turn)).mkdir()
        save(tmp_path / str(turn), model, found, recipe_of(found, turn))
    os.replace(tmp_path / "1" / storage.WEIGHTS, tmp_path / "0" / storage.WEIGHTS)
    refused(tmp_path / "0", model, "is damaged or belongs to another tune config")


def test_another_model_is_refused_by_the_first_difference(saved):
    refused(saved, nn.Linear(3, 3), "the model has no `c1.weight`, that of the files has")


def test_another_shape_is_refused(saved, scene):
    other = other_weights(scene[0])
    other.fc = nn.Linear(6, 7)
    refused(
        saved,
        other,
        "`fc.weight` of the model is float32[7, 6]",
        "that of the files is float32[5, 6]",
    )


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_weights_of_the_model_do_not_matter(saved, scene, value):
    model, batch, _ = scene
    other = other_weights(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(value)
    assert same(batch(load(saved, other)), batch(load(saved, model)))


def drop_op(configure):
    del configure["op"]["c2"]


def add_op(configure):
    configure["op"]["c9"] = configure["op"]["c2"]


def change_dtype(configure):
    configure["op"]["c2"]["activation"]["dtype"] = "fp32"


def nonsense_dtype(configure):
    configure["op"]["c2"]["activation"]["dtype"] = ["int8"]


def no_parts(configure):
    configure["parts"] = []


def other_path(configure):
    configure["parts"][0]["path"] = "c1"


def other_argument(configure):
    configure["parts"][0]["fixed"]["flag"] = True


CHANGES = [drop_op, add_op, change_dtype, nonsense_dtype, no_parts, other_path, other_argument]


@pytest.mark.parametrize("change", CHANGES)
def test_an_edited_structure_is_refused(saved, scene, change):
    rewrite(saved, change)
    refused(saved, scene[0], storage.CONFIGURE, "the file is damaged, was edited")


@pytest.mark.parametrize("change", CHANGES[:4])
def test_a_forged_structure_is_refused(saved, scene, change):
    rewrite(saved, change, weights_in(saved))
    refused(saved, scene[0], storage.CONFIGURE)


def test_the_op_that_is_missing_or_too_many_is_named(saved, scene):
    rewrite(saved, drop_op, weights_in(saved))
    refused(saved, scene[0], "tensor `c2.weight` is missing")
    rewrite(saved, lambda c: c["op"].update({"c2": c["op"]["c1"]}))
    rewrite(saved, add_op, weights_in(saved))
    refused(saved, scene[0], "the model has no `c9`, that of the files has")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_forged_scale_is_refused_wherever_it_is(saved, scene, value):
    clean = weights_in(saved)
    names = [name for name in clean if name.endswith("kernel.scales")]
    assert len(names) == 3
    for name in names:
        bad = {**clean, name: torch.full_like(clean[name], value)}
        rewrite(saved, lambda c, name=name: c.update(not_finite=[name]), bad)
        refused(saved, scene[0], f"tensor `{name}` holds a scale that is not finite and positive")


def test_a_forged_grid_is_refused_wherever_it_is(saved, scene):
    for op in ("c1", "c2", "fc"):
        for field, value in (("zero_point", 10**6), ("scale", -1.0), ("scale", "wide")):
            kept = (saved / storage.CONFIGURE).read_bytes()
            forged = {field: value}
            rewrite(
                saved,
                lambda c, op=op, forged=forged: c["op"][op]["activation"].update(forged),
                weights_in(saved),
            )
            refused(saved, scene[0], f"op `{op}` of the tune config")
            (saved / storage.CONFIGURE).write_bytes(kept)


def test_forged_tensors_are_refused_by_name(saved, scene):
    clean = weights_in(saved)
    name = "fc.lpot_int8.kernel.weight"
    missing = {key: value for key, value in clean.items() if key != name}
    for weights, words in (
        (missing, f"tensor `{name}` is missing"),
        ({**clean, "x": torch.ones(1)}, "tensor `x` is unknown to this model"),
        (
            {**clean, name: clean[name][:1]},
            f"`{name}` is int8[1, 6], but this model has int8[5, 6]",
        ),
        ({**clean, name: clean[name].float()}, f"`{name}` is float32[5, 6]"),
    ):
        rewrite(saved, lambda _: None, weights)
        refused(saved, scene[0], words)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_forged_numbers_that_are_not_finite_are_refused_by_name(saved, scene, value):
    clean = weights_in(saved)
    for name in ("fc.lpot_int8.kernel.bias", ".probe..given.0"):
        if name in clean:
            forged = clean[name].clone()
            forged.view(-1)[0] = value
            rewrite(saved, lambda _: None, {**clean, name: forged})
            refused(saved, scene[0], f"tensor `{name}` holds NaN or infinity")


class Masked(nn.Module):
    """Holds minus infinity, rightly."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.register_buffer("mask", torch.full((8, 8), -torch.inf).triu(1))

    def forward(self, x):
        return (self.fc(x)[:, None] + self.mask).softmax(-1)


def test_a_mask_of_infinities_is_written_down_and_loads(tmp_path):
    model, batches = seeded(Masked), rows(8)()
    int8 = save(tmp_path, model, calibrated(model, *batches))
    assert yaml.safe_load((tmp_path / storage.CONFIGURE).read_text())["not_finite"] == ["mask"]
    assert same(batches[0](load(tmp_path, seeded(Masked))), batches[0](int8))


def test_what_is_finite_is_not_mentioned(saved):
    assert "not_finite" not in yaml.safe_load((saved / storage.CONFIGURE).read_text())


@pytest.mark.parametrize("content", [[1], {"x": 1}, {1: 2}, {"x": torch.eye(2).to_sparse()}])
def test_a_file_of_something_else_is_refused(saved, scene, content):
    forged = storage.to_bytes(content)
    (saved / storage.WEIGHTS).write_bytes(forged)
    rewrite(saved, lambda c: c["weights"].update(sha256=sha256(forged)))
    refused(saved, scene[0], "holds something else than dense tensors by name")


def test_a_users_own_scale_may_be_negative(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 8)
            self.scale = nn.Parameter(-torch.ones(8))
            self.layer_scale_1 = nn.Parameter(-torch.ones(8))
            self.register_buffer("zero_point", torch.tensor(1000.0))

        def forward(self, x):
            return self.fc(x) * self.scale * self.layer_scale_1 + self.zero_point

    model, batches = seeded(Scaled), rows(8)()
    int8 = save(tmp_path, model, calibrated(model, *batches))
    assert same(batches[0](load(tmp_path, other_weights(model))), batches[0](int8))


class Bomb:
    def __reduce__(self):
        return os.system, ("touch bomb",)


def test_a_pickled_payload_is_refused_and_not_run(saved, scene, monkeypatch):
    monkeypatch.chdir(saved)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    content = storage.to_bytes({"x": Bomb()})
    (saved / storage.WEIGHTS).write_bytes(content)
    rewrite(saved, lambda c: c["weights"].update(sha256=sha256(content)))
    refused(saved, scene[0], storage.WEIGHTS, "cannot be read")
    assert not (saved / "bomb").exists()


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "3", "null", "text", "{", "a: [", "- a\n b: c", "\x00", "a: !!bool x", "!!int ''",
        "a: !!timestamp x", "a: 2001-99-99", "? {a: b}\n: c", "[" * 3000, "&a [*a]",
        "op:\n  !!python/tuple [conv1, Conv2d]: {}", "a: !!python/object/apply:os.system [ls]",
        "a: !!python/name:os.system", "format: lpot_lightning/3", "format: [lpot_lightning/2]",
        "format: lpot_lightning/2", "format: lpot_lightning/2\nbackend: 3",
        "a: &a [x]\nb: &b [*a,*a]\nformat: [*b,*b]",
    ],
)  # fmt: skip
def test_another_yaml_is_refused(saved, scene, text):
    (saved / storage.CONFIGURE).write_text(text)
    refused(saved, scene[0], storage.CONFIGURE)


@pytest.mark.parametrize("field", configure_file._FIELDS)
def test_every_field_is_asked_for_by_name(saved, scene, field):
    for value in (None, 3, "x", [], {"a": 3}, [[]]):
        kinds = configure_file._FIELDS[field]
        rewrite(saved, lambda c, value=value: c.update({field: value}))
        if not isinstance(value, kinds):
            refused(saved, scene[0], f"`{field}` is missing or no {kinds.__name__}")


def test_an_unknown_backend_is_told(saved, scene):
    rewrite(saved, lambda c: c.update(backend="another"))
    refused(saved, scene[0], "`backend` is `another`; this version has `onednn`")


def test_what_the_engine_of_earlier_versions_wrote_is_refused_by_its_name(saved, scene):
    rewrite(saved, lambda c: c.update(backend="pytorch_fx"))
    refused(
        saved, scene[0], "the engine of earlier versions, which is gone: quantize the fp32 model"
    )


def killed(*_):
    raise KeyboardInterrupt


def test_killed_between_the_files_the_older_model_loads_twice_in_a_row(saved, scene, monkeypatch):
    model, batch, found = scene
    expected = batch(load(saved, model))
    monkeypatch.setattr(storage, "save_configure", killed)
    for turn in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            save(saved, model, found, recipe_of(found, turn))
        assert same(batch(load(saved, model)), expected)
    monkeypatch.undo()
    int8 = save(saved, model, found, recipe_of(found, 2))
    assert same(batch(load(saved, model)), batch(int8))
    assert sorted(path.name for path in saved.iterdir()) == sorted(BOTH)


def test_killed_after_the_files_nothing_of_it_stays(saved, scene, monkeypatch, caplog):
    """The older weights were there still, and were taken for somebody else's."""
    model, batch, found = scene
    monkeypatch.setattr(storage, "remove_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save(saved, model, found, recipe_of(found, 0))
    monkeypatch.undo()
    assert (saved / "best_model_weights.previous.pt").exists()
    int8 = save(saved, model, found, recipe_of(found, 1))
    assert same(batch(load(saved, model)), batch(int8))
    assert sorted(path.name for path in saved.iterdir()) == sorted(BOTH)
    assert not [one for one in caplog.records if one.name.startswith("lpot_lightning")]


@pytest.mark.parametrize("call", range(6))
@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_leaves_a_model_and_no_scraps(saved, scene, monkeypatch, name, call):
    model, batch, found = scene
    older = batch(load(saved, model))
    real, count = getattr(os, name), iter(range(100))

    def full(*args):
        if next(count) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    monkeypatch.setattr(os, name, full)
    with contextlib.suppress(ArtifactError):
        save(saved, model, found, recipe_of(found, 0))
    monkeypatch.undo()
    newer = batch(converted(model, found, recipe_of(found, 0)))
    out = batch(load(saved, model))
    assert same(out, older) or same(out, newer)
    assert not list(saved.glob(f"{TEMPORARY}*"))


def test_an_lpot_file_of_the_same_name_is_written_over_and_its_weights_kept(scene, tmp_path):
    model, batch, found = scene
    (tmp_path / storage.CONFIGURE).write_text("op:\n  !!python/tuple [conv1, Conv2d]: {}")
    (tmp_path / storage.WEIGHTS).write_bytes(b"old")
    int8 = save(tmp_path, model, found)
    assert same(batch(load(tmp_path, model)), batch(int8))
    assert (tmp_path / "best_model_weights.1.pt").read_bytes() == b"old"


def test_a_model_of_an_older_format_is_written_over_as_ours(saved, scene, caplog):
    model, batch, found = scene
    path = saved / storage.CONFIGURE
    path.write_text(path.read_text().replace(configure_file.FORMAT, "lpot_lightning/1"))
    int8 = save(saved, model, found, recipe_of(found, 0))
    assert same(batch(load(saved, model)), batch(int8))
    assert sorted(path.name for path in saved.iterdir()) == sorted(BOTH)
    assert not [one for one in caplog.records if one.name.startswith("lpot_lightning")]


@pytest.mark.parametrize("alone", [True, False])
def test_weights_that_no_configuration_names_are_kept_and_it_is_said(saved, scene, caplog, alone):
    model, batch, found = scene
    if alone:
        (saved / storage.CONFIGURE).unlink()
    (saved / storage.WEIGHTS).write_bytes(b"years of work")
    for _ in range(2):
        int8 = save(saved, model, found)
    assert same(batch(load(saved, model)), batch(int8))
    assert (saved / "best_model_weights.1.pt").read_bytes() == b"years of work"
    assert not (saved / "best_model_weights.2.pt").exists()
    assert caplog.text.count("kept as") == 1


def test_killed_in_the_first_save_there_is_nothing_to_keep(scene, tmp_path, monkeypatch):
    model, batch, found = scene
    monkeypatch.setattr(storage, "save_configure", killed)
    for turn in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, model, found, recipe_of(found, turn))
    monkeypatch.undo()
    int8 = save(tmp_path, model, found)
    assert same(batch(load(tmp_path, model)), batch(int8))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(BOTH)


LAUGHS = "z0: &z0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"z{k}: &z{k} [{', '.join([f'*z{k - 1}'] * 9)}]\n" for k in range(1, 9)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "fixed: &a {b: *a}\n",
        f"deep: {'[' * 500}{']' * 500}\n",
        "format: lpot_lightning/2\n",
        "number: 1" + ":1" * 500_000 + "\n",
        "#" * (17 << 20),
    ],
    ids=["laughs", "itself", "deep", "twice", "base 60", "comment"],
)
def test_a_yaml_that_grows_is_refused_at_once(saved, scene, text):
    path = saved / storage.CONFIGURE
    path.write_text(text + path.read_text())
    begun = time.process_time()
    refused(saved, scene[0], storage.CONFIGURE)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("version", [1, 3])
def test_another_version_of_ours_is_not_called_lpot(saved, scene, version):
    rewrite(saved, lambda c: c.update(format=f"lpot_lightning/{version}"))
    refused(saved, scene[0], "quantize the model again, or load it by the version", "that wrote it")


@pytest.mark.parametrize("name", BOTH)
def test_what_is_no_file_is_not_waited_for(saved, scene, name):
    (saved / name).unlink()
    os.mkfifo(saved / name)
    refused(saved, scene[0], "it is a FIFO; allowed: a regular file")
    (saved / name).unlink()
    (saved / name).symlink_to("/dev/zero")
    refused(saved, scene[0], "it is a device; allowed: a regular file")
    (saved / name).unlink()
    with (saved / name).open("wb") as file:
        file.truncate(40 << 30)
    refused(saved, scene[0], "it has 40 GiB; allowed: 16")


ODD = {
    "meta": lambda: torch.empty(10**12, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "conjugate": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "negative": lambda: torch.ones(3, dtype=torch.complex64).conj().imag,
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "expanded": lambda: torch.ones(1).expand(10**11),
    "thousands of one": None,
}


@pytest.mark.filterwarnings(
    "ignore:The PyTorch API of nested", "ignore:Sparse CSR", "ignore:torch.quantize_per_tensor"
)
@pytest.mark.parametrize("kind", ODD)
def test_odd_tensors_are_refused_by_name(saved, scene, kind):
    large = torch.zeros(1 << 20)
    odd = {f"x{n}": large.view(-1) for n in range(1000)} if kind[0] == "t" else {"x": ODD[kind]()}
    content = storage.to_bytes(weights_in(saved) | odd)
    (saved / storage.WEIGHTS).write_bytes(content)
    rewrite(saved, lambda c: c["weights"].update(sha256=sha256(content)))
    refused(saved, scene[0], storage.WEIGHTS)


def test_tied_and_expanded_tensors_of_a_model_are_taken():
    tied = torch.zeros(1000)
    found = {"a": tied, "b": tied, "mask": torch.ones(1).expand(64, 64), "half": tied[500:].half()}
    assert storage.plain_tensors(found, "file") is found


def test_a_record_that_is_compressed_is_refused(saved, scene):
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(saved / storage.WEIGHTS) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    (saved / storage.WEIGHTS).write_bytes(packed.getvalue())
    rewrite(saved, lambda c: c["weights"].update(sha256=sha256(packed.getvalue())))
    refused(saved, scene[0], "is compressed, which `torch.save` never does")


@pytest.mark.parametrize("model", [None, "net", nn.Linear], ids=str)
def test_what_is_no_model_is_told(saved, model):
    with pytest.raises(ConfError, match="`model` is `.*`; allowed: the fp32 model, an `nn.Module`"):
        load(saved, model)


@pytest.mark.parametrize("said", [{1: "float32[1]"}, {"a": None}])
def test_a_forged_fingerprint_is_refused_by_name(saved, scene, said):
    rewrite(saved, lambda c: c.update(fp32_model=said), weights_in(saved))
    refused(saved, scene[0], "`fp32_model` is no mapping of names")


def test_a_user_who_is_not_there_is_told(scene):
    with pytest.raises(ArtifactError, match="cannot open `~nobody-of-this-name/x.yaml`: there is"):
        restore("~nobody-of-this-name/x.yaml", "x.pt", scene[0])


def test_a_folder_that_is_not_there_says_so(scene, tmp_path):
    with pytest.raises(ArtifactError, match="cannot write .*No such file or directory"):
        save(tmp_path / "gone", scene[0], scene[2])


def test_the_files_are_plain(saved):
    assert all(not value.is_quantized for value in weights_in(saved).values())
    assert "python/" not in (saved / storage.CONFIGURE).read_text()


def test_the_restored_model_is_a_second_one_in_eval_mode(saved, scene):
    other = other_weights(scene[0]).train()
    int8 = load(saved, other)
    assert other.training
    assert not int8.training
    assert not any(parameter.requires_grad for parameter in int8.parameters())


def test_a_content_hash_tells_dtype_shape_and_place_apart():
    one = torch.zeros(4)
    values = [one, one.view(2, 2), one.int(), [one], {"a": one}, {"b": one}, 0, 0.0, "0", None]
    assert len({content_hash(value) for value in values}) == len(values)
    assert content_hash(torch.ones(2, 3).T) == content_hash(torch.ones(3, 2))


def test_a_previous_file_of_somebody_else_is_kept(scene, saved):
    model, _, found = scene
    (saved / "best_model_weights.previous.pt").write_bytes(b"years of work")
    save(saved, model, found, recipe_of(found, 0))
    assert (saved / "best_model_weights.previous.1.pt").read_bytes() == b"years of work"


def test_a_previous_file_that_is_kept_elsewhere_goes(tmp_path):
    """A run was killed when the new configuration was there, and the old weights, too."""
    one, other = ({"a": torch.full((2,), value)} for value in (1.0, 2.0))
    for kept in ("is not", "is"):
        (tmp_path / kept).mkdir()
        storage.save(tmp_path / kept, {}, other)
        (tmp_path / kept / "best_model_weights.previous.pt").write_bytes(storage.to_bytes(one))
        storage.save(tmp_path / kept, {}, other, is_kept=lambda _, found=kept == "is": found)
    names = [sorted(path.name for path in (tmp_path / kept).iterdir()) for kept in ("is not", "is")]
    assert set(names[0]) - set(names[1]) == {"best_model_weights.previous.1.pt"}
    assert names[1] == ["best_configure.yaml", "best_model_weights.pt"]


@pytest.mark.parametrize("name", ["best_configure.yaml", "best_model_weights.pt"])
def test_a_disk_that_does_not_give_a_file_is_told_and_nothing_is_moved(
    scene, saved, monkeypatch, name
):
    model, _, found = scene
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    whole = os.open

    def fails(path, *given, **named):
        if str(path).endswith(name):
            raise OSError(errno.EIO, "Input/output error")
        return whole(path, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fails)
        with pytest.raises(ArtifactError, match=f"cannot read .*{name}`: Input/output error"):
            save(saved, model, found, recipe_of(found, 0))
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_either_seal_is_enough_and_a_forged_config_has_neither(saved, scene):
    model, batch, _ = scene
    expected = batch(load(saved, model))
    for seal in ("with_file", "content"):
        rewrite(saved, lambda configure, seal=seal: configure["weights"].update({seal: "0" * 64}))
        if seal == "with_file":
            assert same(batch(load(saved, model)), expected)
    refused(saved, model, "is not what was written")


def test_the_seal_over_the_hash_of_the_file_stands_for_one_over_its_tensors(saved, scene):
    model, batch, _ = scene
    expected = batch(load(saved, model))
    rewrite(saved, lambda configure: configure["weights"].pop("with_file"))
    assert same(batch(load(saved, model)), expected)
    rewrite(saved, lambda configure: configure["weights"].pop("content"))
    refused(saved, model, "is not what was written")
