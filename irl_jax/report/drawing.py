"""The look of the report's drawings, and matplotlib's figures as SVG inside a page and as PNG.

The hues are those of Okabe and Ito (2008), distinct with any colour vision, darkened until small
text reads on white. No meaning depends on colour alone: every mark is labelled, and groups differ
in shape or line style too. In the page, styles become presentation attributes and classes, so that
no inline style is needed and the page's style sheet sets the colours.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import io
import re
from typing import Any
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

if TYPE_CHECKING:
  from matplotlib.figure import Figure

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
# Inches; 360 pixels at 100 per inch: a drawing fills a phone's screen, and its text is legible.
WIDTH, HEIGHT = 3.6, 2.7
SETTINGS: dict[Any, Any] = {
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
ROLES = {light: role for role, (light, _) in COLOURS.items()}
NAMESPACE = '{http://www.w3.org/2000/svg}'
LINK = '{http://www.w3.org/1999/xlink}href'
REFERENCE = re.compile(r'#([\w.-]+)')
LONG_NUMBER = re.compile(r'-?\d+\.\d{2,}')
METADATA = {'Date': None, 'Creator': None, 'Format': None, 'Type': None}


@dataclasses.dataclass(frozen=True)
class Drawing:
  """A figure with its texts and its data."""

  name: str  # of its files
  title: str
  alt: str  # the main numbers in words, for screen readers
  caption: str  # how to read it
  figure: 'Figure'
  numbers: dict[str, Any]  # everything drawn, as JSON


@contextlib.contextmanager
def style() -> Iterator[None]:
  """Draws in the report's style, regardless of the user's matplotlib settings."""
  import matplotlib  # imported here: `--help` needs none of it

  with matplotlib.rc_context({**matplotlib.rcParamsDefault, **SETTINGS}):
    yield


def subplots(height: float = HEIGHT, rows: int = 1, **keywords: Any) -> tuple['Figure', Any]:
  """Makes a figure and its axes: one, or an array of `rows` above each other."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(WIDTH, height), layout='constrained')
  return figure, figure.subplots(rows, **keywords)


def fix_layout(figure: 'Figure') -> None:
  """Computes the layout of a figure once, so that SVG and PNG agree."""
  engine = figure.get_layout_engine()
  if engine is not None:
    engine.execute(figure)
  figure.set_layout_engine('none')


def svg(figure: 'Figure', name: str, alt: str) -> str:
  """Draws a figure as an <svg> element: small, inert, and themed by the page's style sheet.

  Args:
    figure: matplotlib's.
    name: unique in the page; ids start with it.
    alt: the text for screen readers.
  """
  with style():
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata=METADATA)
  root = ElementTree.fromstring(file.getvalue())
  used = set(REFERENCE.findall(file.getvalue()))
  remove(root, ('metadata', 'style'))
  for element in root.iter():
    element.tag = element.tag.removeprefix(NAMESPACE)
    tidy(element, name, used)
  view_box = root.get('viewBox', '')
  root.attrib.clear()
  root.attrib.update({'viewBox': view_box, 'role': 'img', 'aria-label': alt, 'class': 'drawing'})
  text = ElementTree.tostring(flatten(root), encoding='unicode')
  return re.sub(r'\s*\n\s*', '\n', text).replace('>\n<', '><').strip()


def remove(root: Element, tags: tuple[str, ...]) -> None:
  """Removes all elements of some tags."""
  for parent in list(root.iter()):
    for child in list(parent):
      if child.tag.removeprefix(NAMESPACE) in tags:
        parent.remove(child)


def tidy(element: Element, name: str, used: set[str]) -> None:
  """Rewrites one element's attributes: no style, no unused ids, short numbers."""
  attributes = dict(element.attrib)
  element.attrib.clear()
  classes = []
  for declaration in attributes.pop('style', '').split(';'):
    key, _, value = (part.strip() for part in declaration.partition(':'))
    if key in ('fill', 'stroke') and value in ROLES:
      classes.append(f'{key[0]}-{ROLES[value]}')
    elif key and not key.startswith('font-family'):
      attributes[key] = value
  for key, value in attributes.items():
    if key == 'id':
      if value in used:
        element.set('id', f'{name}-{value}')
    elif key == 'transform' and value.startswith('rotate(-0 '):
      continue
    else:
      element.set('href' if key == LINK else key, shorten(value, name))
  if classes:
    element.set('class', ' '.join(classes))
  if element.text and element.tag == 'path':
    element.text = None


def shorten(value: str, name: str) -> str:
  """Prefixes an attribute's references with `name`, and cuts its numbers to two decimals."""
  if '#' in value and not re.fullmatch(r'#[0-9a-f]{6}', value):
    return REFERENCE.sub(rf'#{name}-\1', value)
  value = LONG_NUMBER.sub(lambda match: f'{float(match[0]):.2f}'.rstrip('0').rstrip('.'), value)
  return ' '.join(value.split())


def flatten(element: Element) -> Element:
  """Replaces groups without attributes by their children."""
  children: list[Element] = []
  for child in map(flatten, list(element)):
    children += list(child) if child.tag == 'g' and not child.attrib else [child]
  element[:] = children
  return element


def png(figure: 'Figure') -> bytes:
  """Draws a figure as a PNG of 720 pixels width, without dates and versions."""
  with style():
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=200, metadata={'Software': None})
  return file.getvalue()
