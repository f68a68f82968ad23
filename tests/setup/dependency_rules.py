#!/usr/bin/env python3
"""The rules of the house that no compiler checks. Prints each violation, and exits with 1 if there is one.

Usage: dependency_rules.py [ROOT]

- Crates: which crate may depend on which, and what the pure crates must not even reach.
- Modules: no circle between the top-level modules of a crate, nor between those named in `SIBLINGS`.
  Tests are no part of it: they may use everything.
- Text: lengths of lines and files, ignored tests.
"""

import json
import pathlib
import re
import subprocess
import sys

# Each crate, and the crates of the workspace that it may depend on.
CRATES = {
    "adlake-domain": set(),
    "adlake-decode": {"adlake-domain"},
    "adlake-lake": {"adlake-domain"},
    "adlake-speed-layer": {"adlake-domain", "adlake-decode", "adlake-lake"},
    "adlake-batch-layer": {"adlake-domain", "adlake-lake"},
    "adlake-serving": {"adlake-domain", "adlake-lake"},
    "adlake-traffic": {"adlake-domain"},
    "adlake-cli": {"*"},
    "adlake-tests": {"*"},
    "adlake-workspace-hack": set(),
}
EVERYWHERE = "adlake-workspace-hack"

# Crates that compute only. They reach none of the crates of `IO`, not even through others.
PURE = ["adlake-domain", "adlake-decode"]
IO = {
    "adlake-workspace-hack", "aws-config", "datafusion", "deltalake", "hyper", "mio", "object_store", "openssl-sys",
    "rdkafka", "rdkafka-sys", "reqwest", "rustls", "socket2", "tokio",
}

# Modules whose children form no circle either.
SIBLINGS = {"adlake-lake": ["views"]}

CODE_COLUMNS, COMMENT_COLUMNS, DOCUMENT_COLUMNS, FILE_LINES = 120, 100, 140, 500


def run(command, folder):
    """The output of a command."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} in {folder}: {done.stderr}")
    return done.stdout


def crate_violations(root):
    """The edges between crates, and what pure crates reach."""
    host = re.search(r"^host: (.*)$", run(["rustc", "-vV"], root), re.MULTILINE).group(1)
    # Without the filter, crates of other platforms would have to be downloaded.
    command = ["cargo", "metadata", "--offline", "--filter-platform", host, "--format-version", "1"]
    metadata = json.loads(run(command, root))
    packages = {package["id"]: package for package in metadata["packages"]}
    members = {packages[member]["name"]: packages[member] for member in metadata["workspace_members"]}
    for name, package in members.items():
        if name not in CRATES:
            yield f"{name}: is not listed in CRATES; say what it may depend on"
            continue
        allowed = CRATES[name]
        for dependency in package["dependencies"]:
            target = dependency["name"]
            if dependency["kind"] == "dev" or target not in CRATES or target in allowed or "*" in allowed:
                continue
            if target == EVERYWHERE and name not in PURE:
                continue
            yield f"{name}: must not depend on {target}"

    # What is linked into the program: no build scripts, no tests.
    graph = {}
    for node in metadata["resolve"]["nodes"]:
        normal = [
            dependency["pkg"]
            for dependency in node["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        ]
        graph[node["id"]] = normal
    for name in PURE:
        if name not in members:
            continue
        start = members[name]["id"]
        came_from, waiting = {start: None}, [start]
        while waiting:
            package = waiting.pop(0)
            for target in graph[package]:
                if target not in came_from:
                    came_from[target] = package
                    waiting.append(target)
        for package in came_from:
            if packages[package]["name"] in IO:
                path = []
                while package is not None:
                    path.append(packages[package]["name"])
                    package = came_from[package]
                yield f"{name}: must stay pure, but reaches I/O: {' -> '.join(reversed(path))}"
    yield from module_violations({name: pathlib.Path(package["manifest_path"]).parent for name, package in members.items()})


def without_comments_and_texts(source):
    """The code of a file: comments, strings and characters become blanks."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\])\'', re.DOTALL
    )
    return pattern.sub(" ", source)


def matching_brace(code, start):
    """The index after the brace that closes the one at `start`."""
    depth = 0
    for index in range(start, len(code)):
        depth += {"{": 1, "}": -1}.get(code[index], 0)
        if depth == 0:
            return index + 1
    return len(code)


def without_tests(code):
    """The code without what is compiled for tests only, and the names of test modules in files of their own."""
    files = set()
    for item in re.finditer(r"#\[cfg\((?:any\()?test\b[^\]]*\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;", code):
        files.add(item.group(1))
    kept, index = [], 0
    for item in re.finditer(r"#\[cfg\(test\)\]", code):
        if item.start() < index:
            continue
        kept.append(code[index : item.start()])
        end = re.compile(r"[;{]").search(code, item.end())
        if end is None:
            index = len(code)
        elif end.group() == ";":
            index = end.end()
        else:
            index = matching_brace(code, end.start())
    kept.append(code[index:])
    return "".join(kept), files


