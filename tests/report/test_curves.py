"""Curves show the values of the log; long ones are averaged, and one point draws nothing."""

import dataclasses

import numpy as np
import pytest

from irl_jax.report import curves
from irl_jax.report import drawing as drawing_lib
from irl_jax.report import inputs as inputs_lib
from irl_jax.report import summary as summary_lib


@pytest.fixture
def inputs(make_run):
  with drawing_lib.style():
    yield inputs_lib.read(make_run())


def test_series_leaves_out_what_is_no_number():
  rows = [{'step': 0, 'a': 1.0}, {'step': 1, 'a': None}, {'step': 2}, {'step': 3, 'a': 4}]
  assert curves.series(rows, 'a') == ([0.0, 3.0], [1.0, 4.0]) and curves.series(rows, 'b') == (
    [],
    [],
  )


def test_long_series_are_averaged_over_neighbours():
  values = np.random.default_rng(0).normal(size=1000)
  steps, averaged = curves.series(
    [{'step': step, 'a': value} for step, value in enumerate(values)], 'a'
  )
  assert len(steps) == curves.POINTS
  for block in range(curves.POINTS):
    np.testing.assert_allclose(averaged[block], sum(values[5 * block : 5 * block + 5]) / 5)
    np.testing.assert_allclose(steps[block], 5 * block + 2)


def test_scores_show_the_true_reward_below_the_recovered_one(inputs):
  drawing = curves.scores(inputs, 'rerlhf')
  assert drawing.numbers['score'] == pytest.approx([0.1 * step for step in range(30)])
  assert drawing.numbers['true_reward'] == pytest.approx([1 - 0.01 * step for step in range(30)])
  assert len(drawing.figure.axes) == 2 and 'exploits a flaw' in drawing.caption
  assert (
    'recovered reward from 0.00 at the first step to 2.90 at the last; '
    'true reward from 1.00 at the first step to 0.71 at the last' in drawing.alt
  )
  assert len(curves.scores(inputs, 'rlhf').figure.axes) == 1


def test_the_kl_of_both_policies_is_drawn(inputs):
  drawing = curves.kl(inputs)
  assert set(drawing.numbers) == {'rlhf', 'rerlhf'} and '8.7 nats at the last step' in drawing.alt


def test_no_curve_can_cross_the_names_of_the_policies(inputs):
  figure = curves.kl(inputs).figure
  drawing_lib.fix_layout(figure)
  (axes,) = figure.axes
  top = axes.get_window_extent().y1
  boxes = [text.get_window_extent() for text in axes.texts]
  assert len(boxes) == 2 and all(box.y0 >= top for box in boxes)
  assert not boxes[0].overlaps(boxes[1]) and max(box.y1 for box in boxes) <= figure.bbox.y1


@pytest.mark.parametrize('curve', curves.IRL, ids=lambda curve: curve.file)
def test_every_seed_has_its_line(inputs, curve):
  drawing = curves.irl(inputs, curve)
  assert list(drawing.numbers) == ['irl/seed_0', 'irl/seed_1', 'irl/seed_2']
  assert len(drawing.figure.axes[0].lines) == 3


def test_the_log_ratio_of_truncated_samples_is_not_called_kl(inputs):
  whole = curves.kl(inputs)
  assert whole.alt.startswith('KL from the starting policy') and 'top-k' not in whole.caption
  for sampling in ({'top_k': 30, 'top_p': 1.0}, {'top_k': 0, 'top_p': 0.9}):
    config = inputs.config | {'sampling': sampling}
    drawing = curves.kl(dataclasses.replace(inputs, config=config))
    assert drawing.alt.startswith('log-ratio') and 'is not the KL' in drawing.caption
    assert 'log-ratio' in drawing.figure.axes[0].get_ylabel()


def test_one_point_is_no_curve():
  log = [
    {
      'stage': stage,
      'step': 1,
      'objective/scores': 1.0,
      'objective/kl': 1.0,
      'validation/loss': 1.0,
    }
    for stage in ('rlhf', 'irl/seed_0')
  ]
  inputs = inputs_lib.Inputs(summary_lib.Summary(), {}, {}, log=log)
  for reason in (
    curves.scores(inputs, 'rlhf'),
    curves.kl(inputs),
    curves.irl(inputs, curves.IRL[0]),
  ):
    assert isinstance(reason, str) and 'two' in reason
