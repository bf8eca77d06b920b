"""Bayesian recovery on the demonstrations of one run: what narrows over rounds of evidence, and what that is worth.

  python studies/bayes.py --config=configs/tiny.py --workdir=runs/tiny --output=bayes.json

A reward that is linear in the standardised last states of the frozen base model (config.irl.pooling = mean: in its mean
states), prior N(0, I), a posterior by Laplace. Beside every round stands the control: the same pairs, a coin saying
which text is the aligned one; the mean of --coins controls. It is fitted to the training demonstrations; the flag for
texts out of distribution lets 99 % of the validation demonstrations pass; the held-out pairs are what it has not seen.
r* is read for the table only: AUROC on the validation demonstrations.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import pathlib
import sys
from typing import Any

from absl import flags

from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
flags.DEFINE_string('config', None, 'config file of the run', flag_values=FLAGS)
flags.DEFINE_string(
  'workdir', None, 'folder of the run; its demonstrations are finished', flag_values=FLAGS
)
flags.DEFINE_string('output', None, 'the .json file to write', flag_values=FLAGS)
flags.DEFINE_integer('coins', 5, 'shuffled controls', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_float(
  'prior_variance', 1.0, 'of every weight, before any pair', lower_bound=1e-6, flag_values=FLAGS
)

POOLINGS = ('last', 'mean')
COLUMNS = {
  'trace': ('trace', '.3f'),
  'log det': ('log_determinant', '.1f'),
  'evidence': ('log_evidence', '.4f'),
  'ordered': ('accuracy', '.3f'),
  'log lik.': ('log_likelihood', '.4f'),
  'aleatoric': ('aleatoric', '.4f'),
  'epistemic': ('epistemic', '.4f'),
  'AUROC r*': ('auroc', '.3f'),
}
HEADER = '| pairs | order | ' + ' | '.join(COLUMNS) + ' |\n' + '|---' * (len(COLUMNS) + 2) + '|'


def states(parts, batch, *, config, dtype):
  """The last and the mean state [B, 2, D] of each text."""
  import jax.numpy as jnp

  from irl_jax.irl import reward

  hidden = reward.hidden_states(*parts, batch, config, dtype)
  return jnp.stack(
    [reward.POOL[name](hidden, batch.valid).astype(jnp.float32) for name in POOLINGS], axis=1
  )


def features_of(run, model) -> Callable[[Sequence[str]], dict[str, Any]]:
  """Texts [N] -> {'last': [N, D], 'mean': [N, D]}, as the frozen model reads them."""
  from irl_jax import rewards
  from irl_jax.models import cut as cut_lib

  trunk = {name: model.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  read = rewards.trunk_scorer(
    states, dataclasses.replace(model, params=cut_lib.split(trunk, 0)), dtype=run.dtype
  )
  return lambda texts: dict(zip(POOLINGS, read(texts).swapaxes(0, 1)))


def true_rewards(rows: Sequence[dict[str, Any]]):
  """r* [2 N] of the aligned, then of the base texts; None where one is not known."""
  import numpy as np

  values = [row.get(f'true_reward_{side}') for side in ('aligned', 'base') for row in rows]
  return None if None in values else np.array(values, float)


def kinds_of_text(run, texts: Sequence[str], tokenizer, seed: int) -> dict[str, Sequence[str]]:
  """Ordinary texts and others, of as many words: what the flag should pass, and what it should stop."""
  import numpy as np

  from irl_jax.stages.run import full_texts

  rng, pieces = (
    np.random.default_rng(seed),
    [
      tokenizer.decode([token])
      for token in range(len(tokenizer))
      if token not in tokenizer.all_special_ids
    ],
  )
  return {
    'held-out demonstrations': texts,
    'held-out original texts': full_texts(run.rows('heldout')),
    'their words shuffled': [' '.join(rng.permutation(text.split())) for text in texts],
    'tokens at random': [''.join(rng.choice(pieces, max(len(text.split()), 1))) for text in texts],
  }


def certainty(
  features: dict[str, Any], known: dict[str, Any], limits: dict[str, float], posterior, pooling: str
) -> dict[str, Any]:
  """Of one kind of text: the share flagged, by either state, and how sure its rewards are (medians)."""
  from bayesian import posterior as bayes
  import numpy as np

  mean, variance = bayes.reward(posterior, known[pooling].standardise(features[pooling]))
  predicted = bayes.preference(mean, variance)
  flagged = {
    f'flagged_{name}': float(np.mean(known[name].distance(features[name]) > limits[name]))
    for name in limits
  }
  return {
    'texts': mean.size,
    **flagged,
    'deviation': float(np.median(np.sqrt(variance))),
    'aleatoric': float(np.median(predicted.aleatoric)),
    'epistemic': float(np.median(predicted.epistemic)),
  }


def show(result: dict[str, Any]) -> None:
  """Prints the tables, in Markdown."""
  print(HEADER)
  for round_ in result['rounds']:
    for order, row in round_.items():
      cells = [
        format(row[name], form) if row.get(name) is not None else '-'
        for name, form in COLUMNS.values()
      ]
      print(f'| {row["pairs"]} | {order} | ' + ' | '.join(cells) + ' |')
  prior, chained = result['prior'], result['chained']
  print(
    f'prior: trace {prior["trace"]:.3f}, log det {prior["log_determinant"]:.1f}; a reward of 0 has evidence and '
    f'log likelihood -0.6931\nrounds chained instead: trace {chained["trace"]:.3f}, log likelihood '
    f'{chained["log_likelihood"]:.4f}, {chained["apart"]:.3f} posterior deviations apart'
  )
  for order, row in result['trust'].items():
    held = row['calibration']
    print(
      f'{order}: ECE {held["ece"]:.4f} (calibrated predictions would have {held["ece_if_calibrated"]:.4f}), Brier '
      f'{held["brier"]:.4f}; ordered, less and more uncertain half: epistemic '
      '{:.3f} {:.3f}'.format(*row['accuracy_by_epistemic'])
      + ', aleatoric {:.3f} {:.3f}'.format(*row['accuracy_by_aleatoric'])
    )
  print(
    "| texts | n | flagged by mean state | by last state | reward's deviation | aleatoric | epistemic |\n"
    + '|---' * 7
    + '|'
  )
  for kind, row in result['texts'].items():
    print(
      f'| {kind} | {row["texts"]} | {row["flagged_mean"]:.3f} | {row["flagged_last"]:.3f} | {row["deviation"]:.3f} '
      f'| {row["aleatoric"]:.3f} | {row["epistemic"]:.4f} |'
    )


def main(options: flags.FlagValues) -> None:
  """Prints and writes the figures."""
  command_line.require(options, 'config', 'workdir', 'output')
  from bayesian import contraction
  from bayesian import familiarity
  from bayesian import posterior as bayes
  import numpy as np

  from irl_jax import errors
  from irl_jax import pipeline
  from irl_jax.models import pretrained
  from irl_jax.runtime import compilation_cache
  from irl_jax.runtime import workdir
  from irl_jax.stages import irl as recovery
  from irl_jax.stages.run import full_texts
  from irl_jax.stages.run import Run
  from irl_jax.stages.run import SPLITS

  compilation_cache.use()
  config, pooling = options.config, options.config.irl.pooling
  run = Run(
    config, pathlib.Path(options.workdir), None, pipeline.compute_dtype(config.runtime.dtype)
  )
  rows = {split: recovery.different(run.rows(split, 'demos')) for split in SPLITS}
  if empty := [split for split in SPLITS if not rows[split]]:
    raise errors.InputError(
      f'{run.folder}/demos/{empty[0]}.jsonl has no pair of two different texts: every split '
      'needs one; demonstrate more prompts'
    )
  model = pretrained.load_language_model(run.base)
  read = features_of(run, model)
  texts = {
    split: full_texts(rows[split], 'aligned') + full_texts(rows[split], 'base') for split in SPLITS
  }
  features = {split: read(texts[split]) for split in SPLITS}
  known = {name: familiarity.fit(features['train'][name]) for name in POOLINGS}
  limits = {
    name: familiarity.limit(known[name].distance(features['validation'][name])) for name in POOLINGS
  }
  standard = {split: known[pooling].standardise(features[split][pooling]) for split in SPLITS}
  pairs, heldout = (np.subtract(*np.split(standard[split], 2)) for split in ('train', 'heldout'))
  unseen = contraction.Unseen(heldout, standard['validation'], true_rewards(rows['validation']))
  result, posterior = contraction.compare(
    np.random.default_rng(config.seed).permutation(pairs),
    bayes.normal_prior(pairs.shape[1], options.prior_variance),
    unseen,
    options.coins,
    config.seed,
  )
  result['texts'] = {
    kind: certainty(read(given), known, limits, posterior, pooling)
    for kind, given in kinds_of_text(run, texts['heldout'], model.tokenizer, config.seed).items()
    if any(given)
  }
  show(result)
  workdir.write_json(
    pathlib.Path(options.output),
    {
      'features': f'{pooling} state of {run.base}',
      'width': pairs.shape[1],
      'heldout_pairs': len(heldout),
      'coins': options.coins,
      'prior_variance': options.prior_variance,
    }
    | result,
  )


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
