"""The demos stage: what the aligned model and the one it came from say to the same prompts."""

from irl_jax.data import rows as rows_lib
from irl_jax.errors import InputError
from irl_jax.evaluation import policy as policy_figures
from irl_jax.models import pretrained
from irl_jax.run import SPLITS
from irl_jax.run import Run
from irl_jax.run import full_texts


def demos(run: Run) -> None:
  """Completions of the aligned and of the contrasted model for every prompt -> demos/{train,validation,heldout}.jsonl.

  Both models draw with the same keys, so that a pair differs where the two models do.
  """
  irl = run.config.irl
  models = {'aligned': run.aligned, 'base': run.base if irl.contrast == 'base' else run.start}
  loaded = {name: pretrained.load(place, ('causal_lm',)) for name, place in models.items()}
  if loaded['aligned'].config.vocab_size != loaded['base'].config.vocab_size:
    raise InputError(f'{models["aligned"]} and {models["base"]} have different vocabularies '
                     f'({loaded["aligned"].config.vocab_size} and {loaded["base"].config.vocab_size}); an audit '
                     'needs an aligned model and the model that it came from')
  true_reward = run.true_reward()
  (run.folder / 'demos').mkdir(exist_ok=True)
  for number, split in enumerate(SPLITS):
    rows = run.rows(split)
    limit = irl.max_prompts if split == 'train' and irl.max_prompts else len(rows)
    rows = [row | {'sample': sample} for row in rows[:limit]
            for sample in range(irl.samples_per_prompt if split == 'train' else 1)]
    completions = {}
    for name, model in loaded.items():
      completions[name] = policy_figures.sample(
          model, rows, run.config, run.config.seed + 2 + number, run.dtype,
          progress=run.progress(f'demos {split} {name}')).completions
    pairs = [{'prompt_id': row['prompt_id'], 'sample': row['sample'], 'prompt': row['prompt'], 'aligned': aligned,
              'base': base} for row, aligned, base in zip(rows, completions['aligned'], completions['base'])]
    scores = {name: true_reward(full_texts(pairs, name)) for name in ('aligned', 'base')}
    rows_lib.write_jsonl(run.folder / 'demos' / f'{split}.jsonl', [
        pair | {'true_reward_aligned': float(aligned), 'true_reward_base': float(base)}
        for pair, aligned, base in zip(pairs, scores['aligned'], scores['base'])])
