"""The data stage: texts with their prompts, split into training, validation and held-out rows."""

from collections.abc import Mapping
from collections.abc import Sequence
import copy
import dataclasses

from absl import logging

from irl_jax import config
from irl_jax import streams
from irl_jax.data import chat
from irl_jax.data import prompts
from irl_jax.data import resemblance
from irl_jax.data import sources
from irl_jax.data import text
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.runtime import terminal
from irl_jax.runtime.records import CutText
from irl_jax.runtime.records import PromptRow
from irl_jax.stages import demos
from irl_jax.stages import sampled_texts
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run
from irl_jax.stages.run import SPLITS


def data(run: Run) -> None:
  """Reads the source, cuts prompts and splits them -> data/{train,validation,heldout}.jsonl.

  With config.data.unlabelled it writes data/unlabelled.jsonl too.

  Raises:
    ConfigError: no such source.
    InputError: unusable rows, too few of them, or an audit of models that cannot be compared.
  """
  if compares_existing_models(run):
    check_audit(run)
  rows, counts = load(run)
  splits, split_counts = prompts.split_rows(rows)
  counts |= split_counts
  check_splits(rows, splits, run.config.data)
  if limit := run.config.data.max_evaluated:
    for split in ('validation', 'heldout'):
      splits[split] = splits[split][:limit]  # sorted by a hash, so the first are a fair sample
      counts[f'{split}_kept'] = len(splits[split])
  counts['heldout_near_duplicates'] = resemblance.count_resembling(
    *(full_texts(splits[split]) for split in ('heldout', 'train'))
  )
  logging.info('data: %s', counts)
  for split in SPLITS:
    run.write_rows(f'data/{split}.jsonl', splits[split])
  if run.config.data.unlabelled:
    run.write_rows('data/unlabelled.jsonl', unlabelled(run, splits['heldout']))
  run.write_json('data/counts.json', counts)


def check_splits(
  rows: Sequence[CutText], splits: Mapping[str, Sequence[PromptRow]], settings: config.Data
) -> None:
  """Refuses an empty split, and warns of splits that are far from 80/10/10.

  Rows of one prompt stay together, so few different prompts make uneven splits.

  Raises:
    InputError: a split is empty.
  """
  empty = next((split for split in SPLITS if not splits[split]), '')
  if not empty and not prompts.are_uneven(splits):
    return
  where = f'config.data.source = {settings.source!r}'
  remedy = 'provide more rows, or more distinct ones'
  if any(row['original'] for row in rows) and not settings.prompt_field:
    remedy = (
      f'raise config.data.prompt_fraction = {settings.prompt_fraction:g}, or name a field of '
      'prompts in config.data.prompt_field'
    )
  reason = prompts.describe_groups(rows)
  if empty:
    none = terminal.plural(len(rows), 'its only row does not', f'none of its {len(rows)} rows')
    raise InputError(f'{where}: {none} fall in the {empty} split: {reason}; {remedy}')
  sizes = ', '.join(f'{split} {len(splits[split])}' for split in SPLITS)
  logging.warning('%s: splits are far from 80/10/10 (%s): %s; %s', where, sizes, reason, remedy)


def load(run: Run) -> tuple[list[CutText], dict[str, int]]:
  """Returns the texts of the source, and counts; the source `prompts` samples them."""
  if run.config.data.source == 'prompts':
    return sample(run)
  rows, counts = sources.load_rows(run.config.data, run.config.seed, template(run))
  return short_enough(run, rows, counts)


