r"""The true reward against the distance from the start, for policies that optimise other rewards.

  python studies/overoptimisation.py --config=configs/tiny.py --workdir=runs/tiny \
      --output=docs/overoptimisation.json --figure=docs/overoptimisation.png

Gao et al. 2023 (arXiv 2210.10760) call it overoptimisation: the reward that is optimised keeps
rising, and the true one turns. PPO runs on each reward of poor_rewards.py with several seeds, for
more steps than the run and without its limit on the KL (--config.ppo.kl_coefficient=0 …, as given).
Best-of-n orders samples of the start by the same rewards. A curve's x is the square root of the
KL from the start, in nats a response. Every true reward is r* of the full texts, as PPO trains on.

Each PPO is a file of --workdir/overoptimisation, so that the same command continues.
docs/overoptimisation.md has the plot.
"""

from collections.abc import Callable
import dataclasses
import functools
import json
import math
import pathlib
import sys
import tempfile
from typing import Any

from absl import flags
import best_of_n
import finished_run
import poor_rewards

from irl_jax.command_line import launch as command_line

FLAGS = flags.FlagValues()
finished_run.define_flags(FLAGS)
define = {'flag_values': FLAGS}
flags.DEFINE_string('figure', '', 'the .png file to draw', **define)
flags.DEFINE_integer('steps', 80, 'rollouts of each PPO', lower_bound=1, **define)
flags.DEFINE_integer('seeds', 3, 'PPO runs on each reward', lower_bound=1, **define)
flags.DEFINE_integer('samples', 64, 'samples of a prompt, for best-of-n', lower_bound=1, **define)
flags.DEFINE_integer(
  'sampled_prompts', 200, 'held-out prompts of best-of-n', lower_bound=1, **define
)
flags.DEFINE_float('kl_coefficient', 0.0, 'that of every PPO', lower_bound=0, **define)

MEANS = 8  # points of a drawn curve: each is a mean over as many steps


def ppo(run, start, reward, true_reward, steps: int, kl_coefficient: float, seed: int) -> Any:
  """Runs PPO; returns KL, the reward that is trained on, and r*, of every rollout."""
  import numpy as np

  from irl_jax.ppo import loop

  settings = dataclasses.replace(
    run.config.ppo, steps=steps, kl_coefficient=kl_coefficient, kl_target=0.0
  )
  config = dataclasses.replace(run.config, ppo=settings, seed=seed)
  curves: dict[str, list[float]] = {'kl': [], 'reward': [], 'true_reward': []}

  def report(texts) -> dict[str, float]:
    for name, one in (('reward', reward), ('true_reward', true_reward)):
      curves[name].append(float(np.mean(one(texts))))
    return {}

  with tempfile.TemporaryDirectory() as folder:
    loop.train(
      start,
      run.rows('train'),
      reward,
      config,
      pathlib.Path(folder),
      dtype=run.dtype,
      log=lambda step, metrics: curves['kl'].append(metrics['objective/kl']),
      report=report,
    )
  return curves


def of_samples(run, start, made: dict[str, Any], true_reward, options) -> dict[str, Any]:
  """Returns r* and the own reward of best-of-n, by the name of the reward that orders."""
  import numpy as np

  from irl_jax import sampling

  prompts = list(dict.fromkeys(row['prompt'] for row in run.rows('heldout')))[
    : options.sampled_prompts
  ]
  repeated = [prompt for prompt in prompts for _ in range(options.samples)]
  completions = sampling.complete(start, repeated, run.config.sampling, run.config.seed, run.dtype)
  texts = [prompt + completion for prompt, completion in zip(repeated, completions)]
  of = lambda reward: np.asarray(reward(texts), np.float64).reshape(len(prompts), -1)
  gold = of(true_reward)
  sizes = [2**power for power in range(int(math.log2(options.samples)) + 1)]
  result = {}
  for name, reward in made.items():
    proxy = of(reward)
    result[name] = {
      'n': sizes,
      'kl': [best_of_n.kl(n) for n in sizes],
      'reward': [best_of_n.expected(proxy, proxy, n) for n in sizes],
      'true_reward': [best_of_n.expected(proxy, gold, n) for n in sizes],
    }
  return result


def once(place: pathlib.Path, make: Callable[[], Any]) -> Any:
  """Returns what a file holds; makes and writes it first if it does not exist."""
  if not place.exists():
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_suffix('.unfinished')
    unfinished.write_text(json.dumps(make()))
    unfinished.rename(place)
    print(place.stem, flush=True)
  return json.loads(place.read_text())


