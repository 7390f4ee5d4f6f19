"Every notebook runs, offline, in a process group of its own; and the runner sees what it has to see"
from concurrent.futures import ThreadPoolExecutor
import nbformat, psutil, pytest
import evidence, house, runner
from conftest import slowest

pytestmark = pytest.mark.slow
course = house.notebooks()


@pytest.fixture(scope='session')
def ledger(tmp_path_factory): return tmp_path_factory.mktemp('ledger')


@pytest.fixture(scope='session')
def outcomes(request, ledger):
    "A future for every selected notebook, two running at a time"
    chosen = [item.callspec.params['notebook'] for item in request.session.items if 'notebook' in getattr(item, 'fixturenames', ())]
    with ThreadPoolExecutor(2) as pool:
        yield {notebook: pool.submit(runner.run, notebook, ledger) for notebook in chosen}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize('notebook', course, ids=house.topic)
def test_notebook(notebook, outcomes, pytestconfig):
    outcome = outcomes[notebook].result()
    pytestconfig.stash[slowest].append(outcome)
    assert not outcome.faults, str(outcome)


def test_evidence(outcomes, ledger):
    "After a whole run the page of evidence is made anew from what was measured"
    if set(outcomes) != set(course) or any(outcome.result().faults for outcome in outcomes.values()):
        pytest.skip('the page of evidence is made only when every notebook ran and passed')
    evidence.rebuild(ledger)


def planted(folder, *cells):
    "A small notebook with these code cells"
    path = folder/'planted.ipynb'
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return path


faults = {
    'an exception': ('1/0', 'a cell failed'),
    'a failing command': ('!exit 3', 'a cell failed'),
    'a failing command in the middle': ('!exit 3\n!true', 'a cell failed'),
    'a failing captured command': ('lines = !exit 3', 'a cell failed'),
    'an exception in a thread': ("import threading\nt = threading.Thread(target=lambda: 1/0)\nt.start(); t.join()", 'an exception in Thread'),
    'a late exception in a thread': ("import threading, time\nthreading.Thread(target=lambda: (time.sleep(1), 1/0)).start()", 'an exception in Thread'),
    'a display that fails': ("class A:\n    def _repr_html_(self): 1/0\nA()", 'could not be shown'),
    'an early exit': ('import sys\nsys.exit(0)', 'a cell failed'),
    'a silent exit': ('import os\nos._exit(0)', 'without a word'),
    'a killed worker': ('import os, signal\nos.kill(os.getpid(), signal.SIGKILL)', 'signal 9'),
    'only flagged cells': ('#| slow\n1/0', 'no cell was executed'),
    'only cells that are not evaluated': ('#| eval: false\n1/0', 'no cell was executed'),
    'only the setup cell': (house.setup_head, 'no cell was executed')}


@pytest.mark.parametrize('fault', faults)
def test_fault(fault, tmp_path):
    source, message = faults[fault]
    outcome = runner.run(planted(tmp_path, source))
    assert message in '; '.join(outcome.faults) and 'planted.ipynb' in str(outcome)


def test_empty_notebook(tmp_path): assert runner.run(planted(tmp_path)).faults == ['no cell was executed']


def test_good_notebook(tmp_path): assert not runner.run(planted(tmp_path, "x = !echo 1\nassert x == ['1']", '#| gpu\n1/0')).faults


def test_forced_flag(tmp_path): assert runner.run(planted(tmp_path, '#| slow\n1/0'), flags=['slow']).faults == ['a cell failed']


def test_hang_ends_with_all_its_children(tmp_path):
    pid = tmp_path/'pid'
    hang = f"import subprocess, pathlib\np = subprocess.Popen(['sleep', '600'])\npathlib.Path({str(pid)!r}).write_text(str(p.pid))\np.wait()"
    outcome = runner.run(planted(tmp_path, hang), seconds=8)
    assert outcome.faults == ['killed: still running after 8 s'] and outcome.seconds < 15
    assert not alive(int(pid.read_text()))


def alive(pid): return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_network(tmp_path):
    "Out is closed, loopback is open"
    if not runner.namespace(): pytest.skip('no network namespaces here: only HF_HUB_OFFLINE keeps notebooks offline')
    out = "import socket\nsocket.create_connection(('1.1.1.1', 53), timeout=5)"
    assert 'Network is unreachable' in runner.run(planted(tmp_path, out)).log
    loop = "import socket\nserver = socket.create_server(('127.0.0.1', 0))\nsocket.create_connection(server.getsockname(), timeout=5)"
    assert not runner.run(planted(tmp_path, loop)).faults
