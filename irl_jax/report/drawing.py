"""A figure of matplotlib as SVG that lives inside a page: small, themed by the page's own style sheet, and inert.

Styles become presentation attributes and classes, so that the page needs no inline style; ids are unique in the page.
"""

import io
import re
from xml.etree import ElementTree

from irl_jax.report import look

ROLES = {light: role for role, (light, _) in look.COLOURS.items()}
NAMESPACE = '{http://www.w3.org/2000/svg}'
LINK = '{http://www.w3.org/1999/xlink}href'
REFERENCE = re.compile(r'#([\w.-]+)')
LONG_NUMBER = re.compile(r'-?\d+\.\d{2,}')
METADATA = {'Date': None, 'Creator': None, 'Format': None, 'Type': None}


def inline(figure, name: str, alt: str) -> str:
  """Draws a figure as an <svg> element.

  Args:
    figure: matplotlib's.
    name: unique in the page; ids start with it.
    alt: what a reader hears who does not see it.
  """
  with look.style():
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata=METADATA)
  root = ElementTree.fromstring(file.getvalue())
  used = set(REFERENCE.findall(file.getvalue()))
  for parent in list(root.iter()):
    for child in [
      child for child in parent if child.tag.rpartition('}')[2] in ('metadata', 'style')
    ]:
      parent.remove(child)
  for element in root.iter():
    element.tag = element.tag.removeprefix(NAMESPACE)
    tidy(element, name, used)
  attributes = {
    'viewBox': root.get('viewBox'),
    'role': 'img',
    'aria-label': alt,
    'class': 'drawing',
  }
  root.attrib.clear()
  root.attrib.update(attributes)
  text = ElementTree.tostring(flatten(root), encoding='unicode')
  return re.sub(r'\s*\n\s*', '\n', text).replace('>\n<', '><').strip()


def tidy(element, name: str, used: set[str]) -> None:
  """Rewrites one element's attributes."""
  attributes = dict(element.attrib)
  element.attrib.clear()
  classes = []
  for declaration in attributes.pop('style', '').split(';'):
    key, _, value = (part.strip() for part in declaration.partition(':'))
    if key in ('fill', 'stroke') and value in ROLES:
      classes.append(f'{key[0]}-{ROLES[value]}')
    elif key and not key.startswith('font-family'):
      attributes[key] = short(value, name)
  for key, value in attributes.items():
    if key == 'id':
      if value in used:
        element.set('id', f'{name}-{value}')
    elif key == 'transform' and value.startswith('rotate(-0 '):
      continue
    else:
      element.set('href' if key == LINK else key, short(value, name))
  if classes:
    element.set('class', ' '.join(classes))
  if element.text and element.tag == 'path':
    element.text = None


def short(value: str, name: str) -> str:
  """An attribute with references to this figure's ids, two decimals at most, and no line breaks."""
  if '#' in value and not re.fullmatch(r'#[0-9a-f]{6}', value):
    return REFERENCE.sub(rf'#{name}-\1', value)
  value = LONG_NUMBER.sub(lambda match: f'{float(match[0]):.2f}'.rstrip('0').rstrip('.'), value)
  return ' '.join(value.split())


def flatten(element):
  """Leaves out groups without attributes, keeping what they hold."""
  children = []
  for child in map(flatten, list(element)):
    children += list(child) if child.tag == 'g' and not child.attrib else [child]
  element[:] = children
  return element


def png(figure) -> bytes:
  """The figure as a PNG of 720 pixels width, without dates and versions."""
  with look.style():
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=200, metadata={'Software': None})
  return file.getvalue()
