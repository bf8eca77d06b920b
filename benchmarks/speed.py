"""Speed of irl_jax, its peers and the limits of the machine, side by side in one run.

  python benchmarks/speed.py --output=speed.json --markdown=BENCHMARKS.md
  python benchmarks/speed.py --only=decode_70m,ppo_70m --repeats=9
  python benchmarks/speed.py --only=growth_batch,growth_length,growth_depth,tiny
  python benchmarks/speed.py --results=speed.json --markdown=BENCHMARKS.md
  python benchmarks/speed.py --profile --only=decode_70m

Every result is printed once it is known, and kept in --output as JSON. Peers need torch and are
left out without it. On a GPU computation is in bfloat16 and the sizes are larger.
"""

import json
import os
import pathlib
import sys
from typing import Any

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # a clone need not be installed

from side_by_side import inputs
from side_by_side import machine as machine_lib
from side_by_side import page
from side_by_side import trace
from side_by_side import turns
from side_by_side import work as work_lib

from irl_jax.command_line import launch as command_line
from irl_jax.errors import ConfigError
from irl_jax.runtime import host_memory

SHARED = pathlib.Path(__file__).parents[2] / 'shared'
FLAGS = flags.FlagValues()


def define_flags(values: flags.FlagValues) -> None:
  """Defines the flags of this command."""
  text = lambda name, default, help: flags.DEFINE_string(name, default, help, flag_values=values)
  flags.DEFINE_list(
    'only', [], 'names of what is timed; default: all but growth_... and tiny', flag_values=values
  )
  flags.DEFINE_integer('repeats', 5, 'turns of every contestant', lower_bound=1, flag_values=values)
  flags.DEFINE_float(
    'seconds',
    120,
    'time limit of one piece of work; two turns are always taken',
    lower_bound=0,
    flag_values=values,
  )
  flags.DEFINE_enum(
    'sizes',
    'auto',
    ['auto', *work_lib.SIZES],
    'shapes; auto: by the kind of device',
    flag_values=values,
  )
  text(
    'models',
    str(SHARED / 'models'),
    'folder with pythia_tokenizer, roberta_tokenizer and neox_14m; what is missing is made up',
  )
  text('data', str(SHARED / 'data'), 'folder with jigsaw_train.jsonl.gz; made up if it is missing')
  text('output', '', 'the .json file to write')
  text('markdown', '', 'the page to write, such as BENCHMARKS.md')
  text('results', '', 'measure nothing: the .json file of an earlier run, for --markdown')
  flags.DEFINE_boolean(
    'profile',
    False,
    'do not time: trace one lap of ours in each piece of work named by --only (CPU)',
    flag_values=values,
  )
  flags.DEFINE_integer('rows', 12, 'of the tables of --profile', lower_bound=1, flag_values=values)


define_flags(FLAGS)


def chosen(names: list[str], groups: list[work_lib.Group]) -> list[work_lib.Group]:
  """Returns the groups of these names; without names, all that are not optional.

  Raises:
    ConfigError: there is none of a name.
  """
  known = [group.name for group in groups]
  for name in names:
    if name not in known:
      raise ConfigError(f'--only: no {name!r}; there are {", ".join(known)}')
  default = [name for name in known if not work_lib.optional(name)]
  return [group for group in groups if group.name in (names or default)]


def write(options: flags.FlagValues, results: dict[str, Any]) -> None:
  """Writes what is known so far."""
  if options.output:
    pathlib.Path(options.output).write_text(json.dumps(results, indent=2) + '\n', encoding='utf-8')
  if options.markdown:
    pathlib.Path(options.markdown).write_text(page.markdown(results), encoding='utf-8')


def command(options: flags.FlagValues) -> str:
  """The command that repeats this run."""
  only = [f'--only={",".join(options.only)}'] if options.only else []
  limits = [f'--repeats={options.repeats}', f'--seconds={options.seconds:g}']
  return ' '.join(['python benchmarks/speed.py', *only, *limits])


def measure(options: flags.FlagValues) -> None:
  """Times the groups and prints each once it is known."""
  machine = machine_lib.measure(options.sizes)
  item = 4 if machine['jax']['dtype'] == 'float32' else 2
  groups = work_lib.all_groups(machine['jax']['sizes'], item, machine['peers'])
  groups = chosen(options.only, groups)
  print('\n'.join(page.machine_lines(machine)), end='\n\n', flush=True)
  results: dict[str, Any] = {'command': command(options), 'machine': machine, 'groups': []}
  for group in groups:
    rounds = [group.contestants] if group.together else [[one] for one in group.contestants]
    rows = [row for part in rounds for row in turns.take(part, options.repeats, options.seconds)]
    results['groups'].append(work_lib.described(group, rows, machine))
    print(page.terminal(results['groups'][-1]), flush=True)
    write(options, results)


def profile(options: flags.FlagValues) -> None:
  """Prints where the time of ours goes."""
  command_line.require(options, 'only')
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {trace.FLAG}'
  sizes = 'cpu' if options.sizes == 'auto' else options.sizes
  for group in chosen(options.only, work_lib.all_groups(sizes, 4, peers=False)):
    contestant = group.contestants[0]
    note = f' ({contestant.note})' if contestant.note else ''
    print(f'{group.title}{note}\n\n{trace.profile(contestant, options.rows)}\n', flush=True)


def main(options: flags.FlagValues) -> None:
  """Measures, profiles, or turns an earlier run into a page."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # contestants share a GPU
  os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
  if options.sizes != 'tiny':
    os.environ |= {inputs.MODELS: options.models, inputs.DATA: options.data}
  # Contestants start as a run of a given model does.
  if os.environ.get(host_memory.TUNABLES) == host_memory.HUGE_PAGES:
    os.environ[host_memory.TUNABLES] = host_memory.KEEPING
  if options.results:
    write(options, json.loads(pathlib.Path(options.results).read_text(encoding='utf-8')))
  elif options.profile:
    profile(options)
  else:
    measure(options)


if __name__ == '__main__':
  sys.exit(command_line.run_main(main, FLAGS, __doc__))
