"""The learner of sft, classifier and irl: its history, and its best parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import structs
from irl_jax.training import loop


def state_of(value):
  return structs.TrainState(
    jnp.int32(0), {'w': jnp.full(2, value)}, (), skipped=jnp.int32(0), skipped_in_row=jnp.int32(0)
  )


@pytest.fixture
def learner():
  return loop.Learner(state_of(0.0), best={'w': jnp.zeros(2)})


def test_an_update_is_appended_and_copies_nothing(learner):
  history = learner.history
  for number in range(3):
    state = state_of(float(number))
    learner.record_update(state, {'loss': number})
    assert learner.history is history and learner.state is state
  assert history == [{'loss': 0}, {'loss': 1}, {'loss': 2}]


def test_two_learners_share_no_history(learner):
  learner.record_update(state_of(1.0), {'loss': 1})
  assert loop.Learner(state_of(0.0), None).history == []


@pytest.mark.parametrize(
  'losses, best, best_loss',
  [
    ([3.0, 2.0, 2.5], 2.0, 2.0),
    ([3.0, 3.0], 1.0, 3.0),  # the first of two equal ones
    ([None, None], 2.0, float('inf')),
  ],
)
def test_the_best_parameters_are_those_of_least_validation_loss(learner, losses, best, best_loss):
  for number, loss in enumerate(losses, start=1):
    learner.record_update(state_of(float(number)), {'loss': 0})
    learner.record_validation({} if loss is None else {'validation/loss': loss})
    assert learner.history == []
  np.testing.assert_array_equal(learner.best['w'], [best, best])
  assert learner.best_loss == best_loss


def test_the_best_parameters_outlive_the_donation_of_the_state(learner):
  learner.record_update(state_of(1.0), {'loss': 0})
  learner.record_validation({'validation/loss': 1.0})
  jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)(learner.state)
  np.testing.assert_array_equal(learner.best['w'], [1, 1])


@pytest.mark.parametrize('saved_by, best_loss', [('', float('inf')), ('prefixes', 1.0)])
def test_a_loss_of_another_kind_selects_nothing_after_a_restart(saved_by, best_loss):
  """Those of an older version, which do not say what they are of, cannot be compared with."""

  class Saved:
    @staticmethod
    def restore(arrays):
      meta = {'best_loss': 1.0, 'history': []} | ({'selects_by': saved_by} if saved_by else {})
      return 7, {'state': state_of(1.0), 'best': {'w': np.ones(2)}}, meta

  first, learner = loop.restored_or(
    loop.Learner(state_of(0.0), best={'w': np.zeros(2)}, selects_by='prefixes'), Saved
  )
  assert (first, learner.best_loss, learner.selects_by) == (7, best_loss, 'prefixes')
  np.testing.assert_array_equal(learner.best['w'], [1, 1])
  learner.record_update(state_of(2.0), {'loss': 0})
  learner.record_validation({'validation/loss': 1.5})
  assert learner.best['w'][0] == (2 if not saved_by else 1)


def test_a_metric_is_averaged_and_the_updates_left_out_are_counted():
  history = [
    {'loss': 1.0, 'skipped': 0, 'skipped_in_row': 0},
    {'loss': 2.0, 'skipped': 1, 'skipped_in_row': 1},
  ]
  assert loop.averaged(history) == {'loss': 1.5, 'skipped': 1}
