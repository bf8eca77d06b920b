"""Drawings show what was measured (against plain loops), or say why they cannot."""

import dataclasses
import json

import numpy as np
import pytest

from irl_jax.report import agreement_figures as figures
from irl_jax.report import comparisons
from irl_jax.report import drawing as drawing_lib
from irl_jax.report import inputs as inputs_lib

DRAW = (
  figures.scatter,
  figures.distribution,
  figures.roc,
  figures.reliability,
  comparisons.toxicity,
  comparisons.seeds,
  comparisons.baselines,
)


@pytest.fixture
def inputs(make_run):
  with drawing_lib.style():
    yield inputs_lib.read(make_run())


def without(inputs, *names):
  """The inputs with these fields of every text set to None."""
  return dataclasses.replace(inputs, texts=[row | dict.fromkeys(names) for row in inputs.texts])


@pytest.mark.parametrize('draw', DRAW)
def test_every_figure_says_its_numbers(inputs, draw):
  drawing = draw(inputs)
  assert any(char.isdigit() for char in drawing.alt) and drawing.title and drawing.caption
  assert 'None' not in drawing.alt + drawing.caption and 'nan' not in drawing.alt
  assert json.loads(json.dumps(drawing.numbers, allow_nan=False))
  assert all(axes.get_xlabel() or draw is comparisons.seeds for axes in drawing.figure.axes)


@pytest.mark.parametrize('draw', DRAW)
@pytest.mark.parametrize(
  'summary', [{}, {'irl': {'seeds': [{}]}}, {'irl': {'seeds': [{'calibration': None}]}}]
)
def test_without_figures_each_says_why(draw, summary):
  reason = draw(inputs_lib.Inputs(inputs_lib.parse_summary(summary), {}, {}))
  assert isinstance(reason, str) and len(reason) > 10


def test_roc_is_that_of_every_threshold():
  rng = np.random.default_rng(0)
  scores, toxic = rng.integers(0, 12, 60) / 3, rng.random(60) < 0.4  # many ties
  passed, found, area = figures.roc_curve(scores, toxic)
  points = [(0.0, 0.0)]
  for threshold in sorted(set(scores), reverse=True):
    points.append((np.mean(scores[toxic] >= threshold), np.mean(scores[~toxic] >= threshold)))
  np.testing.assert_allclose(np.stack([passed, found], axis=1), points)
  wins = [(good > bad) + 0.5 * (good == bad) for good in scores[~toxic] for bad in scores[toxic]]
  np.testing.assert_allclose(area, np.mean(wins))


def test_a_long_roc_is_thinned_and_its_area_is_not():
  rng = np.random.default_rng(1)
  scores, toxic = rng.normal(size=5000), rng.random(5000) < 0.5
  passed, found, area = figures.roc_curve(scores, toxic)
  assert len(passed) <= figures.CURVE_POINTS and (passed[0], found[0], passed[-1], found[-1]) == (
    0,
    0,
    1,
    1,
  )
  np.testing.assert_allclose(area, np.trapezoid(found, passed), atol=1e-3)


def test_scatter_counts_every_text_and_shows_not_too_many(inputs, monkeypatch):
  drawing = figures.scatter(inputs)
  counts = dict.fromkeys(drawing.numbers['counts'], 0)
  for row in inputs.texts:
    name = lambda value: 'toxic' if value < 0 else 'harmless'
    counts[
      f'true reward {name(row["true_reward"])}, recovered {name(np.mean(row["rewards"]))}'
    ] += 1
  assert drawing.numbers['counts'] == counts and sum(counts.values()) == 120
  assert len(drawing.numbers['true_reward']) == 120 and 'are drawn' not in drawing.caption
  monkeypatch.setattr(figures, 'POINTS', 50)
  drawing = figures.scatter(inputs)
  assert len(drawing.numbers['true_reward']) == 40 and '40 of them are drawn' in drawing.caption


def test_histogram_holds_every_text_and_the_interval_of_zero(inputs):
  numbers = figures.distribution(inputs).numbers
  toxic = sum(row['true_reward'] < 0 for row in inputs.texts)
  assert (sum(numbers['toxic']), sum(numbers['harmless'])) == (toxic, 120 - toxic)
  np.testing.assert_allclose(numbers['zero_interval'], [-0.01, 0.01], atol=1e-12)
  numbers = figures.distribution(without(inputs, 'true_reward', 'label')).numbers
  assert sum(numbers['all texts']) == 120


def test_labels_stand_in_for_the_true_reward(inputs):
  drawing = figures.roc(without(inputs, 'true_reward'))
  assert "people's labels" in drawing.caption
  assert figures.scatter(without(inputs, 'true_reward')) == 'the texts have no true reward'
  assert figures.roc(without(inputs, 'true_reward', 'label')) == figures.NO_REFERENCE
  one_class = dataclasses.replace(
    inputs, texts=[row | {'true_reward': 1.0} for row in inputs.texts]
  )
  assert figures.roc(one_class) == figures.NO_REFERENCE


def test_reliability_gives_the_reason_of_the_summary():
  seeds = [
    {
      'calibration': {
        'platt': None,
        'reliability': None,
        'why': {'platt': 'no labels of both classes'},
      }
    }
  ]
  assert (
    figures.reliability(
      inputs_lib.Inputs(inputs_lib.parse_summary({'irl': {'seeds': seeds}}), {}, {})
    )
    == 'no labels of both classes'
  )


def test_a_start_that_two_stages_share_is_there_once(make_summary):
  summary = make_summary()
  assert list(comparisons.toxicity_of_policies(inputs_lib.parse_summary(summary))) == [
    'start',
    'RLHF on the true reward',
    'RLHF on the recovered reward',
  ]
  summary['rerlhf']['before']['toxicity'] = summary['rerlhf']['before']['toxicity'] | {'rate': 0.49}
  summary['rerlhf_random'] = summary['rlhf']
  assert list(comparisons.toxicity_of_policies(inputs_lib.parse_summary(summary))) == [
    'start',
    'RLHF on the true reward',
    'start of rerlhf',
    'RLHF on the recovered reward',
    'rerlhf random',
  ]


def test_rewards_are_compared_best_baseline_first(make_summary):
  rows = comparisons.compared_rewards(
    inputs_lib.parse_summary(make_summary(seeds=2)).recovery, 'heldout_texts'
  )
  assert [row.label for row in rows] == [
    'ceiling',
    'mean of seeds',
    'seed 0',
    'seed 1',
    'bag of words',
    "DPO's implicit reward",
    'constant',
  ]
  assert [row.interval for row in rows[:3]] == [None, [0.92, 0.96], [0.92, 0.96]]


def test_correlations_that_could_not_be_computed_are_drawn_as_a_dash(make_summary):
  summary = make_summary(seeds=2)
  summary['irl']['identifiability']['spearman'] = [[1.0, None], [None, None]]
  with drawing_lib.style():
    drawing = comparisons.seeds(inputs_lib.Inputs(inputs_lib.parse_summary(summary), {}, {}))
  assert 'none could be computed' in drawing.alt
  assert [text.get_text() for text in drawing.figure.axes[0].texts] == ['1.00', '–', '–', '–']


@pytest.mark.parametrize('strength, colour', [(0.0, comparisons.PALE), (1.0, comparisons.DARK)])
def test_heat_map_ends_in_its_colours(strength, colour):
  assert comparisons.blend(strength) == colour
