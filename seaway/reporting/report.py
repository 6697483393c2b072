"""The layout that all reports share: one self-contained HTML page, in light and dark mode, that also prints well.

    body = report.table(["hop", "accuracy"], [["PyTorch", 0.7924], ["ONNX Runtime", 0.7924]])
    html = report.page("Parity of characters", [report.Section("Accuracy", (body, "All hops agree."))])

The functions here fill the Jinja files in templates/ and return Markup. A plain str is escaped, Markup is not.
"""

import base64
import io
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from seaway.reporting import environment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT = 20  # characters of a table's cell that stay in one line
# Most colour-blind readers can tell these apart, on white as well as on near-black.
COLOURS = ("#2f74c0", "#d9822b", "#2a9d8f", "#b0578d", "#7a7f87")


Box = tuple[str, str, str]  # of a drawn graph: title, name, a word on its state


class Templates:
    """The Jinja files `*.html.jinja` of a folder, each compiled once; values that are not Markup are escaped."""

    def __init__(self, folder: Path) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True, auto_reload=False
        )

    def render(self, name: str, /, **values: object) -> Markup:
        return Markup(self._environment.get_template(f"{name}.html.jinja").render(**values))  # noqa: S704  escaped


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its content: Markup from this module, or plain text that becomes a paragraph."""

    heading: str
    parts: Sequence[Markup | str]


def page(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """The whole HTML document, which ends with its environment; `lead` is one sentence under the title."""
    facts = environment.describe()
    rows = [*facts.items(), ("command line", code(environment.command_line(sys.argv)))]
    sections = [*sections, Section("Environment", [table(["property", "value"], rows)])]
    return str(_TEMPLATES.render("page", title=title, lead=lead, sections=sections, style=_style()))


def facts(pairs: Mapping[str, object]) -> Markup:
    """A row of key figures, name under number."""
    return _TEMPLATES.render("facts", pairs={name: _text(value) for name, value in pairs.items()})


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """A table. Columns of numbers, percentages and n/a are aligned right; ints get thousands separators, floats four
    digits. Short cells are not broken into lines."""
    rows = list(rows)
    numeric = [bool(rows) and all(map(_is_number, column)) for column in zip(*rows, strict=True)]
    numeric = numeric or [False] * len(headers)
    cells = [[(_text(cell), _style_class(cell, n)) for cell, n in zip(row, numeric, strict=True)] for row in rows]
    return _TEMPLATES.render("table", headers=list(zip(headers, numeric, strict=True)), rows=cells, caption=caption)


def settings(pairs: Mapping[str, object], *before: Sequence[object]) -> Markup:
    """A table of settings: their names in words, and their values; `before`: rows above them."""
    return table(["setting", "value"], [*before, *([words(name), _setting(value)] for name, value in pairs.items())])


def words(key: str) -> str:
    """The name of a setting or quantity as people read it."""
    return key.replace("_", " ")


def verdict(text: str, good: bool) -> Markup:
    """A short judgement ("equal", "refused"), shown by a sign and bold type as well as by colour."""
    return _TEMPLATES.render("verdict", text=text, good=good)


def figure(plot: "Figure", alt: str, caption: str = "") -> Markup:
    """A matplotlib figure as inline SVG without a background; black becomes the page's text colour.

    Create it with `matplotlib.figure.Figure(figsize=(8, 3), layout="constrained")`: pyplot would keep global state.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        plot.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)  # two figures would both have figure_1
    svg = svg.replace("#000000", "currentColor")
    return _TEMPLATES.render("figure", svg=Markup(svg), alt=alt, caption=caption)  # noqa: S704  matplotlib escapes text


def log_scale(axes: "Axes", axis: Literal["x", "y"], values: Iterable[float], max_ticks: int = 5) -> None:
    """Makes an axis logarithmic, for positive values, with plain numbers at its ticks: only at powers of ten if there
    would be more than `max_ticks`."""
    low, high = min(values := list(values)), max(values)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
    ticks = [step for step in steps if low / 2.5 < step < high * 2.5]
    limits = ticks[0], ticks[-1]
    if len(ticks) > max_ticks:
        ticks = [tick for tick in ticks if tick in steps[::3]]
    axes.set(**{f"{axis}scale": "log", f"{axis}lim": limits})
    drawn = axes.xaxis if axis == "x" else axes.yaxis
    drawn.set_ticks(ticks, [f"{tick:,.6g}" for tick in ticks])
    drawn.set_ticks([], minor=True)


def flow(before: Sequence[Box], node: Box, after: Sequence[Box], alt: str, caption: str = "") -> Markup:
    """One node of a graph, marked as wrong, between those that it takes values from and those that take its own."""
    return _TEMPLATES.render("flow", before=[*before], node=node, after=[*after], alt=alt, caption=caption)


def image(png: bytes, alt: str, caption: str = "", pixelated: bool = False) -> Markup:
    """A PNG inside the page; `pixelated` keeps pixels sharp if the browser enlarges it."""
    address = "data:image/png;base64," + base64.b64encode(png).decode()
    return _TEMPLATES.render("image", address=address, alt=alt, caption=caption, pixelated=pixelated)


def paragraph(content: Markup | str) -> Markup:
    """A paragraph of text or Markup."""
    return _TEMPLATES.render("paragraph", content=content)


def fold(summary: str, parts: Iterable[Markup], opened: bool = False) -> Markup:
    """A block that the reader can open and close."""
    return _TEMPLATES.render("fold", summary=summary, parts=parts, opened=opened)


def code(text: str) -> Markup:
    """Text in a monospaced font, which tells 1 from l and I, and 0 from O."""
    return _TEMPLATES.render("code", text=text)


@cache
def _style() -> Markup:
    return Markup((_FOLDER / "report.css").read_text(encoding="utf-8"))  # noqa: S704  our own file


def _style_class(cell: object, numeric: bool) -> str:
    return "number" if numeric else "short" if isinstance(cell, str) and len(cell) <= SHORT else ""


def _setting(value: object) -> object:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return " x ".join(map(str, value))
    return value


def _is_number(cell: object) -> bool:
    if isinstance(cell, str):
        return cell in ("", "n/a") or bool(re.fullmatch(r"[+-]?[\d.,]+(e[+-]\d+| ?%)?", cell))
    return isinstance(cell, Real) and not isinstance(cell, bool)


def _text(cell: object) -> object:
    if isinstance(cell, bool) or not isinstance(cell, Real):
        return cell
    if isinstance(cell, Integral):
        return f"{int(cell):,}"
    value = float(cell)
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"


_FOLDER = Path(__file__).parent / "templates"
_TEMPLATES = Templates(_FOLDER)
