"""Tables contain every result with its interval; a missing one is a dash with one reason."""

import pytest

from irl_jax.report import inputs as inputs_lib
from irl_jax.report import summary as summary_lib
from irl_jax.report import tables as tables_lib
from irl_jax.report import wording

TABLES = (
  tables_lib.policies,
  tables_lib.agreement,
  tables_lib.calibration,
  tables_lib.confounds,
  tables_lib.identifiability,
  tables_lib.preferences,
)


def tables_of(summary, build):
  return build(inputs_lib.Inputs(inputs_lib.parse_summary(summary), {}, {}))


@pytest.mark.parametrize('build', TABLES)
def test_rows_are_as_long_as_the_columns(make_summary, build):
  for table in tables_of(make_summary(), build):
    assert table.rows and {len(row) for row in table.rows} == {len(table.columns)}
    assert not any(
      'None' in cell or 'nan' in cell or '{' in cell for row in table.rows for cell in row
    )


@pytest.mark.parametrize('build', TABLES)
@pytest.mark.parametrize(
  'summary', [{}, {'irl': None}, {'irl': {'seeds': [{}], 'baselines': {'length': {}}}}]
)
def test_without_figures_there_is_no_table(build, summary):
  assert tables_of(summary, build) == []


def test_a_second_judge_and_several_samples_have_rows_of_their_own(make_summary):
  summary = make_summary()
  share = lambda rate: {'rate': rate, 'low': rate - 0.1, 'high': rate + 0.1, 'n': 120}
  for stage in ('rlhf', 'rerlhf'):
    for when, rate in (('before', 0.4), ('after', 0.2)):
      worst = {'expected_maximum': rate, 'expected_maximum_low': rate - 0.1}
      worst |= {'expected_maximum_high': rate + 0.1, 'probability': share(rate), 'n': 120}
      node = summary[stage][when]
      node['judge'] = {'toxicity': share(rate + 0.1), 'toxicity_full': share(rate)}
      node['maximum_toxicity'] = node['judge']['maximum_toxicity'] = worst
  (table,) = tables_of(summary, tables_lib.policies)
  rows = {row[0].partition(', n')[0]: row[1:] for row in table.rows}
  without = {
    row[0].partition(', n')[0] for row in tables_of(make_summary(), tables_lib.policies)[0].rows
  }
  assert set(rows) - without == {
    'expected maximum toxicity',
    'prompts with a toxic sample',
    *(f'{label}, by the judge' for label in summary_lib.TOXICITIES.values()),
  }
  assert [cell.split()[0] for cell in rows['expected maximum toxicity']][1:] == ['20.0', '20.0']
  assert [cell.split()[0] for cell in rows['toxic completions, by the judge']][1:] == ['30.0'] * 2


def test_policies_share_their_start(make_summary):
  (table,) = tables_of(make_summary(), tables_lib.policies)
  assert table.columns == ('', 'start', 'RLHF on the true reward', 'RLHF on the recovered reward')
  rows = {
    row[0].replace('\u00a0', ' '): [cell.replace('\u00a0', ' ') for cell in row[1:]]
    for row in table.rows
  }
  assert rows['toxic completions, n 120'] == [
    '50.0 %\n[48.0, 52.0]',
    '10.0 %\n[8.0, 12.0]',
    '8.0 %\n[6.0, 10.0]',
  ]
  assert rows['KL from the starting policy, nats per response'] == ['0.00', '2.50', '4.00']
  assert rows['p of the change (McNemar)'] == ['', '< 0.0001', '< 0.0001']
  assert rows['toxic before only / after only'] == ['', '50 / 2', '50 / 2']


def test_pairs_that_differ_have_their_count_and_interval(make_summary):
  summary = make_summary(seeds=1)
  (table,) = tables_of(summary, tables_lib.preferences)
  assert table.rows[0] == ['seed 0', '90.0\u00a0%\n[83.0, 94.0]', '110', '120']
  assert 'independently' in table.note and 'same random numbers' not in table.note
  del summary['irl']['coupled_pairs']  # as an older version wrote it
  (table,) = tables_of(summary, tables_lib.preferences)
  assert 'same random numbers' in table.note
  summary = make_summary()
  for seed in (*summary['irl']['seeds'], summary['irl']['ensemble']):
    del seed['preference']  # as an older version wrote it
  assert tables_of(summary, tables_lib.preferences) == []


def test_how_the_seeds_began_is_said_under_how_alike_they_are(make_summary):
  (table,) = tables_of(make_summary(), tables_lib.identifiability)
  assert 'Spearman correlation of 0.999' in table.note and '0.500 to 0.500' in table.note
  summary = make_summary()
  del summary['irl']['start']
  assert tables_of(summary, tables_lib.identifiability)[0].note == ''


def test_every_reward_has_its_row(make_summary):
  tables = tables_of(make_summary(seeds=2), tables_lib.agreement)
  assert [table.title.replace('\u00a0', ' ') for table in tables] == [
    f'{title} (n 120)'
    for title in (
      'Held-out texts, against the true reward',
      "Held-out texts, against people's labels",
      'Held-out pairs, against the true reward',
    )
  ]
  assert [row[0] for row in tables[0].rows] == [
    'seed 0',
    'seed 1',
    'mean ± deviation',
    wording.ENSEMBLE,
    'constant',
    'bag of words',
    "DPO's implicit reward",
    'ceiling',
  ]
  assert (
    tables[0].rows[0][1] == '0.940\n[0.920, 0.960]' and tables[0].rows[2][1] == '0.940\n± 0.940'
  )
  assert [row[0] for row in tables[1].rows][
    -1
  ] == wording.ENSEMBLE  # these baselines have no such metrics
  assert len(tables_of(make_summary(seeds=1), tables_lib.agreement)[0].rows) == 6


def test_a_baseline_of_length_names_what_it_prefers_and_all_have_their_own_zero(make_summary):
  summary = make_summary()
  summary['irl']['baselines']['length'] = summary['irl']['baselines']['bag_of_words'] | {
    'prefers': 'longer'
  }
  table = tables_of(summary, tables_lib.agreement)[0]
  assert 'longer is better' in [row[0] for row in table.rows] and 'zero of its own' in table.note
  for row in summary['irl']['baselines'].values():
    row.pop('zero', None)  # as an older version wrote it
  assert tables_of(summary, tables_lib.agreement)[0].note == ''


def test_least_alike_is_the_smallest_or_the_furthest(make_summary):
  summary = make_summary()
  for name, value in (('spearman', 0.2), ('epic_distance', 0.6)):
    summary['irl']['identifiability'][name][0][2] = value
  rows = tables_of(summary, tables_lib.identifiability)[0].rows
  assert [row[2] for row in rows] == ['0.200', '0.930', '0.600'] and rows[0][1] == '0.700'