def first_names(code, start):
    """The first names of a path, or of each path of a group, that begins at `start`."""
    while start < len(code) and code[start].isspace():
        start += 1
    if start >= len(code) or code[start] != "{":
        name = re.compile(r"\w+").match(code, start)
        return [name.group()] if name else []
    names, depth, at_start = [], 0, True
    for index in range(start, matching_brace(code, start)):
        letter = code[index]
        if letter in "{},":
            depth += {"{": 1, "}": -1}.get(letter, 0)
            at_start = depth == 1
        elif at_start and depth == 1 and (letter.isalnum() or letter == "_"):
            names.append(re.compile(r"\w+").match(code, index).group())
            at_start = False
        elif not letter.isspace():
            at_start = False
    return names


def module_files(source):
    """The modules of a crate's `src`, each with its path, its code without tests, and nothing of test modules."""
    texts = {}
    for file in sorted(source.rglob("*.rs")):
        path = file.relative_to(source).with_suffix("").parts
        if path[-1] in ("lib", "main", "mod"):
            path = path[:-1]
        code, test_files = without_tests(without_comments_and_texts(file.read_text()))
        texts[path] = (code, test_files)
    of_tests = {path + (name,) for path, (_, names) in texts.items() for name in names}
    return {
        path: code
        for path, (code, _) in texts.items()
        if not any(path[: length + 1] in of_tests for length in range(len(path)))
    }


def used_modules(files, path):
    """The modules that a module's code names by `crate::` or `super::`, as paths."""
    code = files[path]
    for item in re.finditer(r"\b(crate|(?:super\s*::\s*)*super|self)\s*::\s*", code):
        if item.group(1) == "crate":
            base = ()
        elif item.group(1) == "self":
            base = path
        else:
            base = path[: len(path) - item.group(1).count("super")]
        for name in first_names(code, item.end()):
            # What is no module is an item of the base module itself.
            yield base, name
        # Paths go on: `crate::a::b` names a child of `a` too.
        longer = re.compile(r"(\w+)(?:\s*::\s*(\w+))?").match(code, item.end())
        if longer and longer.group(2):
            yield base + (longer.group(1),), longer.group(2)


def circles(edges):
    """The strongly connected parts of more than one node."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(edges.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            part = []
            while True:
                part.append(stack.pop())
                if part[-1] == node:
                    break
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def sibling_edges(files, parent):
    """For each child of `parent`, the siblings that it uses, with a file that does."""
    children = {path[len(parent)] for path in files if len(path) > len(parent) and path[: len(parent)] == parent}
    edges = {child: {} for child in children}
    for path in files:
        if len(path) <= len(parent) or path[: len(parent)] != parent:
            continue
        child = path[len(parent)]
        for base, name in used_modules(files, path):
            if base == parent and name in children and name != child:
                edges[child].setdefault(name, "/".join(path))
    return edges


def module_violations(crates):
    """Circles between modules."""
    for crate, folder in sorted(crates.items()):
        files = module_files(folder / "src")
        for parent in [(), *((name,) for name in SIBLINGS.get(crate, []))]:
            edges = sibling_edges(files, parent)
            for part in circles(edges):
                uses = [
                    f"{module} uses {target} in {file}.rs"
                    for module in part
                    for target, file in sorted(edges[module].items())
                    if target in part
                ]
                where = "::".join((crate, *parent))
                yield f"{where}: circle of modules {', '.join(part)} ({'; '.join(uses)})"


def text_violations(root):
    """Lengths, and tests that are switched off."""
    for file in sorted(root.rglob("*.rs")):
        if "target" in file.relative_to(root).parts:
            continue
        lines = file.read_text().split("\n")
        name = file.relative_to(root)
        if len(lines) - 1 > FILE_LINES:
            yield f"{name}: {len(lines) - 1} lines; {FILE_LINES} are allowed: make two files of it"
        for number, line in enumerate(lines, 1):
            limit = COMMENT_COLUMNS if line.lstrip().startswith("//") else CODE_COLUMNS
            if len(line) > limit:
                yield f"{name}:{number}: {len(line)} columns; {limit} are allowed"
            if re.match(r"\s*#\[ignore\b", line):
                yield f"{name}:{number}: a test is ignored"
    for file in sorted(root.rglob("*.md")):
        name = file.relative_to(root)
        if "target" in name.parts or "node_modules" in name.parts:
            continue
        for number, line in enumerate(file.read_text().split("\n"), 1):
            if len(line) > DOCUMENT_COLUMNS and not line.lstrip().startswith("|"):
                yield f"{name}:{number}: {len(line)} columns; {DOCUMENT_COLUMNS} are allowed"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    violations = [*crate_violations(root), *text_violations(root)]
    for violation in violations:
        print(violation, file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
