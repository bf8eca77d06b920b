"""The held-out data, its true rewards and labels, and a reward's scores of it.

Dims: K rewards, N texts, M pairs, V validation texts.
"""

from collections.abc import Hashable
from collections.abc import Sequence
import dataclasses

import numpy as np

from irl_jax import rewards
from irl_jax.evaluation import agreement

NO_LABELS = 'the held-out texts have no labels'
Labels = Sequence[int | None]  # 1 toxic, 0 not, None: no label


@dataclasses.dataclass(frozen=True)
class Reference:
  """The held-out data with r* and labels, and labelled texts to fit probabilities on."""

  texts: Sequence[str]  # whole original texts, each once
  labels: Labels  # [N]
  aligned: Sequence[str]  # full texts of both completions of each held-out prompt
  base: Sequence[str]
  true_texts: np.ndarray | None  # r* of texts; None: there is no true reward
  true_aligned: np.ndarray | None  # r* of aligned
  true_base: np.ndarray | None  # r* of base
  validation: Sequence[str] = ()  # the validation split's original texts
  validation_labels: Labels = ()  # [V]
  prompts: Sequence[Hashable] = ()  # [M] the prompt of each pair; (): every pair has its own
  text_prompts: Sequence[Hashable] = ()  # [N] the prompt of each text; (): every text has its own
  has_classes: bool = True  # r* < 0 means toxic; False: r* is a score without a zero

  @property
  def pair_numbers(self) -> np.ndarray:
    """The number of each pair's prompt [M]; pairs of one prompt are not independent."""
    return numbers_of(self.prompts, len(self.aligned))

  @property
  def text_numbers(self) -> np.ndarray:
    """The number of each text's prompt [N]."""
    return numbers_of(self.text_prompts, len(self.texts))

  @property
  def labelled(self) -> np.ndarray:
    """A mask [N] of the texts that have a label."""
    return np.array([label is not None for label in self.labels], bool)

  @property
  def true_pairs(self) -> np.ndarray:
    """r* of the aligned, then of the base texts [2 M]; only if there is a true reward."""
    assert self.true_aligned is not None and self.true_base is not None
    return np.concatenate([self.true_aligned, self.true_base])

  @property
  def human(self) -> np.ndarray:
    """The labels of the labelled texts as rewards, -1 toxic and +1 not."""
    return agreement.labels_to_reward([label for label in self.labels if label is not None])


@dataclasses.dataclass(frozen=True)
class Scores:
  """One reward's scores of everything in a Reference."""

  texts: np.ndarray  # [N] float64
  aligned: np.ndarray  # [M]
  base: np.ndarray  # [M]
  validation: np.ndarray  # [V], or [0] if not scored

  @property
  def pairs(self) -> np.ndarray:
    """Aligned, then base [2 M]."""
    return np.concatenate([self.aligned, self.base])


def numbers_of(prompts: Sequence[Hashable], size: int) -> np.ndarray:
  """Returns the numbers [N] of prompts in the order of their first use; of none, 0 to N - 1."""
  numbers: dict[Hashable, int] = {}
  found = [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]
  return np.array(found, int) if found else np.arange(size)


def score(reward: rewards.Reward, held: Reference, validation: bool = False) -> Scores:
  """Scores every text once; texts of the validation split only on request."""
  lists = held.texts, held.aligned, held.base, held.validation if validation else ()
  distinct = dict.fromkeys(text for texts in lists for text in texts)
  row = {text: index for index, text in enumerate(distinct)}
  values = np.asarray(reward(list(distinct)), np.float64)
  return Scores(
    *(values[[row[text] for text in texts]] if len(texts) else np.zeros(0) for texts in lists)
  )


def mean(scores: Sequence[Scores]) -> Scores:
  """Returns the scores of the ensemble: the mean of its members'."""
  names = [field.name for field in dataclasses.fields(Scores)]
  return Scores(
    **{name: np.mean([getattr(member, name) for member in scores], axis=0) for name in names}
  )
