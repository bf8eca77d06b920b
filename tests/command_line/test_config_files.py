"""Config files by path and by name, in a clone and in a package; files that give no config."""

import pathlib
import sys

import documented
import pytest

from irl_jax.command_line import config_files
from irl_jax.config import Config
from irl_jax.errors import ConfigError
from irl_jax.runtime import workdir

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
CONTENT = 'from irl_jax.config import *\ndef get_config():\n  return Config(ppo=PPO(epochs=2))\n'


def test_every_config_of_the_repository_has_a_name_and_loads_by_it():
  assert config_files.names() == sorted(path.stem for path in CONFIGS.glob('[!_]*.py'))
  assert config_files.load('tiny') == config_files.load(str(CONFIGS / 'tiny.py'))
  assert config_files.load('410m').name == '410m'


def test_a_file_comes_before_a_packaged_config_of_its_name(tmp_path, monkeypatch):
  (tmp_path / 'tiny').write_text(CONTENT)
  monkeypatch.chdir(tmp_path)
  assert config_files.load('tiny') == Config(ppo=config_files.load('tiny').ppo)


def test_an_installed_package_holds_the_configs_in_a_folder_of_its_own(tmp_path, monkeypatch):
  (tmp_path / 'irl_jax' / 'configs').mkdir(parents=True)
  (tmp_path / 'irl_jax' / 'configs' / 'mine.py').write_text(CONTENT)
  monkeypatch.setattr('irl_jax.__file__', str(tmp_path / 'irl_jax' / '__init__.py'))
  assert config_files.names() == ['mine'] and config_files.load('mine').ppo.epochs == 2


@pytest.mark.parametrize(
  'spec, message',
  [
    ('tinny', '--config=tinny: no such config; did you mean --config=tiny?'),
    ('configs/tiny.py', '--config=configs/tiny.py: no such file; did you mean --config=tiny?'),
    ('mine', '--config=mine: no such config; give a Python file with get_config(), or one of 1.4b'),
    ('x/mine', '--config=x/mine: no such file; give a Python file with get_config(), or one of '),
    ('..', '--config=..: is a folder without a config.json; '),
  ],
)
def test_an_unknown_config_lists_what_there_is(tmp_path, monkeypatch, spec, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ConfigError) as refused:
    config_files.load(spec)
  assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
  'content, message',
  [
    ('x = 1', 'must define get_config()'),
    ('def get_config(): return {}', 'must define get_config()'),
    ('def get_config(:', 'SyntaxError: '),
    ('import no_such_module', "ModuleNotFoundError: No module named 'no_such_module'"),
    ('import sys; sys.exit(3)', 'SystemExit: 3'),
    (CONTENT.replace('epochs', 'epoch'), "unexpected keyword argument 'epoch'"),
    (CONTENT.replace('2', '0'), 'config.ppo.epochs = 0: must be >= 1'),
    (CONTENT.replace('2', "'2'"), "config.ppo.epochs = '2': must be of type int"),
  ],
)
def test_a_file_that_gives_no_config_is_refused_by_name(tmp_path, content, message):
  path = tmp_path / 'broken.py'
  path.write_text(content)
  with pytest.raises(ConfigError) as refused:
    config_files.load(str(path))
  assert str(refused.value).startswith(f'--config={path}: ') and message in str(refused.value)


YAML = """
name: mine
stages: [data, irl]
ppo:
  learning_rate: 3e-6   # YAML reads this as text
  subtract_original: false
irl: {seeds: 2}
"""


def test_yaml_and_json_hold_the_fields_that_differ(tmp_path):
  (tmp_path / 'mine.yaml').write_text(YAML)
  config = config_files.load(str(tmp_path / 'mine.yaml'))
  assert config.name == 'mine' and config.stages == ('data', 'irl') and config.irl.seeds == 2
  assert config.ppo.learning_rate == 3e-6 and config.ppo.subtract_original is False
  (tmp_path / 'mine.json').write_text('{"ppo": {"epochs": 2}}')
  assert config_files.load(str(tmp_path / 'mine.json')).ppo.epochs == 2


def test_what_a_run_wrote_repeats_it(tmp_path):
  config = config_files.load('tiny')
  workdir.prepare(tmp_path, config)
  assert config_files.load(str(tmp_path)) == config
  assert config_files.load(str(tmp_path / 'config.json')) == config
  saved = workdir.read_json(tmp_path / 'config.json')
  for lacking in ('schema', 'versions'):  # an older version may not have written it
    older = {name: value for name, value in saved.items() if name != lacking}
    workdir.write_json(tmp_path / 'older.json', older)
    assert config_files.load(str(tmp_path / 'older.json')) == config


def test_modules_next_to_a_config_can_be_imported(tmp_path):
  (tmp_path / 'shared_by_mine.py').write_text(CONTENT.replace('get_config', 'make'))
  (tmp_path / 'mine.py').write_text('import shared_by_mine\nget_config = shared_by_mine.make\n')
  before = list(sys.path)
  assert config_files.load(str(tmp_path / 'mine.py')).ppo.epochs == 2
  assert sys.path == before