def short_enough(
  run: Run, rows: list[CutText], counts: dict[str, int]
) -> tuple[list[CutText], dict[str, int]]:
  """Drops rendered prompts that are too long; other prompts are cut when they are read.

  A rendered prompt that is cut on the left would no longer be a conversation.

  Raises:
    InputError: all of them are too long.
  """
  rendered = [row for row in rows if chat.is_marked(row['prompt'])]
  if not rendered:
    return rows, counts
  tokenizer = pretrained.load_tokenizer(_template_place(run), ('causal_lm',))
  ids, _ = text.encode(tokenizer, [row['prompt'] for row in rendered])
  limit = run.config.data.max_prompt_tokens
  dropped = {id(row) for row, tokens in zip(rendered, ids) if len(tokens) > limit}
  kept = [row for row in rows if id(row) not in dropped]
  if dropped:
    message = (
      f'{run.config.data.source}: {len(dropped)} of {terminal.count(len(rows), "prompt")} '
      f'{terminal.plural(len(dropped), "has", "have")} more than {limit} tokens when rendered'
    )
    longest = max(map(len, ids))
    if not kept:
      raise InputError(
        f'{message}; raise config.data.max_prompt_tokens (the longest has {longest})'
      )
    logging.warning('%s: left out', message)
  return kept, {**counts, 'rows': len(kept), 'too_long': len(dropped)}


def _template_place(run: Run) -> str:
  """Returns the place of the model whose chat template renders prompts; '': not yet trained."""
  models = run.config.models
  return models.aligned or models.sft or models.base


def template(run: Run) -> chat.Template | None:
  """Returns the chat template that renders prompts for all models, or None (config.data.chat).

  It is the aligned model's, so that both models of an audit see the same tokens.

  Raises:
    ConfigError: prompts must be rendered, but the model has no template.
  """
  chat_mode, place = run.config.data.chat, _template_place(run)
  rendering = None
  if chat_mode != 'never' and place:
    rendering = chat.template_of(pretrained.load_tokenizer(place, ('causal_lm',)))
  if chat_mode == 'always' and not rendering:
    raise ConfigError(
      f'config.data.chat = always: {place or "the model of stage sft"} has no chat template; use '
      'auto, or a model that has one in tokenizer_config.json or chat_template.jinja'
    )
  return rendering


def with_template(
  run: Run, model: pretrained.Decoder, rendered: Sequence[str]
) -> pretrained.Decoder:
  """Returns a model whose tokenizer has the chat template that rendered these prompts, if any.

  A reward that starts from a base model reads the aligned model's template. With it, the exported
  reward can be given conversations.
  """
  if not any(map(chat.is_marked, rendered)):
    return model
  tokenizer = copy.deepcopy(model.tokenizer)
  tokenizer.chat_template = pretrained.load_tokenizer(
    _template_place(run), ('causal_lm',)
  ).chat_template
  return dataclasses.replace(model, tokenizer=tokenizer)


def sample(run: Run) -> tuple[list[CutText], dict[str, int]]:
  """Samples texts from the base model."""
  return sampled_texts.sample_rows(
    pretrained.load_language_model(run.base),
    run.config.data,
    run.config.sampling,
    streams.seed_of(run.config.seed, 'prompts'),
    run.dtype,
    run.progress('data prompts'),
  )


def unlabelled(run: Run, heldout: Sequence[PromptRow]) -> list[PromptRow]:
  """Returns the validation split of config.data.unlabelled, without labels and held-out prompts."""
  settings = dataclasses.replace(
    run.config.data, source=run.config.data.unlabelled, label_field='', positive='', negative=''
  )
  rows, _ = sources.load_rows(settings, run.config.seed, template(run))
  splits, _ = prompts.split_rows(rows)
  held = {row['prompt_id'] for row in heldout}
  return [{**row, 'label': None} for row in splits['validation'] if row['prompt_id'] not in held]


def compares_existing_models(run: Run) -> bool:
  """Returns True if the run compares two existing models, and trains neither."""
  stages = set(run.config.stages)
  return 'demos' in stages and not stages & {'sft', 'rlhf'}


def check_audit(run: Run) -> None:
  """Loads the models of an audit, so that two models that cannot be compared are refused early.

  Raises:
    ConfigError: a model is missing.
    InputError: a model is damaged or of another kind, or the two cannot be compared.
  """
  demos.load_models(run)
  if run.has_true_reward:
    run.true_reward()
