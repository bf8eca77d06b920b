"""The data stage: texts with their prompts, split into training, validation and held-out rows."""

from collections.abc import Sequence
import dataclasses

from absl import logging

from irl_jax.data import prompts
from irl_jax.data import sources
from irl_jax.errors import InputError
from irl_jax.models import pretrained
from irl_jax.records import CutText
from irl_jax.records import PromptRow
from irl_jax.stages import demos
from irl_jax.stages import sampled_texts
from irl_jax.stages.run import Run
from irl_jax.stages.run import SPLITS


def data(run: Run) -> None:
  """Reads the source, cuts prompts, splits -> data/{train,validation,heldout}.jsonl (and data/unlabelled.jsonl)."""
  if audits(run):
    check_audit(run)
  rows, read = (
    sample(run)
    if run.config.data.source == 'prompts'
    else sources.load_rows(run.config.data, run.config.seed)
  )
  splits, counted = prompts.split_rows(rows)
  for split in ('validation', 'heldout') if run.config.data.max_evaluated else ():
    splits[split] = splits[split][
      : run.config.data.max_evaluated
    ]  # they are sorted by a hash: any are as good
    counted[f'{split}_kept'] = len(splits[split])
  logging.info('data: %s', read | counted)
  for split in SPLITS:
    if not splits[split]:
      raise InputError(
        f'config.data.source={run.config.data.source}: its {len(rows)} rows leave none for the '
        f'{split} split; give more rows, or more different ones'
      )
  for split in SPLITS:
    run.write_rows(f'data/{split}.jsonl', splits[split])
  if run.config.data.unlabelled:
    run.write_rows('data/unlabelled.jsonl', unlabelled(run, splits['heldout']))
  run.write_json('data/counts.json', read | counted)


def unlabelled(run: Run, heldout: Sequence[PromptRow]) -> list[PromptRow]:
  """The validation split of config.data.unlabelled, its labels taken off; never what has a held-out prompt."""
  settings = dataclasses.replace(run.config.data, source=run.config.data.unlabelled)
  rows = prompts.split_rows(sources.load_rows(settings, run.config.seed)[0])[0]['validation']
  held = {row['prompt_id'] for row in heldout}
  return [row | {'label': None} for row in rows if row['prompt_id'] not in held]


def audits(run: Run) -> bool:
  """Whether the run compares two models that exist already: it makes neither."""
  stages = set(run.config.stages)
  return 'demos' in stages and not stages & {'sft', 'rlhf'}


def check_audit(run: Run) -> None:
  """Loads all that an audit is given, so that what cannot be compared is refused before any work.

  Raises:
    ConfigError: a model is missing.
    InputError: one is damaged or of another kind, or the two cannot be compared.
  """
  demos.load_models(run)
  if run.has_true_reward:
    run.true_reward()


def sample(run: Run) -> tuple[list[CutText], dict[str, int]]:
  """Texts of the base model."""
  seed = run.config.seed + 2 + len(SPLITS)  # apart from the demonstrations'
  return sampled_texts.sample_rows(
    pretrained.load_language_model(run.base),
    run.config.data,
    run.config.sampling,
    seed,
    run.dtype,
    run.progress('data prompts'),
  )
