"The journey where a notebook cannot go: killed, cramped, refused, and from the hub"
import json, os, re, resource, shutil, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
import pytest
import house
from llm_course import journey as j
from llm_course.core import CourseError, asset, profile

pytestmark = pytest.mark.slow
repository = 'models--HuggingFaceTB--'


def started(out, code='', env=None, limit=None, **call):
    "A journey in a process of its own; `code` runs before it"
    program = f'from llm_course import journey as j\n{code}\nj.journey({str(out)!r}, **{call!r})'
    bound = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
    return subprocess.Popen([sys.executable, '-c', program], env=house.environment() | (env or {}), cwd=house.root, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=bound)


def finished(*args, **kwargs):
    "Exit code and last line of stderr"
    process = started(*args, **kwargs)
    said, complaint = process.communicate(timeout=280)
    assert not said, f'a library has no business on stdout: {said}'
    return process.returncode, complaint.strip().splitlines()[-1] if process.returncode else ''


def rows(out): return json.loads((out/'scoreboard.json').read_text())['rows']


@pytest.fixture(scope='module')
def smoked(tmp_path_factory):
    out = tmp_path_factory.mktemp('journey')/'smoked'
    assert finished(out, smoke=True) == (0, '')
    return out


def test_every_stage(smoked):
    "A row a stage with the documented keys, weights as safetensors, nothing half-made"
    found = rows(smoked)
    assert [row['stage'] for row in found] == list(j.STAGES)
    for row in found:
        assert {key.removesuffix('_error') for key in row} <= set(j.KEYS)
        assert set(row) >= {'start', 'perplexity', 'preference', 'trained', 'bytes', 'seconds', 'gain', 'gain_error', 'effect', 'held', 'checks'}
        assert row['bytes'] > 0 and row['seconds'] > 0 and 'exact' in row or row['stage'] == 'reward'
        assert sys.platform != 'linux' or row['memory'] > 1e8
        assert all(c['held'] for c in row['checks'] if c['always'])
    assert not [path for path in smoked.rglob('*') if path.suffix in ('.bin', '.pt', '.part', '.pkl') or path.name.endswith('.part')]
    assert {path.parent.relative_to(smoked).parts[0] for path in smoked.rglob('*.safetensors')} == set(j.STAGES) - {'speculative'}


def test_report(smoked):
    "One page with every stage and three ages, that loads nothing"
    page = (smoked/'report.html').read_text()
    assert all(f'<li id="{name}">' in page for name in j.STAGES) and page.count('<svg') == 4 and page.count('class="ask"') == 8
    assert all(f'<b>{name} ' in page for name in ('base', 'SFT', 'aligned'))
    assert not re.findall(r'(?:src|href|action|data)\s*=\s*(?!["\']?(?:#|data:))[^\s>]+|url\((?!#|["\']?data:)|@import|<script|<link|<iframe', page)


def test_continued(smoked):
    "A finished journey is not walked again, nor mixed with one of other settings"
    before = (smoked/'scoreboard.json').read_bytes()
    assert j.journey(smoked, 'tiny', smoke=True) == rows(smoked) and (smoked/'scoreboard.json').read_bytes() == before
    with pytest.raises(CourseError, match='another plan.*resume=False'): j.journey(smoked, 'tiny')
    assert (smoked/'scoreboard.json').read_bytes() == before


def test_killed(tmp_path):
    "Killed in the middle of a stage; the rows before it are untouched and what comes after is the same as without the kill"
    process, whole = started(tmp_path/'out', smoke=True, stages=['lora']), lambda: (tmp_path/'out/scoreboard.json').exists() and len(rows(tmp_path/'out'))
    while whole() != 2: time.sleep(.02); assert process.poll() is None
    while not (tmp_path/'out/.lora.part').exists(): time.sleep(.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before, weights = rows(tmp_path/'out'), (tmp_path/'out/sft/model.safetensors').stat()
    assert [row['stage'] for row in before] == ['base', 'sft'] and not (tmp_path/'out/lora').exists()
    assert finished(tmp_path/'out', smoke=True, stages=['lora']) == (0, '')
    assert rows(tmp_path/'out')[:2] == before and [row['stage'] for row in rows(tmp_path/'out')] == ['base', 'sft', 'lora']
    assert (tmp_path/'out/sft/model.safetensors').stat() == weights and not list((tmp_path/'out').glob('.*.part'))


def test_same_after_a_kill(smoked, tmp_path):
    "A stage made again on the same start makes the same answers"
    shutil.copytree(smoked, tmp_path/'out')
    board = json.loads((tmp_path/'out/scoreboard.json').read_text())
    board['rows'] = [row for row in board['rows'] if row['stage'] != 'qlora']
    (tmp_path/'out/scoreboard.json').write_text(json.dumps(board))
    j.journey(tmp_path/'out', 'tiny', smoke=True)
    notes = [json.loads((out/'qlora/journey.json').read_text()) for out in (smoked, tmp_path/'out')]
    assert notes[0]['answers'] == notes[1]['answers'] and dict(notes[0]['losses']) == pytest.approx(dict(notes[1]['losses']), rel=1e-3)


def test_not_ours(tmp_path):
    "Somebody else's folder, a file in the way, a place where nobody writes"
    (tmp_path/'thesis.txt').write_text('mine')
    with pytest.raises(CourseError, match='not ours'): j.journey(tmp_path, 'tiny', smoke=True)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']
    with pytest.raises(CourseError, match='cannot write'): j.journey(tmp_path/'thesis.txt', 'tiny', smoke=True)
    with pytest.raises(CourseError, match='cannot write'): j.journey('/proc/journey', 'tiny', smoke=True)


def test_start_over(tmp_path):
    "resume=False clears what a journey wrote, nothing else"
    out = tmp_path/'out'
    (out/'sft').mkdir(parents=True)
    for name, text in {'.llm_course': 'journey', 'scoreboard.json': '{"settings": {}, "rows": []}', 'sft/old': '', 'notes.txt': 'mine'}.items(): (out/name).write_text(text)
    j.clear(out)
    assert sorted(path.name for path in out.iterdir()) == ['.llm_course', 'notes.txt']


def test_missing_library(tmp_path):
    "An extra that is not installed is named before anything is written"
    code, last = finished(tmp_path/'out', 'import sys; sys.modules["trl"] = None', smoke=True)
    assert code and 'trl not installed: pip install "llm_course[journey]"' in last and not (tmp_path/'out').exists()


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match='no stage rlhf; choose from base, sft'): j.journey(tmp_path, 'tiny', ['sft', 'rlhf'])
    with pytest.raises(ValueError, match='unknown profile'): j.journey(tmp_path, 'huge')
    assert not list(tmp_path.iterdir())


