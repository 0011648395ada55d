"""``tinyconv export``: writes a model as ONNX; and how every verb opens a model of either kind."""

import argparse
from pathlib import Path

import tinyconv as tc
from tinyconv.cli.options import Verbs


def add(verbs: Verbs) -> None:
    """Add ``export`` to the command line."""
    parser = verbs.add(
        "export",
        _export,
        "write a model as ONNX",
        "Write a model for ONNX Runtime and every other runtime that reads ONNX. "
        'Needs pip install "tinyconv[onnx]".',
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="file that 'train' wrote")
    parser.add_argument("out", type=Path, metavar="OUT.onnx")


def open_model(path: Path) -> tc.Sequential:
    """Read a network from its own file or, where the name ends so, from an ONNX one."""
    if path.suffix == ".onnx":
        net: tc.Sequential = tc.interop.onnx.import_(path)
        return net
    return tc.load(path)


def _export(options: argparse.Namespace) -> int:
    if options.out.suffix != ".onnx":
        raise tc.ArgumentError(f"export: {options.out} does not end in .onnx")
    net = open_model(options.model)
    tc.interop.onnx.export(net, options.out)
    print(f"{options.out}: {net.parameter_count():,} parameters")
    return 0
