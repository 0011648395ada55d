"""Mutations of files: of bytes anywhere, and of the parts that a format consists of.

A mutation is a function of random numbers and bytes; those that know a format take it apart,
change a part and put it together again so that lengths and checksums are right.
"""

import gzip
import io
import itertools
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mutation = Callable[[random.Random, bytes], bytes]

NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
NUMBERS += (2**40, 2**62, 2**63 - 1, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 10**6, 10**9, 10**18, 10**30, -(10**30), 0.5, -0.0, 1e308,
    float("inf"), float("nan"), "", "x", "ReLU", "zeros", "same", "\x00", "é" * 50, [], [0], [[]],
    [1, 2, 3], [10**6] * 3, {}, {"layer": "ReLU", "config": {}}, {"layer": "Chain", "config": {}},
)  # fmt: skip
STEPS = (b"(", b"t", b"l", b"]", b")", b"N", b"b", b"R", b"0", b"e", b"a", b"h\0", b"q\0", b"\x85")
STEPS += (b"\x94", b"cos\nsystem\n", b"J\xff\xff\xff\x7f", b"cnumpy\ndtype\n")
OPS = (
    "Relu",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Add",
    "Concat",
    "Reshape",
    "Resize",
    "Pad",
)
OPS += ("Slice", "Gather", "Shape", "Loop", "If", "Einsum", "Upsample", "LRN", "MaxPool", "Softmax")
SIZES = (-1, 0, 1, 2, 3, 7, 10**6, 2**62)
CELLS = ("", "0", "-1", "1e999", "nan", "inf", "9" * 400, "x", '"', "\x00", ",", "é", "0x10", "1_0")


