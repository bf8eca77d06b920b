"""The report of a true reward without a toxic class, and of labels that people did not make."""

import io
import re

import pytest

from irl_jax.command_line import results
from irl_jax.report import agreement_figures
from irl_jax.report import comparisons
from irl_jax.report import curves
from irl_jax.report import findings
from irl_jax.report import inputs as inputs_lib
from irl_jax.report import page
from irl_jax.report import summary as summary_lib
from irl_jax.report import tables
from irl_jax.report.drawing import Drawing
from irl_jax.runtime import terminal_tables

RANKING, SIGN, SHORTCUTS, TRAINING = 0, 2, 3, 4


def find(node):
  return findings.find(inputs_lib.parse_summary(node))


def test_the_order_of_texts_and_the_share_of_pairs_carry_the_verdict(score_summary):
  found = find(score_summary)
  assert found.headline == 'It ranks texts almost as the true reward does; do not use its sign.'
  ranking = found.lines[RANKING]
  assert ranking.verdict == 'yes'
  assert 'Spearman correlation with the true reward is 0.820 on average' in ranking.text
  assert 'the one with the higher true reward scores higher in 80.0' in ranking.text
  assert found.lines[SIGN].verdict == 'no' and 'score without a zero' in found.lines[SIGN].text
  assert 'Its Spearman correlation of 0.820 beats the best baseline' in found.lines[SHORTCUTS].text
  training = found.lines[TRAINING]
  assert training.verdict == 'yes' and 'for 70.0' in training.text


@pytest.mark.parametrize(
  ('correlation', 'bounds', 'verdict', 'words'),
  [
    (0.6, [0.55, 0.65], 'partly', 'Partly, with mistakes.'),
    (0.2, [0.1, 0.3], 'no', 'Do not rank texts'),
    (0.1, [-0.1, 0.3], 'no', 'cannot be distinguished from no order at all'),
    (-0.8, [-0.9, -0.7], 'no', 'That is the reverse order.'),
    (0.4, [0.1, 0.85], 'unknown', 'too few to tell'),
  ],
)
def test_a_correlation_claims_no_more_than_its_interval(
  score_summary, correlation, bounds, verdict, words
):
  for seed in score_summary['irl']['seeds']:
    seed['heldout_texts']['spearman'] = correlation
    seed['intervals']['heldout_texts']['spearman'] = bounds
  line = find(score_summary).lines[RANKING]
  assert line.verdict == verdict and words in line.text


@pytest.mark.parametrize(
  ('rate', 'bounds', 'words'),
  [
    (0.3, (0.2, 0.4), 'Do not train on this reward: the true reward fell'),
    (0.55, (0.45, 0.65), 'There is no evidence that it helped the true reward'),
    (0.6, (0.52, 0.68), 'The true reward rose'),
  ],
)
def test_training_is_judged_by_the_prompts_that_it_helped(score_summary, rate, bounds, words):
  won = {'rate': rate, 'low': bounds[0], 'high': bounds[1], 'n': 120}
  score_summary['rerlhf']['win_rate'] = won
  line = find(score_summary).lines[TRAINING]
  assert line.text.startswith(words) and line.verdict == ('partly' if rate == 0.6 else 'no')


def test_a_run_without_evaluation_is_known_by_what_its_policies_lack(score_summary):
  del score_summary['true_reward'], score_summary['irl']
  assert inputs_lib.parse_summary(score_summary).truth.is_score


@pytest.mark.slow
def test_nothing_on_the_page_calls_a_text_toxic(score_run):
  text = re.sub('<style>.*?</style>', '', page.write(score_run).read_text(), flags=re.S)
  # What could not be computed is named with its reason: there is no toxic class.
  without_reasons, _, reasons = text.partition('Results that could not be computed')
  assert 'no toxic class' in reasons
  told = 'its score, without a toxic class and without a zero'
  assert told in without_reasons
  assert 'toxic' not in without_reasons.replace(told, '')
  assert {'harmless', 'accuracy at', 'AUROC against'}.isdisjoint(
    word for word in ('harmless', 'accuracy at', 'AUROC against') if word in without_reasons
  )


def test_the_drawings_are_of_order(score_run):
  inputs = inputs_lib.read(score_run)
  drawn = comparisons.policies(inputs), comparisons.baselines(inputs), curves.against_truth(inputs)
  assert [drawing.name for drawing in drawn] == ['win_rates', 'baselines', 'irl_spearman']
  assert all(isinstance(drawing, Drawing) for drawing in drawn)
  assert 'Spearman correlation: ' in drawn[1].alt
  scatter = agreement_figures.scatter(inputs)
  assert scatter.numbers['counts'] == {} and scatter.alt.endswith('for 120\u00a0texts.')
  assert isinstance(agreement_figures.roc(inputs), str)


def test_tables_leave_out_what_needs_a_class(score_run, score_summary):
  (agreement, _) = tables.agreement(inputs_lib.read(score_run))
  assert agreement.columns[1:] == ('Spearman', 'Pearson', 'Kendall', 'pairs in order')
  (policies,) = tables.policies(inputs_lib.read(score_run))
  assert policies.rows[0][0] == 'mean true reward'
  assert 'true reward rose, share of prompts (ties half)' in [row[0] for row in policies.rows]
  printed = io.StringIO()
  terminal_tables.show(results.tables(score_summary), printed)
  assert 'a score, without a toxic class and without a zero' in printed.getvalue()
  assert 'AUROC' not in printed.getvalue().partition('–')[0]


@pytest.mark.parametrize(
  ('by', 'question'),
  [
    ('people', 'Does it rank texts as people do?'),
    ('program', "Does it rank texts as the playground's labels do?"),
    ('Perspective', 'Does it rank texts as Perspective does?'),
  ],
)
def test_labels_are_named_by_who_made_them(make_summary, by, question):
  summary = make_summary()
  summary['true_reward']['labelled_by'] = by
  for reward in (*summary['irl']['seeds'], summary['irl']['ensemble']):
    reward['heldout_texts'] = None
  assert find(summary).lines[RANKING].question == question


def test_an_older_run_of_the_playground_has_the_playgrounds_labels(make_run):
  inputs = inputs_lib.read(make_run())
  older = summary_lib.Summary()
  assert summary_lib.labelled(older, 'program').recovery.truth.labelled_by == 'program'
  assert inputs.summary.truth.labelled_by == 'people'  # the summary's own word holds
