"""How the report's figures look: colours by meaning, sizes, axes; the same in the page, in SVG and in PNG.

The hues are those of Okabe and Ito (2008), told apart with any colour vision, darkened until small text reads on white.
No meaning hangs on colour alone: every mark is labelled, and groups differ in shape or line style too.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any

COLOURS = {  # by meaning: (on white, on black)
  'paper': ('#ffffff', '#16191d'),
  'ink': ('#1c2126', '#e8eaed'),
  'muted': ('#59636e', '#a5afba'),
  'rule': ('#dde2e7', '#3a424b'),
  'recovered': ('#0067a5', '#5ab4ee'),
  'toxic': ('#b54a00', '#f2935a'),
  'true': ('#8a3d73', '#df9ccb'),
  'plain': ('#78818b', '#8d97a2'),
}
PAPER, INK, MUTED, RULE, RECOVERED, TOXIC, TRUE, PLAIN = (light for light, _ in COLOURS.values())
WIDTH, HEIGHT = (
  3.6,
  2.7,
)  # inches; 360 pixels at 100 per inch: a figure fills a phone, and its text reads
SETTINGS = {
  'font.family': ['DejaVu Sans'],
  'font.size': 7.5,
  'axes.titlesize': 8,
  'axes.labelsize': 7.5,
  'xtick.labelsize': 7,
  'ytick.labelsize': 7,
  'text.color': INK,
  'axes.labelcolor': INK,
  'axes.edgecolor': MUTED,
  'xtick.color': MUTED,
  'ytick.color': MUTED,
  'xtick.labelcolor': INK,
  'ytick.labelcolor': INK,
  'axes.linewidth': 0.6,
  'xtick.major.width': 0.6,
  'ytick.major.width': 0.6,
  'xtick.major.size': 2.5,
  'ytick.major.size': 2.5,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'axes.axisbelow': True,
  'grid.color': RULE,
  'grid.linewidth': 0.5,
  'axes.facecolor': PAPER,
  'figure.facecolor': PAPER,
  'lines.linewidth': 1.3,
  'lines.markersize': 4,
  'axes.unicode_minus': True,
  'svg.fonttype': 'none',
  'text.parse_math': False,
  'svg.hashsalt': 'irl_jax',
  'path.simplify': True,
}


@dataclasses.dataclass(frozen=True)
class Drawing:
  """A figure, and what is said of it."""

  name: str  # of its files
  title: str
  alt: str  # the main numbers in words, for those who do not see it
  caption: str  # how to read it
  figure: Any  # matplotlib's
  numbers: dict[str, Any]  # everything drawn, as JSON


@contextlib.contextmanager
def style() -> Iterator[None]:
  """Draws in our style whatever the user's own settings of matplotlib are."""
  import matplotlib  # imported here: `--help` needs none of it

  with matplotlib.rc_context(matplotlib.rcParamsDefault | SETTINGS):
    yield


def axes(height: float = HEIGHT, rows: int = 1, **keywords: Any) -> tuple[Any, Any]:
  """A new figure and its axes: one, or `rows` above each other."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(WIDTH, height), layout='constrained')
  return figure, figure.subplots(rows, **keywords)


def settle(figure: Any) -> None:
  """Lays a drawn figure out once and for all: the same in SVG and in PNG, and not for each of them anew."""
  figure.get_layout_engine().execute(figure)
  figure.set_layout_engine('none')
