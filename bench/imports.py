"`import llm_course` in a fresh process"
import subprocess, sys
from harness import Row


def fresh(module):
    "A process that imports a module and tells which of the heavy ones came with it"
    code = f"import {module}, sys; print(*sorted({{'torch', 'transformers', 'numpy'}} & set(sys.modules)))"
    return lambda: lambda: subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout.split()


def light(ours, peer):
    assert not ours, f'import llm_course brings {ours}'
    return 'no torch'


rows = [Row('import', 'import transformers', fresh('llm_course'), fresh('transformers'), light, most=.3)]
