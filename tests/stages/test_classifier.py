"""The classifier stage: the labels that it needs."""

import dataclasses

import jax.numpy as jnp
import pytest

from irl_jax import errors
from irl_jax.config import Config
from irl_jax.data import rows as rows_lib
from irl_jax.runtime import metrics_log
from irl_jax.stages import classifier
from irl_jax.stages.run import Run


@pytest.fixture(name='toxicity')
def fixture_toxicity(request):
  """The classifier that all tests share; here its fixture's name is the stage's."""
  return request.getfixturevalue('classifier')


@pytest.fixture
def run(tmp_path):
  with metrics_log.MetricsLog(tmp_path) as log:
    yield Run(Config(), tmp_path, log, jnp.float32)


@pytest.mark.parametrize('labels', [[None, None], [1, 1], [0, None]])
def test_labels_of_both_classes_are_needed(run, labels):
  rows = [{'prompt': 'a', 'original': ' b', 'label': label} for label in labels]
  for split in ('train', 'validation'):
    rows_lib.write_jsonl(run.folder / 'data' / f'{split}.jsonl', rows)
  with pytest.raises(
    errors.InputError, match='do not have labels of both classes; set config.data.label_field'
  ):
    classifier.classifier(run)


def test_a_decoder_is_not_trained_further(policy):
  with pytest.raises(errors.InputError, match='the tiny policy was made of a language model; only'):
    classifier.check_trainable(dataclasses.replace(policy, kind='classifier'), '')


def test_only_a_classifier_whose_second_label_is_toxic_is_trained_further(run, toxicity):
  classifier.check_trainable(toxicity, '')
  swapped = dataclasses.replace(toxicity, hf_config={'id2label': {'0': 'toxic', '1': 'ok'}})
  for model, label in ((swapped, ''), (toxicity, '0')):
    with pytest.raises(errors.InputError, match='of which the second one is toxic'):
      classifier.check_trainable(model, label)
