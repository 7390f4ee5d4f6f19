"The evaluation chapter against the libraries it is held to"
import json, logging, random, tempfile
from functools import cache, partial
from pathlib import Path
from harness import Row


count = 200


@cache
def pages():
    "Paragraphs of documentation, and the same with a fifth of the words knocked out"
    from llm_course.world import python_docs
    r = random.Random(0)
    wanted = [part for page in python_docs() for part in page.split('\n\n') if part.strip()][:4000]
    return [' '.join(word for word in text.split(' ') if r.random() > .2) for text in wanted], wanted


def bleu_ours():
    from llm_course.evaluation.overlap import bleu, cut
    hypotheses, references = pages()
    cut.cache_clear() # as cold as a fresh sacrebleu metric
    return lambda: bleu(hypotheses, references)


def bleu_peer():
    from sacrebleu.metrics import BLEU
    hypotheses, references = pages()
    metric = BLEU(force=True)
    return lambda: metric.corpus_score(hypotheses, [references]).score


def rouge_ours():
    from llm_course.evaluation.overlap import rouge_l, rouge_lsum, rouge_n
    pairs = list(zip(*pages()))
    return lambda: [(rouge_n(*pair, 1), rouge_n(*pair, 2), rouge_l(*pair), rouge_lsum(*pair)) for pair in pairs]


def rouge_peer():
    from rouge_score.rouge_scorer import RougeScorer
    pairs, scorer = list(zip(*pages())), RougeScorer(['rouge1', 'rouge2', 'rougeL', 'rougeLsum'])
    return lambda: [tuple(map(tuple, scorer.score(target, prediction).values())) for prediction, target in pairs]


def same_scores(ours, peer):
    import numpy as np
    gap = np.abs(np.array(ours)-np.array(peer)).max()
    assert gap < 1e-9, f'the scores differ by {gap:.1g}'
    return f'within {gap:.0e}'


@cache
def files():
    "A folder with a task of choices and one of written answers"
    import yaml
    from llm_course.world import facts, tasks
    folder, r = Path(tempfile.mkdtemp()), random.Random(0)
    def choices(split, n, seed):
        rows = []
        for task in tasks(n, 'fact', split, seed):
            pool = sorted({value for _, relation, value in facts() if f'fact.{relation}' == task.meta['kind']} - {task.answer})
            offered = r.sample([task.answer, *r.sample(pool, 3)], 4)
            rows.append(dict(question=task.prompt, choices=offered, answer=offered.index(task.answer)))
        return rows
    def written(split, n, seed): return [dict(question=task.prompt, answer=task.answer) for task in tasks(n, None, split, seed)]
    ways = dict(quiz=(choices, dict(output_type='multiple_choice', doc_to_choice='choices', fewshot_config=dict(sampler='first_n'))),
                answers=(written, dict(output_type='generate_until', generation_kwargs=dict(until=['\n'], max_gen_toks=40))))
    for name, (make, more) in ways.items():
        data = {split: str(folder/f'{name}_{split}.jsonl') for split in ('test', 'train')}
        for split, n, seed in (('test', count, 0), ('train', 40, 1)): Path(data[split]).write_text('\n'.join(map(json.dumps, make(split, n, seed))))
        fields = dict(task=name, dataset_path='json', dataset_kwargs=dict(data_files=data), test_split='test', fewshot_split='train',
                      doc_to_text='Question: {{question}}\nAnswer:', doc_to_target='answer', **more)
        (folder/f'{name}.yaml').write_text(yaml.safe_dump(fields))
    return folder


@cache
def model():
    from llm_course.core import tiny
    return tiny('base')


def task_ours(name, shots):
    from llm_course.evaluation.benchmark import run_task
    path, (base, tokenizer) = files()/f'{name}.yaml', model()
    def work(): return [row.get('text', row['answer']) for row in run_task(base, tokenizer, path, shots).rows]
    return work


def task_peer(name, shots):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    logging.disable(logging.WARNING)
    manager, (base, tokenizer) = TaskManager(include_path=str(files()), include_defaults=False), model()
    def work():
        found = lm_eval.simple_evaluate(HFLM(pretrained=base, tokenizer=tokenizer, batch_size=32), tasks=[name], task_manager=manager, num_fewshot=shots, bootstrap_iters=1)
        rows = sorted(found['samples'][name], key=lambda row: row['doc_id'])
        if name == 'answers': return [row['resps'][0][0] for row in rows]
        return [max(range(4), key=lambda i: float(row['filtered_resps'][i][0])) for row in rows]
    return work


def equal_rows(ours, peer):
    assert ours == peer, 'some rows differ'
    return f'all {len(ours)} rows equal'


rows = [Row('bleu', 'sacrebleu', bleu_ours, bleu_peer, same_scores, ratio=1.),
        Row('rouge', 'rouge-score', rouge_ours, rouge_peer, same_scores, ratio=1/3),
        *[Row(f'run-task-{name}-{shots}-shot', 'lm-eval', partial(task_ours, name, shots), partial(task_peer, name, shots), equal_rows, ratio=1.)
          for name, shots in (('quiz', 0), ('quiz', 3), ('answers', 0), ('answers', 2))]]
