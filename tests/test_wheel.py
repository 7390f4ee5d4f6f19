"The wheel is small, complete and works away from the checkout"
import json, subprocess, sys, sysconfig, tarfile, venv, zipfile
import pytest
import house

pytestmark = pytest.mark.slow
assets = house.root/'llm_course'/'assets'


def run(*command, cwd):
    found = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, env=house.environment())
    assert not found.returncode, found.stdout + found.stderr
    return found.stdout


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "The sdist, and the wheel that is made from it"
    folder = tmp_path_factory.mktemp('built')
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder, house.root, cwd=folder)
    return folder


@pytest.fixture(scope='module')
def clean(built, tmp_path_factory):
    """The interpreter of an environment that holds the wheel and nothing else of ours

    What the course requires is lent by the running environment, behind the wheel on the path; the checkout is not.
    """
    folder = tmp_path_factory.mktemp('clean')
    venv.create(folder/'venv', with_pip=True)
    python = folder/'venv'/'bin'/'python'
    run(python, '-m', 'pip', 'install', '--no-deps', '--no-index', next(built.glob('*.whl')), cwd=folder)
    site = run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=folder).strip()
    with open(f'{site}/lent.pth', 'w') as lent: lent.write(sysconfig.get_path('purelib') + '\n')
    return python


def test_size(built): assert next(built.glob('*.whl')).stat().st_size < 16e6


def test_complete(built):
    "Every module and asset of the checkout is in the wheel, and nothing beside the package"
    names = {name for name in zipfile.ZipFile(next(built.glob('*.whl'))).namelist() if '.dist-info/' not in name}
    there = {path.relative_to(house.root).as_posix() for path in assets.parent.rglob('*')
             if path.is_file() and '__pycache__' not in path.parts}
    assert names == there


def test_sdist(built):
    names = {name.partition('/')[2] for name in tarfile.open(next(built.glob('*.tar.gz'))).getnames()}
    assert {'settings.ini', 'setup.py', 'README.md', 'LICENSE', 'constraints.txt'} <= names


def test_extras(built):
    "Each chapter's extra is declared, and `all` is their union"
    wheel = zipfile.ZipFile(next(built.glob('*.whl')))
    text = wheel.read(next(name for name in wheel.namelist() if name.endswith('METADATA'))).decode()
    extras = {line.split()[-1] for line in text.splitlines() if line.startswith('Provides-Extra')}
    assert extras == {'all'} | {key.removesuffix('_requirements') for key in house.settings if key.endswith('_requirements')}


def test_tiny_model_from_the_wheel(clean, tmp_path):
    code = '''
import json, llm_course
from llm_course.core import tiny
model, tokenizer = tiny()
ids = tokenizer('Once', return_tensors='pt').input_ids
print(json.dumps([llm_course.__file__, model.generate(ids, max_new_tokens=8, do_sample=False).shape[1] - ids.shape[1]]))'''
    where, new = json.loads(run(clean, '-c', code, cwd=tmp_path).splitlines()[-1])
    assert where.startswith(str(clean.parent.parent)) and new > 0


def test_command_line_from_the_wheel(clean, tmp_path):
    assert 'journey' in run(clean.with_name('llm-course'), '--help', cwd=tmp_path)
