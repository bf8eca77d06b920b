"""The classifier stage: the model that it starts from, and the labels that it needs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import errors
from irl_jax.config import ClassifierTraining
from irl_jax.config import Config
from irl_jax.data import rows as rows_lib
from irl_jax.runtime import metrics_log
from irl_jax.stages import classifier
from irl_jax.stages.run import Run

TEXTS = ['you are kind', 'you are an idiot', 'what a lovely day', 'shut up'] * 20


@pytest.fixture(name='toxicity')
def fixture_toxicity(request):
  """The classifier that all tests share; here its fixture's name is the stage's."""
  return request.getfixturevalue('classifier')


@pytest.fixture
def run(tmp_path):
  with metrics_log.MetricsLog(tmp_path) as log:
    config = Config(seed=7, classifier=ClassifierTraining(hidden_size=32, layers=3, heads=4))
    yield Run(config, tmp_path, log, jnp.float32)


@pytest.mark.slow
def test_a_new_model_has_the_configs_shape_and_a_vocabulary_of_the_texts(run):
  model, again = classifier.new_classifier(run, TEXTS), classifier.new_classifier(run, TEXTS)
  config = model.config
  assert model.kind == 'classifier'
  assert (config.hidden_size, config.num_hidden_layers) == (32, 3)
  assert (config.num_attention_heads, config.intermediate_size) == (4, 128)
  assert config.vocab_size % 128 == 0 and 0 <= config.vocab_size - len(model.tokenizer) < 128
  ids = model.tokenizer('you are an idiot')['input_ids']
  assert model.tokenizer.decode(ids, skip_special_tokens=True) == 'you are an idiot'
  assert jax.tree.all(jax.tree.map(np.array_equal, model.params, again.params))


def test_a_classifier_names_the_toxic_class(run):
  labels = classifier.new_classifier(run, TEXTS).config.labels
  assert labels == ('neutral', 'toxic')  # 1 is toxic in the rows too


@pytest.mark.parametrize('labels', [[None, None], [1, 1], [0, None]])
def test_labels_of_both_classes_are_needed(run, labels):
  rows = [{'prompt': 'a', 'original': ' b', 'label': label} for label in labels]
  for split in ('train', 'validation'):
    rows_lib.write_jsonl(run.folder / 'data' / f'{split}.jsonl', rows)
  with pytest.raises(
    errors.InputError, match='not labelled with both classes; set config.data.label_field'
  ):
    classifier.classifier(run)


def test_only_a_classifier_whose_second_label_is_toxic_is_trained_further(run, toxicity):
  classifier.check_labels(toxicity, '')
  swapped = dataclasses.replace(toxicity, hf_config={'id2label': {'0': 'toxic', '1': 'ok'}})
  for model, label in ((swapped, ''), (toxicity, '0')):
    with pytest.raises(errors.InputError, match='of which the second one is toxic'):
      classifier.check_labels(model, label)
