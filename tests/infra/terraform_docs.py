#!/usr/bin/env python3
"""Writes README.md of each Terraform module and example from its variables and outputs, below the text before the marker.

Usage: terraform_docs.py [--check] FOLDER...

With --check nothing is written, and a README that differs ends the program with exit code 1.
"""

import pathlib
import re
import sys

MARKER = "<!-- Written by tests/infra/terraform_docs.py from here on. -->"
BLOCK = re.compile(r'^(variable|output) "([^"]+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)


def attribute(text, name):
    """The value of an attribute at the block's own level, as written; it may go over several lines."""
    found = re.search(rf"^  {name}\s*=\s*(.*)$", text, re.MULTILINE)
    if not found:
        return None
    value, rest = found.group(1), text[found.end() :].split("\n")[1:]
    while any(value.count(left) > value.count(right) for left, right in ("()", "[]", "{}")):
        value += " " + rest.pop(0).strip()
    return re.sub(r"\s+", " ", value).replace("( {", "({").replace("} )", "})")


def cell(text):
    return text.replace("|", "\\|")


def tables(folder):
    blocks = {"variable": [], "output": []}
    for name in ("variables.tf", "outputs.tf"):
        for kind, block, body in BLOCK.findall((folder / name).read_text()):
            description = attribute(body, "description")
            if not description:
                sys.exit(f"{folder / name}: {kind} {block} has no description")
            blocks[kind].append((block, description.strip('"').replace('\\"', '"'), attribute(body, "type"), attribute(body, "default")))
    lines = ["## Variables", "", "| name | what it is | type | default |", "|---|---|---|---|"]
    for name, description, kind, default in blocks["variable"]:
        lines.append(f"| `{name}` | {cell(description)} | `{cell(kind)}` | {'needed' if default is None else f'`{cell(default)}`'} |")
    lines += ["", "## Outputs", "", "| name | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {cell(description)} |" for name, description, _, _ in blocks["output"]]
    return "\n".join(lines) + "\n"


def introduction(folder):
    """The comment at the top of main.tf."""
    lines = []
    for line in (folder / "main.tf").read_text().split("\n"):
        if not line.startswith("#"):
            break
        lines.append(line[1:].removeprefix(" "))
    if not lines:
        sys.exit(f"{folder / 'main.tf'}: begin with a comment that says what it makes")
    return "\n".join(lines)


def main():
    check = "--check" in sys.argv
    differ = False
    for folder in map(pathlib.Path, (argument for argument in sys.argv[1:] if argument != "--check")):
        readme = folder / "README.md"
        before = f"# {folder.name}\n\n{introduction(folder)}\n\n"
        if readme.exists() and MARKER in readme.read_text():
            before = readme.read_text().split(MARKER)[0]
        wanted = f"{before}{MARKER}\n\n{tables(folder)}"
        if check and (not readme.exists() or readme.read_text() != wanted):
            print(f"{readme}: is not what its variables and outputs give; run tests/infra/terraform_docs.py {folder}", file=sys.stderr)
            differ = True
        elif not check:
            readme.write_text(wanted)
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
