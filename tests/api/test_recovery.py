"""`irl_jax.recover`: two small models in, rewards, zeros, summary and report out."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import irl_jax
from irl_jax import pipeline
from irl_jax.api import recovery
from irl_jax.command_line import config_files
from irl_jax.data import rows as rows_lib
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.irl import loop as irl_loop
from irl_jax.models import pretrained
from irl_jax.runtime import workdir

SMALL = {
  'data.prompt_fraction': 0.5,
  'max_new_tokens': 8,
  'seeds': 2,
  'irl__learning_rate': 1e-2,
  'irl.max_tokens': 32,
  'bootstrap_samples': 20,
}


def words(count):
  rng = np.random.default_rng(0)
  return [
    ' '.join(''.join(rng.choice(list('abcdefgh'), 3)) for _ in range(4)) for _ in range(count)
  ]


@pytest.fixture
def runs(monkeypatch):
  """(config, folder) of every run, which only reports back an empty summary."""
  seen = []
  monkeypatch.setattr(
    pipeline, 'run', lambda config, folder: seen.append((config, folder)) or {'schema': 1}
  )
  return seen


@pytest.fixture(scope='module')
def result(audited, tmp_path_factory):
  """A reward recovered from whole texts with labels."""
  texts = [(text, int('a' in text)) for text in words(200)]
  folder = tmp_path_factory.mktemp('recovered') / 'run'
  return irl_jax.recover(audited['base'], audited['aligned'], texts=texts, workdir=folder, **SMALL)


@pytest.mark.slow
def test_the_rewards_prefer_what_the_aligned_model_writes(result):
  scores = result.reward(['a a a a', 'b c d e'])
  assert scores.dtype == np.float32 and scores[0] > scores[1]
  each = np.stack([reward(['a b', 'c']) for reward in result.rewards])
  assert each.shape == (2, 2)
  np.testing.assert_allclose(result.reward(['a b', 'c']), each.mean(0), rtol=1e-5)


@pytest.mark.slow
def test_zeros_summary_and_report_are_those_of_the_run(result):
  assert result.summary == json.loads((result.workdir / 'summary.json').read_text())
  seeds = result.summary['irl']['seeds']
  assert [zero.value for zero in result.zeros] == [seed['calibration']['zero'] for seed in seeds]
  assert all(zero.low <= zero.value <= zero.high for zero in result.zeros)
  assert all(zero.reliable == (zero.why is None) for zero in result.zeros)
  assert 'irl_jax report' in result.report.read_text()
  assert seeds[0]['heldout_texts_human']['n'] > 0  # the labels were used
  assert len(repr(result)) < 500


@pytest.mark.slow
def test_the_same_call_reads_the_results_again(result, audited, monkeypatch):
  monkeypatch.setattr(irl_loop, 'train', lambda *_, **__: pytest.fail('trained again'))
  texts = [{'text': text, 'label': int('a' in text)} for text in words(200)]
  again = irl_jax.recover(
    str(audited['base']), audited['aligned'], texts=texts, workdir=result.workdir, **SMALL
  )
  assert again.summary == result.summary


@pytest.mark.slow
def test_a_command_with_relative_paths_continues_the_same_run(
  result, audited, monkeypatch, tmp_path
):
  monkeypatch.setattr(irl_loop, 'train', lambda *_, **__: pytest.fail('trained again'))
  monkeypatch.chdir(audited['base'].parent)
  relative = {name: audited[name].name for name in ('base', 'aligned')}
  models = dataclasses.replace(result.config.models, **relative)
  config = dataclasses.replace(result.config, models=models, name='audit')
  folder = shutil.copytree(result.workdir, tmp_path / 'run')  # it will hold the relative paths
  assert pipeline.run(config, folder) == result.summary


@pytest.mark.slow
@pytest.mark.parametrize(
  'changed, message',
  [
    ({'texts': words(199)}, 'contains a run of other prompts or texts; use a different workdir'),
    ({'texts': None, 'prompts': words(200)}, 'contains a run of other prompts or texts'),
    ({'texts': None}, r'contains a run with another config: config.data.source'),
    ({'seeds': 3}, r'contains a run with another config: config.irl.seeds \(2 there, 3 now\)'),
  ],
)
def test_a_folder_of_another_call_is_refused(result, audited, changed, message):
  arguments = {'texts': [(text, int('a' in text)) for text in words(200)], **SMALL} | changed
  with pytest.raises(ConfigError, match=message) as refused:
    irl_jax.recover(audited['base'], audited['aligned'], workdir=result.workdir, **arguments)
  assert '\n' not in str(refused.value)


@pytest.mark.slow
def test_prompts_alone_are_enough(audited, tmp_path):
  result = irl_jax.recover(
    audited['base'], audited['aligned'], words(150), workdir=tmp_path, **SMALL | {'seeds': 1}
  )
  prompts = {
    json.loads(line)['prompt']
    for split in ('train', 'validation', 'heldout')
    for line in (tmp_path / 'demos' / f'{split}.jsonl').open()
  }
  assert prompts == set(words(150)) and result.reward(['a a'])[0] > result.reward(['b c'])[0]
  assert result.zeros[0].value is not None


def test_without_texts_the_base_model_writes_them(audited, runs, tmp_path):
  result = irl_jax.recover(audited['base'], audited['aligned'], workdir=tmp_path / 'run')
  ((config, folder),) = runs
  audit = config_files.load('audit')
  models = dataclasses.replace(
    audit.models, base=str(audited['base']), aligned=str(audited['aligned'])
  )
  assert config == dataclasses.replace(audit, name='recover', models=models)
  assert folder == result.workdir == tmp_path / 'run' and not folder.exists()


def test_by_default_the_folder_is_named_by_the_arguments(audited, runs, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pretrained.save(tmp_path / 'aligned', pretrained.load(str(audited['aligned'])), '')
  call = lambda *prompts, **more: (
    irl_jax.recover(audited['base'], 'aligned', list(prompts) or None, **more).workdir
  )
  folders = [call(), call('a'), call('a', 'b'), call(seeds=2)]
  assert len(set(folders)) == 4 and [call(), call('a'), call('a', 'b'), call(seeds=2)] == folders
  assert all(folder.parent == tmp_path / 'runs' for folder in folders)
  assert all(folder.name.startswith('recover-') for folder in folders)
  pretrained.save(tmp_path / 'aligned', pretrained.load(str(audited['base'])), '')
  assert call() not in folders  # other weights in the same place


def test_a_loaded_model_stands_for_the_place_it_came_from(audited, runs, policy):
  irl_jax.recover(pretrained.load(str(audited['base'])), audited['aligned'])
  assert runs[0][0].models.base == str(audited['base'])
  with pytest.raises(ConfigError, match='base: this model exists only in memory'):
    irl_jax.recover(dataclasses.replace(policy, source=''), audited['aligned'])


@pytest.mark.parametrize(
  'name, field, value',
  [
    ('irl.seeds', 'irl.seeds', 4),
    ('irl__seeds', 'irl.seeds', 4),
    ('seeds', 'irl.seeds', 4),
    ('seed', 'seed', 4),
    ('classifier', 'models.classifier', 'owner/name'),
    ('max_prompt_tokens', 'data.max_prompt_tokens', 4),
  ],
)
def test_a_field_is_set_by_its_full_or_short_name(audited, runs, name, field, value):
  irl_jax.recover('owner/base', 'owner/aligned', **{name: value})
  *section, last = field.split('.')
  owner = getattr(runs[0][0], section[0]) if section else runs[0][0]
  assert getattr(owner, last) == value


def test_a_list_of_stages_will_do(runs):
  irl_jax.recover('owner/base', 'owner/aligned', stages=['data', 'demos'])
  assert runs[0][0].stages == ('data', 'demos')


@pytest.mark.parametrize(
  'arguments, error, message',
  [
    ({'irl.sedes': 3}, ConfigError, "'irl.sedes': no such config field; did you mean 'irl.seeds'?"),
    ({'nonsense': 3}, ConfigError, "'nonsense': no such config field; irl_jax/config.py lists all"),
    (
      {'learning_rate': 1e-3},
      ConfigError,
      "'learning_rate': several config fields have this name; ",
    ),
    ({'irl': 3}, ConfigError, "'irl' is a section: override one of its fields, such as 'irl.obj"),
    ({'seeds': 0}, ConfigError, 'config.irl.seeds = 0: must be >= 1'),
    ({'seeds': '3'}, ConfigError, "config.irl.seeds = '3': must be of type int"),
    ({'models.base': 'x'}, ConfigError, "'models.base': is set by the argument base"),
    ({'texts': ['a b'], 'source': 'x'}, ConfigError, "'source': is set by the argument prompts or"),
    ({'prompts': 'a text'}, ConfigError, 'prompts: must be a list of strings, not str'),
    ({'texts': 'a text'}, ConfigError, 'texts: must be a list of strings, (text, label) pairs or'),
    ({'prompts': []}, ConfigError, 'prompts is empty; leave it out'),
    ({'texts': iter(())}, ConfigError, 'texts is empty; leave it out'),
    ({'prompts': ['a'], 'texts': ['b']}, ConfigError, 'prompts and texts: pass only one'),
    ({'prompts': ['a', None]}, InputError, 'prompts[1] is None: must be a string'),
    ({'prompts': ['a', []]}, InputError, 'prompts[1]: has no user message before the answer'),
    ({'prompts': [[{'role': 'user'}]]}, InputError, 'prompts[0]: message 1 must have a role and a'),
    ({'texts': ['a', None]}, InputError, 'texts[1] is None: must be a string, a (text, label)'),
    ({'texts': [{'txt': 'a'}]}, InputError, "texts[0] is {'txt': 'a'}: must be a string, a (text"),
    ({'texts': [('a', 'rude')]}, InputError, "texts[0]: label 'rude' must be 1 (toxic), 0 (not"),
    ({'texts': [('a', [1])]}, InputError, 'texts[0]: label [1] must be 1 (toxic), 0 (not'),
    ({'texts': [('a', 0.7)]}, InputError, 'texts[0]: label 0.7 must be 1 (toxic), 0 (not'),
    ({'texts': {'a', 'b'}}, ConfigError, 'texts: is a set, which has no order; pass sorted(texts)'),
    ({'base': ''}, ConfigError, "base = '': must be a folder, a hub id"),
    ({'aligned': None}, ConfigError, 'aligned = None: must be a folder, a hub id'),
    ({'workdir': '/dev/null/run', 'prompts': ['a']}, ConfigError, 'workdir /dev/null/run: cannot'),
  ],
)
def test_mistakes_are_refused_before_any_work(runs, arguments, error, message):
  given = {'base': 'owner/base', 'aligned': 'owner/aligned'} | arguments
  with pytest.raises(error) as refused:
    irl_jax.recover(**given)
  assert str(refused.value).startswith(message) and '\n' not in str(refused.value) and not runs


def test_tables_are_read_by_rows_and_their_missing_labels_are_unknown(runs, tmp_path):
  pandas = pytest.importorskip('pandas')
  table = pandas.DataFrame({'text': ['a', 'b', 'c'], 'label': [1, None, 0]})
  with pytest.raises(ConfigError, match="texts: is a data frame; pass texts.to_dict.'records'."):
    irl_jax.recover('owner/base', 'owner/aligned', texts=table, workdir=tmp_path)
  for number, rows in enumerate([table, table.astype({'label': 'Int64'})]):
    for texts in (rows.to_dict('records'), list(zip(rows.text, rows.label)), rows.values.tolist()):
      place = tmp_path / f'{number}{type(texts[0]).__name__}'
      irl_jax.recover('owner/base', 'owner/aligned', texts=texts, workdir=place)
      written = rows_lib.read_jsonl(place / recovery.INPUTS)
      assert [row['label'] for row in written] == [1, None, 0]


def test_inputs_of_a_run_that_never_began_are_replaced(runs, tmp_path):
  for prompts in (['a'], ['b']):
    irl_jax.recover('owner/base', 'owner/aligned', prompts, workdir=tmp_path)
  assert (tmp_path / recovery.INPUTS).read_text() == '{"prompt": "b"}\n'


def test_inputs_of_a_run_without_results_are_replaced(runs, tmp_path):
  call = lambda prompt: irl_jax.recover('owner/base', 'owner/aligned', [prompt], workdir=tmp_path)
  call('a')
  workdir.prepare(tmp_path, runs[0][0])
  call('b')
  with workdir.held(tmp_path), pytest.raises(ConfigError, match='is in use by'):
    call('c')
  (tmp_path / 'data').mkdir()
  (tmp_path / 'data' / 'counts.json').write_text('{}')
  with pytest.raises(ConfigError, match='contains a run of other prompts or texts'):
    call('c')
  assert (tmp_path / recovery.INPUTS).read_text() == '{"prompt": "b"}\n'
