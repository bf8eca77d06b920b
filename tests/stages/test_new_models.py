"""The models that the stages sft and classifier start from if the config names none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.config import ClassifierTraining
from irl_jax.config import Config
from irl_jax.config import Supervised
from irl_jax.runtime import metrics_log
from irl_jax.stages import classifier
from irl_jax.stages import sft
from irl_jax.stages.run import Run

TEXTS = ['you are kind', 'you are an idiot', 'what a lovely day', 'shut up'] * 20
SHAPE = dict(hidden_size=32, layers=3, heads=4)


@pytest.fixture
def run(tmp_path):
  with metrics_log.MetricsLog(tmp_path) as log:
    config = Config(seed=7, sft=Supervised(**SHAPE), classifier=ClassifierTraining(**SHAPE))
    yield Run(config, tmp_path, log, jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
  'new, kind', [(sft.new_language_model, 'causal_lm'), (classifier.new_classifier, 'classifier')]
)
def test_a_new_model_has_the_configs_shape_and_a_vocabulary_of_the_texts(run, new, kind):
  model, again = new(run, TEXTS), new(run, TEXTS)
  config = model.config
  assert model.kind == kind
  assert (config.hidden_size, config.num_hidden_layers) == (32, 3)
  assert (config.num_attention_heads, config.intermediate_size) == (4, 128)
  assert config.vocab_size % 128 == 0 and 0 <= config.vocab_size - len(model.tokenizer) < 128
  ids = model.tokenizer('you are an idiot')['input_ids']
  assert model.tokenizer.decode(ids, skip_special_tokens=True) == 'you are an idiot'
  assert jax.tree.all(jax.tree.map(np.array_equal, model.params, again.params))


@pytest.mark.slow
def test_a_new_classifier_names_the_toxic_class(run):
  labels = classifier.new_classifier(run, TEXTS).config.labels
  assert labels == ('neutral', 'toxic')  # 1 is toxic in the rows too
