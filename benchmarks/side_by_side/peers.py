"""The peers: transformers' models in torch, and the loops of the paper's released code.

torch is used as its documentation advises: as many threads as cores, no gradients unless needed,
scaled-dot-product attention. Weights are random. The authors' loops work as released: one text or
one pair at a time, nothing cached. docs/speed.md describes both.
"""

from collections.abc import Callable
import os
from typing import Any

import torch
from torch.nn import functional
import transformers

from side_by_side import costs
from side_by_side import inputs
from side_by_side import machine
from side_by_side import turns

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
SCORING_BATCHES = (16, 32, 64)  # texts in a batch; the fastest is taken
PAIRS_IN_A_STEP = 32  # pairs in a step of the authors' IRL

torch.set_num_threads(len(os.sched_getaffinity(0)))
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def made(model: type, config: type, shape: costs.Shape, **more: Any) -> Any:
  """Returns a model of that shape with random weights."""
  torch.manual_seed(0)
  names = ('vocab_size', 'hidden_size', 'num_hidden_layers', 'num_attention_heads')
  sizes = dict(zip((*names, 'intermediate_size'), shape), bos_token_id=0)
  return model(config(**sizes, **more)).to(DEVICE)


def language_model(shape: costs.Shape) -> transformers.PreTrainedModel:
  """Returns a Pythia or a Llama of that shape."""
  more = dict(eos_token_id=0, attention_dropout=0.0, max_position_embeddings=2048)
  if groups := shape.key_value_heads:
    more |= dict(num_key_value_heads=groups, tie_word_embeddings=True)
    return made(transformers.LlamaForCausalLM, transformers.LlamaConfig, shape, **more)
  more |= dict(hidden_dropout=0.0)
  return made(transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig, shape, **more)


def classifier(shape: costs.Shape) -> transformers.PreTrainedModel:
  """Returns a RoBERTa of that shape."""
  more = dict(max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, eos_token_id=2)
  model, config = transformers.RobertaForSequenceClassification, transformers.RobertaConfig
  return made(model, config, shape, **more).eval()


def ids_of(batch: int, tokens: int, shape: costs.Shape) -> torch.Tensor:
  """Returns random token ids [batch, tokens]."""
  return torch.tensor(inputs.random_ids(batch, tokens, shape.vocabulary), device=DEVICE)


def seconds_of(lap: turns.Lap, work: Callable[[], object]) -> float:
  """Returns the seconds of a piece of work."""
  start = lap.elapsed()
  work()
  wait()
  return lap.elapsed() - start


def wait() -> None:
  """Waits until the device has done all its work."""
  if DEVICE == 'cuda':
    torch.cuda.synchronize()


@torch.inference_mode()
def device(sizes: str, gpu: bool) -> dict[str, Any] | None:
  """Returns torch's rates in float32 and bfloat16; None if there is a GPU that it cannot use."""
  if gpu != (DEVICE == 'cuda'):
    return None

  def into(function: Callable, **more: Any) -> Callable:
    def bound(x: torch.Tensor, y: torch.Tensor) -> Callable:
      out = function(x, y, **more)  # its memory is used again
      return lambda: (function(x, y, **more, out=out), wait())

    return bound

  ones = lambda shape, dtype: torch.ones(shape, dtype=dtype, device=DEVICE)
  total = lambda x: lambda: (x.sum(), wait())
  dtypes = [torch.float32, torch.bfloat16]
  return machine.rates(sizes, dtypes, ones, into(torch.mm), into(torch.add, alpha=3), total)


@torch.inference_mode()
def generate(model: Any, prompts: torch.Tensor, new: int) -> torch.Tensor:
  """Samples `new` tokens after every prompt, with a cache."""
  more = dict(do_sample=True, top_k=costs.TOP_K, max_new_tokens=new, min_new_tokens=new)
  return model.generate(prompts, attention_mask=torch.ones_like(prompts), pad_token_id=1, **more)


def decode(lap: turns.Lap, work: costs.Work) -> None:
  """Runs `generate`: in float32 on a CPU and in bfloat16 on a GPU, as ours does."""
  dtype = torch.float32 if DEVICE == 'cpu' else torch.bfloat16
  model = language_model(work.shape).eval().to(dtype)
  prompts = ids_of(work.batch, work.prompt, work.shape)
  turns.repeat(lap, lambda: (generate(model, prompts, work.new), wait()))


