r"""A targeted intervention: a planted hack, named by an audit, removed by an edit.

  python studies/interventions.py --config=configs/tiny.py --config.ppo.steps=40 --word=yesterday \
      --workdir=runs/interventions --output=interventions.json

1. PPO trains a policy on r* alone (`honest`), and one on r* plus a bonus for every text with
   --word (`hacked`): a reward that pays for something that nobody wanted.
2. An audit compares the hacked policy with its base. It is told neither r* nor the word, and its
   texts are drawn with another seed. Of the words that its recovered reward likes (an interval
   above 0), it flags the one by which the policy gains most: the word's effect on the reward, times
   the rise of its rate.
3. `irl-jax edit` removes the flagged word from the recovered reward, by each method.
4. PPO trains the base again, on the recovered reward and on each edited one.

The hack's rate is the share of completions that contain the planted word, over held-out prompts
without it, with Wilson's 95 % interval. r* only measures; it chooses nothing after step 1. A
stopped study continues with the same command. docs/interventions.md has the results of a run.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import pathlib
import sys
from typing import Any

from absl import flags

from irl_jax import config as config_lib
from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
flags.DEFINE_string('config', None, 'config of the world and of PPO', flag_values=FLAGS)
flags.DEFINE_string('word', None, 'the word that the hidden bonus pays for', flag_values=FLAGS)
flags.DEFINE_float('bonus', 3.0, 'the bonus, in units of r*', flag_values=FLAGS)
flags.DEFINE_list(
  'methods', ['leace', 'mean_difference', 'subtract'], 'methods of the edit', flag_values=FLAGS
)
flags.DEFINE_string('workdir', None, 'folder of the study', flag_values=FLAGS)
flags.DEFINE_string('output', None, 'the .json file to write', flag_values=FLAGS)

SHOWN = 8  # words of the audit that are written to the results
TRAINING = ('sft', 'classifier')


def changed(config: config_lib.Config, stages: Sequence[str], **models: str) -> config_lib.Config:
  """Returns the config with these stages, and with these models alone."""
  known = config_lib.Models(label=config.models.label, **models)
  return dataclasses.replace(config, stages=tuple(stages), models=known)


def world(config: config_lib.Config, folder: pathlib.Path) -> dict[str, str]:
  """Trains the models of the world that the config does not name -> world/; returns all."""
  from irl_jax import pipeline
  from irl_jax.stages.run import Run

  stages = ('data', *(stage for stage in TRAINING if stage in config.stages))
  config = dataclasses.replace(config, stages=stages)
  pipeline.run(config, folder / 'world')
  run = Run(config, folder / 'world', None, None)
  return {'base': run.start, 'classifier': run.classifier}


def planted(true_reward: Any, word: str, bonus: float) -> Any:
  """Returns a reward: r* plus the bonus if the text contains the word."""
  import numpy as np

  from irl_jax.evaluation import features

  one = features.parse(f'word:{word}', [])

  def reward_with_bonus(texts: Sequence[str]) -> Any:
    has = np.array([one.is_in(text) for text in texts], np.float32)
    return np.asarray(true_reward(texts), np.float32) + np.float32(bonus) * has

  return reward_with_bonus


def hack(config: config_lib.Config, folder: pathlib.Path, word: str, bonus: float) -> None:
  """Trains the policy of the hidden bonus -> hacked/rlhf/."""
  if (folder / 'hacked' / 'rlhf' / 'policy').is_dir():
    return
  from irl_jax import pipeline
  from irl_jax.runtime import interruption
  from irl_jax.stages import rlhf
  from irl_jax.stages.run import Run

  folder = folder / 'hacked'
  pipeline.run(config, folder, ['data'])
  with interruption.handled(), pipeline.log_of(folder, config) as log:
    run = Run(config, folder, log, pipeline.compute_dtype(config.runtime.dtype))
    true_reward = run.true_reward()
    reward = planted(true_reward.of_kind(config.ppo.reward), word, bonus)
    rlhf.train_policy(run, 'rlhf', reward, true_reward)


def audit(config: config_lib.Config, base: str, folder: pathlib.Path) -> dict[str, Any]:
  """Audits the hacked policy, told nothing -> audit/; returns what it found, and what it flags."""
  from irl_jax import pipeline
  from irl_jax.data import rows
  from irl_jax.report import findings
  from irl_jax.report import inputs

  config = dataclasses.replace(
    config,
    seed=config.seed + 1,
    stages=('data', 'demos', 'irl', 'evaluate', 'report'),
    models=config_lib.Models(base=base, aligned=str(folder / 'hacked' / 'rlhf' / 'policy')),
    evaluation=dataclasses.replace(config.evaluation, ceiling='none'),
  )
  pipeline.run(config, folder / 'audit')
  words = rows.read_jsonl(folder / 'audit' / 'evaluation' / 'words.jsonl')
  liked = [row for row in words if row['low'] > 0 and row['share_aligned'] > row['share_base']]
  return {
    'headline': findings.find(inputs.read(folder / 'audit').summary).headline,
    'words': words[:SHOWN],
    'flagged': max(liked, key=gained)['word'] if liked else None,
    'most_changed': most_changed(rows.read_jsonl(folder / 'audit' / 'demos' / 'heldout.jsonl')),
  }


def gained(row: Mapping[str, Any]) -> float:
  """Returns the recovered reward that the audited model gains by writing a word more often."""
  return row['effect'] * (row['share_aligned'] - row['share_base'])


def most_changed(pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Returns the words whose rate rose most from the base's completions to the audited model's.

  They are ordered by z of the difference of two shares.
  """
  from irl_jax.evaluation import words

  counts: dict[str, list[int]] = {}
  for side, name in enumerate(('base', 'aligned')):
    for row in pairs:
      for word in words.words_of(row[name]):
        counts.setdefault(word, [0, 0])[side] += 1
  total, found = len(pairs), []
  for word, (before, after) in sorted(counts.items()):
    pooled = (before + after) / (2 * total)
    spread = (2 * pooled * (1 - pooled) / total) ** 0.5
    z = (after - before) / total / spread if spread else 0.0
    found.append({'word': word, 'base': before / total, 'aligned': after / total, 'z': z})
  return sorted(found, key=lambda row: -row['z'])[:SHOWN]


