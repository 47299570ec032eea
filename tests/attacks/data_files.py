"""Data sets and exported files that are not what they say."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import bombs
from attack import Attack, Content, written
from good_data import idx

_MANY = 1 << 30


IDX: dict[str, Content] = {
    "nothing": b"",
    "cut off in its head": idx(2, 28, 28)[:7],
    "cut off": idx(2, 28, 28)[:-1],
    "more than it says": idx(2, 28, 28) + b"x",
    "sizes of 2**32": struct.pack(">4I", 0x0803, 2**32 - 1, 2**32 - 1, 2**32 - 1),
    "a size of 2**31": struct.pack(">4I", 0x0803, 1 << 31, 1, 1),
    "sizes whose product is zero": struct.pack(">4I", 0x0803, 0, 2**32 - 1, 2**32 - 1),
    "more dimensions": struct.pack(">9I", 0x0808, *[1] * 8),
    "another type": struct.pack(">4I", 0x0D03, 2, 28, 28) + bytes(2 * 28 * 28 * 4),
    "as many as labels, but one": idx(3, 28, 28),
    "a pickle": b"cos\nsystem\n(S'touch MARKER'\ntR.",
}
GZ: dict[str, Content] = {
    "a bomb": lambda: bombs.gzipped((2 << 30) // bombs.PART),
    "cut off": gzip.compress(idx(2, 28, 28))[:-9],
    "a wrong sum": gzip.compress(idx(2, 28, 28))[:-8] + bytes(8),
    "no gzip": b"x" * 1000,
    "one in another": gzip.compress(gzip.compress(idx(2, 28, 28))),
    "10,000 members": gzip.compress(b"") * 10_000,
    "a name that leads up": gzip.compress(b"")[:3] + b"\x08" + bytes(6) + b"../../MARKER\0",
}
_EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
(MARKER) (w) file closefile
%%EOF
"""


def _png(width: int, height: int, *, chunks: bytes = b"") -> bytes:
    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + chunks + _chunk(b"IDAT", body)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _packed_png(kind: bytes) -> bytes:
    return _png(8, 8, chunks=_chunk(kind, b"x\0\0" + zlib.compress(bytes(300 << 20))))


def _bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + head + bytes(46)