def test_broken_promise(tmp_path, monkeypatch):
    "A promise that is not kept is shown as such, ends in an error, and is not taken for done the next time"
    promises = []
    monkeypatch.setitem(j.STAGES, 'base', replace(j.STAGES['base'], promise=lambda *_: promises.append(1) or [j.fact('the moon is near', 0., 1.)]))
    for _ in range(2):
        with pytest.raises(j.BrokenPromise, match='base: the promised effect does not hold') as caught: j.journey(tmp_path/'out', 'tiny', ['base'], smoke=True)
        assert caught.value.rows == rows(tmp_path/'out') and not rows(tmp_path/'out')[0]['held']
        assert 'Not kept: base' in (tmp_path/'out/report.html').read_text()
    assert len(promises) == 2


@pytest.fixture
def small_disk(tmp_path):
    "A folder on a disk of 6 MB: room for one model"
    place = tmp_path/'disk'
    place.mkdir()
    mounted = not subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', place], capture_output=True).returncode
    yield place, mounted
    if mounted: subprocess.run(['umount', '-l', place])


def test_full_disk(small_disk):
    "No space left: one sentence, and the finished stages stay; without the right to mount, no file may grow beyond 1 MB"
    place, mounted = small_disk
    if not mounted: assert finished(place/'out', smoke=True, stages=['base']) == (0, '')
    code, last = finished(place/'out', smoke=True, stages=['sft'], limit=None if mounted else 1_000_000)
    assert code and 'no space left for stage sft' in last and 'the finished stages are kept' in last
    assert [row['stage'] for row in rows(place/'out')] == ['base'] and (place/'out/base/model.safetensors').exists()


def stand_in(home):
    "A hub cache with tiny models under the real names"
    from transformers import LlamaConfig, LlamaForCausalLM
    import torch
    torch.manual_seed(0)
    for name, width in {'SmolLM2-360M': 64, 'SmolLM2-360M-Instruct': 64, 'SmolLM2-135M-Instruct': 32}.items():
        folder = home/'hub'/f'{repository}{name}'
        snapshot = folder/'snapshots'/('0'*40)
        LlamaForCausalLM(LlamaConfig(vocab_size=2048, hidden_size=width, intermediate_size=2*width, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=2048, tie_word_embeddings=True)).save_pretrained(snapshot)
        for file in ('tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'): shutil.copy(asset(file), snapshot)
        (folder/'refs').mkdir()
        (folder/'refs/main').write_text('0'*40)


def test_colab(tmp_path):
    "The path of models and rows from the hub, end to end"
    data = os.environ.get('LLM_COURSE_DATA')
    if not data: pytest.skip('LLM_COURSE_DATA names no folder with gsm8k_train.jsonl, instruction_data.json and instruction_preference.json')
    stand_in(tmp_path/'home')
    assert finished(tmp_path/'out', env=dict(HF_HOME=str(tmp_path/'home'), LLM_COURSE_DATA=data), profile='colab', smoke=True) == (0, '')
    found = rows(tmp_path/'out')
    assert [row['stage'] for row in found] == list(j.STAGES) and 'problems' in found[0] and found[0]['start'] == profile('colab').model
    assert 'SmolLM2-360M' in (tmp_path/'out/report.html').read_text()


def test_no_hub(tmp_path):
    "Neither network nor cache: says so, and how to do without"
    code, last = finished(tmp_path/'out', env=dict(HF_HOME=str(tmp_path/'home'), LLM_COURSE_DATA=''), profile='colab', smoke=True)
    assert code and 'from the Hugging Face hub' in last and 'LLM_COURSE_PROFILE=tiny' in last


@pytest.mark.parametrize('kind', j.LOCAL)
def test_real_rows(kind):
    "Rows of the real data sets become questions with answers"
    if not os.environ.get('LLM_COURSE_DATA'): pytest.skip('LLM_COURSE_DATA names no folder with real rows')
    found = j.load_rows(kind, profile('colab'))
    sides = ('chosen', 'rejected') if kind == 'preferences' else ('answer',)
    assert len(found) > 1000 and all(row['prompt'] and all(isinstance(row[side], str) for side in sides) for row in found)
    if kind == 'problems': assert all(j.final_number(row['answer']) is not None and '<<' not in row['answer'] for row in found)


def test_lost_rows(tmp_path, monkeypatch):
    monkeypatch.setenv('LLM_COURSE_DATA', str(tmp_path))
    with pytest.raises(CourseError, match='gsm8k_train.jsonl does not exist'): j.load_rows('problems', profile('colab'))
    with pytest.raises(ValueError, match='choose from problems'): j.load_rows('poems', profile('colab'))
