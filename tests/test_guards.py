"What the notebooks cannot see of themselves"
import ast, json, re, shutil, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import resolve_name
from pathlib import Path
import pytest, yaml
import house, readme, stamp

package = house.root/'llm_course'
modules = sorted(path for path in package.rglob('*.py') if path.name != '_modidx.py')
ours = [path for path in modules if path.name != '__init__.py']
late = 'transformers datasets peft trl bitsandbytes mergekit evaluate ipywidgets matplotlib sklearn'.split()
course = house.notebooks()
places = {house.module(house.topic(path)): house.place(house.topic(path)) for path in course}


def dotted(path):
    "`llm_course/data/template.py` -> `data.template`; the package itself is empty"
    parts = path.relative_to(package).with_suffix('').parts
    return '.'.join(part for part in parts if part != '__init__')


def imported(name, source):
    "The modules of the course that a module imports, by their dotted names; nbdev makes the imports relative"
    home = f'llm_course.{name}'.rpartition('.')[0]
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            origin = resolve_name('.'*node.level + (node.module or ''), home)
            names = [origin] + [f'{origin}.{alias.name}' for alias in node.names]
        yield from (found.removeprefix('llm_course.') for found in names)


def too_high(places, name, source):
    "The imports of a module that do not stand before it in the reading order"
    return [found for found in imported(name, source) if found in places and places[found] >= places[name]]


@pytest.mark.parametrize('path', ours, ids=dotted)
def test_floors(path): assert not too_high(places, dotted(path), path.read_text(encoding='utf-8'))


@pytest.mark.parametrize('name, source, found', [
    ('core', 'def f():\n    from llm_course.show import heatmap', ['show']),
    ('core', 'from .show import heatmap', ['show']),
    ('data.a', 'from llm_course.data.b import x', ['data.b']),
    ('data.a', 'from llm_course.data import b', ['data.b']),
    ('data.a', 'from .b import x', ['data.b']),
    ('data.b', 'from .a import x\nfrom ..core import y\nimport torch', [])])
def test_floors_see(name, source, found):
    places = {'core': (0, 0), 'show': (1, 1), 'data.a': (4, 1), 'data.b': (4, 2)}
    assert too_high(places, name, source) == found


@pytest.mark.parametrize('path', course, ids=house.topic)
def test_mirror(path):
    "A notebook's path without its number is its module"
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    lines = [line for cell in cells for line in ''.join(cell['source']).splitlines()]
    found = [line.split()[-1] for line in lines if line.startswith('#| default_exp ')]
    assert found in ([], [house.module(house.topic(path))])


def mixed(source):
    "Whether the docs build would run more than imports here: it runs every cell that imports, at any depth"
    try: tree = ast.parse(source)
    except SyntaxError: return False
    found = any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(tree))
    return found and not all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body)


@pytest.mark.parametrize('path', course, ids=house.topic)
def test_imports_stand_alone(path):
    "Unexported cells that import hold nothing else, or the site's build stops in them"
    cells = [''.join(cell['source']) for cell in json.loads(path.read_text(encoding='utf-8'))['cells'] if cell['cell_type'] == 'code']
    free = [source for source in cells if not re.match(r'#\|\s*(export|eval:\s*false)', source)]
    assert not [source[:200] for source in free if mixed(source)]


def test_imports_stand_alone_sees():
    assert mixed('import os\nos.getcwd()') and mixed('def f(): import os') and not mixed('import os, sys\nfrom math import pi')


def undefined(source):
    "What pyflakes says of names that are not there; star imports hide them, so they count"
    found = subprocess.run([sys.executable, '-m', 'pyflakes'], input=source, capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if re.search('undefined|import \\*|syntax|referenced before', line)]


@pytest.mark.parametrize('path', ours, ids=dotted)
def test_names(path): assert not undefined(path.read_text(encoding='utf-8'))


@pytest.mark.parametrize('source', ['def f(): return torch.ones(1)', 'from math import *\nsin(1)', '__all__ = ["f"]'])
def test_names_see(source): assert undefined(source)


def loaded(name):
    "What a fresh process has imported after `import name`"
    code = f"import {name}, sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=house.root, env=house.environment())
    assert not found.returncode, f'import {name} fails:\n{found.stderr}'
    return set(found.stdout.split())


def test_imports():
    "Every module imports on its own, and fast: the heavy libraries wait inside the functions that need them"
    names = ['.'.join(filter(None, ['llm_course', dotted(path)])) for path in modules]
    with ThreadPoolExecutor(2) as pool: found = dict(zip(names, pool.map(loaded, names)))
    slow = {name: sorted(found[name] & set(late)) for name in names}
    assert not {name: heavy for name, heavy in slow.items() if heavy}
    assert 'torch' not in found['llm_course'] | found.get('llm_course.core', set())


def functions(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)): yield node.name, node.end_lineno-node.lineno+1


@pytest.mark.parametrize('path', ours, ids=dotted)
def test_short_functions(path): assert not [(name, lines) for name, lines in functions(path) if lines > 30]


def written(path):
    "The lines of a module that came from a notebook's author: without nbdev's marks, its list of names and its blank lines"
    cells = re.split(r'^# %% .*$', path.read_text(encoding='utf-8'), flags=re.M)
    lines = [line for cell in cells if not cell.lstrip().startswith('__all__') for line in cell.splitlines()]
    return [line for line in lines if line.strip() and not line.startswith('# AUTOGENERATED!')]


def test_small_package(): assert sum(len(written(path)) for path in modules) < 9000