def smoothed(curve: dict[str, list[float]]) -> dict[str, list[float]]:
  """Returns means over MEANS parts of a curve, one after the other."""
  import numpy as np

  parts = min(MEANS, len(curve['kl']))
  return {
    name: [float(np.mean(part)) for part in np.array_split(values, parts)]
    for name, values in curve.items()
  }


def summary(curves: list[dict[str, list[float]]]) -> dict[str, Any]:
  """Returns, over the seeds of one reward, the highest mean r* and the last, and the KL of both."""
  import numpy as np

  means = [smoothed(curve) for curve in curves]
  best = [int(np.argmax(curve['true_reward'])) for curve in means]
  at = lambda name, places: [curve[name][place] for curve, place in zip(means, places)]
  last = [-1] * len(means)
  return {
    'best_true_reward': at('true_reward', best),
    'kl_at_best': at('kl', best),
    'last_true_reward': at('true_reward', last),
    'last_kl': at('kl', last),
    'first_true_reward': at('true_reward', [0] * len(means)),
    'reward': [[curve['reward'][0], curve['reward'][-1]] for curve in means],
  }


def draw(found: dict[str, Any], samples: dict[str, Any]) -> bytes:
  """Draws r* against the square root of the KL: PPO above, best-of-n below."""
  from irl_jax.report import drawing

  colours = dict(
    zip(found, (drawing.TRUE, drawing.RECOVERED, drawing.INK, drawing.TOXIC, drawing.PLAIN))
  )
  with drawing.style():
    figure, axes = drawing.subplots(rows=2, height=5)
    line = lambda axis, curve, name, **more: axis.plot(
      [math.sqrt(max(value, 0)) for value in curve['kl']],
      curve['true_reward'],
      marker='o',
      markersize=2.5,
      color=colours[name],
      **more,
    )
    for name, curves in found.items():
      for number, curve in enumerate(curves):
        line(axes[0], smoothed(curve), name, label='' if number else name)
      line(axes[1], samples[name], name)
    axes[0].set(ylabel='true reward, PPO')
    axes[1].set(ylabel='true reward, best of n', xlabel='√KL, nats a response')
    axes[0].legend(frameon=False, fontsize=6)
    return drawing.png(figure)


def row_of(name: str, found: dict[str, Any]) -> str:
  """Returns one row of the table, in Markdown: each seed's figure."""
  each = lambda values: ' '.join(f'{value:.2f}' for value in values)
  names = 'first_true_reward', 'best_true_reward', 'kl_at_best', 'last_true_reward', 'last_kl'
  rise = ' '.join(f'{first:.2f} → {last:.2f}' for first, last in found['reward'])
  return f'| {name} | {" | ".join(each(found[key]) for key in names)} | {rise} |'


def main(options: flags.FlagValues) -> None:
  """Prints, writes and draws the curves."""
  run = finished_run.open_run(options)
  from irl_jax.models import pretrained

  start, base = (pretrained.load_language_model(place) for place in (run.start, run.base))
  true_reward = run.true_reward()
  made = {name: make() for name, make in poor_rewards.rewards_of(run, base, true_reward).items()}
  folder = run.folder / 'overoptimisation'
  found: dict[str, list[dict[str, list[float]]]] = {name: [] for name in made}
  for seed in range(options.seeds):
    for name, reward in made.items():
      train = functools.partial(ppo, run, start, reward, true_reward)
      place = folder / f'{name}, seed {seed}.json'
      curve = once(place, functools.partial(train, options.steps, options.kl_coefficient, seed))
      found[name].append(curve)
  samples = once(
    folder / 'best of n.json', lambda: of_samples(run, start, made, true_reward, options)
  )
  rows = {name: summary(curves) for name, curves in found.items()}
  curves = {name: [smoothed(curve) for curve in seeds] for name, seeds in found.items()}
  pathlib.Path(options.output).write_text(
    json.dumps({'ppo': rows, 'curves': curves, 'best_of_n': samples}, indent=1) + '\n'
  )
  if options.figure:
    pathlib.Path(options.figure).write_bytes(draw(found, samples))
  titles = 'trained on', 'first r*', 'best r*', 'KL there', 'last r*', 'last KL', 'own reward'
  print(f'| {" | ".join(titles)} |\n|{"---|" * len(titles)}')
  print('\n'.join(row_of(name, row) for name, row in rows.items()))


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
