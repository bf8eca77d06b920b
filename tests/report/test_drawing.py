"""Drawings are small, inert, themed by classes, with their own ids and the same bytes."""

import re
import struct
from xml.etree import ElementTree

import pytest

from irl_jax.report import drawing

HOSTILE = '"><script>alert(1)</script>&'


def draw():
  with drawing.style():
    figure, axes = drawing.subplots()
    axes.plot([0, 1, 2], [0, 4, 1], color=drawing.RECOVERED)
    axes.plot([0, 1], [1, 1], 'o', color=drawing.TOXIC, alpha=0.5)
    axes.axvspan(0.5, 0.6, color='#123456')
    axes.text(1, 1, HOSTILE)
    axes.set(xlabel='R̂', xlim=(0, 1.5))
  return figure


@pytest.fixture
def drawn():
  return ElementTree.fromstring(drawing.svg(draw(), 'one', HOSTILE))


def test_style_is_in_classes_and_attributes_alone(drawn):
  refused = {'style', 'script', 'metadata', 'image', 'foreignObject'}
  assert not refused & {element.tag for element in drawn.iter()}
  assert not [element for element in drawn.iter() if 'style' in element.attrib]
  classes = {name for element in drawn.iter() for name in element.get('class', '').split()}
  assert {'s-recovered', 'f-toxic', 'f-ink', 'f-paper', 's-rule', 'drawing'} <= classes
  assert classes - {'drawing'} <= {f'{kind}-{role}' for kind in 'fs' for role in drawing.COLOURS}
  assert [
    element for element in drawn.iter() if element.get('fill') == '#123456'
  ]  # no colour of ours: kept


def test_it_is_named_and_has_no_size_of_its_own(drawn):
  assert drawn.get('role') == 'img' and drawn.get('aria-label') == HOSTILE
  assert drawn.get('width') is None and re.fullmatch(r'0 0 [\d.]+ [\d.]+', drawn.get('viewBox'))
  texts = [element.text for element in drawn.iter('text')]
  assert HOSTILE in texts and 'R̂' in texts


def test_ids_are_its_own_and_every_reference_has_one(drawn):
  ids = [element.get('id') for element in drawn.iter() if element.get('id')]
  references = {
    match
    for element in drawn.iter()
    for value in element.attrib.values()
    for match in re.findall(r'(?:^|url\()#([\w.-]+)', value)
    if not re.fullmatch('[0-9a-f]{6}', match)
  }
  assert references and references == set(ids) and len(ids) == len(set(ids))
  assert all(identifier.startswith('one-') for identifier in ids)


def test_nothing_points_outside(drawn):
  for element in drawn.iter():
    assert '{' not in element.tag
    assert all('http' not in value for value in element.attrib.values())


def test_numbers_are_short(drawn):
  text = drawing.svg(draw(), 'one', '')
  assert (
    not re.search(r'\d\.\d{3}', text)
    and '\n' not in text.replace('\n', '', 0)[:1]
    and len(text) < 10_000
  )


def test_the_same_drawing_gives_the_same_bytes():
  assert drawing.svg(draw(), 'one', 'alt') == drawing.svg(draw(), 'one', 'alt')
  assert drawing.png(draw()) == drawing.png(draw())


def test_settings_of_the_user_change_nothing():
  import matplotlib

  first = drawing.svg(draw(), 'one', 'alt')
  with matplotlib.rc_context(
    {'font.size': 30, 'svg.fonttype': 'path', 'axes.grid': False, 'lines.linewidth': 9}
  ):
    assert drawing.svg(draw(), 'one', 'alt') == first


def test_png_is_720_pixels_wide_and_tells_nothing_of_its_making():
  data = drawing.png(draw())
  assert data[:8] == b'\x89PNG\r\n\x1a\n' and struct.unpack('>I', data[16:20]) == (720,)
  assert b'Matplotlib' not in data and b'tEXt' not in data and b'tIME' not in data


@pytest.mark.parametrize(
  'value, short',
  [
    ('M 0 194.456 \nL 1.0001 2', 'M 0 194.46 L 1 2'),
    ('#1f77b4', '#1f77b4'),
    ('url(#pab)', 'url(#n-pab)'),
    ('#m12', '#n-m12'),
    ('-0.004', '-0'),
    ('3.7,1.6', '3.7,1.6'),
  ],
)
def test_numbers_and_references_are_shortened(value, short):
  assert drawing.shorten(value, 'n') == short


def test_roles_are_told_apart_by_their_colours():
  for side in (0, 1):
    assert len({pair[side] for pair in drawing.COLOURS.values()}) == len(drawing.COLOURS)


@pytest.mark.parametrize('side', [0, 1])
@pytest.mark.parametrize('role', ['ink', 'muted', 'recovered', 'toxic', 'true'])
def test_colours_of_text_can_be_read(role, side):
  """WCAG 2.1, 1.4.3: a contrast of at least 4.5."""

  def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
      part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

  light, dark = sorted(
    (luminance(drawing.COLOURS[name][side]) for name in (role, 'paper')), reverse=True
  )
  assert (light + 0.05) / (dark + 0.05) >= 4.5