def of_bytes(rng: random.Random, data: bytes) -> bytes:
    """Change, remove, repeat or insert bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(len(out) + 1)
        kind = rng.randrange(9)
        if kind == 0 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(out):
            out[place] = rng.randrange(256)
        elif kind == 2:
            del out[place : place + rng.choice((1, 2, 4, 8, 64, 1000))]
        elif kind == 3:
            out[place:place] = out[place : place + rng.choice((1, 4, 16, 64))]
        elif kind == 4:
            out[place:place] = rng.randbytes(rng.choice((1, 2, 4, 8, 32)))
        elif kind == 5:
            del out[place:]
        elif kind == 6:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) % 256**width
            out[place : place + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 7:
            digits = [n for n in range(len(out)) if 48 <= out[n] <= 57]
            if digits:
                place = rng.choice(digits)
                out[place : place + 1] = str(rng.choice(NUMBERS)).encode()
        else:
            other = rng.randrange(len(out) + 1)
            out[place : place + 8] = out[other : other + 8]
    return bytes(out)


def gzipped(inner: Mutation) -> Mutation:
    """Change what a gzip file unpacks to."""

    def mutate(rng: random.Random, data: bytes) -> bytes:
        return gzip.compress(inner(rng, gzip.decompress(data)), 1)

    return mutate


def tree(rng: random.Random, value: Any) -> Any:
    """Change one place of what JSON holds."""
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 1, 10, value, 100 * value))
    if rng.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return rng.choice(VALUES)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, other = rng.choice(keys), rng.choice(keys)
    copy = value.copy()
    kind = rng.random()
    if kind < 0.1:
        del copy[key]
    elif kind < 0.15:
        copy[key], copy[other] = copy[other], copy[key]
    elif kind < 0.2 and isinstance(copy, dict):
        copy[rng.choice(("surprise", "", "layer", "config"))] = rng.choice(VALUES)
    elif kind < 0.3 and isinstance(copy, list):
        copy *= rng.choice((2, 50))
    else:
        copy[key] = tree(rng, value[key])
    return copy


def described(rng: random.Random, data: bytes) -> bytes:
    """Change the description in a network or a checkpoint, or a tensor, with a right checksum."""
    import numpy as np
    from safetensors.numpy import load, save

    from tinyconv import files

    (length,) = struct.unpack("<Q", data[:8])
    about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["tinyconv"])
    tensors = load(data)
    about.pop("checksum")
    for _ in range(rng.choice((1, 1, 2, 4))):
        about = tree(rng, about)
    if rng.random() < 0.3:
        name = rng.choice(sorted(tensors))  # their order in the file differs from read to read
        change = rng.randrange(5)
        if change == 0:
            tensors[rng.choice(("x", f"{name}2"))] = tensors.pop(name)
        elif change == 1:
            tensors[name] = tensors[name].reshape(-1)[: rng.randrange(9)]
        elif change == 2:
            tensors[name] = tensors[name].astype(rng.choice(("f8", "i8", "u1", "?", "f2")))
        elif change == 3:
            tensors[name] = np.full_like(tensors[name], rng.choice((np.nan, np.inf)), dtype="f4")
        else:
            tensors[name] = tensors[name][None]
    if isinstance(about, dict):
        about["checksum"] = files._checksum(tensors, about)
    return bytes(save(tensors, metadata={"tinyconv": json.dumps(about)}))


def png(rng: random.Random, data: bytes) -> bytes:
    """Change a chunk of a PNG, or its order; the checksums of the chunks stay right."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        chunks.append((kind, data[place + 8 : place + 8 + length]))
        place += 12 + length
    which = rng.randrange(len(chunks))
    kind, content = chunks[which]
    change = rng.randrange(6)
    if change == 0:
        chunks.insert(rng.randrange(len(chunks)), chunks[which])
    elif change == 1 and len(chunks) > 1:
        del chunks[which]
    elif change == 2:
        kind = rng.choice((b"iCCP", b"tRNS", b"PLTE", b"eXIf", b"zTXt", b"gAMA", b"IHDR", b"acTL"))
        chunks.insert(1, (kind, rng.randbytes(rng.choice((0, 1, 13, 40)))))
    elif kind == b"IDAT":
        chunks[which] = kind, zlib.compress(of_bytes(rng, zlib.decompress(content)))
    else:
        chunks[which] = kind, of_bytes(rng, content)
    out = data[:8]
    for kind, content in chunks:
        out += struct.pack(">I", len(content)) + kind + content
        out += struct.pack(">I", zlib.crc32(kind + content))
    return out


def graph(rng: random.Random, data: bytes) -> bytes:
    """Change a node, a weight or a size of an ONNX graph; the file stays one."""
    import onnx

    model = onnx.load_model_from_string(data)
    g = model.graph
    for _ in range(rng.choice((1, 1, 2, 4))):
        node, weight = rng.choice(g.node), rng.choice(g.initializer)
        kind = rng.randrange(10)
        if kind == 0:
            node.op_type = rng.choice(g.node).op_type if rng.random() < 0.7 else rng.choice(OPS)
        elif kind == 1 and node.input:
            names = [name for each in g.node for name in (*each.input, *each.output)]
            node.input[rng.randrange(len(node.input))] = rng.choice((*names, ""))
        elif kind == 2:
            node.output[0] = rng.choice(rng.choice(g.node).output)
        elif kind == 3:
            g.node.remove(node)
        elif kind == 4:
            g.node.insert(rng.randrange(len(g.node)), rng.choice(g.node))
        elif kind == 5 and node.attribute:
            attribute = rng.choice(node.attribute)
            numbers = attribute.ints or [0]
            numbers[rng.randrange(len(numbers))] = rng.choice(SIZES)
            attribute.i = rng.choice(SIZES)
            attribute.f = rng.choice((0.0, -1.0, 1e30, float("nan")))
        elif kind == 6 and weight.dims:
            weight.dims[rng.randrange(len(weight.dims))] = rng.choice(
                (-1, 0, 1, 2, 7, 10**6, 2**62)
            )
        elif kind == 7:
            weight.data_type = rng.randrange(24)
        elif kind == 8:
            weight.raw_data = of_bytes(rng, weight.raw_data)
        else:
            dims = g.input[0].type.tensor_type.shape.dim
            rng.choice(dims).dim_value = rng.choice(SIZES)
    return bytes(model.SerializeToString())


