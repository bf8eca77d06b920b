"""Loads models and rewards, scores texts, generates completions.

A model is a Hugging Face folder, a hub id, `id@revision`, a LoRA adapter, or a model returned by
`load_model`. Its kind is read from its config.json. Dims: N texts.

`score` and `generate` read the weights of a path once: the two most recently used models stay in
memory, on the devices. A folder whose files change is read again. Pass a loaded model to control
how long it stays.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import os
from typing import Any

import numpy as np

from irl_jax import rewards
from irl_jax import sampling as sampling_lib
from irl_jax import settings
from irl_jax.api import loaded as loaded_models
from irl_jax.config import Sampling
from irl_jax.data import chat_rows
from irl_jax.data import chat_texts
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.evaluation import likelihoods
from irl_jax.evaluation import run_scores
from irl_jax.evaluation import scorers
from irl_jax.models import chat_templates
from irl_jax.models import pretrained
from irl_jax.models.huggingface import config as huggingface_config
from irl_jax.models.huggingface import labels
from irl_jax.training import arguments

Model = arguments.Model
Text = str | Sequence[Mapping[str, Any]]  # a text, or a conversation: {'role', 'content'} each
Scorer = Callable[[Sequence[Text]], dict[str, np.ndarray]]
LogRatio = Callable[[Sequence[Text], Sequence[Text] | None], dict[str, np.ndarray]]


def load_model(path: str | os.PathLike[str]) -> pretrained.Pretrained:
  """Loads a language model, a classifier or a recovered reward.

  Raises:
    ConfigError: path is not a path, or is a folder that does not exist.
    InputError: the hub does not answer, or the folder contains no such model.
  """
  arguments.check_path(path, 'path')
  return pretrained.load(settings.local_path(path, 'path'))


def load_reward(path: str | os.PathLike[str], label: labels.Label = '') -> rewards.Reward:
  """Loads a reward: a function of N texts that returns float32 [N], higher is better.

  A classifier returns the true reward -logit[toxic], a recovered reward its score, and an ensemble
  the mean of its members.

  Args:
    path: a path or a hub id.
    label: the name or number of a classifier's toxic label; '': found by the labels' names.

  Raises:
    ConfigError: path is a folder that does not exist, or the model has no such label.
    InputError: the hub does not answer, or the model is not a reward.
  """
  arguments.check_path(path, 'path')
  return rewards.load(settings.local_path(path, 'path'), label=label)


def load_scorer(
  model: Model, batch_size: int = 32, progress: Callable = iter, label: labels.Label = ''
) -> Scorer:
  """Returns a function of N texts that returns the model's scores by name, [N] or [N, labels].

  A text may be a conversation (a list of {'role', 'content'}). The model's chat template renders
  what precedes the last answer, as in training; a classifier reads the messages without it.

  The scores are:
    causal language model: `log_prob` (nats, summed over the text's tokens, EOS given first) and
      `tokens`.
    classifier: `logits` and, if one of the labels means toxic, `reward` = -logit[toxic].
    recovered reward: `reward`.
    ensemble: `reward` (the mean over its members) and `reward_std` (their population standard
      deviation).
    recovered reward or ensemble, given by its path in the folder of its run: also
      `harmless_probability`, if the run had labels to fit it on, and `out_of_distribution`, True
      for a text that is unlike those of the recovery (`evaluation.run_scores`).

  Args:
    model: a path, a hub id, or a loaded model.
    batch_size: texts of 64 tokens to score at once, over all devices; more if they are shorter.
    progress: wraps the iterable of chunks of texts.
    label: the name or number of a classifier's toxic label; '': found by the labels' names.

  Raises:
    ConfigError: the path is a folder that does not exist, or the model has no such label.
    InputError: the hub does not answer, or the folder contains no such model.
  """
  scorer, reader = _text_scorer(model, batch_size, progress, label), _reader(model)
  return lambda texts: scorer(chat_texts.texts_of(texts, reader))


def _text_scorer(
  model: Model, batch_size: int, progress: Callable, label: labels.Label
) -> scorers.Scorer:
  """Returns `load_scorer`'s function, for texts alone."""
  arguments.check_model(model, 'model')
  arguments.check_whole(batch_size, 'batch_size', low=1)
  arguments.check_functions(progress=progress)
  if loaded_models.is_ensemble(model):
    rewards.refuse_label(label, str(model))
    members = loaded_models.models(model)
    scorer = scorers.of_ensemble(members, batch_size, progress)
  else:
    members = loaded_models.models(model)
    scorer = scorers.of_model(members[0], batch_size, progress, label)
  if isinstance(model, pretrained.Pretrained) or not (
    place := run_scores.find(settings.local_path(model, 'model'))
  ):
    return scorer
  vocabulary = max(members[0].config.vocab_size, len(members[0].tokenizer))
  return run_scores.extended(scorer, place, members[0].tokenizer, vocabulary)


def score(
  model: Model, texts: Sequence[Text], batch_size: int = 32, label: labels.Label = ''
) -> dict[str, np.ndarray]:
  """Scores N texts or conversations; `load_scorer` lists the results for each kind of model.

  Raises:
    ConfigError: the path is a folder that does not exist, or texts is a single string.
    InputError: the model cannot be loaded, or one of the texts is neither a string nor a
      conversation that the model can read.
  """
  texts = chat_texts.check(texts, 'texts')
  return load_scorer(model, batch_size, label=label)(texts)


def load_log_ratio(
  model: Model, reference: Model, batch_size: int = 32, progress: Callable = iter
) -> LogRatio:
  """Returns a function of N texts, and N prompts or None, that compares two language models.

  With prompts, a text is what follows its prompt, and only its own tokens are counted. Prompts may
  be conversations. So may texts without prompts: the last answer is compared, given what precedes
  it. The chat template of `model` renders them.

  The function returns `log_ratio` (nats, summed over the text's tokens: how much likelier `model`
  makes it than `reference`), `log_ratio_per_token`, `log_prob`, `reference_log_prob` and `tokens`,
  [N]. Arrays that are equal in both models are in memory once.

  Args:
    model: a path, a hub id, or a loaded model.
    reference: the model that it is compared with, such as the one that it was trained from.
    batch_size: texts of 64 tokens to score at once, over all devices; more if they are shorter.
    progress: wraps the iterable of chunks of texts, of each model.

  Raises:
    ConfigError: a path is a folder that does not exist.
    InputError: a model cannot be loaded or is not a causal language model, or the two do not give
      a text the same tokens.
  """
  arguments.check_whole(batch_size, 'batch_size', low=1)
  arguments.check_functions(progress=progress)
  for name, given in (('model', model), ('reference', reference)):
    arguments.check_model(given, name)
    _check_completes(given, 'gives the log-probability of a text')
  pair = loaded_models.pair(model, reference)
  of_model, of_reference = (
    likelihoods.completion_log_prob_scorer(one, batch_size, progress=progress) for one in pair
  )

  reader = _reader(model)

  def compare(texts: Sequence[Text], prompts: Sequence[Text] | None) -> dict[str, np.ndarray]:
    pairs = chat_texts.pairs_of(texts, prompts, reader)
    prompts_read = [prompt for prompt, _ in pairs]
    chat_templates.check_alike(pair, prompts_read, 'Give plain texts instead')
    return likelihoods.columns(of_model(pairs), of_reference(pairs))

  return compare


def log_ratio(
  model: Model,
  reference: Model,
  texts: Sequence[Text],
  prompts: Sequence[Text] | None = None,
  batch_size: int = 32,
) -> dict[str, np.ndarray]:
  """Compares two language models on N texts; `load_log_ratio` lists the results and errors."""
  return load_log_ratio(model, reference, batch_size)(texts, prompts)


def generate(
  model: Model,
  prompts: Sequence[Text],
  sampling: Sampling = Sampling(max_new_tokens=64),
  seed: int = 0,
  progress: Callable = iter,
  first: int = 0,
  chat: bool = False,
) -> list[str]:
  """Completes N prompts with a causal language model.

  Args:
    model: a path, a hub id, or a loaded model.
    prompts: N texts; an empty one is completed from EOS, a long one is cut on the left. Or
      conversations (lists of {'role', 'content'}), which the model's chat template renders.
    sampling: length, truncation, temperature (0: greedy) and batch size.
    seed: the same seed gives the same completions, regardless of the batches.
    progress: wraps the iterable of batches.
    first: the number of prompts in earlier calls, so that several calls give the same samples as a
      single one.
    chat: whether each text is the message of a user, to be rendered by the chat template too.

  Returns:
    N completions, each with its leading space and without EOS.

  Raises:
    ConfigError: the path is a folder that does not exist, max_new_tokens leaves no room for a
      prompt, prompts is a single string, or another argument is wrong.
    InputError: the model cannot be loaded or is not a causal language model, or a prompt is neither
      a string nor a conversation that it can answer.
  """
  checked = chat_rows.check_prompts(prompts)
  arguments.check_model(model, 'model')
  arguments.check_config(sampling, Sampling, 'sampling')
  arguments.check_whole(seed, 'seed', low=-(2**31), high=2**32 - 1)
  arguments.check_functions(progress=progress)
  arguments.check_flag(chat, 'chat')
  arguments.check_whole(first, 'first', low=0, high=arguments.MAX_SEED - len(checked))
  _check_positions(model, sampling)
  _check_completes(model)
  (loaded,) = loaded_models.models(model)
  if not checked:
    return []
  rendered = chat_rows.render_all(loaded.tokenizer, checked, chat, loaded.source or 'the model')
  return sampling_lib.complete(
    loaded, rendered, sampling, seed=seed, progress=progress, first=first
  )


def _check_positions(model: Model, sampling: Sampling) -> None:
  """Refuses a length that leaves no room for a prompt, before any weights are read."""
  if isinstance(model, pretrained.Pretrained):
    name = model.source or 'the model'
    positions = getattr(model.config, 'max_position_embeddings', None)
  else:
    name = settings.local_path(model, 'model')
    positions = pretrained.read_config(name).get('max_position_embeddings')
  if isinstance(positions, int) and sampling.max_new_tokens >= positions:
    raise ConfigError(
      f'max_new_tokens = {sampling.max_new_tokens}: must be < {positions}, the positions of '
      f'{name}, so that a prompt fits'
    )


def _reader(model: Model) -> chat_texts.Reader:
  return chat_texts.Reader(functools.cache(lambda: loaded_models.chat_model(model)))


def _check_completes(model: Model, does: str = 'completes prompts') -> None:
  """Refuses all but causal language models, before any weights are read."""
  if isinstance(model, pretrained.Pretrained):
    name, kind = model.source or 'the model', model.kind
  else:
    name = settings.local_path(model, 'model')
    kind, _ = huggingface_config.parse(pretrained.read_config(name), name)
  if kind != 'causal_lm':
    raise InputError(f'{name}: is a {kind}; only a causal language model {does}')
