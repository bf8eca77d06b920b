"""The classifier stage: a toxicity classifier, trained on the run's own labelled texts."""

from collections.abc import Sequence

import jax
import numpy as np

from irl_jax.config import Supervised
from irl_jax.data.playground import tokenizers
from irl_jax.errors import InputError
from irl_jax.models import encoder
from irl_jax.models import pretrained
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run
from irl_jax.training import supervised


def classifier(run: Run) -> None:
  """Trains a toxicity classifier on the labelled training texts -> classifier/classifier.

  Raises:
    InputError: the training texts lack labels of one class.
  """
  training, validation = labelled(run, 'train'), labelled(run, 'validation')
  if len(set(training[1])) < 2:
    raise InputError(
      'stage classifier: the training texts do not have labels of both classes; set '
      'config.data.label_field, or name a classifier in config.models.classifier'
    )
  base = run.config.models.classifier
  model = pretrained.load_classifier(base) if base else new_classifier(run, training[0])
  check_trainable(model, run.config.models.label)
  model = supervised.train_classifier(
    model,
    training,
    validation,
    run.config.classifier,
    run.config.seed,
    run.folder / 'classifier' / 'checkpoints',
    dtype=run.dtype,
    runtime=run.config.runtime,
    **run.logging('classifier'),
  )
  run.save('classifier', 'classifier', model, base)


def check_trainable(model: pretrained.Pretrained, label: str) -> None:
  """Refuses to train a decoder, or a classifier whose labels are not "harmless, toxic".

  The labels of the texts, 1 toxic and 0 not, are the numbers of the classifier's labels.

  Raises:
    InputError: names the labels, or the decoder's kind of config.
  """
  if not isinstance(model.config, encoder.EncoderConfig):
    raise InputError(
      f'stage classifier: {model.source} was made of a language model; only encoders (RoBERTa, '
      'BERT, …) can be trained further. Leave the stage out to use it as it is'
    )
  if model.config.num_labels != 2 or pretrained.toxic_label(model, label) != 1:
    raise InputError(
      f'stage classifier: {model.source} has the labels {list(model.config.labels)[:10]}; only a '
      'classifier of two labels, of which the second one is toxic, can be trained further'
    )


def labelled(run: Run, split: str) -> tuple[list[str], list[int]]:
  """Returns the texts of a split that have a label, and their labels: 1 toxic, 0 not."""
  rows = [row for row in run.rows(split) if row['label'] is not None]
  return full_texts(rows), [row['label'] for row in rows if row['label'] is not None]


def new_classifier(run: Run, texts: Sequence[str]) -> pretrained.Classifier:
  """Returns a RoBERTa classifier with random weights and a tokenizer trained on the texts."""
  tokenizer = tokenizers.classifier_tokenizer(texts)
  config = shape(run.config.classifier, tokenizers.padded_size(tokenizer))
  params = jax.tree.map(np.asarray, encoder.init(jax.random.key(run.config.seed), config))
  return pretrained.Pretrained('classifier', config, params, tokenizer, {}, 'a new classifier')


def shape(settings: Supervised, vocab_size: int) -> encoder.EncoderConfig:
  """Returns the shape of a classifier that is trained from scratch."""
  return encoder.EncoderConfig(
    vocab_size=vocab_size,
    hidden_size=settings.hidden_size,
    num_hidden_layers=settings.layers,
    num_attention_heads=settings.heads,
    intermediate_size=4 * settings.hidden_size,
    labels=('neutral', 'toxic'),
  )