def zipped(rng: random.Random, data: bytes) -> bytes:
    """Change a member of a zip file, or its name; the archive stays whole."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    which = rng.randrange(len(members))
    name, content = members[which]
    change = rng.randrange(5)
    if change == 0:
        members[which] = rng.choice(("x.npy", "y.npy", "../x.npy", "x", "x_train.npy")), content
    elif change == 1:
        members.append(members[rng.randrange(len(members))])
    elif change == 2:
        del members[which]
    else:
        members[which] = name, of_bytes(rng, content)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as new:
        for name, content in dict(members).items():
            new.writestr(name, content)
    return out.getvalue()


def cells(rng: random.Random, data: bytes) -> bytes:
    """Change cells, rows and the ends of lines of a table."""
    rows = [line.split(",") for line in data.decode("latin1").split("\n")]
    for _ in range(rng.choice((1, 1, 3, 20))):
        row = rng.choice(rows)
        kind = rng.randrange(5)
        if kind == 0:
            row[rng.randrange(len(row))] = rng.choice(CELLS)
        elif kind == 1:
            row.append(rng.choice(CELLS))
        elif kind == 2 and len(row) > 1:
            row.pop()
        elif kind == 3:
            rows.append((row * rng.choice((1, 1, 50)))[:5000])
        else:
            rows.remove(row) if len(rows) > 1 else None
    joined = rng.choice(("\n", "\n", "\r\n", "\r")).join(",".join(row) for row in rows)
    return joined.encode(rng.choice(("utf-8", "utf-8", "utf-16", "latin1")), "replace")


def pickled(rng: random.Random, data: bytes) -> bytes:
    """Change, repeat, move or insert whole instructions of a pickle."""
    import pickletools

    places = [place for _, _, place in pickletools.genops(data)] + [len(data)]
    steps = [data[a:b] for a, b in itertools.pairwise(places)]
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(steps))
        kind = rng.randrange(6)
        if kind == 0:
            del steps[place]
        elif kind == 1:
            steps.insert(place, rng.choice(steps))
        elif kind == 2:
            steps[place] = of_bytes(rng, steps[place])
        elif kind == 3:
            steps.insert(place, rng.choice(STEPS))
        elif kind == 4:
            steps[place : place + 3] = steps[place : place + 3] * rng.choice((2, 100))
        else:
            other = rng.randrange(len(steps))
            steps[place], steps[other] = steps[other], steps[place]
        if not steps:
            break
    return b"".join(steps)


def in_a_folder(file: Mutation) -> Callable[[random.Random, Path, bytes], None]:
    """Return what fills a folder of classes with changed pictures under changed names."""
    names = ("cat", "dog", "train", "test", "validation", "é", ".hidden", "a" * 200, "x y")
    ends = ("one.png", "two.PNG", "three.jpg", "Thumbs.db", "four.txt", ".png", "5")

    def fill(rng: random.Random, folder: Path, data: bytes) -> None:
        for number in range(20):  # whole, with enough in every class
            inside = folder / ("cat" if number % 2 else "dog")
            inside.mkdir(exist_ok=True)
            (inside / f"{number}.png").write_bytes(data)
        for _ in range(rng.randrange(1, 4)):
            inside = folder / rng.choice(("cat", "dog", *names))
            if rng.random() < 0.2:
                inside /= rng.choice(names)
            inside.mkdir(parents=True, exist_ok=True)
            for _ in range(rng.randrange(3)):
                content = data if rng.random() < 0.5 else file(rng, data)
                target = inside / rng.choice(ends)
                if not target.is_dir():
                    target.write_bytes(content)

    return fill
