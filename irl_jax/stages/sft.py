"""The sft stage: a language model, fine-tuned or trained from scratch on the run's own texts."""

from collections.abc import Sequence

import jax
import numpy as np

from irl_jax.config import Supervised
from irl_jax.data.playground import tokenizers
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run
from irl_jax.stages.run import SPLITS
from irl_jax.training import supervised


def sft(run: Run) -> None:
  """Trains the base model, or a new one, on the training texts -> sft/policy."""
  training, validation = (full_texts(run.rows(split)) for split in SPLITS[:2])
  base = run.config.models.base
  model = pretrained.load_language_model(base) if base else new_language_model(run, training)
  model = supervised.train_language_model(
    model,
    training,
    validation,
    run.config.sft,
    run.config.seed,
    run.folder / 'sft' / 'checkpoints',
    dtype=run.dtype,
    runtime=run.config.runtime,
    **run.logging('sft'),
  )
  run.save('sft', 'policy', model, base)


def new_language_model(run: Run, texts: Sequence[str]) -> pretrained.Pretrained:
  """Returns a small model with random weights and a tokenizer trained on the texts."""
  tokenizer = tokenizers.language_model_tokenizer(texts)
  config = shape(run.config.sft, tokenizers.padded_size(tokenizer))
  params = jax.tree.map(np.asarray, trunk.init(jax.random.key(run.config.seed), config))
  return pretrained.Pretrained('causal_lm', config, params, tokenizer, {}, 'a new language model')


def shape(settings: Supervised, vocab_size: int) -> trunk.Config:
  """Returns the shape of a language model that is trained from scratch."""
  return trunk.new_config(vocab_size, settings.hidden_size, settings.layers, settings.heads)
