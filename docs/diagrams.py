"""The README's state diagrams, from the tables that the code runs on.

`python docs/diagrams.py` prints them, `python docs/diagrams.py README.md` puts them between the
README's markers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from changeover.supervisor.states import GATE, JOB, PLANS, RESTART, WORKER, Table

BEGIN, END = "<!-- diagrams -->", "<!-- /diagrams -->"
MACHINES: tuple[tuple[str, Table], ...] = (  # type: ignore[type-arg]
    ("A worker", WORKER),
    ("A job", JOB),
    ("The gate of a queue", GATE),
    ("The restart policy of a generation", RESTART),
)


def machine(table: Table) -> list[str]:  # type: ignore[type-arg]
    """One table as a Mermaid state diagram; inputs that change nothing are left out."""
    first = next(iter(table))
    lines = ["stateDiagram-v2", f"    [*] --> {first.value}"]
    for state, row in table.items():
        ways: dict[str, list[str]] = {}
        for event, following in row.items():
            if following is not state:
                ways.setdefault(following.value, []).append(event)
        lines += [f"    {state.value} --> {to}: {', '.join(on)}" for to, on in ways.items()]
        if not row:
            lines.append(f"    {state.value} --> [*]")
    return lines


def plans() -> list[str]:
    """The three ways a changeover goes, up to its cut and beyond."""
    lines = ["flowchart LR"]
    for number, (plan, steps) in enumerate(PLANS.items()):
        nodes = [f"{number}{step.value}([{step.value.upper()}])" for step in steps]
        lines.append(f"    {number}plan[{plan}] --> " + " --> ".join(nodes))
    return lines


def render() -> str:
    """All of them, as Markdown."""
    parts = [("A changeover", plans()), *((name, machine(table)) for name, table in MACHINES)]
    blocks = [f"**{name}**\n\n```mermaid\n" + "\n".join(lines) + "\n```" for name, lines in parts]
    return "\n\n".join(blocks)


def put_into(text: str) -> str:
    """`text` with what stands between the markers made anew."""
    head, rest = text.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    return f"{head}{BEGIN}\n\n{render()}\n\n{END}{tail}"


def main() -> None:
    """Print, or write into the file that is named."""
    if len(sys.argv) < 2:
        sys.stdout.write(render() + "\n")
        return
    page = Path(sys.argv[1])
    page.write_text(put_into(page.read_text()))


if __name__ == "__main__":
    main()