IMAGES: dict[str, Content] = {
    "nothing": b"",
    "an EPS": _EPS,
    "a PDF": b"%PDF-1.4\n1 0 obj <</Type /Catalog /OpenAction <</S /Launch /F (MARKER)>> >>",
    "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1:9/'/></svg>",
    "MVG": b"push graphic-context\nfill 'url(https://127.0.0.1:9/\"|touch MARKER\")'",
    "a GIF": b"GIF89a\xff\xff\xff\xff\0\0\0;",
    "a PSD": b"8BPS\0\x01" + bytes(40),
    "an ICNS": b"icns" + struct.pack(">I", 1 << 31) + b"ic07",
    "a WMF": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "a FITS": b"SIMPLE  =                    T" + bytes(3000),
    "a pixel array by a name": b"P6 1000000000 1000000000 255\n",
    "a PPM of text": b"P3 " + b"9" * 100_000,
    "a PGM of blanks": b"P5" + b" " * 5_000_000,
    "a PNG of 2**31 pixels a side": _png((1 << 31) - 1, (1 << 31) - 1),
    "a PNG of a million pixels a side": _png(1_000_000, 1_000_000),
    "a PNG of nothing": _png(0, 0),
    "a PNG cut off": _png(8, 8)[:-20],
    "a PNG of packed text": lambda: _packed_png(b"zTXt"),
    "a PNG of a profile": lambda: _packed_png(b"iCCP"),
    "a PNG of a chunk of 2**31": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 1 << 31) + b"IHDR",
    "a BMP of 2**31 pixels": _bmp(1 << 30, 1 << 30),
    "a BMP upside down": _bmp(8, -(1 << 31) + 1),
    "a JPEG cut off": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(20),
    "a JPEG of 65,535 pixels a side": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03" + bytes(40),
    "a TIFF that goes in circles": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "a TIFF of 2**32 entries": b"II*\0\x08\0\0\0\xff\xff" + b"\0\x01\x04\0\xff\xff\xff\xff" * 100,
    "a WEBP that lies": b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff" + bytes(40),
    "a script": b"#!/bin/sh\ntouch MARKER\n",
    "a pickle": b"cos\nsystem\n(S'touch MARKER'\ntR.",
}  # fmt: skip
TSVS: dict[str, Content] = {
    "nothing": b"",
    "a head alone": b"sentence\tlabel\n",
    "a line too short": b"sentence\tlabel\nx\n",
    "null bytes": b"sentence\tlabel\n\0\t1\n",
    "no UTF-8": b"sentence\tlabel\n\xff\xfe\t1\n",
    "a field of 10 MB": b"sentence\tlabel\n" + b"a " * (5 << 20) + b"\t1\n",
    "a quote without an end": b'sentence\tlabel\n"a\t1\n',
    "a formula": b"sentence\tlabel\n=cmd|'/c touch MARKER'!A1\t1\n",
    "other columns": b"a\tb\n1\t2\n",
    "10,000 columns": b"\t".join(b"c%d" % n for n in range(10_000)) + b"\nx\n",
    "labels of 5,000 digits": b"sentence\tlabel\na\t" + b"9" * 5000 + b"\n",
    "labels of infinity": b"sentence\tlabel\na\tinf\nb\tnan\n",
}
TOKENIZERS: dict[str, tuple[str, Content]] = {
    "a config cut off": ("tokenizer_config.json", b'{"do_lower_case":'),
    "a config of a list": ("tokenizer_config.json", b"[1]"),
    "a config of another class": ("tokenizer_config.json", b'{"tokenizer_class": "os.system"}'),
    "a config that maps to code": (
        "tokenizer_config.json",
        b'{"auto_map": {"AutoTokenizer": ["evil.Evil", null]}, "tokenizer_class": "Evil"}',
    ),
    "code beside it": ("tokenization_bert.py", b"open('MARKER', 'w')"),
    "a template": (
        "tokenizer_config.json",
        b'{"chat_template": "{{ cycler.__init__.__globals__.os.system(\'touch MARKER\') }}"}',
    ),
    "levels of 100,000": ("tokenizer_config.json", b"[" * 100_000),
    "special tokens of numbers": ("special_tokens_map.json", b'{"unk_token": 7}'),
    "added tokens of texts": ("added_tokens.json", b'{"x": "y"}'),
    "a `tokenizer.json` of nothing": ("tokenizer.json", b""),
    "a `tokenizer.json` of text": ("tokenizer.json", b"x"),
    "a `tokenizer.json` of a pattern": (
        "tokenizer.json",
        b'{"version": "1.0", "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}}}',
    ),
    "a vocabulary of nothing": ("vocab.txt", b""),
    "a vocabulary of no UTF-8": ("vocab.txt", b"\xff\xfe\n" * 100),
    "a vocabulary of one line": ("vocab.txt", b"x" * (5 << 20)),
    "a vocabulary of a million": ("vocab.txt", b"\n".join(b"%d" % n for n in range(1_000_000))),
}


def data_sets() -> Iterator[Attack]:
    """Yield hostile data sets."""
    images, labels = "data/t10k-images-idx3-ubyte", "data/t10k-labels-idx1-ubyte"
    for name, content in IDX.items():
        yield Attack(f"data: idx of images, {name}", "MNIST", written(images, content))
        yield Attack(f"data: idx of labels, {name}", "MNIST", written(labels, content))
    for name, content in GZ.items():
        yield Attack(f"data: gz, {name}", "MNIST", _instead(images, f"{images}.gz", content))
    for name, content in IMAGES.items():
        for file in ("data/one/1.png", "data/one/1.jpg", "data/one/1.tif"):
            may = "nothing" not in name
            yield Attack(f"data: {name} as {file[-3:]}", "ImageFolder", written(file, content), may)
    for name, content in {**IDX, "records of one too many": bytes(3074)}.items():
        put = written("data/test_batch.bin", content)
        yield Attack(f"data: CIFAR, {name}", "CIFAR10", put)
    yield Attack("data: CIFAR, the pickled one", "CIFAR10", _pickled_cifar)
    for name, content in TSVS.items():
        yield Attack(f"data: TSV, {name}", "bert", written("data/dev.tsv", content), True)
    for name, (file, content) in TOKENIZERS.items():
        yield Attack(f"data: tokenizer, {name}", "bert", written(f"data/{file}", content), True)
    yield Attack("data: folders in circles", "ImageFolder", _circle, True)


def _instead(file: str, other: str, content: Content) -> Callable[[Path], object]:
    def put(folder: Path) -> None:
        (folder / file).unlink()
        written(other, content)(folder)

    return put


def _pickled_cifar(folder: Path) -> None:
    (folder / "data" / "test_batch.bin").unlink()
    (folder / "data" / "data_batch_1").write_bytes(b"cos\nsystem\n(S'touch MARKER'\ntR.")