def unsafe(source):
    "Ways to run code that came as data: eval, exec, pickle, torch.load, trust_remote_code"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in ('eval', 'exec'): yield node.func.id
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ('torch.load', 'np.load'): yield ast.unparse(node.func)
        if isinstance(node, ast.keyword) and node.arg == 'trust_remote_code': yield node.arg
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, 'module', None) or '']
            yield from {name.split('.')[0] for name in names} & {'pickle', 'dill', 'joblib', 'cloudpickle', 'marshal', 'shelve'}


@pytest.mark.parametrize('path', ours, ids=dotted)
def test_safe(path): assert not list(unsafe(path.read_text(encoding='utf-8')))


@pytest.mark.parametrize('source', ['eval("1")', 'import pickle', 'from pickle import load', 'torch.load("x")', 'f(trust_remote_code=True)'])
def test_safe_sees(source): assert list(unsafe(source)) and not list(unsafe('model.eval(); s = "eval(1)"'))


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "The notebooks exported from nothing and cleaned, beside the checkout"
    folder = tmp_path_factory.mktemp('copy')
    shutil.copy(house.root/'settings.ini', folder)
    shutil.copytree(house.nbs, folder/'nbs', ignore=shutil.ignore_patterns('.*'))
    (folder/'llm_course').mkdir()
    for command in ('nbdev_export', 'nbdev_clean'):
        found = subprocess.run([Path(sys.executable).with_name(command)], cwd=folder, capture_output=True, text=True)
        assert not found.returncode, found.stderr
    return folder


def same(ours, theirs, pattern):
    "The files that differ or are missing on either side"
    names = {path.relative_to(root) for root in (ours, theirs) for path in root.rglob(pattern) if '.ipynb_checkpoints' not in path.parts}
    read = lambda path: path.read_text(encoding='utf-8') if path.exists() else None
    return sorted(str(name) for name in names if read(ours/name) != read(theirs/name))


def test_exported(copy): assert not same(package, copy/'llm_course', '*.py'), 'run `make export`'


def test_clean(copy): assert not same(house.nbs, copy/'nbs', '*.ipynb'), 'run `.venv/bin/nbdev_clean`'


@pytest.mark.slow
def test_pages(copy):
    "nbdev makes a page of every notebook: it runs exported cells and those that import, and nothing else"
    code = 'from nbdev.serve import proc_nbs; proc_nbs(n_workers=2)'
    found = subprocess.run([sys.executable, '-c', code], cwd=copy, capture_output=True, text=True, env=house.environment())
    assert not found.returncode, found.stderr[-2000:]
    assert {path.relative_to(copy/'_proc').as_posix() for path in (copy/'_proc').rglob('*.ipynb')} == {house.topic(path) + '.ipynb' for path in course}


def listed(contents):
    "The notebooks of a sidebar, in order"
    for entry in contents: yield from [entry] if isinstance(entry, str) else listed(entry.get('contents', [entry.get('href')]))


def test_syllabus():
    "The sidebar lists every notebook once, in reading order"
    site = yaml.safe_load((house.root/'_quarto.yml').read_text(encoding='utf-8'))
    assert list(listed(site['website']['sidebar']['contents'])) == [house.topic(path) + '.ipynb' for path in course]


def test_home():
    "The home page links every notebook but itself"
    text = (house.nbs/house.settings['readme_nb']).read_text(encoding='utf-8')
    assert not [house.topic(path) for path in course if f'({house.topic(path)}.ipynb)' not in text and path.name != house.settings['readme_nb']]


def test_site_names_the_repository():
    "_quarto.yml cannot read settings.ini: owner, repository and branch are held together here"
    site = yaml.safe_load((house.root/'_quarto.yml').read_text(encoding='utf-8'))['website']
    assert site['repo-url'] == house.settings['git_url'] and site['repo-branch'] == house.settings['branch']
    assert site['site-url'] == house.settings['doc_host'] + house.settings['doc_baseurl']
    assert site['title'] == house.settings['title'] and site['description'] == house.settings['description']


@pytest.mark.parametrize('path', course, ids=house.topic)
def test_no_local_paths(path):
    "What a notebook shows names no folder of the machine it was run on"
    assert not re.findall(rf'/tmp/\w+|/home/\w+|/root/\w+|/Users/\w+|{re.escape(str(house.root))}', path.read_text(encoding='utf-8'))


def test_stamped(): assert not [house.topic(path) for path in stamp.stale()], 'run `make stamp`'


def test_stamp_sees():
    nb = json.loads(course[0].read_text(encoding='utf-8'))
    del nb['metadata']['accelerator']
    nb['cells'] = [cell for cell in nb['cells'] if house.setup_head not in ''.join(cell['source']) and 'colab-badge' not in ''.join(cell['source'])]
    again = stamp.stamped(nb, house.topic(course[0]))
    assert [sum(text in ''.join(cell['source']) for cell in again['cells']) for text in (house.setup_head, 'colab-badge')] == [1, 1]
    assert again == stamp.stamped(again, house.topic(course[0])) and again['metadata']['accelerator'] == 'GPU'


def test_readme(): assert readme.target.read_text(encoding='utf-8') == readme.render(), 'run `make readme`'


def test_links():
    "Every relative link of the README and of CONTRIBUTING.md leads to a file"
    for page in (readme.target, house.root/'CONTRIBUTING.md'):
        links = re.findall(r'\]\((?!https?:|#|mailto:)([^)#]+)', page.read_text(encoding='utf-8'))
        assert not [link for link in links if not (house.root/link).exists()], page.name
