"""Real comments: prompts from ParaDetox, a Pythia-14m-shaped base and a RoBERTa toxicity classifier, by id or folder.

  python launch/train.py --config=configs/paradetox_14m.py
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
      name='paradetox_14m',
      stages=('data', 'rlhf', 'demos', 'irl', 'evaluate', 'rerlhf', 'report'),
      models=c.Models(base='EleutherAI/pythia-14m', classifier='s-nlp/roberta_toxicity_classifier'),
      data=c.Data(source='paradetox', prompt_fraction=0.25, max_prompt_tokens=16),
      sampling=c.Sampling(max_new_tokens=16, min_new_tokens=16, batch_size=256),
      ppo=c.PPO(learning_rate=2e-4, steps=140, rollouts_per_step=64, minibatch_size=32, epochs=2, kl_coefficient=0.03,
                score_text='completion', checkpoint_every=25),
      # Slow and short: more updates tell the two models apart by style.
      irl=c.IRL(seeds=3, epochs=1, learning_rate=3e-5, batch_size=16, objective='logistic', max_prompts=5000,
                max_tokens=48),
      evaluation=c.Evaluation(ceiling=False),  # the prompts' originals are nearly all toxic: nothing to train one on
  )
