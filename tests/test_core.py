"What the core promises when the machine fails: a kill, a full disk, a damaged file, a plain terminal"
import json, os, random, shutil, signal, subprocess, sys, time
from pathlib import Path
import pytest
import house
from llm_course import core

posix = pytest.mark.skipif(os.name == 'nt', reason='needs SIGKILL and resource limits')


def python(code, *args, **more):
    "Run a few lines in a fresh process"
    env = house.environment() | dict(PYTHONPATH=str(house.root)) | more
    return subprocess.run([sys.executable, '-c', code, *map(str, args)], capture_output=True, text=True, env=env, timeout=120)


def kill(code, folder, wait):
    "Start a process that prints the numbers it has finished, kill it `wait` seconds after its first; the last number it printed"
    env = house.environment() | dict(PYTHONPATH=str(house.root))
    child = subprocess.Popen([sys.executable, '-uc', code, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    first = child.stdout.readline()
    time.sleep(wait)
    child.send_signal(signal.SIGKILL)
    rest, errors = child.communicate()
    assert first, errors
    return int((first+rest).rpartition('\n')[0].split('\n')[-1])


write = '''
import sys
from pathlib import Path
from llm_course.core import write_whole
for n in range(1, 10**6): print(n) if write_whole(Path(sys.argv[1])/'file', str(n % 10)*200_000) else 0
'''

save = '''
import sys, torch
from llm_course.core import load_checkpoint, save_checkpoint
folder, start = sys.argv[1], 0
try: start = load_checkpoint(folder).step
except FileNotFoundError: pass
weight = torch.zeros(100_000)
adam = dict(state={0: dict(step=torch.tensor(0.), exp_avg=weight)}, param_groups=[dict(lr=.1, params=[0])])
for n in range(start+1, start+10**6):
    weight.fill_(n)
    save_checkpoint(folder, dict(weight=weight), adam, dict(step=n), tensors=dict(random=torch.get_rng_state()))
    print(n)
'''


@posix
def test_kill_while_writing(tmp_path):
    dice = random.Random(0)
    for _ in range(8):
        done = kill(write, tmp_path, dice.uniform(0, .03))
        text = (tmp_path/'file').read_text()
        assert len(text) == 200_000 and set(text) <= {str(done % 10), str((done+1) % 10)}


@posix
@pytest.mark.slow
def test_kill_while_saving(tmp_path):
    "Nothing that was reported as saved is lost, what loads is one step's and no other's, and litter does not pile up"
    dice = random.Random(0)
    for _ in range(6):
        done = kill(save, tmp_path/'run', dice.uniform(0, .08))
        kept = core.load_checkpoint(tmp_path/'run')
        assert done <= kept.step <= done+1 and kept.skipped == [] and kept.model['weight'].unique().tolist() == [kept.step]
        assert kept.optimizer['state'][0]['exp_avg'].unique().tolist() == [kept.step] and kept.tensors['random'].numel()
        assert len(list((tmp_path/'run').iterdir())) <= 5


full = '''
import os, resource, signal, sys, torch
from pathlib import Path
from llm_course.core import CourseError, Exercise, expect_fail, load_checkpoint, own_folder, save_checkpoint, write_whole
folder = Path(sys.argv[1])
adam = dict(state={}, param_groups=[])
save_checkpoint(folder/'run', dict(w=torch.ones(10)), adam, dict(step=1))
write_whole(folder/'file', 'old')
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
with expect_fail(CourseError, 'older ones are untouched'): save_checkpoint(folder/'run', dict(w=torch.ones(10**6)), adam, dict(step=2))
with expect_fail(OSError): write_whole(folder/'file', 'x'*10**6)
assert load_checkpoint(folder/'run').step == 1 and os.listdir(folder/'run') == ['step-00000001']
assert (folder/'file').read_text() == 'old' and sorted(os.listdir(folder)) == ['file', 'run']
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
with expect_fail(CourseError, 'cannot write in'): own_folder(folder/'out', 'journey')
os.environ['LLM_COURSE_PROGRESS'] = str(folder/'progress.json')
assert Exercise(abs, -1, name='a/b').check(lambda x: max(x, -x))
print('kept')
'''


@posix
def test_full_disk(tmp_path):
    "A limit on file sizes stands for a full disk: clear errors, old files whole, no litter, and a solved exercise stays solved"
    found = python(full, tmp_path)
    assert found.stdout.endswith('kept\n'), found.stderr
    assert 'progress not saved: OSError' in found.stdout


def test_unwritable(tmp_path, monkeypatch, capsys):
    "A file where a folder should be, which stops even the superuser"
    (tmp_path/'file').write_text('')
    monkeypatch.setenv('LLM_COURSE_PROGRESS', str(tmp_path/'file'/'progress.json'))
    assert core.Exercise(abs, -1, name='a/b').check(lambda x: max(x, -x))
    assert 'progress not saved' in capsys.readouterr().out
    with pytest.raises(core.CourseError, match='cannot write in .*Not a directory'): core.own_folder(tmp_path/'file'/'out', 'journey')
    with pytest.raises(core.CourseError, match='cannot write in .*File exists'): core.own_folder(tmp_path/'file', 'journey')


def test_assets_are_whole():
    "The manifest lists every shipped file and nothing else, and each has its sum"
    root = core.assets_folder()
    sums = json.loads((root/'manifest.json').read_text())
    assert set(sums) == {o.relative_to(root).as_posix() for o in root.rglob('*') if o.is_file() and o.name != 'manifest.json'}
    for name in {o.split('/')[0] for o in sums}: assert core.asset(name).exists()


@pytest.mark.parametrize('name', sorted(json.loads((core.assets_folder()/'manifest.json').read_text())))
def test_one_byte_of_an_asset(name, tmp_path, monkeypatch):
    "One wrong byte anywhere is noticed, whether the file is asked for or its folder, and the file is named"
    for o in ('manifest.json', name):
        (tmp_path/o).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(core.assets_folder()/o, tmp_path/o)
    monkeypatch.setattr(core, 'assets_folder', lambda: tmp_path)
    assert core.asset(name) == tmp_path/name
    data = bytearray((tmp_path/name).read_bytes())
    data[len(data)//2] ^= 1
    (tmp_path/name).write_bytes(data)
    with pytest.raises(core.CourseError, match=Path(name).name): core.asset(name)
    with pytest.raises(core.CourseError, match='reinstall'): core.asset(name.split('/')[0])


def test_no_torch():
    "What needs no tensors must not wait for torch"
    code = '''
import sys
from llm_course.core import *
profile('tiny'), progress(), asset('tokenizer.json'), Exercise(abs, -1, name='a/b').check(lambda x: None)
print(*{'torch', 'transformers', 'IPython', 'matplotlib', 'safetensors'} & set(sys.modules))
'''
    found = python(code, LLM_COURSE_PROFILE='tiny')
    assert found.stdout.splitlines()[-1] == '', found.stdout+found.stderr


def test_plain_terminal():
    "Boxes are text outside a notebook, even where the terminal knows ASCII only"
    code = "from llm_course.core import *\nprint(Exercise(abs, -1, name='a/b', mistakes={'sign kept – é': lambda x: x}).check(lambda x: x))"
    found = python(code, PYTHONIOENCODING='ascii', PYTHONUTF8='0')
    assert found.stdout.splitlines() == ['? a/b: sign kept ? ?', '    case 1 of 1: <lambda>(-1)', '    expected 1', '    got      -1', 'False'], found.stderr


def test_interrupt_goes_through():
    "Ctrl-C in an endless answer must stop it: the one thing that `check` does not swallow"
    def endless(x): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): core.Exercise(abs, -1, name='a/b').check(endless)


def test_ledger_of_many(tmp_path):
    "Processes that write to one ledger at once do not mix their lines"
    code = "from llm_course.core import effect\nfor i in range(50): effect('x'*500, i, at_least=0)"
    env = house.environment() | dict(PYTHONPATH=str(house.root), LLM_COURSE_LEDGER=str(tmp_path/'ledger'))
    children = [subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.DEVNULL, env=env) for _ in range(4)]
    assert [o.wait() for o in children] == [0]*4
    assert len([json.loads(o) for o in (tmp_path/'ledger').read_text().splitlines()]) == 200


@pytest.mark.parametrize('platform, env, path', [
    ('linux', dict(XDG_DATA_HOME='/x'), '/x/llm_course/progress.json'), ('linux', {}, '/home/me/.local/share/llm_course/progress.json'),
    ('darwin', dict(XDG_DATA_HOME='/x'), '/home/me/Library/Application Support/llm_course/progress.json'),
    ('linux', dict(LLM_COURSE_PROGRESS='~/drive/p.json'), '/home/me/drive/p.json')])
@posix
def test_progress_file(platform, env, path, monkeypatch):
    for o in ('XDG_DATA_HOME', 'LLM_COURSE_PROGRESS'): monkeypatch.delenv(o, raising=False)
    for o, v in (env | dict(HOME='/home/me')).items(): monkeypatch.setenv(o, v)
    monkeypatch.setattr(sys, 'platform', platform)
    assert core.progress_file() == Path(path)


def test_progress_keeps_the_first_day(tmp_path, monkeypatch):
    monkeypatch.setenv('LLM_COURSE_PROGRESS', str(tmp_path/'new'/'progress.json'))
    (tmp_path/'new').mkdir()
    (tmp_path/'new'/'progress.json').write_text('{"a/b": "2020-01-01"}')
    assert [core.Exercise(abs, -1, name=o).check(lambda x: max(x, -x)) for o in ('a/b', 'a/c', 'd/e')] == [True]*3
    done = core.solved(tmp_path/'new'/'progress.json')
    assert done['a/b'] == '2020-01-01' and list(done) == ['a/b', 'a/c', 'd/e']
    assert '3 solved' in repr(core.progress()) and '2  b (2020-01-01), c (' in repr(core.progress())


def restart(folder, step): return core.save_checkpoint(folder, {}, dict(state={}, param_groups=[]), dict(step=step))


def test_checkpoints_of_an_earlier_run(tmp_path):
    "A run that starts again in a used folder keeps what it writes; a broken newer one stays and is told, a broken older one goes"
    for step in (100, 200, 10): restart(tmp_path, step)
    assert sorted(os.listdir(tmp_path)) == ['step-00000010', 'step-00000200']
    for step in (10, 200): (tmp_path/f'step-{step:08d}'/'state.json').write_text('{')
    with pytest.raises(FileNotFoundError, match='step-00000200: state.json does not match'): core.load_checkpoint(tmp_path)
    restart(tmp_path, 11)
    assert sorted(os.listdir(tmp_path)) == ['step-00000011', 'step-00000200']
    with pytest.warns(UserWarning, match='fell back to step-00000011'): assert core.load_checkpoint(tmp_path).step == 11


def test_crash_between_the_two_renames(tmp_path, monkeypatch):
    "Saving a step again moves the old folder aside first; a crash right then still leaves it to be found"
    restart(tmp_path, 7)
    real, calls = os.replace, []
    def once(*args):
        if calls: raise KeyboardInterrupt
        calls.append(real(*args))
    monkeypatch.setattr(os, 'replace', once)
    with pytest.raises(KeyboardInterrupt): restart(tmp_path, 7)
    assert os.listdir(tmp_path) == ['step-00000007.old'] and core.load_checkpoint(tmp_path).step == 7
    monkeypatch.setattr(os, 'replace', real)
    restart(tmp_path, 7)
    assert os.listdir(tmp_path) == ['step-00000007']
