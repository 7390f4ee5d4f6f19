"What the tools and the guards know about the checkout"
import os, sys
from configparser import ConfigParser
from pathlib import Path

root = Path(__file__).resolve().parent.parent
nbs = root/'nbs'
config = ConfigParser(delimiters=['='])
config.read(root/'settings.ini', encoding='utf-8')
settings = config['DEFAULT']
floors = ('core show world architecture data pretraining evaluation quantization finetuning alignment trends '
          'applications serving journey cli').split()
setup_head = '# Installs the course on Colab, does nothing elsewhere'


def topic(notebook):
    "`nbs/pretraining/02_train.ipynb` -> `pretraining/02_train`"
    return Path(notebook).resolve().relative_to(nbs).with_suffix('').as_posix()


def module(topic):
    "`pretraining/02_train` -> `pretraining.train`, the mirror"
    *folders, name = topic.split('/')
    number, _, rest = name.partition('_')
    return '.'.join([*folders, rest if number.isdigit() else name])


def place(topic):
    "Where a lesson stands in the reading order: floor, number, name"
    first = module(topic).split('.')[0]
    if first in ('index', 'start'): return -1, 0, topic
    number = topic.split('/')[-1].partition('_')[0]
    return floors.index(first) if first in floors else len(floors), int(number) if number.isdigit() else 0, topic


def notebooks():
    "Every notebook of the course in reading order"
    found = (path for path in nbs.rglob('*.ipynb') if not any(part[0] in '._' for part in path.relative_to(nbs).parts))
    return sorted(found, key=lambda path: place(topic(path)))


def environment():
    "The environment every notebook runs in: one thread, offline, tiny models, this interpreter's commands"
    return dict(os.environ, OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1', HF_DATASETS_OFFLINE='1', TOKENIZERS_PARALLELISM='false',
                TRL_EXPERIMENTAL_SILENCE='1', MPLBACKEND='agg', LLM_COURSE_PROFILE='tiny', SOURCE_DATE_EPOCH='0',
                PYTHONHASHSEED='0', PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]))
