"""The irl stage: one reward per seed, recovered from the demonstrations, each with its own zero."""

from collections.abc import Callable
from collections.abc import Sequence
import functools

from absl import logging
import numpy as np

from irl_jax import rewards
from irl_jax import streams
from irl_jax.data import text
from irl_jax.evaluation import agreement
from irl_jax.evaluation import calibration
from irl_jax.irl import export
from irl_jax.irl import frozen
from irl_jax.irl import loop as irl_loop
from irl_jax.irl import reward
from irl_jax.models import pretrained
from irl_jax.runtime import processes
from irl_jax.runtime import terminal
from irl_jax.runtime.records import DemonstrationRow
from irl_jax.stages import data
from irl_jax.stages.demonstrated import different
from irl_jax.stages.demonstrated import encode_demonstrations
from irl_jax.stages.demonstrated import labels_of
from irl_jax.stages.demonstrated import training_rows
from irl_jax.stages.run import full_texts
from irl_jax.stages.run import Run


def irl(run: Run) -> None:
  """Recovers one reward per seed -> irl/seed_<k>/reward, and irl/config.json: their ensemble."""
  settings = run.config.irl
  export.check(settings)
  demonstrated = {split: run.demonstrations(split) for split in ('train', 'validation')}
  base = data.with_template(
    run, pretrained.load_language_model(run.base), [row['prompt'] for row in demonstrated['train']]
  )
  training = training_rows(demonstrated['train'], settings)
  validation = different(demonstrated['validation'])
  report_left_out(demonstrated['train'], training, 'training')
  report_left_out(demonstrated['validation'], validation, 'validation')
  outputs = frozen.FrozenOutputs(base, settings, run.dtype, run.config.runtime)
  pairs, held = (encode_demonstrations(base, rows, settings) for rows in (training, validation))
  train = functools.partial(
    irl_loop.train,
    base,
    pairs,
    held,
    settings,
    labels=labels_of(settings, (training, pairs), (validation, held)),
    dtype=run.dtype,
    runtime=run.config.runtime,
    prompts=[row['prompt'] for row in training],
    report=functools.partial(against_true_reward, validation, run.has_classes),
    outputs=outputs,
  )
  unlabelled = unlabelled_texts(run)
  for number in range(settings.seeds):
    finished = run.folder / seed_folder(number) / 'calibration.json'
    if not processes.broadcast(finished.exists()):
      recover_seed(run, base, train, number, unlabelled, outputs)
  members = [f'seed_{number}/reward' for number in range(settings.seeds)]
  run.write_json('irl/config.json', {'model_type': 'irl_jax_ensemble', 'members': members})


def seed_folder(number: int) -> str:
  """Returns the folder of a seed's reward, within the run's."""
  return f'irl/seed_{number}'


def first_seed(run: Run, number: int) -> int:
  """Returns the random seed for the first head and the order of the data of one seed."""
  return streams.SPACING * run.config.seed + number


def recover_seed(
  run: Run,
  base: pretrained.Decoder,
  train: Callable[..., reward.Parts],
  number: int,
  unlabelled: Sequence[str],
  outputs: frozen.FrozenOutputs,
) -> None:
  """Recovers the reward of one seed, chooses its zero, and writes both.

  Args:
    run: its config and folder are used.
    base: the model that the reward starts from.
    train: `loop.train`, with all arguments that the seeds share already bound.
    number: the number of the seed, from 0.
    unlabelled: the texts that the zero is chosen from.
    outputs: the frozen layers' outputs, which the seeds share.
  """
  name = seed_folder(number)
  parts = train(first_seed(run, number), run.folder / name / 'checkpoints', **run.logging(name))
  calibrated = calibration.calibration(
    uncentred_scores(run, base, parts, unlabelled, outputs),
    run.config.evaluation.bootstrap_samples,
    run.config.seed,
  )
  zero = calibrated['zero']
  assert zero is not None  # every recovered reward has one, reliable or not
  model = export.reward_model(base, parts, zero)
  run.save('irl', f'seed_{number}/reward', model, run.base, calibrated)
  run.write_json(f'{name}/calibration.json', calibrated)


def uncentred_scores(
  run: Run,
  base: pretrained.Decoder,
  parts: reward.Parts,
  texts: Sequence[str],
  outputs: frozen.FrozenOutputs | None = None,
) -> np.ndarray:
  """Returns the scores [N] that the zero is chosen from: R̂ as it was trained, without a zero.

  They are computed in the exported form, whose last bits differ from those of `reward.scorer`: the
  zero is then that of the reward that users load, exactly unless layers are frozen.

  Args:
    run: its config is used.
    base: the model that the reward started from.
    parts: the reward's parameters.
    texts: N texts.
    outputs: the frozen layers' outputs; None: they are not shared.
  """
  model = export.reward_model(base, parts)
  if outputs and texts and run.config.irl.trained_blocks >= 0:
    tokens = read_whole(base, texts)
    return export.scores(model, tokens, run.config.irl, outputs.of(tokens), run.dtype)
  return rewards.recovered_reward(model, run.config.evaluation.batch_size, run.dtype)(texts)


def read_whole(base: pretrained.Decoder, texts: Sequence[str]) -> list[list[int]]:
  """Tokenises texts as a reward reads them: cut on the left, and an empty one as EOS."""
  limit = base.config.max_position_embeddings
  ids, cut = text.encode(base.tokenizer, texts, max_tokens=limit)
  text.report_cut(cut, terminal.count(len(texts), 'unlabelled text'), limit)
  return [row or [base.config.eos_token_id] for row in ids]


def unlabelled_texts(run: Run) -> list[str]:
  """Returns the texts that the zero is chosen from.

  These are the validation split's original texts and those of config.data.unlabelled. If there are
  neither, they are the split's demonstrations.
  """
  rows = run.rows('validation')
  more = run.rows('unlabelled') if run.config.data.unlabelled else []
  if (run.config.data.source != 'prompts' and any(row['original'] for row in rows)) or more:
    return full_texts([*rows, *more])
  demonstrated = run.demonstrations('validation')
  return full_texts(demonstrated, 'aligned') + full_texts(demonstrated, 'base')


def report_left_out(
  rows: Sequence[DemonstrationRow], used: Sequence[DemonstrationRow], split: str
) -> None:
  """Logs how many demonstrations of a split are left out because their two texts are identical."""
  if len(used) < len(rows):
    logging.info(
      'irl: left out %d of %s, because the two completions are identical',
      len(rows) - len(used),
      terminal.count(len(rows), f'{split} pair'),
    )


def against_true_reward(
  rows: Sequence[DemonstrationRow], has_classes: bool, scores: np.ndarray
) -> dict[str, float]:
  """Measures how well R̂ [N, 2] of the demonstrations agrees with r*; empty if r* is not known.

  The result is only reported. It selects nothing.

  Args:
    rows: N demonstrations.
    has_classes: whether r* has a toxic class (AUROC); otherwise it is a score (Spearman).
    scores: R̂ of both completions [N, 2].
  """
  true = np.array([[row['true_reward_aligned'], row['true_reward_base']] for row in rows], float)
  if not rows or not np.isfinite(true).all():
    return {}
  name, result = 'auroc', agreement.auroc(scores.ravel(), true.ravel() < 0)
  if not has_classes:
    name = 'spearman'
    result = agreement.correlate(scores.ravel().astype(float), true.ravel())[name]
  return {} if isinstance(result, str) else {f'reported/{name}': result}
