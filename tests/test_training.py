"The training loop, killed at random moments: a process that has imported everything forks runs and kills them"
import os, random, signal, subprocess, sys, time
from pathlib import Path
import pytest

STEPS = 500


def run(folder):
    "A run of many short steps that saves after each of them; its weights and losses"
    from transformers import LlamaConfig, LlamaForCausalLM
    from llm_course.core import seed
    from llm_course.pretraining.train import Run, train
    ids = seed().get_state()[:1920].view(60, 32).long() # any fixed numbers below 256 will do
    rows = [dict(input_ids=row, labels=row) for row in ids]
    shape = dict(vocab_size=256, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    model = LlamaForCausalLM(LlamaConfig(**shape, attention_dropout=.1, tie_word_embeddings=True, bos_token_id=None))
    settings = Run(warmup=5, precision='float32', save_every=1, progress=False)
    history = train(model, rows, STEPS, batch_size=2, folder=folder, run=settings)
    return model.state_dict(), [row['loss'] for row in history]


def newest(paths):
    "The highest step among the names of checkpoints, 0 without any"
    return max([int(path.name[5:13]) for path in paths], default=0)


def killed(folder, step, pause):
    "Fork a run, wait for a step and `pause` seconds more, kill it; whether it was still running"
    from llm_course.core import checkpoints
    child = os.fork()
    if not child:
        run(folder)
        os._exit(0)
    while newest(checkpoints(folder)) < step and os.waitid(os.P_PID, child, os.WEXITED|os.WNOHANG|os.WNOWAIT) is None: time.sleep(.001)
    time.sleep(pause)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_often(home, times):
    "Kill a run again and again, then let it end; compare it with one that nobody touched"
    import torch
    from llm_course.core import checkpoints, fault
    torch.set_num_threads(1)
    whole, again, reached, r = run(home/'whole'), home/'again', 0, random.Random(0)
    for i in range(times): # waiting for steps, not for seconds, keeps every kill inside the run on a fast machine and on a slow one
        assert killed(again, reached+r.randrange(12), r.uniform(0, .01)), f'the run ended before kill {i+1}: make it longer'
        now = newest(path for path in checkpoints(again) if not fault(path))
        assert now >= reached, f'kill {i+1} lost step {reached}, the newest whole checkpoint is {now}'
        reached = now
    assert reached, 'no kill came after a checkpoint: wait longer'
    weights, losses = run(again)
    assert losses == whole[1] and all(torch.equal(weights[name], whole[0][name]) for name in whole[0])
    print(f'killed {times} times, at step {reached} the last time')


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs os.fork')
def test_killed_twenty_times(tmp_path):
    env = dict(os.environ, OMP_NUM_THREADS='1')
    found = subprocess.run([sys.executable, __file__, tmp_path, '20'], capture_output=True, text=True, env=env, timeout=280)
    assert not found.returncode, found.stderr[-3000:]
    assert 'killed 20 times' in found.stdout


if __name__ == '__main__': kill_often(Path(sys.argv[1]), int(sys.argv[2]))