# Values that YAML 1.1 reads otherwise, or that only look alike, and what YAML 1.2 reads.
NUMBERS = {
  '010': 10,
  '-010': -10,
  '0o17': 15,
  '0x1F': 31,
  '1e-4': 0.0001,
  '1E-4': 0.0001,
  '+1e+2': 100.0,
  '5.e-1': 0.5,
  '.5': 0.5,
  '3.0e-6': 3e-6,
  '!!int 010': 10,
  '!!float 1e3': 1000.0,
  '-.inf': float('-inf'),
  'true': True,
  '~': None,
  '': None,
}
TEXTS = ['1:30', '1:30.5', '1_000', '0b11', 'on', 'no', 'Yes', 'off', 'y', '2024-01-01', '=', '0o9']


@pytest.mark.parametrize('written', [*NUMBERS, *TEXTS])
def test_yaml_is_read_as_yaml_1_2_reads_it(tmp_path, written):
  (tmp_path / 'my.yaml').write_text(f'value: {written}\n"quoted": "{written}"\nlist: [{written}]')
  read = config_files.read_fields(tmp_path / 'my.yaml')
  value = NUMBERS.get(written, written)
  assert read == {'value': value, 'quoted': written, 'list': [value] if written else []}
  assert type(read['value']) is type(value)


def test_sections_of_yaml_may_share_fields(tmp_path):
  (tmp_path / 'my.yaml').write_text(
    'sft: &training {epochs: 7, batch_size: 010}\nclassifier: {<<: *training, epochs: 8}'
  )
  config = config_files.load(str(tmp_path / 'my.yaml'))
  assert (config.sft.epochs, config.sft.batch_size) == (7, 10)
  assert (config.classifier.epochs, config.classifier.batch_size) == (8, 10)


DOCUMENTED = {
  'x = 1': '--config=my.toml',
  'ppo: {stepz: 3}': 'a YAML config with an unknown field',
  'seed: 1:30': 'a YAML config with 1:30 for a number',
  'ppo: {steps: 3, steps: 4}': 'a YAML config with a field twice',
}


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('my.toml', 'x = 1', 'is not a config file; use Python with get_config() (.py), or fields'),
    ('my.json', '{"ppo": ', 'is not JSON: Expecting value'),
    ('my.yaml', 'ppo: [', 'is not YAML: '),
    ('my.yaml', '', 'is empty'),
    ('my.yaml', '# none yet', 'config: must be a mapping of fields to values, not NoneType'),
    ('my.json', 'version https://git-lfs.github.com/spec/v1\n', 'is a Git LFS pointer, not the'),
    ('my.json', '<!DOCTYPE html>', 'is an HTML page, not the file itself'),
    ('my.json', '{"schema": null, "config": {}}', 'schema = None: must be a whole number'),
    ('my.json', '{"schema": 2, "config": {}}', 'was written by a newer irl_jax (config.json has'),
    ('my.yaml', 'ppo: 3', 'config.ppo: must be a mapping of fields to values, not int'),
    ('my.yaml', 'ppo: {stepz: 3}', 'config.ppo.stepz: no such config field; did you mean config.'),
    ('my.json', '{"irl": {"shiny": 3}}', 'config.irl.shiny: no such config field; irl_jax/config'),
    ('my.json', '{"ppo": {}, "irl": {}, "ppo": {}}', "has the key 'ppo' twice; merge the two"),
    ('my.yaml', 'ppo: {}\nirl: {}\nppo: {}', "has the key 'ppo' twice; merge the two"),
    ('my.yaml', 'ppo: {steps: 3, steps: 4}', "has the key 'steps' twice; merge the two"),
    ('my.yaml', 'ppo: {steps: 3, "st\\x65ps": 4}', "has the key 'steps' twice; merge the two"),
    ('my.json', '{"ppo": {"steps": 3, "st\\u0065ps": 3}}', "has the key 'steps' twice; merge the"),
    ('my.yaml', 'seed: 1:30', "config.seed = '1:30': must be a whole number >= 0"),
    ('my.yaml', 'ppo: {learning_rate: 1:30.5}', "config.ppo.learning_rate = '1:30.5': must be a"),
    ('my.yaml', 'irl: {seeds: 0b11}', "config.irl.seeds = '0b11': must be a whole number"),
    (
      'my.yaml',
      'ppo: {subtract_original: on}',
      "config.ppo.subtract_original = 'on': must be true",
    ),
    (
      'my.yaml',
      'ppo: {subtract_original: No}',
      "config.ppo.subtract_original = 'No': must be true",
    ),
    ('my.yaml', 'ppo: {subtract_original: !!bool no}', "is not YAML: 'no' must be true or false"),
    ('my.yaml', 'seed: !!int 1:30', 'is not YAML: invalid literal for int()'),
    ('my.yaml', 'data: {positive: 1}', 'config.data.positive = 1: must be of type str; put it in'),
    ('my.yaml', 'ppo: {steps: 0}', 'config.ppo.steps = 0: must be >= 1'),
    ('my.yaml', 'ppo: {steps: many}', "config.ppo.steps = 'many': must be a whole number >= 1"),
    ('my.yaml', 'name: !!python/object/apply:os.system ["touch run"]', 'is not YAML: could not'),
  ],
)
def test_a_file_of_fields_that_is_wrong_is_refused_by_name(
  tmp_path, monkeypatch, name, content, message
):
  monkeypatch.chdir(tmp_path)
  pathlib.Path(name).write_text(content)
  with pytest.raises(ConfigError) as refused:
    config_files.load(name)
  assert str(refused.value).startswith(f'--config={name}: {message}')
  if fault := DOCUMENTED.get(content):
    documented.check(fault, f'error: {refused.value}', refused.value.exit_code, tmp_path)
  assert '\n' not in str(refused.value) and not pathlib.Path('run').exists()
