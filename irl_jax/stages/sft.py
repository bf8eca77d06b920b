"""The stages sft and classifier: a language model and a true reward, trained on the run's own texts."""

from collections.abc import Sequence

import jax
import numpy as np

from irl_jax.config import Supervised
from irl_jax.data.playground import tokenizers as playground_tokenizers
from irl_jax.errors import InputError
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import roberta
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
  run.save('sft/policy', model, base)


def classifier(run: Run) -> None:
  """Trains a toxicity classifier on labelled training texts -> classifier/classifier."""
  labelled = [[row for row in run.rows(split) if row['label'] is not None] for split in SPLITS[:2]]
  if len({row['label'] for row in labelled[0]}) < 2:
    raise InputError(
      'stage classifier: the training texts have no labels of both classes; set '
      'config.data.label_field, or name a classifier in config.models.classifier'
    )
  examples = [(full_texts(rows), [row['label'] for row in rows]) for rows in labelled]
  base = run.config.models.classifier
  model = pretrained.load_classifier(base) if base else new_classifier(run, examples[0][0])
  model = supervised.train_classifier(
    model,
    *examples,
    run.config.classifier,
    run.config.seed,
    run.folder / 'classifier' / 'checkpoints',
    dtype=run.dtype,
    runtime=run.config.runtime,
    **run.logging('classifier'),
  )
  run.save('classifier/classifier', model, base)


def new_language_model(run: Run, texts: Sequence[str]) -> pretrained.Pretrained:
  """A GPT-NeoX with random weights and a tokenizer trained on the texts."""
  tokenizer = playground_tokenizers.language_model_tokenizer(texts)
  config = language_model_config(run.config.sft, padded_vocabulary(tokenizer))
  params = jax.tree.map(np.asarray, gpt_neox.init(jax.random.key(run.config.seed), config))
  return pretrained.Pretrained('causal_lm', config, params, tokenizer, {}, 'a new language model')


def new_classifier(run: Run, texts: Sequence[str]) -> pretrained.Pretrained:
  """A RoBERTa classifier with random weights and a tokenizer trained on the texts."""
  tokenizer = playground_tokenizers.classifier_tokenizer(texts)
  config = classifier_config(run.config.classifier, padded_vocabulary(tokenizer))
  params = jax.tree.map(np.asarray, roberta.init(jax.random.key(run.config.seed), config))
  return pretrained.Pretrained('classifier', config, params, tokenizer, {}, 'a new classifier')


def language_model_config(settings: Supervised, vocab_size: int) -> gpt_neox.GPTNeoXConfig:
  """The shape of a language model that is trained from scratch."""
  return gpt_neox.GPTNeoXConfig(
    vocab_size=vocab_size,
    hidden_size=settings.hidden_size,
    num_hidden_layers=settings.layers,
    num_attention_heads=settings.heads,
    intermediate_size=4 * settings.hidden_size,
  )


def classifier_config(settings: Supervised, vocab_size: int) -> roberta.RobertaConfig:
  """The shape of a classifier that is trained from scratch."""
  return roberta.RobertaConfig(
    vocab_size=vocab_size,
    hidden_size=settings.hidden_size,
    num_hidden_layers=settings.layers,
    num_attention_heads=settings.heads,
    intermediate_size=4 * settings.hidden_size,
    labels=('neutral', 'toxic'),
  )


def padded_vocabulary(tokenizer) -> int:
  """The tokenizer's size rounded up to a multiple of 128, as Pythia's."""
  return -(-len(tokenizer) // 128) * 128
