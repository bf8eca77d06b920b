"""The true reward r*, of a toxicity classifier or of a reward model.

Dims: N texts.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import ClassVar
from typing import NoReturn

import numpy as np

from irl_jax import errors
from irl_jax.data.user_rewards import Reward
from irl_jax.models.huggingface.labels import Activation


@dataclasses.dataclass(frozen=True)
class TrueReward:
  """The true reward r* of a toxicity classifier, in both of its forms.

  One copy of the classifier's weights serves both. Called like any other reward it returns the
  logit form.
  """

  class_logits: Callable[[Sequence[str]], np.ndarray]  # texts [N] -> [N, labels]
  toxic: int  # index of the toxic label
  activation: Activation = 'softmax'  # turns logits into probabilities
  label: str = ''  # name of the toxic label
  has_classes: ClassVar[bool] = True  # below 0 a text is toxic

  def __call__(self, texts: Sequence[str]) -> np.ndarray:
    """Returns -logit[toxic] [N]: higher is less toxic, and below 0 a text is toxic."""
    return -self.class_logits(texts)[:, self.toxic]

  def probability(self, texts: Sequence[str]) -> np.ndarray:
    """Returns -p(toxic) [N], in [-1, 0].

    If each label has a probability of its own (problem_type multi_label_classification, or a
    single label), p is the sigmoid of its logit, else the softmax over all labels.

    Raises:
      InputError: the classifier is a regression, whose outputs are not logits.
    """
    check_probability(self.activation, 'the classifier')
    logits = self.class_logits(texts)
    if self.activation == 'sigmoid':
      return -np.exp(-np.logaddexp(0, -logits[:, self.toxic]))
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return -(exponentials / exponentials.sum(1, keepdims=True))[:, self.toxic]

  def of_kind(self, kind: str) -> Reward:
    """Returns the form that config.ppo.reward names: 'logit' or 'probability'."""
    return self.probability if kind == 'probability' else self


@dataclasses.dataclass(frozen=True)
class ScalarReward:
  """The true reward r* of a reward model: higher is better; no value is the border of a class."""

  score: Reward
  label: ClassVar[str] = ''
  has_classes: ClassVar[bool] = False

  def __call__(self, texts: Sequence[str]) -> np.ndarray:
    """Returns the model's scores [N]."""
    return self.score(texts)

  def of_kind(self, kind: str) -> Reward:
    """Returns the form that config.ppo.reward names; there is only the score itself.

    Raises:
      InputError: a probability is asked for.
    """
    if kind == 'probability':
      refuse_probability('the true reward')
    return self


def refuse_probability(where: str) -> NoReturn:
  """Refuses probabilities of a scalar reward model.

  Raises:
    InputError: names the setting.
  """
  raise errors.InputError(
    f'{where}: is a scalar reward model, which has no probabilities; use --config.ppo.reward=logit'
  )


def check_probability(activation: Activation, where: str) -> None:
  """Refuses probabilities of a regression, whose outputs are not logits.

  Raises:
    InputError: names the setting.
  """
  if activation == 'none':
    raise errors.InputError(
      f'{where}: config.json: problem_type = regression: has no probabilities; use '
      '--config.ppo.reward=logit'
    )
