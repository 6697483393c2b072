"""The look that all reports share: one self-contained HTML page, in light and dark, that also prints well.

    body = report.table(["hop", "accuracy"], [["PyTorch", 0.7924], ["ONNX Runtime", 0.7924]])
    html = report.page("Parity of characters", [report.Section("Accuracy", (body, "All hops agree."))])

Whatever is a plain str is escaped; what the functions here return is Markup and goes in as it is.
"""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

from jinja2 import Environment
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart by most colour-blind readers, and against white as well as near-black.
COLOURS = ("#2f74c0", "#d9822b", "#2a9d8f", "#b0578d", "#7a7f87")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it: Markup from this module, or plain text that becomes a paragraph."""

    heading: str
    parts: Sequence[Markup | str]


def page(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """The whole HTML document; `lead` is one sentence under the title."""
    return _TEMPLATES.from_string(_PAGE).render(title=title, lead=lead, sections=sections, style=_STYLE)


def facts(pairs: Mapping[str, object]) -> Markup:
    """A row of key figures, name under number."""
    return _render(_FACTS, pairs={name: _text(value) for name, value in pairs.items()})


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """Markup as it is; numbers, percentages, n/a right; ints with thousands, floats in four digits; else text."""
    cells = [[(_text(cell), _is_number(cell)) for cell in row] for row in rows]
    numeric = [bool(cells) and all(row[i][1] for row in cells) for i in range(len(headers))]
    return _render(_TABLE, headers=list(zip(headers, numeric, strict=True)), rows=cells, caption=caption)


def verdict(text: str, good: bool) -> Markup:
    """A short judgement ("equal", "refused"), told by sign and weight as well as by colour."""
    return _render(_VERDICT, text=text, good=good)


def figure(drawn: "Figure", alt: str, caption: str = "") -> Markup:
    """A matplotlib figure as inline SVG without a background; what is black takes the page's text colour.

    Make it with `matplotlib.figure.Figure(figsize=(8, 3), layout="constrained")`, not pyplot: no global state stays.
    """
    import matplotlib

    written = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        drawn.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)  # figure_1 would be there twice
    svg = svg.replace("#000000", "currentColor")
    return _render(_FIGURE, picture=Markup(svg), alt=alt, caption=caption)  # noqa: S704  matplotlib escapes its text


def picture(png: bytes, alt: str, caption: str = "", pixelated: bool = False) -> Markup:
    """A PNG inside the page; `pixelated` keeps hard pixels where the browser enlarges it."""
    address = "data:image/png;base64," + base64.b64encode(png).decode()
    return _render(_PICTURE, address=address, alt=alt, caption=caption, pixelated=pixelated)


def _render(template: str, **values: object) -> Markup:
    return Markup(_TEMPLATES.from_string(template).render(**values))  # noqa: S704  autoescape is on


def _is_number(cell: object) -> bool:
    if isinstance(cell, str):
        return cell == "n/a" or bool(re.fullmatch(r"[+-]?[\d.,]+(e[+-]\d+| ?%)", cell))
    return isinstance(cell, Real) and not isinstance(cell, bool)


def _text(cell: object) -> object:
    if isinstance(cell, bool) or not isinstance(cell, Real):
        return cell
    if isinstance(cell, Integral):
        return f"{int(cell):,}"
    value = float(cell)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


_TEMPLATES = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }} · Seaway</title>
<style>{{ style|safe }}</style>
</head>
<body>
<header>
<p class="brand">Seaway</p>
<h1>{{ title }}</h1>
{% if lead %}
<p class="lead">{{ lead }}</p>
{% endif %}
</header>
<main>
{% for section in sections %}
<section>
<h2>{{ section.heading }}</h2>
{% for part in section.parts %}
{% if part.__html__ is defined %}
{{ part }}
{% else %}
<p>{{ part }}</p>
{% endif %}
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""

_FACTS = """\
<dl class="facts">
{% for name, value in pairs.items() %}
<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}
</dl>
"""

_TABLE = """\
<div class="wide"><table>
{% if caption %}
<caption>{{ caption }}</caption>
{% endif %}
<thead><tr>
{% for header, numeric in headers %}
<th scope="col"{% if numeric %} class="number"{% endif %}>{{ header }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr>
{% for cell, numeric in row %}
<td{% if numeric %} class="number"{% endif %}>{{ cell }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
"""

_VERDICT = """<span class="{{ 'good' if good else 'bad' }}">{{ '✓' if good else '✗' }} {{ text }}</span>"""

_CAPTION = """\
{% if caption %}
<figcaption>{{ caption }}</figcaption>
{% endif %}
</figure>
"""

_FIGURE = (
    """\
<figure>
<div class="wide drawing" role="img" aria-label="{{ alt }}">{{ picture }}</div>
"""
    + _CAPTION
)

_PICTURE = (
    """\
<figure>
<img src="{{ address }}" alt="{{ alt }}"{% if pixelated %} class="pixelated"{% endif %}>
"""
    + _CAPTION
)

_STYLE = """
:root { --text: #1c2024; --soft: #5c646d; --line: #dde1e6; --ground: #ffffff; --panel: #f6f7f9;
        --accent: #2f74c0; --good: #1d7a4c; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e7eb; --soft: #9aa3ad; --line: #343a41; --ground: #15181b; --panel: #1d2125;
          --accent: #7fb2ea; --good: #63c795; --bad: #f28b82; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 62rem; color: var(--text); background: var(--ground);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
.brand { margin: 0; color: var(--accent); font-size: .8rem; font-weight: 600; letter-spacing: .12em;
         text-transform: uppercase; }
h1 { margin: .1rem 0 0; font-size: 1.9rem; line-height: 1.2; font-weight: 650; letter-spacing: -.01em; }
h2 { margin: 2.6rem 0 .8rem; padding-bottom: .35rem; font-size: 1.15rem; font-weight: 600;
     border-bottom: 1px solid var(--line); }
.lead { margin: .6rem 0 0; color: var(--soft); max-width: 46rem; }
p { max-width: 46rem; }
.facts { display: flex; flex-wrap: wrap; gap: 1px; margin: 0; background: var(--line);
         border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
.facts div { display: flex; flex: 1 1 8rem; flex-direction: column-reverse; justify-content: flex-end;
             padding: .8rem 1rem; background: var(--panel); }
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums;
            overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin-top: 1rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { padding: 0 0 .4rem; color: var(--soft); text-align: left; }
th { color: var(--soft); font-weight: 600; text-align: left; }
th, td { padding: .35rem 1.4rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.number { text-align: right; white-space: nowrap; }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
td .good, td .bad { white-space: nowrap; }
figure { margin: 1rem 0; }
figure svg { display: block; width: 100%; height: auto; min-width: 36rem; color: var(--text); }
figure svg text { fill: currentColor; font-family: inherit; }
td figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
td img { max-width: none; }
.pixelated { image-rendering: pixelated; }
figcaption { margin-top: .5rem; color: var(--soft); font-size: .88rem; max-width: 46rem; }
code { font: .92em ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace; }
@media print { body { padding: 0; max-width: none; } section { break-inside: avoid; } }
"""