def _circle(folder: Path) -> None:
    (folder / "data" / "one" / "again").symlink_to("../one")
    (folder / "data" / "one" / "up").symlink_to("../..")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _onnx(edit: Callable[[object], object]) -> Callable[[Path], object]:
    def put(folder: Path) -> None:
        import onnx

        model = onnx.load(folder / "model.onnx")
        edit(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return put


def _outside(location: str) -> Callable[[object], object]:
    def edit(model: object) -> None:
        tensor = model.graph.initializer[0]  # type: ignore[attr-defined]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        for key, value in {"location": location, "offset": "0", "length": "1024"}.items():
            told = tensor.external_data.add()
            told.key, told.value = key, value

    return edit


def _node(kind: str, domain: str = "") -> Callable[[object], object]:
    def edit(model: object) -> None:
        model.graph.node[1].op_type, model.graph.node[1].domain = kind, domain  # type: ignore[attr-defined]

    return edit


def _huge(model: object) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]  # type: ignore[attr-defined]


def _endless(model: object) -> None:
    model.graph.node[0].input[0] = "scores"  # type: ignore[attr-defined]


EDITS: dict[str, Callable[[object], object]] = {
    "weights of /etc/passwd": _outside("/etc/passwd"),
    "weights of the folder above": _outside("../../../../etc/passwd"),
    "weights of a device": _outside("/dev/zero"),
    "weights that are not there": _outside("none.bin"),
    "weights of a null byte": _outside("a\0b"),
    "weights of 2**60": _huge,
    "an op that is none": _node("Nonsense"),
    "an op of others": _node("PyOp", "ai.onnx.contrib"),
    "a graph in a circle": _endless,
}
_BODIES: dict[str, Content] = {
    "nothing": b"",
    "zeros": bytes(1 << 16),
    "a script": b"#!/bin/sh\ntouch MARKER\n",
    "a pickle": b"cos\nsystem\n(S'touch MARKER'\ntR.",
    "an ELF library": b"\x7fELF\x02\x01\x01" + bytes(4000),
    "100,000 levels": b"[" * 100_000,
    "a length of 2**60": b"\x3a" + _varint(1 << 60),
    "100,000 messages": _field(7, b"") * 100_000,
}
_XML = b"""<?xml version="1.0"?>
<!DOCTYPE net [<!ENTITY a "xxxxxxxxxx"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c SYSTEM "file:///etc/passwd">]>
<net name="&b;&c;" version="11"><layers/><edges/></net>"""
_XMLS: dict[str, Content] = {
    **_BODIES,
    "entities": _XML,
    "a version of 99": b'<?xml version="1.0"?><net name="x" version="99"><layers/></net>',
    "100,000 elements in each other": b"<net>" + b"<a>" * 100_000,
    "a script of it": b"<?xml-stylesheet href='http://127.0.0.1:9/'?><net/>",
}


def exported() -> Iterator[Attack]:
    """Yield hostile exports."""
    for name, content in _BODIES.items():
        for door in ("ONNX Runtime", "OpenVINO"):
            yield Attack(f"export: ONNX, {name}", door, written("model.onnx", content))
        for door, file in (
            *(("program", "model.pt2"), ("TorchScript", "model.ts")),
            ("compiled", "model.aoti.pt2"),
        ):
            yield Attack(f"export: {file}, {name}", door, written(file, content))
    for name, edit in EDITS.items():
        for door in ("ONNX Runtime", "OpenVINO"):
            yield Attack(f"export: ONNX, {name}", door, _onnx(edit))
    for name, content in _XMLS.items():
        yield Attack(f"export: XML, {name}", "XML", written("model.xml", content))
    for name, content in {"nothing": b"", "cut off": bytes(10)}.items():
        yield Attack(f"export: XML, its `.bin` is {name}", "XML", written("model.bin", content))


def programs() -> Iterator[Attack]:
    """Yield archives of programs in which one record holds a pickle that calls something."""
    from pickles import WAYS, text, whole

    for way, make in WAYS.items():
        content = whole(make("os", "system", (text("touch MARKER"),)), 4)
        for file, door in (("model.pt2", "program"), ("model.ts", "TorchScript")):
            put = _exchanged(file, content)
            yield Attack(f"export: {file}, its pickles call by {way}", door, put, True)


def _exchanged(file: str, content: bytes) -> Callable[[Path], object]:
    """Return what puts a pickle in the place of all records that may be one."""
    import zipfile

    def put(folder: Path) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(folder / file) as old, zipfile.ZipFile(buffer, "w") as new:
            for one in old.infolist():
                is_one = one.filename.endswith((".pkl", ".pt"))
                new.writestr(one.filename, content if is_one else old.read(one))
        (folder / file).write_bytes(buffer.getvalue())

    return put
