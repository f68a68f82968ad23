#!/usr/bin/env python3
"""The rules of the house that no compiler checks. Prints each violation, and exits with 1 if there is one.

Usage: dependency_rules.py [ROOT]

- Crates: which crate may depend on which, and what the pure crates must not even reach.
- Modules: no circle between the modules of a crate, or of a module, but those in `CIRCLES`; nothing that hides what
  a module uses; nothing in a pure crate that reaches the system. Tests are no part of it: they may use everything.
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
    "adlake-telemetry": {"adlake-domain"},
    "adlake-lake": {"adlake-domain", "adlake-telemetry"},
    "adlake-speed-layer": {"adlake-domain", "adlake-decode", "adlake-lake", "adlake-telemetry"},
    "adlake-batch-layer": {"adlake-domain", "adlake-lake", "adlake-telemetry"},
    "adlake-serving": {"adlake-domain", "adlake-lake", "adlake-telemetry"},
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

# Their own code names none of these parts of `std`, outside tests.
SYSTEM = {"env", "fs", "net", "os", "process", "thread"}

# The circles that are allowed, between modules within one module.
CIRCLES = {
    # The reader of a datum calls the converter for each record; the converter reads the values with the cursor of
    # the reader.
    "adlake-decode::avro": {"convert", "datum"},
    # A place lists a folder or a prefix on S3; these return places. Whether a listed file is read depends on its
    # content, so listing, opening and splitting know of one another.
    "adlake-speed-layer::source::files": {
        "csv_file", "discover", "folder", "open", "passed_over", "place", "s3", "split",
    },
    # The rows of the oracle are turned into content, field by field.
    "adlake-tests::oracle": {"content", "raw"},
}

USE = re.compile(r"\buse\s+([^;<]*);")
INLINE_PATH = re.compile(r"(?<![\w:])(?:::\s*)?(\w+(?:\s*::\s*\w+)+)")
HIDING = re.compile(r"#\[\s*(?:cfg_attr\([^\]]*,\s*)?path\s*=|\binclude!|\bextern\s+crate\s+self\b")

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


def module_files(source, leave_out):
    """The modules below a folder, each with its path and its code without tests. Test modules are left out."""
    texts = {}
    for file in sorted(source.rglob("*.rs")):
        if any(folder in file.parents for folder in leave_out):
            continue
        path = file.relative_to(source).with_suffix("").parts
        if path[-1] in ("lib", "main", "mod"):
            path = path[:-1]
        texts[path] = without_tests(without_comments_and_texts(file.read_text()))
    of_tests = {path + (name,) for path, (_, names) in texts.items() for name in names}
    return {
        path: code
        for path, (code, _) in texts.items()
        if not any(path[: length + 1] in of_tests for length in range(len(path)))
    }


def parts(group):
    """What the commas of a `use` group separate."""
    depth, start = 0, 0
    for index, letter in enumerate(group):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            yield group[start:index]
            start = index + 1
    yield group[start:]


def names(path):
    """The names of a path."""
    return tuple(name for name in re.split(r"\s*::\s*", path.strip()) if name)


def use_paths(tree, before=()):
    """The paths of a `use` declaration, each with the name that it gets."""
    head, brace, group = tree.partition("{")
    if brace:
        for part in parts(group[: group.rindex("}")]):
            yield from use_paths(part, before + names(head))
        return
    path, _, alias = re.sub(r"\s+as\s+", " as ", head.strip()).partition(" as ")
    path = before + names(path)
    # `use a::{self}` names `a`.
    if len(path) > 1 and path[-1] == "self":
        path = path[:-1]
    if path:
        yield path, alias.strip() or path[-1]


class Modules:
    """The modules of a crate: what each of them imports, and which paths it names."""

    def __init__(self, source, leave_out=()):
        self.codes = module_files(source, leave_out)
        self.imports, self.paths = {}, {}
        for module, code in self.codes.items():
            uses = [used for item in USE.finditer(code) for used in use_paths(item.group(1))]
            self.imports[module] = {alias: path for path, alias in uses}
            inline = [names(item.group(1)) for item in INLINE_PATH.finditer(USE.sub(" ", code))]
            self.paths[module] = [path for path, _ in uses] + inline

    def resolve(self, module, path):
        """A path that a module names: whether it is in this crate, and its names from the root of its crate on.
        The names that the module gives to what it imports are replaced by what they stand for."""
        followed = set()
        while True:
            first, rest = path[0], path[1:]
            if first == "crate":
                return True, rest
            if first == "self":
                return True, module + rest
            if first == "super":
                count = next((index for index, name in enumerate(path) if name != "super"), len(path))
                return True, module[: len(module) - count] + path[count:]
            if module + (first,) in self.codes:
                return True, module + path
            if first not in self.imports[module] or first in followed:
                return False, path
            followed.add(first)
            path = self.imports[module][first] + rest

    def used(self, path, followed=frozenset()):
        """The modules on a path from the root on, each as its parent and its name. A name that a module imports
        leads to the module that it comes from."""
        base = ()
        for index, name in enumerate(path):
            if base + (name,) in self.codes:
                yield base, name
                base += (name,)
                continue
            if base in self.codes and name in self.imports[base] and (base, name) not in followed:
                is_ours, target = self.resolve(base, self.imports[base][name])
                if is_ours:
                    yield from self.used(target + path[index + 1 :], followed | {(base, name)})
            return

    def edges(self, parent):
        """For each child of `parent`, the siblings that it uses, with a file that does."""
        depth = len(parent)
        children = {module[depth] for module in self.codes if len(module) > depth and module[:depth] == parent}
        edges = {child: {} for child in children}
        for module, paths in self.paths.items():
            if len(module) <= depth or module[:depth] != parent:
                continue
            child = module[depth]
            for is_ours, path in (self.resolve(module, path) for path in paths):
                for base, name in self.used(path) if is_ours else ():
                    if base == parent and name in children and name != child:
                        edges[child].setdefault(name, "/".join(module))
        return edges

    def hidden(self):
        """What hides from these rules which module is used, or where a module is."""
        for module, code in self.codes.items():
            where = "/".join(module) or "the root"
            if HIDING.search(code):
                yield f"{where}: #[path], include! and extern crate self hide where a module is"
            for path in self.paths[module]:
                is_ours, target = self.resolve(module, path)
                # The `*` of an enum hides no module.
                if is_ours and target[-1:] == ("*",) and target[:-1] in self.codes:
                    yield f"{where}: {'::'.join(path)} hides which modules are used: name them"

    def system_calls(self):
        """The paths into the parts of `std` that reach the system."""
        for module, paths in self.paths.items():
            for is_ours, path in (self.resolve(module, path) for path in paths):
                if not is_ours and path[0] == "std" and (len(path) == 1 or path[1] in SYSTEM | {"*"}):
                    yield f"{'/'.join(module) or 'the root'} names {'::'.join(path)}"


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


def circle_violations(where, edges):
    """Circles between the modules within one module, apart from the one that `CIRCLES` allows there."""
    allowed, found = CIRCLES.get(where, set()), circles(edges)
    for circle in found:
        uses = [
            f"{module} uses {target} in {file}.rs"
            for module in circle
            for target, file in sorted(edges[module].items())
            if target in circle
        ]
        if set(circle) != allowed:
            yield f"{where}: circle of modules {', '.join(circle)} ({'; '.join(uses)})"
    if allowed and sorted(allowed) not in found:
        yield f"{where}: CIRCLES allows a circle of {', '.join(sorted(allowed))}, but there is none"


def module_violations(crates):
    """Circles between modules, what hides them, and what pure crates call."""
    for crate, folder in sorted(crates.items()):
        source = folder / "src"
        # A folder in `bin` is a program with a root of its own.
        programs = sorted(path for path in (source / "bin").glob("*") if path.is_dir())
        roots = [(crate, Modules(source, programs))]
        roots += [(f"{crate}::bin::{program.name}", Modules(program)) for program in programs]
        for name, modules in roots:
            yield from (f"{name}: {hidden}" for hidden in modules.hidden())
            if crate in PURE:
                yield from (f"{name}: must stay pure, but {call}" for call in modules.system_calls())
            for parent in sorted({module[:-1] for module in modules.codes if module}):
                yield from circle_violations("::".join((name, *parent)), modules.edges(parent))


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
