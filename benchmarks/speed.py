"""How fast: ours, the peers and the limits of the machine, side by side in one run.

  python benchmarks/speed.py --output=speed.json --markdown=BENCHMARKS.md
  python benchmarks/speed.py --only=decode_70m,ppo_70m --repeats=9
  python benchmarks/speed.py --only=growth_batch,growth_length,growth_depth,tiny
  python benchmarks/speed.py --results=speed.json --markdown=BENCHMARKS.md

Every piece of work is printed once it is known, and kept in --output. Peers need torch, which is left out where it is
missing. On a GPU computation is in bfloat16 and the sizes are larger.
"""

import json
import os
import pathlib
import sys
from typing import Any

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # a clone need not be installed

from side_by_side import groups
from side_by_side import machine as machine_lib
from side_by_side import page
from side_by_side import turns

from irl_jax.command_line import launch as command_line
from irl_jax.errors import ConfigError
from irl_jax.runtime import host_memory

SHARED = pathlib.Path(__file__).parents[2] / 'shared'

FLAGS = flags.FlagValues()
flags.DEFINE_list(
  'only',
  [],
  'names of what is timed; all but growth_... and tiny where none is named',
  flag_values=FLAGS,
)
flags.DEFINE_integer('repeats', 5, 'turns of every contestant', lower_bound=1, flag_values=FLAGS)
flags.DEFINE_float(
  'seconds',
  120,
  'time limit of one piece of work; two turns are always taken',
  lower_bound=0,
  flag_values=FLAGS,
)
flags.DEFINE_enum(
  'sizes', 'auto', ['auto', *groups.SIZES], 'shapes; auto: by the kind of device', flag_values=FLAGS
)
flags.DEFINE_string(
  'models',
  str(SHARED / 'models'),
  'folder with pythia_tokenizer, roberta_tokenizer and neox_14m; what is missing is made up',
  flag_values=FLAGS,
)
flags.DEFINE_string(
  'data',
  str(SHARED / 'data'),
  'folder with jigsaw_train.jsonl.gz; made up where it is missing',
  flag_values=FLAGS,
)
flags.DEFINE_string('output', '', 'the .json file to write', flag_values=FLAGS)
flags.DEFINE_string('markdown', '', 'the page to write, such as BENCHMARKS.md', flag_values=FLAGS)
flags.DEFINE_string(
  'results',
  '',
  'measure nothing: the .json file of an earlier run, for --markdown',
  flag_values=FLAGS,
)


def chosen(options: flags.FlagValues, made: list[groups.Group]) -> list[groups.Group]:
  """The groups that are asked for.

  Raises:
    ConfigError: there is none of that name.
  """
  names = [group.name for group in made]
  for name in options.only:
    if name not in names:
      raise ConfigError(f'--only: no {name!r}; there are {", ".join(names)}')
  return [
    group
    for group in made
    if group.name in options.only or (not options.only and not groups.optional(group.name))
  ]


def write(options: flags.FlagValues, results: dict[str, Any]) -> None:
  """Whatever is known so far."""
  if options.output:
    pathlib.Path(options.output).write_text(json.dumps(results, indent=2) + '\n', encoding='utf-8')
  if options.markdown:
    pathlib.Path(options.markdown).write_text(page.markdown(results), encoding='utf-8')


def measure(options: flags.FlagValues) -> None:
  """Times the groups and prints each once it is known."""
  machine = machine_lib.measure(options.sizes)
  kind, item = machine['jax']['sizes'], 4 if machine['jax']['dtype'] == 'float32' else 2
  made = chosen(
    options, groups.all_groups(kind, item, machine['peers'], options.models, options.data)
  )
  print('\n'.join(page.machine_lines(machine)), end='\n\n', flush=True)
  arguments = [f'--only={",".join(options.only)}'] * bool(options.only) + [
    f'--repeats={options.repeats}'
  ]
  results = {
    'command': ' '.join(
      ['python benchmarks/speed.py', *arguments, f'--seconds={options.seconds:g}']
    ),
    'machine': machine,
    'groups': [],
  }
  for group in made:
    rounds = (
      [group.contestants] if group.together else [[contestant] for contestant in group.contestants]
    )
    found = [row for part in rounds for row in turns.take(part, options.repeats, options.seconds)]
    results['groups'].append(groups.described(group, found, machine))
    print(page.terminal(results['groups'][-1]), flush=True)
    write(options, results)


def main(options: flags.FlagValues) -> None:
  """Measures, or turns an earlier run into a page."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # contestants share a GPU
  os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
  if (
    os.environ.get(host_memory.TUNABLES) == host_memory.HUGE_PAGES
  ):  # contestants start as a run of a given model does
    os.environ[host_memory.TUNABLES] = host_memory.KEEPING
  if options.results:
    write(options, json.loads(pathlib.Path(options.results).read_text(encoding='utf-8')))
  else:
    measure(options)


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
