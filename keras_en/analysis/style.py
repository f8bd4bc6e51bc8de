"""How all figures look: colours, sizes, files."""

import functools
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from keras_en.arguments import check_installed
from keras_en.text import one_line

# Okabe and Ito: they are told apart with any colour vision, on white and on black.
_BLUE = "#0072B2"
COLORS = {
    "instance": _BLUE,
    "layer": "#E69F00",
    "group": "#009E73",
    "batch": "#CC79A7",
}
LINES: dict[str, Any] = {"instance": ":", "layer": "--", "group": "-.", "batch": "-"}
MARKERS = {"instance": "v", "layer": "s", "group": "D", "batch": "o"}
# Of classes; beside the colour the marker tells.
CLASS_COLORS = (
    *(_BLUE, "#D55E00", "#009E73", "#CC79A7", "#56B4E9"),
    *("#B8860B", "#7A5FD0", "#8C564B", "#E69F00", "#808080"),
)
CLASS_MARKERS = "osD^vPX<>*"
# Of text and axes; a page gives it its own.
INK, PAPER = "#1b2a41", "#fefefe"
WIDTH = 7.2
_RC = {
    "font.size": 8,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    # Text is as long for its size in a file of any resolution as it was laid out.
    "text.hinting": "none",
    # Names may hold a dollar sign.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "keras_en",
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), INK
    ),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
}
Plot = TypeVar("Plot", bound=Callable[..., Any])


def styled(plot: Plot) -> Plot:
    """A function that draws, in this style."""

    @functools.wraps(plot)
    def wrapper(*args, **kwargs):
        check_installed("A picture", ["matplotlib"], "plot")
        import matplotlib

        with matplotlib.rc_context(_RC):
            return plot(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def new_figure(height: float) -> Any:
    """A figure of the width of a page, without pyplot: no window, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@styled
def write(figure: Any, folder: Path, name: str) -> str:
    """Writes `name.png` and `name.svg`, and returns the figure as an element of a page:
    with the page's colour of text, without background, and with ids of its own."""
    # The places of all parts are found once, which takes longer than to draw.
    lay_out(figure)
    figure.savefig(folder / f"{name}.png", dpi=150, facecolor="white")
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    white = text.replace("<svg ", '<svg style="background: white" ', 1)
    (folder / f"{name}.svg").write_text(white, encoding="utf-8")
    return _inline(text, name)


def lay_out(figure: Any) -> None:
    """Gives all parts of a figure their final places."""
    figure.draw_without_rendering()
    # Images, of a fixed shape, have their places behind the first time only.
    if any(axis.images for axis in figure.axes):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _inline(text, name):
    text = text[text.index("<svg") :]
    text = text.replace(INK, "currentColor").replace(_BLUE.lower(), "var(--blue)")
    text = text.replace(PAPER, "var(--paper)")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    # Its size is the page's affair.
    for side in ("height", "width"):
        text = re.sub(rf'(<svg[^>]*?) {side}="[^"]*"', r"\1", text, count=1)
    # It has addresses, which a page that loads nothing does without.
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def page_colors() -> dict[str, str]:
    """Those of normalizers on a page, which may be dark."""
    return {k: "var(--blue)" if v == _BLUE else v for k, v in COLORS.items()}


def text_of(value: float, sign: bool = False) -> str:
    """A ratio as text: `.33`; small differences with three digits."""
    digits = 2 if abs(value) >= 0.0995 or not sign else 3
    text = f"{value:+.{digits}f}" if sign and value else f"{value:.{digits}f}"
    return re.sub(r"^([+-]?)0\.", r"\1.", text)


def range_of(values: Any, least: float = 0.02) -> tuple[float, float]:
    """The smallest and the largest of values, at least so far apart, with a margin."""
    values = np.asarray(values)[np.isfinite(values)]
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    middle, half = (low + high) / 2, max((high - low) / 2, least / 2)
    return float(middle - 1.1 * half), float(middle + 1.1 * half)


def says_range(values: Any) -> str:
    """`.21 to .58`."""
    values = np.asarray(values)[np.isfinite(values)]
    if not values.size:
        return "no values"
    return f"{text_of(values.min())} to {text_of(values.max())}"


def says_difference(values: Any) -> str:
    """`-.030 to +.14`."""
    values = np.asarray(values)[np.isfinite(values)]
    if not values.size or np.abs(values).max() < 5e-7:
        return "no difference"
    return " to ".join(text_of(v, sign=True) for v in (values.min(), values.max()))


def legend(figure: Any, names: Sequence[str], lines: bool = True) -> None:
    """What the colours of normalizers mean, above the panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=COLORS[name],
            linestyle=LINES[name] if lines else "",
            marker=MARKERS[name],
            label=name,
        )
        for name in names
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(names))


def class_legend(figure: Any, names: Sequence[str], lines: bool) -> None:
    """What the colours of classes mean."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=CLASS_COLORS[i % len(CLASS_COLORS)],
            linestyle="-" if lines else "",
            marker=CLASS_MARKERS[i % len(CLASS_MARKERS)],
            label=shortened(name),
        )
        for i, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(5, len(names)))


def shortened(name: str, limit: int = 18) -> str:
    """A name in one line of at most so many characters."""
    name = one_line(name, limit=None)
    return name if len(name) <= limit else name[: limit - 1] + "\u2026"
