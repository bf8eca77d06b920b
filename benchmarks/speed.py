"""Measures the speed of irl_jax, its peers and the limits of the machine side by side.

  python benchmarks/speed.py --output=speed.json --markdown=BENCHMARKS.md
  python benchmarks/speed.py --only=decode_70m,ppo_70m --repeats=9
  python benchmarks/speed.py --only=growth_batch,growth_length,growth_depth,tiny
  python benchmarks/speed.py --profile=traces --only=decode_70m

Each result is printed once it is known, and written to --output as JSON. Peers need torch and are
left out without it. On a GPU the computation is in bfloat16 and the sizes are larger. A trace opens
in https://ui.perfetto.dev or TensorBoard; on a CPU it shows XLA's operations by name.
`device.sh` runs this and the tests for one accelerator, in parts that resume.
Tokenizers and comments are read from the folder $BENCHMARK_INPUTS, by default ../shared; what it
lacks is made up.
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
from side_by_side import turns
from side_by_side import work

from irl_jax.command_line import launch
from irl_jax.errors import ConfigError
from irl_jax.runtime import atomic
from irl_jax.runtime import host_memory

FLAGS = flags.FlagValues()
define = {'flag_values': FLAGS}
flags.DEFINE_list('only', [], 'what to time; default: all but growth_... and tiny', **define)
flags.DEFINE_integer('repeats', 5, 'turns of each contestant', lower_bound=1, **define)
flags.DEFINE_float(
  'seconds', 120, 'time limit of each piece of work; two turns are always taken', 0, **define
)
flags.DEFINE_enum(
  'sizes', 'auto', ['auto', *work.SIZES], 'shapes; auto: by the kind of device', **define
)
flags.DEFINE_bool('peers', True, 'time torch and the rewritten loops, if torch is there', **define)
flags.DEFINE_string('output', '', 'the .json file to write', **define)
flags.DEFINE_bool('resume', False, 'keep what --output has, and time only what it lacks', **define)
flags.DEFINE_string('markdown', '', 'the page to write, such as BENCHMARKS.md', **define)
flags.DEFINE_string(
  'profile', '', 'do not time: trace a lap of ours in each --only into this folder', **define
)


def chosen(names: list[str], groups: list[work.Group]) -> list[work.Group]:
  """Returns the groups of these names; without names, all that are not rare."""
  known = [group.name for group in groups]
  for name in names:
    if name not in known:
      raise ConfigError(f'--only: no {name!r}; there are {", ".join(known)}')
  return [group for group in groups if (group.name in names if names else not group.rare)]


def begun(options: flags.FlagValues) -> dict[str, Any]:
  """Returns the results so far: with --resume those of --output, otherwise the machine alone."""
  file = pathlib.Path(options.output)
  if options.resume and file.is_file():
    return json.loads(file.read_text(encoding='utf-8'))
  only = f' --only={",".join(options.only)}' if options.only else ''
  limits = f' --repeats={options.repeats} --seconds={options.seconds:g}'
  command = f'python benchmarks/speed.py{only}{limits}'
  machine = machine_lib.measure(options.sizes, options.peers)
  return {'command': command, 'machine': machine, 'groups': []}


def measure(options: flags.FlagValues) -> None:
  """Times the groups; prints and writes each once it is known."""
  results = begun(options)
  machine, done = results['machine'], {group['name'] for group in results['groups']}
  print(page.head(results), flush=True)
  for group in chosen(options.only, work.all_groups(machine['jax']['sizes'], machine['peers'])):
    if group.name in done:
      continue
    group = work.worth_timing(group, machine)
    rounds = [group.contestants] if group.together else [[one] for one in group.contestants]
    rows = [row for part in rounds for row in turns.take(part, options.repeats, options.seconds)]
    results['groups'].append(work.described(group, rows, machine))
    print(page.section(results['groups'][-1]), flush=True)
    if options.output:
      atomic.write(options.output, f'{json.dumps(results, indent=2)}\n'.encode())
    if options.markdown:
      pathlib.Path(options.markdown).write_text(page.markdown(results), encoding='utf-8')


def profile(options: flags.FlagValues) -> None:
  """Traces a lap of ours in each group, in JAX's format."""
  launch.require(options, 'only')
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_cpu_enable_xprof_traceme=true'
  sizes = 'cpu' if options.sizes == 'auto' else options.sizes
  for group in chosen(options.only, work.all_groups(sizes, peers=False)):
    folder = f'{options.profile}/{group.name}'
    turns.trace(group.contestants[0], folder)
    print(f'{group.title}: {folder}', flush=True)


def main(options: flags.FlagValues) -> None:
  """Measures or profiles."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # contestants share a GPU
  os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
  if options.sizes != 'tiny':
    os.environ.setdefault(inputs.FOLDER, str(pathlib.Path(__file__).parents[2] / 'shared'))
  # Contestants start like a run of an existing model.
  if os.environ.get(host_memory.TUNABLES) == host_memory.HUGE_PAGES:
    os.environ[host_memory.TUNABLES] = host_memory.KEEPING
  (profile if options.profile else measure)(options)


if __name__ == '__main__':
  sys.exit(launch.run_main(main, FLAGS, __doc__))