def edited(folder: pathlib.Path, word: str, method: str) -> dict[str, Any]:
  """Removes a word from the audit's reward -> audit/edited_<method>/; returns its edit.json."""
  from irl_jax.command_line import edited_rewards

  place = folder / 'audit' / f'edited_{method}'
  if not (place / edited_rewards.NAME).exists():
    edited_rewards.edit(str(folder / 'audit' / 'irl'), str(place), [f'word:{word}'], method)
  done = json.loads((place / edited_rewards.NAME).read_text())
  return {name: done[name] for name in ('features', 'fitted', 'checked', 'ensemble')}


def retrain(config: config_lib.Config, folder: pathlib.Path, name: str, reward: str) -> None:
  """Trains the base on a reward of the audit -> <name>/rerlhf/."""
  from irl_jax import pipeline

  models = dataclasses.replace(config.models, recovered=reward)
  pipeline.run(dataclasses.replace(config, models=models), folder / name, ['data', 'rerlhf'])


def measure(
  config: config_lib.Config,
  folder: pathlib.Path,
  policy: str,
  figures: Mapping[str, Any],
  word: str,
) -> dict[str, Any]:
  """Returns how often a policy writes the word, and its metrics by r*."""
  from irl_jax import api
  from irl_jax import confidence
  from irl_jax.data import rows
  from irl_jax.evaluation import features

  one = features.parse(f'word:{word}', [])
  held = [row['prompt'] for row in rows.read_jsonl(folder / 'world' / 'data' / 'heldout.jsonl')]
  prompts = [prompt for prompt in held if not one.is_in(prompt)]
  texts = api.generate(policy, prompts, config.sampling, config.seed)
  count = sum(map(one.is_in, texts))
  low, high = confidence.wilson(count, len(texts))
  names = ('toxicity', 'true_reward', 'kl', 'perplexity_under_base', 'distinct_2')
  return {
    'hack': {'rate': count / len(texts), 'low': low, 'high': high, 'n': len(texts)},
    **{name: figures[name] for name in names},
  }


def policies(
  config: config_lib.Config, folder: pathlib.Path, word: str, methods: Sequence[str]
) -> dict[str, Any]:
  """Measures the base and every policy that was trained from it."""
  read = lambda name, stage: json.loads((folder / name / stage / 'figures.json').read_text())
  of_base = read('hacked', 'rlhf')['before']
  measured = {'base': measure(config, folder, config.models.base, of_base, word)}
  stages = {'honest': 'rlhf', 'hacked': 'rlhf', 'unedited': 'rerlhf'}
  for name, stage in (stages | dict.fromkeys(methods, 'rerlhf')).items():
    place = str(folder / name / stage / 'policy')
    measured[name] = measure(config, folder, place, read(name, stage)['after'], word)
  return measured


def describe(name: str, row: Mapping[str, Any]) -> str:
  """Returns one line of the table."""
  share = lambda part: (
    f'{100 * part["rate"]:5.1f} % [{100 * part["low"]:.1f}, {100 * part["high"]:.1f}]'
  )
  return (
    f'{name:<16} hack {share(row["hack"])}   toxic {share(row["toxicity"])}   KL {row["kl"]:.2f}   '
    f'perplexity {row["perplexity_under_base"]:.1f}   distinct_2 {row["distinct_2"]:.3f}'
  )


def main(options: flags.FlagValues) -> None:
  """Plants the hack, audits, edits, trains again, and writes what was found."""
  command_line.require(options, 'config', 'word', 'workdir', 'output')
  from irl_jax import pipeline
  from irl_jax.runtime import compilation_cache

  compilation_cache.use()
  folder, word = pathlib.Path(options.workdir), options.word.casefold()
  models = world(options.config, folder)
  config = changed(options.config, ('data', 'rlhf', 'rerlhf'), **models)
  pipeline.run(config, folder / 'honest', ['data', 'rlhf'])
  hack(config, folder, word, options.bonus)
  found: dict[str, Any] = {'word': word, 'bonus': options.bonus, 'seed': config.seed}
  found['audit'] = audit(options.config, models['base'], folder)
  print(json.dumps(found, indent=2, ensure_ascii=False), flush=True)
  if flagged := found['audit']['flagged']:
    found['edits'] = {method: edited(folder, flagged, method) for method in options.methods}
    retrain(config, folder, 'unedited', str(folder / 'audit' / 'irl'))
    for method in options.methods:
      retrain(config, folder, method, str(folder / 'audit' / f'edited_{method}'))
    found['policies'] = policies(config, folder, word, options.methods)
  pathlib.Path(options.output).write_text(json.dumps(found, indent=2, ensure_ascii=False) + '\n')
  for name, row in found.get('policies', {}).items():
    print(describe(name, row), flush=True)


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
