"""Runs one notebook through nbdev's tester in a process group of its own

nbdev's tester alone passes when nothing ran, when `!command` or a thread fails, and waits for ever on a hang.
"""
import contextlib, functools, json, os, shutil, signal, subprocess, sys, tempfile, threading, time
from dataclasses import dataclass, field
from pathlib import Path
import house


@dataclass
class Outcome:
    "What came of a notebook: no faults means it passed"
    notebook: Path
    faults: list = field(default_factory=list)
    seconds: float = 0.
    outputs: dict = field(default_factory=dict)
    log: str = ''

    def __str__(self): return f'{self.notebook}: ' + '; '.join(self.faults) + f'\n{self.log[-6000:]}'


@functools.cache
def namespace():
    "The command that takes the network away from a process, empty where the machine has none"
    if not shutil.which('unshare'): return ()
    candidates = ('unshare', '-n'), ('unshare', '-rn')
    works = lambda command: not subprocess.run([*command, 'true'], capture_output=True).returncode
    return next(filter(works, candidates), ())


def run(notebook, ledger=None, seconds=300, flags=(), online=False):
    "The outcome of a notebook, whatever it does to the process that runs it"
    notebook, start = Path(notebook).resolve(), time.monotonic()
    name = house.topic(notebook) if notebook.is_relative_to(house.nbs) else notebook.stem
    offline = () if online else namespace()
    with tempfile.TemporaryDirectory() as folder:
        verdict, log = Path(folder)/'verdict.json', Path(folder)/'log'
        (Path(folder)/'matplotlibrc').write_text('svg.hashsalt: llm_course\n')
        env = dict(house.environment(), LLM_COURSE_NOTEBOOK=name, LLM_COURSE_PROGRESS=f'{folder}/progress.json', MATPLOTLIBRC=folder)
        if ledger: env['LLM_COURSE_LEDGER'] = str(Path(ledger)/f"{name.replace('/', '.')}.jsonl")
        if offline: env['GLOO_SOCKET_IFNAME'] = 'lo'
        if online: env = {key: value for key, value in env.items() if not key.endswith('_OFFLINE')}
        command = [*offline, sys.executable, __file__, str(notebook), str(verdict), '1' if offline else '', *flags]
        fault = finish(command, env, log, seconds)
        found = json.loads(verdict.read_text()) if verdict.exists() else {}
        faults = found.get('faults', []) + ([fault] if fault else [])
        if not (found or fault): faults = ['the worker ended without a word']
        return Outcome(notebook, faults, time.monotonic()-start, found.get('outputs', {}), log.read_text(errors='replace'))


def finish(command, env, log, seconds):
    "Run a command in a process group of its own, end the whole group, say what went wrong"
    with log.open('wb') as out:
        worker = subprocess.Popen(command, cwd=house.nbs, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try: code = worker.wait(seconds)
    except subprocess.TimeoutExpired: return f'killed: still running after {seconds} s'
    finally:
        with contextlib.suppress(ProcessLookupError): os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    if code: return f'the worker died with signal {-code}' if code < 0 else f'the worker ended with exit code {code}'


def raise_loopback():
    "Bring `lo` up in a fresh network namespace"
    import fcntl, socket, struct
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack('16sh14x', b'lo', 0x1)) # SIOCSIFFLAGS, IFF_UP


def watch(shell, faults, outputs):
    "Turn what IPython swallows into faults and keep the outputs of each executed cell"
    cell, traceback = shell.cell, shell.showtraceback
    def keep(self, code, *args, **kwargs):
        cell(self, code, *args, **kwargs)
        if code.cell_type == 'code' and code.source.strip() and not code.source.startswith(house.setup_head):
            outputs[code.id] = code.get('outputs', [])
    def show(self, exc_tuple=None, *args, **kwargs):
        if exc_tuple: faults.append(f'an output could not be shown: {exc_tuple[1]!r}')
        traceback(self, exc_tuple, *args, **kwargs)
    shell.cell, shell.showtraceback, shell.system_raise_on_error = keep, show, True
    threading.excepthook = lambda e: faults.append(f'an exception in {e.thread.name}: {e.exc_value!r}')


def child(notebook, verdict, alone, flags):
    "Run the notebook in this process and write down what was found"
    if alone: raise_loopback()
    from nbdev.test import test_nb, CaptureShell
    faults, outputs = [], {}
    watch(CaptureShell, faults, outputs)
    passed, _ = test_nb(notebook, skip_flags=house.settings['tst_flags'].split(), force_flags=flags, basepath=house.root)
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon: thread.join()
    if not passed: faults.insert(0, 'a cell failed')
    elif not outputs: faults.append('no cell was executed')
    Path(verdict).write_text(json.dumps(dict(faults=faults, outputs=outputs)))


if __name__ == '__main__': child(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
