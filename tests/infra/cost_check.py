#!/usr/bin/env python3
"""Computes the costs of docs/aws.md again: each line from its arithmetic, each sum from its lines, prices from the table of prices.

The sizes of tasks in the arithmetic are those of the Terraform examples. Nobody checks here what AWS asks today.
"""

import re

import environment

TEXT = (environment.ROOT / "docs/aws.md").read_text()
EXAMPLES = ("complete", "existing-kafka", "smallest")
FARGATE = re.compile(r"\(([0-9.]+) x 0\.03725 \+ ([0-9.]+) x 0\.00409\)")


def main():
    section = TEXT.split("## What it costs")[1].split("\n## ")[0]
    prices = set(re.findall(r"[0-9.]+", " ".join(row[1] for row in rows(section.split("**complete**")[0]))))
    sums = {}
    for part in re.split(r"^\*\*", section, flags=re.MULTILINE)[1:]:
        name = part.split("**")[0]
        if "| arithmetic |" in part:
            sums[name] = total(name, rows(part), prices)
    assert set(sums) == {*EXAMPLES, "A billion events"}, set(sums)
    for name in EXAMPLES:
        (said,) = re.findall(rf"^\| \[`{name}`\].*\| \$([0-9,]+) \|$", TEXT, re.MULTILINE)
        assert abs(int(said.replace(",", "")) - sums[name]) <= max(10, 0.01 * sums[name]), f"{name}: {said} at the top, {sums[name]:.0f} in all"
        sizes(name, section)
    print("cost_check: " + ", ".join(f"{name} ${value:.2f}" for name, value in sums.items()))


def rows(text):
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n") if line.startswith("|")]
    return [row for row in found if not row[0].startswith(("what", "-"))]


def value(where, arithmetic, prices):
    assert re.fullmatch(r"[0-9. x/+()]+", arithmetic), f"{where}: {arithmetic}"
    # Beside prices only shares, days and sizes of tasks have a point.
    for number in re.findall(r"\b0\.[0-9]+", arithmetic):
        assert number in prices or number == "0.5", f"{where}: {number} is no price of the table"
    return eval(arithmetic.replace("x", "*"))


def total(name, lines, prices):
    whole = 0.0
    for what, arithmetic, said in lines:
        said_value = float(said.replace(",", ""))
        digits = 2 if "." in said else 0
        if what == "in all":
            assert round(whole, digits) == said_value, f"{name}: in all {said}, the lines give {whole:.2f}"
            return whole
        exact = value(f"{name}: {what}", arithmetic, prices)
        assert round(exact, digits) == said_value, f"{name}: {what}: {said}, the arithmetic gives {exact:.2f}"
        whole += exact
    raise SystemExit(f"docs/aws.md: {name} has no line `in all`")


def sizes(name, section):
    """Each size of a task in the example stands in its arithmetic, and no other."""
    text = (environment.ROOT / f"infra/terraform/examples/{name}/main.tf").read_text()
    pair = re.compile(r"\bcpu\s*=\s*(\d+)[,\s]+memory\s*=\s*(\d+)")
    pairs = pair.findall(text)
    if not pair.search(text.split('module "speed" {')[1].split("\n}\n")[0]):
        module = (environment.ROOT / "infra/terraform/modules/service/variables.tf").read_text()
        pairs.append([re.search(rf'variable "{name}" {{.*?default\s*=\s*(\d+)', module, re.DOTALL).group(1) for name in ("cpu", "memory")])
    made = {(int(cpu) / 1024, int(memory) / 1024) for cpu, memory in pairs}
    part = section.split(f"**{name}**")[1].split("\n**")[0]
    told = {(float(cpu), float(memory)) for cpu, memory in FARGATE.findall(part)}
    assert made == told, f"{name}: the example has tasks of {sorted(made)}, docs/aws.md counts {sorted(told)} (vCPU, GiB)"


if __name__ == "__main__":
    main()
