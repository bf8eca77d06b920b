"""The sft stage: the model that it starts from if the config names none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.config import Config
from irl_jax.config import Supervised
from irl_jax.runtime import metrics_log
from irl_jax.stages import sft
from irl_jax.stages.run import Run

TEXTS = ['you are kind', 'you are an idiot', 'what a lovely day', 'shut up'] * 20


@pytest.fixture
def run(tmp_path):
  with metrics_log.MetricsLog(tmp_path) as log:
    config = Config(seed=7, sft=Supervised(hidden_size=32, layers=3, heads=4))
    yield Run(config, tmp_path, log, jnp.float32)


@pytest.mark.slow
def test_a_new_model_has_the_configs_shape_and_a_vocabulary_of_the_texts(run):
  model, again = sft.new_language_model(run, TEXTS), sft.new_language_model(run, TEXTS)
  config = model.config
  assert model.kind == 'causal_lm'
  assert (config.hidden_size, config.num_hidden_layers) == (32, 3)
  assert (config.num_attention_heads, config.intermediate_size) == (4, 128)
  assert config.vocab_size % 128 == 0 and 0 <= config.vocab_size - len(model.tokenizer) < 128
  ids = model.tokenizer('you are an idiot')['input_ids']
  assert model.tokenizer.decode(ids, skip_special_tokens=True) == 'you are an idiot'
  assert jax.tree.all(jax.tree.map(np.array_equal, model.params, again.params))
