"""The demos stage: what the aligned model and the one it came from say to the same prompts."""

from collections.abc import Callable
from collections.abc import Sequence

from irl_jax.evaluation import policy as policy_figures
from irl_jax.models import comparable
from irl_jax.models import pretrained
from irl_jax.runtime import processes
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Row
from irl_jax.stages.run import Run
from irl_jax.stages.run import SPLITS


def demos(run: Run) -> None:
  """Completions of the aligned and of the contrasted model for every prompt -> demos/{train,validation,heldout}.jsonl.

  Both models draw with the same keys, so that a pair differs where the two models do. Without a true reward its
  figures are None.
  """
  models = load_models(run)
  true_reward = run.true_reward() if has_true_reward(run) else None
  for number, split in enumerate(SPLITS):
    if processes.broadcast(
      (run.folder / 'demos' / f'{split}.jsonl').exists()
    ):  # it is whole, or it would not be there
      continue
    rows = demonstrated(run, split)
    completions = {
      name: policy_figures.sample(
        model,
        rows,
        run.config,
        run.config.seed + 2 + number,
        run.dtype,
        progress=run.progress(f'demos {split} {name}'),
      ).completions
      for name, model in models.items()
    }
    pairs = [
      {name: row[name] for name in ('prompt_id', 'sample', 'prompt')}
      | {'aligned': aligned, 'base': base}
      for row, aligned, base in zip(rows, completions['aligned'], completions['base'])
    ]
    run.write_rows(f'demos/{split}.jsonl', scored(pairs, true_reward))


def load_models(run: Run) -> dict[str, pretrained.Pretrained]:
  """The aligned model and, as 'base', the one that it is held against (config.irl.contrast).

  Raises:
    ConfigError: one is missing.
    InputError: the two cannot be compared.
  """
  places = {
    'aligned': run.aligned,
    'base': run.base if run.config.irl.contrast == 'base' else run.start,
  }
  models = {name: pretrained.load_language_model(place) for name, place in places.items()}
  comparable.check(**models)
  return models


def has_true_reward(run: Run) -> bool:
  """Whether a classifier is named or made by this run; an audit need not have one."""
  return (
    bool(run.config.models.classifier)
    or 'classifier' in run.config.stages
    or (run.folder / 'classifier' / 'classifier').is_dir()
  )


def demonstrated(run: Run, split: str) -> list[Row]:
  """The rows of a split whose prompts are completed, one for every sample of each."""
  irl, rows = run.config.irl, run.rows(split)
  if split != 'train':
    return [row | {'sample': 0} for row in rows]
  rows = rows[: irl.max_prompts or None]
  return [row | {'sample': sample} for row in rows for sample in range(irl.samples_per_prompt)]


def scored(pairs: Sequence[Row], true_reward: Callable | None) -> list[Row]:
  """The pairs with the true reward of both full texts; None where there is none."""
  columns = {
    f'true_reward_{name}': [None] * len(pairs)
    if true_reward is None
    else true_reward(full_texts(pairs, name)).tolist()
    for name in ('aligned', 'base')
  }
  return [
    pair | {name: values[index] for name, values in columns.items()}
    for index, pair in enumerate(pairs)
  ]
