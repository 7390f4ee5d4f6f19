"Merging on disk against mergekit: CPU-seconds and peak memory, outputs compared bit for bit"
import json, shutil, tempfile
from functools import cache, partial
from pathlib import Path
from harness import Row, grown


@cache
def models():
    "Three Llama-like models of 107 million random float32 weights, 428 MB each, with the tensors of a model of a billion; two of them are close to the third"
    import torch
    from llm_course.core import tiny_tokenizer
    from safetensors.torch import save_file
    folder, generator, tokenizer = Path(tempfile.mkdtemp()), torch.Generator().manual_seed(0), tiny_tokenizer()
    hidden, inner, layers, vocab = 2048, 5632, 2, 2048
    config = dict(architectures=['LlamaForCausalLM'], model_type='llama', hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, dtype='float32',
                  num_attention_heads=16, num_key_value_heads=16, vocab_size=vocab, tie_word_embeddings=True, max_position_embeddings=512)
    shapes = {'model.embed_tokens.weight': (vocab, hidden), 'model.norm.weight': (hidden,)}
    for i in range(layers):
        shapes |= {f'model.layers.{i}.self_attn.{name}_proj.weight': (hidden, hidden) for name in 'qkvo'}
        shapes |= {f'model.layers.{i}.mlp.{name}_proj.weight': (inner, hidden) for name in ('gate', 'up')} | {f'model.layers.{i}.mlp.down_proj.weight': (hidden, inner)}
        shapes |= {f'model.layers.{i}.{name}_layernorm.weight': (hidden,) for name in ('input', 'post_attention')}
    base = {name: torch.randn(shape, generator=generator)*.02 for name, shape in shapes.items()}
    for model, step in (('base', 0.), ('a', .01), ('b', .01)):
        weights = {name: t+torch.randn(t.shape, generator=generator)*step for name, t in base.items()}
        (folder/model).mkdir()
        save_file(weights, folder/model/'model.safetensors', metadata=dict(format='pt'))
        (folder/model/'config.json').write_text(json.dumps(config))
        tokenizer.save_pretrained(folder/model)
    return folder


def recipe(method):
    "mergekit's YAML as a dict"
    a, b, base = (str(models()/name) for name in ('a', 'b', 'base'))
    if method == 'slerp': return dict(merge_method='slerp', base_model=a, models=[dict(model=a), dict(model=b)], parameters=dict(t=.3))
    pair = [dict(model=a, parameters=dict(weight=.3)), dict(model=b, parameters=dict(weight=.7))]
    if method == 'linear': return dict(merge_method='linear', models=pair)
    return dict(merge_method='ties', models=pair, base_model=base, parameters=dict(density=.5))


def ours(method):
    from llm_course.trends.merge import merge_files
    given, out = recipe(method), models()/f'ours-{method}'
    def work():
        shutil.rmtree(out, ignore_errors=True)
        return merge_files(given, out)/'model.safetensors'
    return work


def peer(method):
    import logging
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    given, out = recipe(method), models()/f'peer-{method}'
    logging.disable(logging.WARNING)
    def work():
        shutil.rmtree(out, ignore_errors=True)
        LoaderCache().loaders.clear() # or files stay mapped from the run before, which a new process does not have
        run_merge(MergeConfiguration.model_validate(given), out_path=str(out), options=MergeOptions(quiet=True))
        return out/'model.safetensors'
    return work


def same_bytes(ours, peer):
    assert ours.read_bytes() == peer.read_bytes(), 'the files differ'
    return 'files equal'


methods = 'linear', 'slerp', 'ties'
rows = [*[Row(f'merge-{method}', 'mergekit', partial(ours, method), partial(peer, method), same_bytes, ratio=1.) for method in methods],
        *[Row(f'merge-{method}-memory', 'mergekit', partial(ours, method), partial(peer, method), same_bytes, ratio=1., cost=grown) for method in methods]]
