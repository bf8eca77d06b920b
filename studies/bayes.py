"""Bayesian recovery on one run's demonstrations: how the posterior narrows, and what that shows.

  python studies/bayes.py --config=configs/tiny.py --workdir=runs/tiny --output=bayes.json

The reward is linear in the standardised last states of the frozen base model, or in its mean states
with --config.irl.pooling=mean. Its prior is N(0, I), its posterior Laplace's approximation. It is
fitted to the training demonstrations. Every round is compared with its control: the same pairs,
with a coin choosing the aligned text of each, averaged over --coins controls.

The flag for texts out of distribution lets 99 % of the validation demonstrations pass. The held-out
pairs are unseen. r* is read for the table only: AUROC on the validation demonstrations.
docs/bayesian_recovery.md has the tables of two runs. Dims: N texts or pairs, B texts of a batch,
D width.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import pathlib
import sys
from typing import Any

from absl import flags
import finished_run

from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
finished_run.define_flags(FLAGS)
flags.DEFINE_integer('coins', 5, 'shuffled controls', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_float(
  'prior_variance',
  1.0,
  'variance of every weight before any pair is seen',
  lower_bound=1e-6,
  flag_values=FLAGS,
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
KINDS_HEADER = (
  "| texts | n | flagged by mean state | by last state | reward's deviation | aleatoric "
  '| epistemic |\n' + '|---' * 7 + '|'
)

Rows = dict[str, Sequence[dict[str, Any]]]  # demonstrations by split


def states(parts, batch, *, config, dtype):
  """Returns the last and the mean state [B, 2, D] of each text."""
  import jax.numpy as jnp

  from irl_jax.irl import reward

  hidden = reward.hidden_states(*parts, batch, config, dtype)
  return jnp.stack(
    [reward.POOL[name](hidden, batch.valid).astype(jnp.float32) for name in POOLINGS], axis=1
  )


def features_of(run, model) -> Callable[[Sequence[str]], dict[str, Any]]:
  """Returns a function of texts [N] to the frozen model's {'last': [N, D], 'mean': [N, D]}."""
  from irl_jax import rewards
  from irl_jax.models import cut as cut_lib

  trunk = {name: model.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  read = rewards.trunk_scorer(
    states, dataclasses.replace(model, params=cut_lib.split(trunk, 0)), dtype=run.dtype
  )
  return lambda texts: dict(zip(POOLINGS, read(texts).swapaxes(0, 1)))


def true_rewards(rows: Sequence[dict[str, Any]]):
  """Returns r* [2 N] of the aligned, then of the base texts; None if one is not known."""
  import numpy as np

  values = [row.get(f'true_reward_{side}') for side in ('aligned', 'base') for row in rows]
  return None if None in values else np.array(values, float)


def kinds_of_text(run, texts: Sequence[str], tokenizer, seed: int) -> dict[str, Sequence[str]]:
  """Returns texts that the flag should pass, and others of as many words that it should stop."""
  import numpy as np

  from irl_jax.stages.run import full_texts

  rng = np.random.default_rng(seed)
  ids = (token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids)
  pieces = [tokenizer.decode([token]) for token in ids]
  return {
    'held-out demonstrations': texts,
    'held-out original texts': full_texts(run.rows('heldout')),
    'their words shuffled': [' '.join(rng.permutation(text.split())) for text in texts],
    'tokens at random': [''.join(rng.choice(pieces, max(len(text.split()), 1))) for text in texts],
  }


@dataclasses.dataclass(frozen=True)
class Familiarity:
  """The spread of the training texts, and the distance from which a text is flagged, by pooling."""

  known: dict[str, Any]  # familiarity.Familiar
  limits: dict[str, float]


def familiarity_of(training: dict[str, Any], validation: dict[str, Any]) -> Familiarity:
  """Fits the flag to features [N, D] of the training and of the validation demonstrations."""
  from bayesian import familiarity

  known = {name: familiarity.fit(training[name]) for name in POOLINGS}
  return Familiarity(
    known, {name: familiarity.limit(known[name].distance(validation[name])) for name in POOLINGS}
  )


def certainty(
  features: dict[str, Any], familiar: Familiarity, posterior, pooling: str
) -> dict[str, Any]:
  """Measures one kind of text: the shares flagged, and how certain its rewards are (medians)."""
  from bayesian import posterior as posterior_lib
  import numpy as np

  standard = familiar.known[pooling].standardise(features[pooling])
  mean, variance = posterior_lib.reward(posterior, standard)
  predicted = posterior_lib.preference(mean, variance)
  flagged = {
    f'flagged_{name}': float(np.mean(familiar.known[name].distance(features[name]) > limit))
    for name, limit in familiar.limits.items()
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
    f'prior: trace {prior["trace"]:.3f}, log det {prior["log_determinant"]:.1f}; a reward of 0 has '
    f'evidence and log likelihood -0.6931\n'
    f'rounds chained instead: trace {chained["trace"]:.3f}, log likelihood '
    f'{chained["log_likelihood"]:.4f}, {chained["apart"]:.3f} posterior deviations apart'
  )
  for order, row in result['trust'].items():
    print(f'{order}: {describe_trust(row)}')
  print(KINDS_HEADER)
  for kind, row in result['texts'].items():
    print(
      f'| {kind} | {row["texts"]} | {row["flagged_mean"]:.3f} | {row["flagged_last"]:.3f} '
      f'| {row["deviation"]:.3f} | {row["aleatoric"]:.3f} | {row["epistemic"]:.4f} |'
    )


def describe_trust(row: dict[str, Any]) -> str:
  """Returns one line on calibration and on accuracy by uncertainty."""
  measured = row['calibration']
  halves = {
    name: ' '.join(f'{value:.3f}' for value in row[f'accuracy_by_{name}'])
    for name in ('epistemic', 'aleatoric')
  }
  return (
    f'ECE {measured["ece"]:.4f} (calibrated predictions would have '
    f'{measured["ece_if_calibrated"]:.4f}), Brier {measured["brier"]:.4f}; ordered, less and more '
    f'uncertain half: epistemic {halves["epistemic"]}, aleatoric {halves["aleatoric"]}'
  )


def demonstrations(run) -> Rows:
  """Returns the pairs of every split whose two texts differ.

  Raises:
    InputError: a split has none.
  """
  from irl_jax import errors
  from irl_jax.stages import irl as recovery
  from irl_jax.stages.run import SPLITS

  rows = {split: recovery.different(run.demonstrations(split)) for split in SPLITS}
  for split, pairs in rows.items():
    if not pairs:
      raise errors.InputError(
        f'{run.folder}/demos/{split}.jsonl has no pair of two different texts, and every split '
        'needs one: demonstrate more prompts'
      )
  return rows


def study(run, rows: Rows, coins: int, prior_variance: float) -> dict[str, Any]:
  """Recovers the posterior and measures it, round by round and on other kinds of text."""
  from bayesian import contraction
  from bayesian import posterior as posterior_lib
  import numpy as np

  from irl_jax.models import pretrained
  from irl_jax.stages.run import full_texts

  pooling, seed = run.config.irl.pooling, run.config.seed
  model = pretrained.load_language_model(run.base)
  read = features_of(run, model)
  texts = {
    split: full_texts(pairs, 'aligned') + full_texts(pairs, 'base') for split, pairs in rows.items()
  }
  features = {split: read(texts[split]) for split in rows}
  familiar = familiarity_of(features['train'], features['validation'])
  standard = {
    split: familiar.known[pooling].standardise(features[split][pooling]) for split in rows
  }
  pairs, heldout = (np.subtract(*np.split(standard[split], 2)) for split in ('train', 'heldout'))
  result, posterior = contraction.compare(
    np.random.default_rng(seed).permutation(pairs),
    posterior_lib.normal_prior(pairs.shape[1], prior_variance),
    contraction.Unseen(heldout, standard['validation'], true_rewards(rows['validation'])),
    coins,
    seed,
  )
  kinds = kinds_of_text(run, texts['heldout'], model.tokenizer, seed)
  result['texts'] = {
    kind: certainty(read(given), familiar, posterior, pooling)
    for kind, given in kinds.items()
    if any(given)
  }
  return {
    'features': f'{pooling} state of {run.base}',
    'width': pairs.shape[1],
    'heldout_pairs': len(heldout),
    'coins': coins,
    'prior_variance': prior_variance,
  } | result


def main(options: flags.FlagValues) -> None:
  """Prints and writes the results."""
  run = finished_run.open_run(options)
  from irl_jax.runtime import workdir

  result = study(run, demonstrations(run), options.coins, options.prior_variance)
  show(result)
  workdir.write_json(pathlib.Path(options.output), result)


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
