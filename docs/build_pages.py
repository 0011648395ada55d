"""Pages of the site that are made: from the README, the results, the notebooks and the operations.

mkdocs runs this file (see mkdocs.yml); what it writes lies beside the pages that are written by
hand, but only in the site.
"""

import json
import re
import sys
from pathlib import Path

import mkdocs_gen_files as site
from latex2mathml.converter import convert

import tinyconv as tc
from tinyconv import explore, ops, testing
from tinyconv.lessons import titles

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

from docstrings import tidy  # noqa: E402
from equations import EQUATIONS  # noqa: E402

#: File of the repository -> where it stands in the site.
COPIED = {
    "examples/mnist_accuracy.md": "results/mnist_accuracy.md",
    "examples/mnist1d.md": "results/mnist1d.md",
    "examples/book/RESULTS.md": "results/book.md",
    "examples/beyond/RESULTS.md": "results/beyond.md",
    "benchmarks/RESULTS.md": "results/benchmarks.md",
    "tinyconv/gradcheck/README.md": "gradcheck.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
}
PICTURES = {
    "examples/explore.webp": "explore.webp",
    "examples/first_run.png": "first_run.png",
    "examples/mnist1d.png": "results/mnist1d.png",
}

#: Modules whose public names the reference lists, with what they are.
MODULES = {
    "tinyconv.network": "Networks",
    "tinyconv.layers": "Layers",
    "tinyconv.losses": "Losses",
    "tinyconv.optimizers": "Optimizers",
    "tinyconv.schedules": "Learning rates",
    "tinyconv.training": "Training",
    "tinyconv.data": "Data",
    "tinyconv.analysis": "Analysis",
    "tinyconv.plots": "Pictures",
    "tinyconv.gradcheck": "Gradient checks of any function",
    "tinyconv.testing": "Gradient checks of the library",
    "tinyconv.models": "Named networks",
    "tinyconv.explore": "The page",
    "tinyconv.lessons": "Lessons",
    "tinyconv.errors": "Errors",
}


def write(path: str, text: str) -> None:
    """Add a page to the site."""
    with site.open(path, "w") as file:
        file.write(text)


def linked(text: str, source: str) -> str:
    """Return a page of the repository with its links as they are in the site.

    What the site does not hold is named, not linked.
    """
    at = Path(COPIED.get(source, "index.md")).parent

    def place(match: re.Match[str]) -> str:
        words, target = match["words"], match["target"]
        if "://" in target or target.startswith("#"):
            return match[0]
        named, _, anchor = target.partition("#")
        found = (ROOT / source).parent.joinpath(named).resolve().relative_to(ROOT).as_posix()
        inside = {**COPIED, **PICTURES, "README.md": "index.md"}.get(found)
        if inside is None and found.startswith("docs/"):
            inside = found.removeprefix("docs/")
        if inside is None:
            return words if match["bang"] == "" else ""
        up = "../" * len(at.parts)
        return f"{match['bang']}[{words}]({up}{inside}{'#' + anchor if anchor else ''})"

    return re.sub(r"(?P<bang>!?)\[(?P<words>[^\]]*)\]\((?P<target>[^)\s]+)\)", place, text)


def copied_pages() -> None:
    """README, results and the checker's page; the pictures that they show."""
    write("index.md", linked((ROOT / "README.md").read_text(), "README.md"))
    for source, target in COPIED.items():
        write(target, linked((ROOT / source).read_text(), source))
    for source, target in PICTURES.items():
        with site.open(target, "wb") as file:
            file.write((ROOT / source).read_bytes())


def typeset(text: str) -> str:
    """Return a text with its equations as MathML, which browsers show without a network."""

    def equation(match: re.Match[str]) -> str:
        is_display = match[1] is not None
        tex = re.sub(r"\\tag\{([^}]*)\}", r"\\qquad \\text{(\1)}", match[1] or match[2])
        tex = tex.replace("{aligned}", "{align*}")  # the same, under the name that is known
        return convert(tex, display="block" if is_display else "inline").replace("\n", " ")

    return re.sub(r"\$\$(.+?)\$\$|\$(.+?)\$", equation, text, flags=re.DOTALL)