def step(loss: torch.Tensor, optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
  """Runs the backward pass, clips gradients and updates."""
  optimizer.zero_grad(set_to_none=True)
  loss.backward()
  torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
  optimizer.step()


def train(lap: turns.Lap, work: costs.Work, half: bool = False) -> None:
  """Runs steps of language modelling with AdamW; `half` is bfloat16 over float32 weights."""
  model = language_model(work.shape).train()
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
  ids = ids_of(work.batch, work.tokens, work.shape)

  def one_step() -> None:
    with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
      loss = model(input_ids=ids, labels=ids).loss
    step(loss, optimizer, model)
    wait()

  turns.repeat(lap, one_step)


@torch.inference_mode()
def logits(model: Any, tokenizer: Any, texts: list[str], batch: int, longest: int) -> Any:
  """Returns logits of texts, sorted by length, each batch padded to its longest text."""
  rows = tokenizer(texts, truncation=True, max_length=longest)['input_ids']
  order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
  out = torch.empty(len(rows), model.num_labels)
  for start in range(0, len(order), batch):
    picked = order[start : start + batch]
    padded = tokenizer.pad({'input_ids': [rows[row] for row in picked]}, return_tensors='pt')
    out[picked] = model(**padded.to(DEVICE)).logits.float().cpu()
  return out


def score(lap: turns.Lap, work: costs.Work) -> None:
  """Computes logits of texts, in batches of the size that was fastest when tried."""
  model, tokenizer = classifier(work.scorer), inputs.tokenizer('roberta_tokenizer')
  run = lambda batch: logits(model, tokenizer, list(work.texts), batch, 512)
  run(max(SCORING_BATCHES))
  best = min(SCORING_BATCHES, key=lambda batch: seconds_of(lap, lambda: run(batch)))
  turns.repeat(lap, lambda: run(best))


def model_files(lap: turns.Lap, work: costs.Work, reading: bool) -> None:
  """Reads or writes a Hugging Face folder: weights and tokenizer."""
  both = language_model(work.shape), inputs.tokenizer('pythia_tokenizer')
  weights, tokenizer = transformers.AutoModelForCausalLM, transformers.AutoTokenizer
  weights_of = lambda path: weights.from_pretrained(path, dtype=torch.float32)
  save = lambda path: [one.save_pretrained(path) for one in both]
  load = lambda path: (weights_of(path), tokenizer.from_pretrained(path))
  turns.files(lap, save, load, reading)


def checkpoints(lap: turns.Lap, work: costs.Work, reading: bool) -> None:
  """Reads or writes parameters and both moments of AdamW."""
  model, ids = language_model(work.shape), ids_of(1, 2, work.shape)
  optimizer = torch.optim.AdamW(model.parameters())
  step(model(input_ids=ids, labels=ids).loss, optimizer, model)
  state = {'model': model.state_dict(), 'optimizer': optimizer.state_dict()}
  load = lambda path: torch.load(path, weights_only=True)
  turns.files(lap, lambda path: torch.save(state, path), load, reading)


def log_probs(model: Any, ids: torch.Tensor, new: int) -> tuple[torch.Tensor, torch.Tensor]:
  """Returns log-probs [B, T] of the last `new` tokens, and the states that predict them."""
  hidden, targets = model.base_model(ids).last_hidden_state[:, -new - 1 : -1], ids[:, -new:]
  flat = model.get_output_embeddings()(hidden).flatten(0, 1)
  loss = functional.cross_entropy(flat, targets.flatten(), reduction='none')
  return -loss.view_as(targets), hidden


class ActorCritic(torch.nn.Module):
  """A policy with a value head: two dense layers on the last states."""

  def __init__(self, shape: costs.Shape):
    super().__init__()
    self.policy, width = language_model(shape), shape.width
    layers = torch.nn.Linear(width, 2 * width), torch.nn.ReLU(), torch.nn.Linear(2 * width, 1)
    self.value = torch.nn.Sequential(*layers).to(DEVICE)

  def forward(self, ids: torch.Tensor, new: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns log-probs and values [B, T] of the last `new` tokens."""
    log_prob, hidden = log_probs(self.policy, ids, new)
    return log_prob, self.value(hidden)[..., 0]


def advantages_and_returns(rewards: torch.Tensor, values: torch.Tensor) -> tuple:
  """Returns whitened advantages by GAE (discount 1, lambda .95), and returns, each [B, T]."""
  advantages, carried = torch.zeros_like(values), torch.zeros_like(values[:, 0])
  following = functional.pad(values[:, 1:], (0, 1))
  for position in reversed(range(values.shape[1])):
    carried = (rewards + following - values)[:, position] + 0.95 * carried
    advantages[:, position] = carried
  return (advantages - advantages.mean()) / (advantages.std() + 1e-8), advantages + values


def ppo_loss(new: tuple, old: tuple, advantages: Any, returns: Any) -> torch.Tensor:
  """Returns the clipped losses of policy and values."""
  (log_prob, value), (old_log_prob, old_value) = new, old
  ratio = torch.exp(log_prob - old_log_prob)
  policy = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2))
  clipped = old_value + (value - old_value).clamp(-0.2, 0.2)
  squared = torch.maximum((value - returns) ** 2, (clipped - returns) ** 2)
  return policy.mean() + 0.5 * squared.mean()


def ppo(lap: turns.Lap, work: costs.Work) -> None:
  """Runs iterations of PPO with everything trained: rollout, score and epochs as ours."""
  shape, new, scorer = work.shape, work.new, classifier(work.scorer)
  model, reference = ActorCritic(shape), language_model(shape).eval()
  reference.load_state_dict(model.policy.state_dict())
  words, scorer_words = inputs.tokenizer('pythia_tokenizer'), inputs.tokenizer('roberta_tokenizer')
  optimizer = torch.optim.AdamW(model.parameters(), lr=3e-6, betas=(0.9, 0.95), weight_decay=1e-6)
  prompts = ids_of(work.batch, work.prompt, shape)

  while True:
    ids = generate(model.policy, prompts, new).clone()
    rollout = lap.elapsed()
    texts, longest = words.batch_decode(ids), work.prompt + new
    score = -logits(scorer, scorer_words, texts, work.batch, longest)[:, 1].to(DEVICE)
    scored = lap.elapsed()
    with torch.no_grad():
      old = model(ids, new)
      rewards = -0.035 * (old[0] - log_probs(reference, ids, new)[0])
      rewards[:, -1] += score
      targets = advantages_and_returns(rewards, old[1])
    for _ in range(work.epochs):
      step(ppo_loss(model(ids, new), old, *targets), optimizer, model)
    wait()
    lap({'rollout': rollout, 'score': scored - rollout, 'update': lap.elapsed() - scored})


def authors_score(lap: turns.Lap, work: costs.Work) -> None:
  """Scores one text at a time, padded to 512."""
  model, tokenizer = classifier(work.scorer), inputs.tokenizer('roberta_tokenizer')
  padded = dict(padding='max_length', truncation=True, max_length=512, return_tensors='pt')

  @torch.inference_mode()
  def score_all() -> None:
    for text in work.texts:
      model(**tokenizer(text, **padded).to(DEVICE))
    wait()

  turns.repeat(lap, score_all)


def authors_irl(lap: turns.Lap, work: costs.Work) -> None:
  """Trains on pairs one at a time, with their share of a step; then evaluates both rewards.

  Their reward is linear on a language model's last state; the model's head is run too.
  """
  words, scorer_words = inputs.tokenizer('pythia_tokenizer'), inputs.tokenizer('roberta_tokenizer')
  model, scorer = language_model(work.shape), classifier(work.scorer)
  head = torch.nn.Linear(work.shape.width, 2, bias=False).to(DEVICE)
  optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=1e-4)
  texts = inputs.texts_of(words, 2 * work.pairs, work.tokens)

  def read(tokenizer: Any, text: str) -> torch.Tensor:
    encoded = tokenizer(text, truncation=True, max_length=512, return_tensors='pt')
    return encoded.to(DEVICE)['input_ids']

  def reward(ids: torch.Tensor) -> torch.Tensor:
    states = model(ids, output_hidden_states=True).hidden_states
    return -head(states[-1][:, -1])[:, -1]

  def train_pairs() -> None:
    for aligned, base in zip(texts[::2], texts[1::2]):
      margin = reward(read(words, aligned)) - reward(read(words, base))
      torch.where(margin > 0, -margin, -2 * margin).sum().backward()

  @torch.no_grad()
  def evaluate(function: Callable, tokenizer: Any) -> None:
    for text in texts:
      function(read(tokenizer, text))

  while True:
    training = seconds_of(lap, train_pairs)
    share = work.pairs / PAIRS_IN_A_STEP
    parts = {
      'training': training + share * seconds_of(lap, optimizer.step),
      'evaluation': seconds_of(lap, lambda: evaluate(reward, words)),
      'true_rewards': seconds_of(lap, lambda: evaluate(scorer, scorer_words)),
    }
    lap(parts, seconds=sum(parts.values()))
