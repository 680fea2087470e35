"""A run as one file of HTML that needs nothing else: interactive charts, and all that they stand on. Pure.

What a file says is text, never markup: all of it is escaped, and the page forbids itself every script but its own two,
and every request.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboard.draw import frame, origin, palette
from dashboard.draw.panels import Scale
from dashboard.runs import drawing, quantities
from dashboard.runs.drawing import BY_PAGE, Drawing, Source
from dashboard.runs.explained import NOT_SHOWN, Explained, explained
from dashboard.runs.facts import Facts
from dashboard.runs.figures import plain, word
from dashboard.runs.quantities import Quantity
from dashboard.runs.run import Run
from probes.core.output import OutputError

ASSETS = Path(__file__).parent / "assets"
EXAMPLES = 3
"""Images whose maps are shown, spread over the run."""
MOST_FIGURE_BYTES = 16 * 2**20
"""Of all figures together; the script that draws them takes 4 to 5 MB beside."""
PICTURE_HEIGHT = 345
MOST_NAMED = 50
"""Images that could not be read, named one by one."""


def html(run: Run) -> str:
    """The report of a run."""
    scripts = [get_plotlyjs(), (ASSETS / "report.js").read_text(encoding="utf-8")]
    digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    policy = f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:"
    body = "".join(_Body(run).parts())
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(run.name)}</title><style>{(ASSETS / 'report.css').read_text(encoding='utf-8')}</style></head>"
        f"<body><main>{body}</main>{''.join(f'<script>{script}</script>' for script in scripts)}</body></html>\n"
    )


class _Body:
    """The page from top to bottom; counts the figures and what they take."""

    def __init__(self, run: Run) -> None:
        self.run, self.count, self.bytes = run, 0, 0
        self.left_out: list[str] = []

    def parts(self) -> Iterator[str]:
        """Heading, what was measured, every probe, and what is not in it."""
        yield from _head(self.run)
        for probe in self.run.groups:
            yield from self._probe(probe)
        if self.left_out:
            listed = "".join(f"<li>{escape(text)}</li>" for text in dict.fromkeys(self.left_out))
            where = "The result itself holds it; <code>python -m probes export</code> writes all of it."
            yield f"<h2>What is left out</h2><p>{where}</p><ul>{listed}</ul>"
        yield f'<h2>Made with</h2><p class="quiet">{escape(origin.versions())}</p>'

    def _probe(self, probe: str) -> Iterator[str]:
        title, said = self.run.title(probe), explained(probe)
        yield f'<section><h2 id="{_anchor(probe)}">{escape(title)}</h2>'
        parameters = self.run.facts.probes.get(probe, ("", {}))[1]
        settings = ", ".join(f"{key} = {value}" for key, value in parameters.items())
        first = said.text.split("\n\n")[0] if said else ""
        yield f"<p>{_marked(first)}</p>" if first else ""
        yield f'<p class="quiet"><code>{escape(probe)}</code>{escape(": " + settings if settings else "")}</p>'
        if said and NOT_SHOWN in said.parts:
            yield f'<div class="limits"><strong>{NOT_SHOWN}.</strong> {_marked(said.parts[NOT_SHOWN])}</div>'
        try:
            source = drawing.source([self.run], probe)
            for sentence in source.left_out:
                yield f"<p>{escape(sentence)}</p>"
            yield from self._charts(source)
        except OutputError as error:
            yield f"<p>{escape(str(error))}</p>"
        yield f"{_more(said) if said else ''}</section>"

    def _charts(self, source: Source) -> Iterator[str]:
        if source.page_chart is not None and source.sets:
            yield from self._chart(source, BY_PAGE, {})
        single = {name: one for name, one in source.quantities.items() if set(one.dims) <= {"image"}}
        if single:
            yield from _single(source, single)
        for name, quantity in source.quantities.items():
            if name in single:
                continue
            sizes = source.sizes(quantity.free)
            places = quantities.first_places(quantity, sizes)
            yield from self._chart(source, name, places)
            self._note(f"{self.run.title(source.probe)}, {quantity.title}", sizes, places)

    def _note(self, of: str, sizes: Mapping[str, int], places: Mapping[str, int]) -> None:
        """Say what is not drawn of a quantity."""
        if sizes.get("image", 1) > EXAMPLES:
            self.left_out.append(f"{of}: all but {EXAMPLES} of {sizes['image']:,} images.")
        for dim, at in places.items():
            if dim != "image" and sizes[dim] > 1:
                shown = "their mean" if at == quantities.MEAN else "the last" if at else "the first"
                self.left_out.append(f"{of}: every {word(dim)} but {shown}.")

    def _chart(self, source: Source, what: str, places: Mapping[str, int]) -> Iterator[str]:
        images = source.sizes(["image"])["image"] if "image" in places else 1
        examples = sorted({0, (images - 1) // 2, images - 1})[:EXAMPLES]
        for number, image in enumerate(examples):
            try:
                found = drawing.draw(source, what, {**places, "image": image} if "image" in places else places)
            except OutputError as error:
                self.left_out.append(str(error))
                return
            for sentence in found.left_out[len(source.left_out) :] if number == 0 else ():
                self.left_out.append(f"{self.run.title(source.probe)}: {sentence}")
            if not found.figures:
                return
            names = self.run.facts.images
            named = f" ({names[image][0]})" if "image" in places and image < len(names) else ""
            if number == 0:
                yield f"<h3>{escape(_sentence(found.title))}</h3>"
            yield from self._drawing(found, source, f"{found.said}{named}")
            yield _bar(found.scale) if number == len(examples) - 1 and found.scale else ""

    def _drawing(self, found: Drawing, source: Source, said: str) -> Iterator[str]:
        pictures = [name for name in found.figures if name]
        yield '<div class="pictures">' if pictures else ""
        for name, figure in found.figures.items():
            text = _json(figure)
            if self.bytes + len(text) > MOST_FIGURE_BYTES:
                self.left_out.append(f"{self.run.title(source.probe)}, {found.title}: no room in this file.")
                continue
            self.bytes += len(text)
            self.count += 1
            height = int(figure.layout.height or 380)
            height = min(height, PICTURE_HEIGHT) if name else height
            heading = (
                f'<div class="model" style="--of:{source.colours.get(name, "#8a8f98")}">{escape(name)}</div>'
                if name
                else ""
            )
            label = escape(f"{found.title} {name}: {said}", quote=True)
            yield (
                f'<figure>{heading}<div class="plot" id="figure-{self.count}" style="height:{height}px" role="img" '
                f'aria-label="{label}"></div>'
                f'<script type="application/json" data-of="figure-{self.count}">{text}</script></figure>'
            )
        yield "</div>" if pictures else ""
        yield f'<p class="quiet">{escape(_sentence(said))}.</p>' if said else ""


def _single(source: Source, found: Mapping[str, Quantity]) -> Iterator[str]:
    """The quantities that are one number a model, or one an image, as a table."""
    rows = []
    for name, quantity in found.items():
        read = drawing.draw(source, name, {}).numbers
        numbers = [_number(read[of][name].values) if of in read else "–" for of in source.by_name]
        rows.append([_sentence(quantity.title), *numbers, quantity.units])
    yield _table(["", *source.by_name, "Units"], rows)
    if any(quantity.dims for quantity in found.values()):
        yield '<p class="quiet">Means over the images ± their standard errors, where there is a ±.</p>'


def _number(values: np.ndarray) -> str:
    """A number, or the mean of several with its standard error."""
    known = np.asarray(values, float)[np.isfinite(values)]
    if known.size < 2:
        return palette.number(float(known.mean())) if known.size else "–"
    return (
        f"{palette.number(float(known.mean()))} ± {palette.number(float(known.std(ddof=1) / np.sqrt(known.size)), 2)}"
    )


def _head(run: Run) -> Iterator[str]:
    facts = run.facts
    yield f'<p class="quiet">Results of a run</p><h1>{escape(plain(run.name, 120))}</h1>'
    if not facts.models:
        yield "<p>This result has no manifest: what it is of is not known beyond what is below.</p>"
    else:
        count = len(facts.images)
        yield f"<p>{count:,} image{'s' * (count != 1)}, {len(facts.models)} models. {escape(facts.measured)}.</p>"
    links = "".join(f'<a href="#{_anchor(probe)}">{escape(run.title(probe))}</a>' for probe in run.groups)
    yield f"<nav>{links}</nav>"
    yield from _facts(facts)


def _facts(facts: Facts) -> Iterator[str]:
    if facts.models:
        rows = [[label, m.title, m.source, f"{m.size} px", m.dtype, m.weights] for label, m in facts.models.items()]
        heads = ["Label", "Model", "On the command line", "Input", "Type", "SHA-256 of the weights"]
        yield f"<h2>Models</h2>{_table(heads, rows, digests=[5])}"
    if facts.settings or facts.versions:
        pairs = (*facts.settings.items(), *facts.versions.items())
        listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in pairs)
        yield f"<h2>Settings and versions</h2><dl>{listed}</dl>"
    if facts.skipped:
        yield f"<h2>Images that could not be read ({len(facts.skipped):,})</h2>"
        yield _table(["Image", "Why"], [list(pair) for pair in facts.skipped[:MOST_NAMED]])
        if len(facts.skipped) > MOST_NAMED:
            yield f"<p>And {len(facts.skipped) - MOST_NAMED:,} more, named in the result's manifest.json.</p>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], digests: Sequence[int] = ()) -> str:
    head = f"<thead><tr>{''.join(f'<th scope=col>{escape(name)}</th>' for name in heads)}</tr></thead>" if heads else ""
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=digest' if k in digests else ''}>{escape(text)}</td>" for k, text in enumerate(row))
        + "</tr>"
        for row in rows
    )
    table = f"<table>{head}<tbody>{body}</tbody></table>"
    return f'<div class="table" tabindex="0" role="region" aria-label="table">{table}</div>'


def _more(said: Explained) -> str:
    formulas = "".join(f"<pre>{escape(one)}</pre>" for one in said.formulas)
    rest = "".join(f"<p>{_marked(part)}</p>" for part in said.text.split("\n\n")[1:] if part.strip())
    parts = "".join(
        f"<p><strong>{escape(name)}.</strong></p>" + "".join(f"<p>{_marked(one)}</p>" for one in text.split("\n\n"))
        for name, text in said.parts.items()
        if name != NOT_SHOWN
    )
    return f"<details><summary>Formula and convention</summary>{formulas}{rest}{parts}</details>"


def _marked(text: str) -> str:
    """Text of a docstring as HTML: formulas and names in the letters of code."""
    return re.sub(
        r":math:`([^`]+)`|``([^`]+)``|`([^`]+)`", lambda m: f"<code>{m[1] or m[2] or m[3]}</code>", escape(text)
    )


def _bar(scale: Scale) -> str:
    gradient = palette.css_gradient(signed=scale.signed)
    ends = palette.number(scale.low), f"{palette.number(scale.high)} {scale.units}".rstrip()
    return (
        f'<div class="bar"><span>{escape(ends[0])}</span><i style="background:{gradient}"></i>'
        f"<span>{escape(ends[1])}; one scale for all pictures above</span></div>"
    )


def _json(figure: go.Figure) -> str:
    """A figure as JSON that no text in it can end."""
    bare = frame.dressed(go.Figure(figure)).update_layout(template="none")
    bare.update_xaxes(automargin=True).update_yaxes(automargin=True)
    if bare.data and bare.data[0].type in ("heatmap", "image"):
        bare.update_layout(margin={"t": 6})
    document = json.loads(bare.to_json())
    document["layout"].pop("height", None)
    return re.sub(r"[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", json.dumps(document, separators=(",", ":")))


def _anchor(probe: str) -> str:
    return "probe-" + re.sub(r"[^a-z0-9-]", "-", probe.lower())


def _sentence(text: str) -> str:
    return text if text.startswith("n = ") else text[:1].upper() + text[1:]