def lessons() -> None:
    """The notebooks as they ship, and a page that lists them."""
    lines = ["# Lessons", "", "`tinyconv lessons` copies them into a folder.", ""]
    for name, title in titles().items():
        notebook = json.loads((ROOT / "tinyconv" / "lessons" / name).read_text("utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = typeset("".join(cell["source"]))
        write(f"lessons/{name}", json.dumps(notebook))
        lines.append(f"- [{title}]({name})")
    write("lessons/index.md", "\n".join(lines) + "\n")


def the_page() -> None:
    """The page itself, with a net that is trained while the site is built."""
    (x, y), _, (xt, yt) = tc.data.load("mnist-sample")
    net = tc.models.nielsen_conv_conv_relu(seed=0)
    net.fit(x, y, epochs=3, batch_size=10, optimizer=tc.SGD(lr=0.03), verbose=False)
    shown = [int((yt == digit).argmax()) for digit in range(10)]
    write("explore.html", explore.page(net, xt[shown], yt[shown].tolist(), version=tc.__version__))
    links = "\n".join(
        f"- [{words}](explore.html{address})"
        for words, address in {
            "The convolution, forward": "#step=1",
            "Where overlapping maxima send the gradient": "#window=3&poolStride=1&step=10",
            "The gradient of a weight that places share": "#step=11&cell=dw.0.0.1.1",
            "The flipped kernel": "#step=12&cell=dx.0.2.3",
            "A trained net": "#mode=net",
        }.items()
    )
    write(
        "explore.md",
        "# Watch a gradient pass through a convolution\n\n"
        "![The page, one pass](explore.webp)\n\n"
        "[Open the page](explore.html){ .md-button .md-button--primary }\n\n"
        "`tinyconv explore` writes the same page with a network of yours. Links into it:\n\n"
        f"{links}\n",
    )


def _written(module: str, name: str) -> str:
    """Return the name under which an operation's code stands."""
    general = re.sub(r"[123]d(?=_backward|$)", "_nd", name)
    return general if hasattr(sys.modules[module], general) else name


def operations() -> None:
    """A page for each operation: its equations, its code, its gradient check."""
    names = [name for name in ops.__all__ if f"{name}_backward" in ops.__all__ or name == "im2col"]
    lines = ["# Operations", "", "Each is a pair of plain functions, forward and backward.", ""]
    for name in names:
        forward, backward = (convert(tex, display="block") for tex in EQUATIONS[name])
        function = getattr(ops, name)
        module = function.__module__
        inverse = "col2im" if name == "im2col" else f"{name}_backward"
        checked = ""
        if name != "im2col":
            report = testing.format_checks({f"ops.{name}": testing.check_op(name)})
            checked = f"\n## Gradient check\n\n```text\n{report}\n```\n"
        shown = "\n\n".join(f"::: {module}.{_written(module, each)}" for each in (name, inverse))
        write(
            f"ops/{name}.md",
            f"# {name}\n\nForward:\n\n{forward}\n\nBackward; a bar marks a gradient:\n\n"
            f"{backward}\n\n{shown}\n{checked}",
        )
        about = tidy((function.__doc__ or "").partition("\n")[0])
        lines.append(f"- [`{name}`]({name}.md)  {about}")
    write("ops/index.md", "\n".join(lines) + "\n")


def reference() -> None:
    """A page for each module, and one that lists them."""
    lines = ["# Reference", ""]
    for module, words in MODULES.items():
        stem = module.removeprefix("tinyconv.")
        # What a network can do stands in several files.
        whole = "    options:\n      inherited_members: true\n" if stem == "network" else ""
        write(f"reference/{stem}.md", f"# {words}\n\n::: {module}\n{whole}")
        lines.append(f"- [`{module}`](reference/{stem}.md)  {words}")
    write("reference.md", "\n".join(lines) + "\n")
    listed = "\n".join(
        f"- [{path}]({target})" for path, target in COPIED.items() if "results" in target
    )
    write("results.md", f"# Results\n\nEach page is made by a script that it names.\n\n{listed}\n")


copied_pages()
lessons()
the_page()
operations()
reference()
