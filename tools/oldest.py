"Prints the lower bounds of settings.ini as pip constraints, but for torch: its older builds bring gigabytes of CUDA"
import re
import house


def bounds():
    "One `name==version` for each requirement but those of `dev`"
    needs = [need for key, value in house.settings.items() if key.endswith('requirements') and key != 'dev_requirements' for need in value.split()]
    torch = re.search(r'^torch==.*$', (house.root/'constraints.txt').read_text(encoding='utf-8'), re.M)[0]
    return [torch] + sorted({need.replace('>=', '==') for need in needs if not need.startswith('torch>')})


if __name__ == '__main__': print('\n'.join(bounds()))
