"""summary.json as typed values: unknown fields are ignored, a newer schema is refused."""

import inspect
import typing

import pytest

from irl_jax.errors import ConfigError
from irl_jax.report import inputs as inputs_lib
from irl_jax.report import summary as summary_lib
from irl_jax.runtime import records


def test_an_empty_summary_has_no_results():
  assert inputs_lib.parse_summary({}) == summary_lib.Summary()
  assert inputs_lib.parse_summary({'irl': None, 'rlhf': None}) == summary_lib.Summary()
  recovery = summary_lib.Summary().recovery
  assert recovery.reference is None and recovery.ensemble.on('heldout_texts').auroc is None


def test_every_metric_is_where_it_belongs(make_summary):
  summary = inputs_lib.parse_summary(make_summary(seeds=2))
  seed = summary.recovery.seeds[1]
  assert seed.on('heldout_texts').auroc == 0.94
  assert seed.on('heldout_texts').auroc_interval == [0.92, 0.96]
  assert seed.on('heldout_texts_human').auroc_interval is None
  assert seed.calibration.zero_interval == (-0.08, -0.06) and seed.confounds.style_auroc == 0.56
  assert summary.training('rerlhf').after.toxicity.bounds == (0.08, 0.06, 0.1)
  assert summary.training('rerlhf').mcnemar.before_only == 50
  assert summary.training('sft') is None
  assert list(summary.recovery.baselines) == ['constant', 'bag_of_words', 'dpo_implicit']
  assert summary.recovery.ceiling.on('heldout_texts').auroc == 0.97
  assert summary.recovery.identifiability.seed_pairs([[1, 0.5], [0.5, 1]]) == [0.5]


def test_a_metric_of_every_seed_is_all_of_them_or_none(make_summary):
  summary = make_summary()
  auroc = lambda seed: seed.on('heldout_texts').auroc
  assert inputs_lib.parse_summary(summary).recovery.of_seeds(auroc) == [0.94] * 3
  summary['irl']['seeds'][1]['heldout_texts'] = None
  recovery = inputs_lib.parse_summary(summary).recovery
  assert recovery.of_seeds(auroc) == [] and recovery.reference == 'heldout_texts_human'


def test_unknown_fields_are_ignored(make_summary):
  summary = make_summary()
  before = inputs_lib.parse_summary(make_summary())
  summary |= {'schema': records.SCHEMA, 'novel': {'a': 1}}
  summary['irl']['novel'] = summary['irl']['seeds'][0]['novel'] = 7
  summary['rlhf']['after']['toxicity']['novel'] = 'text'
  assert inputs_lib.parse_summary(summary) == before


@pytest.mark.parametrize('schema', [records.SCHEMA + 1, '1', None])
def test_a_summary_of_another_schema_is_refused_in_one_line(make_summary, schema):
  with pytest.raises(ConfigError, match='summary.json has schema') as caught:
    inputs_lib.parse_summary(make_summary() | {'schema': schema})
  assert '\n' not in str(caught.value)


def test_reasons_are_found_at_any_depth():
  node = {
    'why': {'a': 'first'},
    'irl': {'seeds': [{}, {'heldout_texts': {'f1': None, 'why': {'f1': 'second'}}}]},
  }
  assert inputs_lib.parse_summary(node).reasons == (
    summary_lib.Reason((), 'a', 'first'),
    summary_lib.Reason(('irl', 'seeds', 'seed 1', 'heldout_texts'), 'f1', 'second'),
  )


@pytest.mark.parametrize(
  'parsed, record, derived',
  [
    (summary_lib.Share, records.Share, set()),
    (summary_lib.Preference, records.Preference, set()),
    (summary_lib.Start, records.Start, set()),
    (summary_lib.Policy, records.PolicyMetrics, {'expected_maximum', 'toxicity_probability'}),
    (summary_lib.McNemar, records.McNemar, set()),
    (summary_lib.Truth, records.TrueRewardQuality, set()),
    (
      summary_lib.Agreement,
      records.Agreement,
      {'auroc_interval', 'spearman_interval', 'auroc_gain', 'spearman_gain'},
    ),
    (summary_lib.Calibration, records.Calibration, set()),
    (summary_lib.Confounds, records.Confounds, set()),
    (summary_lib.Identifiability, records.Identifiability, set()),
  ],
)
def test_the_report_asks_only_for_what_the_file_holds(parsed, record, derived):
  fields = set(inspect.signature(parsed).parameters)
  assert fields - derived <= set(typing.get_type_hints(record)) and derived <= fields
