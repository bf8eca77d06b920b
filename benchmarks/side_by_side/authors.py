"""The loops of the paper's released code, written again as they run: a text or a pair at a time, nothing kept.

Their RLHF scores with a text-classification pipeline that pads each text to 512 tokens. Their IRL runs the language
model with its head over each text and puts a linear reward on the last state; after every epoch it scores all texts
with the learnt reward and anew with the true one. Where the released code leaves it open, the cheaper way is taken: one
optimiser step for 32 pairs, texts of the true reward not padded, no gradients in the evaluation.
"""

from collections.abc import Sequence

import torch

from side_by_side import inputs
from side_by_side import limits
from side_by_side import torch_peers
from side_by_side import turns

PAIRS_IN_A_STEP = 32


def score(lap: turns.Lap, *, shape: limits.Shape, texts: Sequence[str], models: str) -> None:
  """One text at a time, padded to 512."""
  model, tokenizer = torch_peers.classifier(shape), inputs.roberta_tokenizer(models)

  @torch.inference_mode()
  def work() -> None:
    for text in texts:
      model(
        **tokenizer(
          text, padding='max_length', truncation=True, max_length=512, return_tensors='pt'
        ).to(torch_peers.DEVICE)
      )
    torch_peers.wait()

  turns.repeat(lap, work)


class Reward(torch.nn.Module):
  """A linear reward on the last state of a language model, whose head is run with it."""

  def __init__(self, shape: limits.Shape):
    super().__init__()
    self.model = torch_peers.language_model(shape)
    self.head = torch.nn.Linear(shape.width, 2, bias=False).to(torch_peers.DEVICE)

  def forward(self, ids: torch.Tensor) -> torch.Tensor:
    return -self.head(self.model(ids, output_hidden_states=True).hidden_states[-1][:, -1])[:, -1]


def irl(
  lap: turns.Lap,
  *,
  shape: limits.Shape,
  scorer: limits.Shape,
  tokens: int,
  sample: int,
  models: str,
) -> None:
  """`sample` pairs a turn: each forward and backward alone, its share of an optimiser step, then the look at its texts.

  The parts: `training`, `evaluation` with the learnt reward, and `true_rewards`.
  """
  words, judge_words = inputs.pythia_tokenizer(models), inputs.roberta_tokenizer(models)
  reward, judge = Reward(shape), torch_peers.classifier(scorer)
  optimizer = torch.optim.Adam(reward.parameters(), lr=1e-4)
  texts = inputs.texts_of(words, 2 * sample, tokens)
  read = lambda tokenizer, text: tokenizer(
    text, truncation=True, max_length=512, return_tensors='pt'
  ).to(torch_peers.DEVICE)['input_ids']

  def train() -> None:
    for aligned, base in zip(texts[::2], texts[1::2]):
      margin = reward(read(words, aligned)) - reward(read(words, base))
      torch.where(margin > 0, -margin, -2 * margin).sum().backward()

  def seconds_of(work) -> float:
    start = lap.elapsed()
    work()
    torch_peers.wait()
    return lap.elapsed() - start

  @torch.no_grad()
  def evaluate(model, tokenizer) -> None:
    for text in texts:
      model(read(tokenizer, text))

  while True:
    parts = {
      'training': seconds_of(train) + sample / PAIRS_IN_A_STEP * seconds_of(optimizer.step),
      'evaluation': seconds_of(lambda: evaluate(reward, words)),
      'true_rewards': seconds_of(lambda: evaluate(judge, judge_words)),
    }
    lap(parts, seconds=sum(parts.values()))
