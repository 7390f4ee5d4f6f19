"Pictures and sliders in a real browser: Debian's Chromium, offline"
import fcntl, itertools, json, os, re, select, shutil, subprocess, sys, time
import pytest
from llm_course.show import Shown, bars, canvas, curves, explore, heatmap, look, picture, table, tokens

FLAGS = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()
HOSTILE = '</script><!-- <b onclick="1">&amp; \\ $x$ \u2028'
STATE = '''[...document.querySelectorAll('[role=group]')].map(root => ({
    name: root.getAttribute('aria-label'), text: root.lastElementChild.textContent, stage: root.lastElementChild.innerHTML,
    values: [...root.querySelectorAll('output')].map(o => o.value), hidden: [...root.querySelectorAll('input')].map(i => i.getClientRects().length == 0),
    spoken: [...root.querySelectorAll('input')].map(i => i.getAttribute('aria-valuetext')), labels: [...root.querySelectorAll('input')].map(i => i.labels[0].textContent)}))'''


class Browser:
    "Chromium, told what to do through a pipe"
    def __init__(self, program, folder):
        down, up = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (down[0], up[1])]
        def plumb():
            for fd, end in zip((3, 4), ends): os.dup2(end, fd)
        self.process = subprocess.Popen([program, *FLAGS, '--remote-debugging-pipe', f'--user-data-dir={folder}'], preexec_fn=plumb,
                                        pass_fds=(3, 4), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        for fd in (down[0], up[1], *ends): os.close(fd)
        self.write, self.read, self.rest, self.count, self.events = down[1], up[0], b'', itertools.count(1), []
        target = self.tell('Target.createTarget', url='about:blank')['targetId']
        self.session = {'sessionId': self.tell('Target.attachToTarget', targetId=target, flatten=True)['sessionId']}
        for domain in 'Page', 'Runtime', 'Network': self.page(f'{domain}.enable')

    def message(self, deadline):
        "The next message, which ends in a zero byte"
        while b'\0' not in self.rest:
            if not select.select([self.read], [], [], max(0, deadline-time.monotonic()))[0]: raise TimeoutError('Chromium does not answer')
            got = os.read(self.read, 1 << 20)
            if not got: raise EOFError('Chromium ended')
            self.rest += got
        first, self.rest = self.rest.split(b'\0', 1)
        return json.loads(first)

    def tell(self, method, extra=None, **parameters):
        number, deadline = next(self.count), time.monotonic()+60
        os.write(self.write, json.dumps(dict(id=number, method=method, params=parameters, **(extra or {}))).encode()+b'\0')
        while (answer := self.message(deadline)).get('id') != number: self.events.append(answer)
        if 'error' in answer: raise RuntimeError(f"{method}: {answer['error']}")
        return answer['result']

    def page(self, method, **parameters): return self.tell(method, self.session, **parameters)

    def ask(self, script): return self.page('Runtime.evaluate', expression=script, returnByValue=True)['result'].get('value')

    def open(self, path):
        self.events.clear()
        self.page('Page.navigate', url=path.as_uri())
        deadline = time.monotonic()+60
        while self.ask('document.readyState + location.href') != f'complete{path.as_uri()}': assert time.monotonic() < deadline

    def press(self, key, code):
        for kind in 'rawKeyDown', 'keyUp': self.page('Input.dispatchKeyEvent', type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def seen(self, method): return [e['params'] for e in self.events if e.get('method') == method]

    def close(self):
        os.close(self.write)
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: self.process.kill()
        os.close(self.read)


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    program = shutil.which('chromium') or shutil.which('chromium-browser')
    if not program: pytest.skip('no Chromium here (Debian: apt install chromium)')
    browser = Browser(program, tmp_path_factory.mktemp('chromium'))
    yield browser
    browser.close()


@pytest.fixture
def page(tmp_path):
    def write(*shown):
        path = tmp_path/'page.html'
        path.write_text('<!doctype html><meta charset="utf-8"><title>t</title>'+''.join(s._repr_html_() for s in shown), encoding='utf-8')
        return path
    return write


@pytest.fixture(scope='module')
def one(): return explore(lambda k: bars({'a': k, 'b': 1}, limits=(0, 5), alt=f'a is {k}'), 'one', k=range(1, 6))


def test_keys_move_one_slider_and_no_other(browser, page, one):
    browser.open(page(one, one, explore(lambda head, word: f'{head}/{word}', 'two', head=[.25, .5], word=['x', ' y', 'z'])))
    assert [s['values'] for s in browser.ask(STATE)] == [['1'], ['1'], ['0.25', 'x']]
    browser.press('Tab', 9)
    for _ in range(3): browser.press('ArrowRight', 39)
    first, twin, two = browser.ask(STATE)
    assert first['values'] == first['spoken'] == ['4'] and 'aria-label="a is 4"' in first['stage']
    assert twin['values'] == ['1'] and 'aria-label="a is 1"' in twin['stage'] and first['labels'] == ['k'] and not any(first['hidden'])
    for _ in range(3): browser.press('Tab', 9)
    browser.press('End', 35)
    assert browser.ask(STATE)[2]['text'] == '0.25/z'
    browser.press('ArrowLeft', 37)
    assert browser.ask(STATE)[2]['values'] == ['0.25', '␣y']
    browser.ask("[...document.querySelectorAll('input')].at(-2).focus()")
    browser.press('ArrowUp', 38)
    assert browser.ask(STATE)[2]['text'] == '0.5/ y' and browser.ask(STATE)[0]['values'] == ['4']


def test_every_frame_is_the_one_python_made(browser, page):
    made = lambda a, b: heatmap([[a, b, None], [b, -a, a*b]], limits=(-9, 9), title=f'{a} and {b}')
    browser.open(page(explore(made, a=range(3), b=[1, 2])))
    for i, (a, b) in enumerate(itertools.product(range(3), [1, 2])):
        browser.ask(f"[{i//2}, {i%2}].forEach((v, k) => {{ const s = document.querySelectorAll('input')[k]; s.value = v; s.dispatchEvent(new Event('input')) }})")
        assert browser.ask("document.querySelector('svg').outerHTML") == browser.ask(f"(new DOMParser()).parseFromString({json.dumps(made(a, b).svg)}, 'text/html').querySelector('svg').outerHTML")


def test_first_frame_stands_without_javascript(browser, page, one):
    browser.page('Emulation.setScriptExecutionDisabled', value=True)
    try:
        browser.open(page(one))
        state, = browser.ask(STATE)
    finally: browser.page('Emulation.setScriptExecutionDisabled', value=False)
    assert state['hidden'] == [True] and state['values'] == ['1'] and 'aria-label="a is 1"' in state['stage']

def test_nothing_is_fetched_and_nothing_fails(browser, page, one):
    browser.open(page(one, table([{'a': 1}]), tokens(['a', ' b']), curves({'a': [1, None, 3]}), heatmap([[1, 2], [3, 4]])))
    asked = [r['request']['url'] for r in browser.seen('Network.requestWillBeSent')]
    assert [url for url in asked if not url.startswith(('file:', 'data:'))] == []
    assert browser.seen('Runtime.exceptionThrown') == []


def test_description_stands_where_styles_are_stripped(browser, page):
    boxes = "['svg', '.llmc-note'].map(s => document.querySelector(s).getClientRects().length)"
    path = page(bars({'a': 1}, alt='one bar'))
    browser.open(path)
    assert browser.ask(boxes) == [1, 0]
    path.write_text(re.sub('<style>.*?</style>', '', path.read_text(encoding='utf-8')), encoding='utf-8')
    browser.open(path)
    assert browser.ask(boxes) == [0, 1] and browser.ask("document.querySelector('.llmc-note').innerText").startswith('one bar')


def test_hostile_text_stays_text(browser, page):
    shown = explore(lambda k: HOSTILE*k, alt=HOSTILE, k=[1, 2]), table([{HOSTILE: HOSTILE}], caption=HOSTILE), tokens([HOSTILE]), bars({HOSTILE: 1}, HOSTILE, HOSTILE, HOSTILE)
    browser.open(page(*shown))
    assert browser.ask("document.querySelectorAll('b').length") == 0 and browser.seen('Runtime.exceptionThrown') == []
    assert browser.ask("document.querySelector('td').textContent") == browser.ask("document.querySelector('pre').textContent") == HOSTILE
    assert browser.ask("document.querySelector('svg').getAttribute('aria-label')") == HOSTILE
    browser.press('Tab', 9)
    browser.press('ArrowRight', 39)
    assert browser.ask("document.querySelector('pre').textContent") == HOSTILE*2


def test_hostile_html_does_not_end_the_script(browser, page):
    browser.open(page(explore(lambda word: Shown('<p>a</p><script>1</script><!-- <script> -->'+word[-1], ''), word=[HOSTILE+'1', HOSTILE+'2'])))
    browser.press('Tab', 9)
    browser.press('ArrowRight', 39)
    state, = browser.ask(STATE)
    assert state['text'].startswith('a') and state['text'].endswith('2') and browser.seen('Runtime.exceptionThrown') == []


def test_text_takes_the_colour_of_the_theme(browser, page):
    path = page(curves({'a': [1, 2]}, 'step', 'loss', 'title'))
    path.write_text(path.read_text(encoding='utf-8')+'<style>body { background: #111; color: rgb(1, 200, 3) }</style>', encoding='utf-8')
    browser.open(path)
    colours = browser.ask("[...document.querySelectorAll('text')].map(t => getComputedStyle(t).fill)")
    assert colours.count('rgb(1, 200, 3)') == len(colours)-1 and 'rgb(27, 127, 196)' in colours


def clipped(top):
    "A picture whose clipping matplotlib names by a count, whatever its form"
    from matplotlib.patches import Polygon
    with look():
        ax = canvas(1, 1)
        ax.imshow([[0, 1]], extent=(0, 1, 0, 1)).set_clip_path(Polygon([(0, 0), (1, 0), (.5, top)], transform=ax.transData))
    return picture(ax.figure, f'A triangle up to {top}')


def test_no_picture_on_a_page_uses_the_parts_of_another(browser, page):
    "What an id stands for is the same wherever it occurs"
    wave = [k % 7 for k in range(30)]
    browser.open(page(clipped(.2), clipped(.9), curves({'a': wave}), curves({'a': wave}, limits=(1, 3)), curves({'a': wave, 'b': [3, None, 4, None, 5]}), heatmap([wave]), bars({'a': (1, .2)})))
    parts = browser.ask("[...document.querySelectorAll('svg [id]')].map(e => [e.id, e.outerHTML])")
    assert parts and len({tuple(p) for p in parts}) == len({name for name, _ in parts})
    used = browser.ask(r"[...document.body.innerHTML.matchAll(/(?:url\((?:&quot;)?#|href=\"#)([\w.-]+)/g)].map(m => m[1])")
    assert set(used) <= {name for name, _ in parts}


def test_same_input_same_bytes():
    code = "from llm_course.show import *; print(explore(lambda k: curves({'a': [1, None, k], 'b': [3, 2, 1]}), k=[1, 2]).html, heatmap([[1, 2], [3, None]]).html)"
    runs = [subprocess.run([sys.executable, '-c', code], env={**os.environ, 'PYTHONHASHSEED': str(n)}, capture_output=True, text=True, check=True).stdout for n in (1, 2)]
    assert runs[0] == runs[1] and len(runs[0]) > 1000


def test_torch_is_not_imported():
    code = "import sys, llm_course.show as show; show.tokens(['a'], [1]); assert not {'torch', 'matplotlib', 'IPython'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True)
