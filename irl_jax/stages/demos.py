"""The demos stage: the aligned and the base model complete the same prompts."""

from collections.abc import Sequence

from irl_jax import rewards
from irl_jax import streams
from irl_jax.evaluation import policy as policy_metrics
from irl_jax.models import chat_templates
from irl_jax.models import comparable
from irl_jax.models import pretrained
from irl_jax.runtime import processes
from irl_jax.runtime.records import DemonstrationRow
from irl_jax.runtime.records import PairRow
from irl_jax.runtime.records import PromptRow
from irl_jax.stages.demonstrated import with_log_ratios
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run
from irl_jax.stages.run import SPLITS


def demos(run: Run) -> None:
  """Completes every prompt with both models -> demos/{train,validation,heldout}.jsonl.

  Both models draw the pairs of training and validation with the same keys, so that a pair differs
  only if the models do (config.irl.coupled). Where two such texts part, the aligned one nearly
  always has the token whose probability RLHF raised more, and is easier to tell than what the
  models write on their own. So held-out pairs are drawn independently. Without a true reward its
  values are None.
  """
  models = load_models(run)
  chat_templates.check_alike(
    list(models.values()),
    [row['prompt'] for row in run.rows('train')],
    'Set --config.data.chat=never',
  )
  true_reward = run.true_reward() if run.has_true_reward else None
  for split in SPLITS:
    # A file appears only when complete, so this split is already finished.
    if processes.broadcast((run.folder / 'demos' / f'{split}.jsonl').exists()):
      continue
    prompts, coupled = prompts_of(run, split), are_coupled(run, split)
    completions = {
      name: policy_metrics.sample(
        model,
        [row for row, _ in prompts],
        run.config,
        stream_of(run, split, name, coupled),
        run.dtype,
        progress=run.progress(f'demos {split} {name}'),
      ).completions
      for name, model in models.items()
    }
    pairs = [
      PairRow(
        prompt_id=row['prompt_id'],
        sample=sample,
        prompt=row['prompt'],
        coupled=coupled,
        aligned=aligned,
        base=base,
      )
      for (row, sample), aligned, base in zip(prompts, completions['aligned'], completions['base'])
    ]
    rows = with_log_ratios(run, models, scored(pairs, true_reward), split)
    run.write_rows(f'demos/{split}.jsonl', rows)


def are_coupled(run: Run, split: str) -> bool:
  """Returns whether both models draw the pairs of a split with the same keys."""
  return run.config.irl.coupled and split != 'heldout'


def stream_of(run: Run, split: str, model: str, coupled: bool) -> int:
  """Returns the seed that a model, 'aligned' or 'base', completes the prompts of a split with."""
  alone = model == 'base' and not coupled
  return streams.seed_of(run.config.seed, f'base {split}' if alone else split)


def any_coupled(rows: Sequence[DemonstrationRow]) -> bool:
  """Returns whether some of the pairs were drawn with the same keys.

  Rows of older versions do not say so; they all were.
  """
  return any(row.get('coupled', True) for row in rows)


def load_models(run: Run) -> dict[str, pretrained.Decoder]:
  """Loads the aligned model and, as 'base', the model it is compared with (config.irl.contrast).

  Raises:
    ConfigError: a model is missing.
    InputError: the two cannot be compared.
  """
  base = run.base if run.config.irl.contrast == 'base' else run.start
  models = {
    'aligned': pretrained.load_language_model(run.aligned),
    'base': pretrained.load_language_model(base),
  }
  comparable.check(**models)
  models = dict(zip(models, comparable.shared(**models)))
  return dict(zip(models, comparable.without_unshared_tokens(**models)))


def prompts_of(run: Run, split: str) -> list[tuple[PromptRow, int]]:
  """Returns the prompts of a split and the number of each of their samples.

  Only training prompts are limited by irl.max_prompts and sampled more than once.
  """
  irl, rows = run.config.irl, run.rows(split)
  if split != 'train':
    return [(row, 0) for row in rows]
  limited = rows[: irl.max_prompts or None]
  return [(row, sample) for row in limited for sample in range(irl.samples_per_prompt)]


def scored(pairs: Sequence[PairRow], true_reward: rewards.Reward | None) -> list[DemonstrationRow]:
  """Returns the pairs with the true reward of both full texts; None if there is no true reward."""
  none: list[float | None] = [None] * len(pairs)
  aligned, base = (
    true_reward(full_texts(pairs, side)).tolist() if true_reward else none
    for side in ('aligned', 'base')
  )
  return [
    {**pair, 'true_reward_aligned': of_aligned, 'true_reward_base': of_base}
    for pair, of_aligned, of_base in zip(pairs, aligned, base)
  ]
