"""Lets Axolotl, AutoTrain and DeepSpeed read what `recipe` writes, in an environment of their own: `python tools/recipes.py ENVIRONMENT`

The environment has axolotl and deepspeed; AutoTrain, whose pins fit nothing else, lies in ENVIRONMENT/autotrain without its dependencies.
The result is llm_course/assets/recipe.json. `--read TOOL FILE` is this script's other half, for the environment's Python.
"""
import importlib.abc, importlib.machinery, importlib.metadata, json, os, subprocess, sys, tempfile, time
from pathlib import Path
from unittest.mock import MagicMock

absent = ('albumentations ipadic jiwer nvitop optuna timm pycocotools torchmetrics xgboost loguru pyngrok authlib itsdangerous seqeval sentencepiece py7zr '
          'sacremoses joblib evaluate werkzeug cryptography torchvision PIL cv2 sentence_transformers sklearn nltk').split()


class Stub(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    "Stands in for what AutoTrain imports and its parser does not use"
    def find_spec(self, name, path, target=None):
        if name.split('.')[0] in absent: return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__spec__, module.__path__ = spec, []
        return module

    def exec_module(self, module): pass


def read_axolotl(path):
    import yaml
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault
    return validate_config(DictDefault(yaml.safe_load(path.read_text()))).to_dict()


def read_autotrain(path):
    sys.meta_path.insert(0, Stub())
    sys.path.insert(0, str(Path(sys.prefix)/'autotrain'))
    from autotrain.parser import AutoTrainConfigParser
    parser = AutoTrainConfigParser(str(path))
    return parser.task_param_map[parser.task](**parser.parsed_config).model_dump()


def read_deepspeed(path):
    from deepspeed.runtime import config
    config.dist.get_rank, config.dist.get_world_size = lambda *a: 0, lambda *a: 2 # the file is for two processes
    found = config.DeepSpeedConfig(json.loads(path.read_text()))
    return dict(train_batch_size=found.train_batch_size, micro=found.train_micro_batch_size_per_gpu, accumulate=found.gradient_accumulation_steps,
                stage=found.zero_config.stage, clip=found.gradient_clipping, bf16=found.bfloat16_config.enabled, fp16=found.float16_config.enabled,
                optimizer=found.optimizer_name, lr=found.optimizer_params['lr'])


def read(tool, path):
    "What a tool's own parser makes of a file, and the tool's release"
    sys.stdout = sys.stderr # the tools greet
    found = globals()[f'read_{tool}'](Path(path))
    package = dict(autotrain='autotrain-advanced').get(tool, tool)
    where = [str(Path(sys.prefix)/'autotrain')] if tool=='autotrain' else sys.path
    version = next(d.version for d in importlib.metadata.distributions(name=package, path=where))
    sys.__stdout__.write('\n'+json.dumps(dict(version=version, read=found), default=str)+'\n')


def ask(python, tool, text, folder):
    "The other half of this script, in the environment"
    path = Path(folder)/f'{tool}.file'
    path.write_text(text)
    done = subprocess.run([python, __file__, '--read', tool, path], capture_output=True, text=True, env=quiet())
    if done.returncode: sys.exit(f'{tool} does not read its file:\n{done.stderr[-3000:]}')
    return json.loads(done.stdout.splitlines()[-1])


def quiet():
    return dict(os.environ, OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1', DS_ACCELERATOR='cpu', AXOLOTL_DO_NOT_TRACK='1', DO_NOT_TRACK='1', WANDB_MODE='disabled')


def tiny_run(folder, method):
    "Four steps of the tiny base model on the same 16 rows, and the folders it names"
    from llm_course.core import tiny
    from llm_course.finetuning.full import task_rows
    from llm_course.finetuning.recipe import Plan
    from llm_course.world import tasks
    folder, (model, tokenizer) = Path(folder), tiny('base')
    model.save_pretrained(folder/'model')
    tokenizer.save_pretrained(folder/'model')
    (folder/'data').mkdir()
    rows = task_rows(tasks(8, 'fact')+tasks(8, 'arithmetic'))
    (folder/'data'/'train.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    lr = dict(lora=5e-3, full=1e-3)[method]
    return Plan(str(folder/'model'), str(folder/'data'), method, lr=lr, batch=16, accumulate=1, epochs=4, length=256, packing=False, warmup=0., precision='float32')


def logged(out):
    "Losses of a trainer's log"
    states = sorted(Path(out).rglob('trainer_state.json'), key=lambda p: p.stat().st_mtime)
    return [row['loss'] for row in json.loads(states[-1].read_text())['log_history'] if 'loss' in row]


def train_axolotl(folder, method, python):
    from llm_course.finetuning.recipe import recipe
    (Path(folder)/'axolotl.yaml').write_text(recipe(tiny_run(folder, method), 'axolotl')+'logging_steps: 1\n')
    start = time.monotonic()
    done = subprocess.run([python, '-m', 'axolotl.cli.main', 'train', 'axolotl.yaml', '--launcher', 'python'], cwd=folder, capture_output=True, text=True, env=quiet())
    if done.returncode: sys.exit(f'axolotl does not train:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}')
    return dict(losses=logged(Path(folder)/'out'), seconds=round(time.monotonic()-start))


def record(environment):
    "Ask all three, train with Axolotl, write the asset; what the notebook's slow cell put there stays"
    from llm_course.core import assets_folder, write_whole
    from llm_course.finetuning.recipe import Plan, recipe
    from dataclasses import replace
    python = str(Path(environment).absolute()/'bin'/'python')
    run = Plan('Qwen/Qwen2.5-0.5B-Instruct', 'trl-lib/Capybara', processes=2)
    alone = replace(run, processes=1, accumulate=8, answers=False)
    path = assets_folder()/'recipe.json'
    kept = json.loads(path.read_text()) if path.exists() else {}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for tool, asked in dict(axolotl=run, deepspeed=run, autotrain=alone).items():
            text = recipe(asked, tool)
            found[tool] = dict(text=text, **ask(python, tool, text, folder))
    for method in ('lora', 'full'):
        with tempfile.TemporaryDirectory() as folder: found[f'axolotl trains {method}'] = train_axolotl(folder, method, python)
    write_whole(path, json.dumps(kept | found | dict(command='make recipes', hardware='one CPU thread'), indent=1)+'\n')


if __name__ == '__main__': read(*sys.argv[2:]) if sys.argv[1] == '--read' else record(sys.argv[1])
