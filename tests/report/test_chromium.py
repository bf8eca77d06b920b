"""The page in a browser: nothing is loaded or reported, drawings have sizes, the switch works."""

import pytest

pytestmark = pytest.mark.slow  # every test needs a browser, which starts for seconds

WIDTHS = {'phone': 390, 'desktop': 1280}
FIGURES = """[...document.querySelectorAll("figure svg")].map(svg => {
  const box = svg.getBoundingClientRect();
  const parts = [...svg.querySelectorAll("path, text, use")];
  const inside = parts.filter(part => part.getBoundingClientRect().height > 0);
  return [svg.closest("figure").id, box.width, box.height, inside.length];
})"""
WORDS = '[...document.querySelectorAll(".texts .t > span")]'
OVERFLOW = """[...document.querySelectorAll("main *")].filter(part => !part.closest(".table, svg")
  && part.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(part => part.outerHTML.slice(0, 99))"""


@pytest.fixture
def opened(chromium, report):
  chromium.open((report / 'report.html').as_uri())
  return chromium


def names(chromium):
  """The roles and names of everything that a screen reader reads."""
  tree = chromium('Accessibility.getFullAXTree')['nodes']
  return [
    (node.get('role', {}).get('value'), node.get('name', {}).get('value', ''), node)
    for node in tree
    if not node.get('ignored')
  ]


def test_nothing_is_loaded_and_nothing_complains(opened, report):
  requests = [
    event['params']['request']['url']
    for event in opened.events
    if event.get('method') == 'Network.requestWillBeSent'
  ]
  assert requests == [(report / 'report.html').as_uri()]
  complaints = [
    event
    for event in opened.events
    if event.get('method')
    in ('Log.entryAdded', 'Runtime.exceptionThrown', 'Runtime.consoleAPICalled')
  ]
  assert complaints == []


@pytest.mark.parametrize('device', WIDTHS)
def test_every_figure_is_there_and_nothing_is_wider_than_the_screen(opened, report, device):
  opened.resize(WIDTHS[device], mobile=device == 'phone')
  figures = opened.run(FIGURES)
  assert {name for name, *_ in figures} == {
    f'figure-{path.stem}' for path in (report / 'figures').glob('*.png')
  }
  for name, width, height, parts in figures:
    assert width > 250 and height > 80 and parts > 5, name
  assert opened.run('document.documentElement.scrollWidth') <= WIDTHS[device]
  assert opened.run(OVERFLOW) == []


def test_styles_apply_under_the_policy(opened):
  assert (
    opened.run('getComputedStyle(document.querySelector(".verdict.yes")).backgroundColor')
    == 'rgb(0, 103, 165)'
  )
  assert (
    opened.run('getComputedStyle(document.querySelector("svg .s-recovered")).stroke')
    == 'rgb(0, 103, 165)'
  )
  opened('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': 'dark'}])
  assert (
    opened.run('getComputedStyle(document.querySelector("svg .s-recovered")).stroke')
    == 'rgb(90, 180, 238)'
  )
  assert opened.run('getComputedStyle(document.body).backgroundColor') == 'rgb(22, 25, 29)'
  opened('Emulation.setEmulatedMedia', features=[])


def test_a_script_could_not_run(opened):
  opened.run("""(() => { const script = document.createElement("script");
                script.textContent = "window.ran = 1";
                document.body.append(script); })()""")
  assert opened.run('window.ran === undefined')


def test_the_switch_shows_the_words_and_hides_them_again(opened):
  shown = f'new Set({WORDS}.map(word => getComputedStyle(word).visibility))'
  count = opened.run(f'{WORDS}.length')
  read = lambda: sum(
    'kind' in name for role, name, _ in names(opened) if role in ('StaticText', 'InlineTextBox')
  )
  switch = lambda: next(node for role, name, node in names(opened) if role == 'switch')
  state = lambda: next(
    entry['value']['value'] for entry in switch()['properties'] if entry['name'] == 'checked'
  )
  assert count > 100 and opened.run(f'[...{shown}]') == ['hidden']
  assert switch()['name']['value'] == 'Show the words' and state() == 'false' and read() == 0
  assert 'kind' not in opened.run('document.querySelector(".texts").innerText')
  before = opened.run('document.documentElement.scrollHeight')
  opened.run('document.querySelector("#show").focus()')
  opened.press(' ', 'Space', 32, ' ')  # by keyboard
  assert opened.run(f'[...{shown}]') == ['visible'] and state() == 'true' and read() > 0
  assert 'kind' in opened.run('document.querySelector(".texts").innerText')
  assert abs(opened.run('document.documentElement.scrollHeight') - before) < 2  # nothing moves
  opened.run('document.querySelector("label[for=show]").click()')  # by mouse, on its label
  assert opened.run(f'[...{shown}]') == ['hidden'] and read() == 0


def test_the_switch_can_be_reached_by_tab(opened):
  opened.run('document.querySelector("a[href=\\"#again\\"]").focus()')
  for _ in range(30):
    opened.press('Tab', 'Tab', 9)
    if opened.run('document.activeElement.id') == 'show':
      break
  assert opened.run('document.activeElement.id') == 'show'


def test_it_can_be_printed(opened):
  pdf = opened('Page.printToPDF', printBackground=True, preferCSSPageSize=True)['data']
  assert len(pdf) > 50_000
