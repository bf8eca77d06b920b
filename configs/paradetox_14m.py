"""Real comments: ParaDetox prompts, a base of Pythia-14m's shape and a RoBERTa toxicity classifier.

  python launch/train.py --config=configs/paradetox_14m.py

The models are given by hub id or folder. RLHF is strong here: few completions stay toxic, and the
style of the others changes too. paradetox_14m_gentle.py penalises the KL more strongly, and its
reward is recovered better.
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='paradetox_14m',
    stages=('data', 'rlhf', 'demos', 'irl', 'evaluate', 'rerlhf', 'report'),
    models=c.Models(base='EleutherAI/pythia-14m', classifier='s-nlp/roberta_toxicity_classifier'),
    # The prompts' originals are all toxic: a zero between two classes needs harmless texts too.
    data=c.Data(
      source='paradetox', unlabelled='paradetox-neutral', prompt_fraction=0.25, max_prompt_tokens=16
    ),
    sampling=c.Sampling(max_new_tokens=16, min_new_tokens=16, batch_size=256),
    # A probability stops growing once a text is harmless; a logit goes on to reward style.
    ppo=c.PPO(
      learning_rate=2e-4,
      steps=140,
      rollouts_per_step=64,
      minibatch_size=32,
      epochs=2,
      kl_coefficient=0.06,
      reward='probability',
      score_text='completion',
      checkpoint_every=25,
    ),
    irl=c.IRL(
      seeds=3,
      epochs=1,
      learning_rate=4e-4,
      batch_size=32,
      objective='logistic',
      prefix_weight=1.0,
      evaluate_every=58,
      max_tokens=48,
    ),
  )
