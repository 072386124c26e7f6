"""The figures on paper: a JSON file a session, a Markdown table and an SVG plot of all of them.

The README quotes the table between two markers; this module writes what stands between, so that no
figure in it is typed by hand.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.cost import Costs, Curve
from benchmarks.figures import Comparison
from benchmarks.origin import CHECKOUT

README: Final = CHECKOUT / "README.md"
RESULTS: Final = Path(__file__).resolve().parent / "results"
COST_FILE: Final = "cost.json"  # Of `bench cost`: curves, not a comparison.
README_BEGIN: Final = "<!-- benchmarks: written by `holdfast bench report` -->"
README_END: Final = "<!-- /benchmarks -->"
ORDER: Final = (
    "spread",
    "hot",
    "zipf",
    "reject",
    "mixed",
    "latency",
    "recovery",
    "failover",
    "join",
    "holds",
    "scale",
    "sweep",
    "view",
    "http",
)
COLUMNS: Final = (
    "figures of",
    "ours",
    "decisions/s",
    "CPU µs each",
    "p50 / p99 ms",
    "peer",
    "peer's decisions/s",
    "peer's CPU µs each",
    "ratio",
    "runs",
)
NOTED: Final = (  # Of the extras.
    "rate",
    "live",
    "relative",
    "resident_making_mib",
    "standby",
    "stall_s",
    "kept_stall_s",
    "stall_beyond_session_s",
    "restored_rows",
    "records",
    "restore_s",
    "ready_s",
)
BAR_HEIGHT: Final = 22
LABEL_WIDTH: Final = 270
BAR_WIDTH_MAX: Final = 360
PANEL_WIDTH: Final = 330
PANEL_HEIGHT: Final = 200
OURS_COLOUR: Final = "#1f6f54"
PEER_COLOUR: Final = "#9aa5ab"


def save(comparison: Comparison, key: str, folder: Path = RESULTS) -> Path:
    """Write one session's figures to `folder`, replacing the last of that key."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(comparison), indent=1) + b"\n")
    return path


def load_keyed(folder: Path = RESULTS) -> dict[str, Comparison]:
    """All saved sessions by their key."""
    return {
        path.stem: msgspec.json.decode(path.read_bytes(), type=Comparison)
        for path in sorted(folder.glob("*.json"))
        if path.name != COST_FILE
    }


def load(folder: Path = RESULTS) -> dict[str, Comparison]:
    """All saved sessions by their key, in the order of ORDER."""
    keyed = load_keyed(folder)
    return dict(sorted(keyed.items(), key=lambda pair: (ORDER.index(pair[1].name), pair[0])))


def save_cost(costs: Costs, folder: Path = RESULTS) -> Path:
    """Write the curves of one decision's cost to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / COST_FILE
    path.write_bytes(msgspec.json.format(msgspec.json.encode(costs), indent=1) + b"\n")
    return path


def load_cost(folder: Path = RESULTS) -> Costs | None:
    """The saved curves, None when there are none."""
    path = folder / COST_FILE
    return msgspec.json.decode(path.read_bytes(), type=Costs) if path.exists() else None


def write(promised: str, folder: Path = RESULTS, readme: Path | None = None) -> list[Path]:
    """Write tables and plots from the saved figures; put `promised` into `readme` where marked.

    `promised` is the table of floors, goals and what was seen, in Markdown.
    """
    comparisons, costs = load(folder), load_cost(folder)
    written = [folder / "table.md", folder / "rates.svg"]
    parts = [promised, markdown(comparisons)] if comparisons else [promised]
    written[1].write_text(plot(list(comparisons.values())))
    if costs is not None:
        parts.append(cost_markdown(costs))
        written.append(folder / "cost.svg")
        written[-1].write_text(cost_plot(costs.curves))
    written[0].write_text("\n".join(parts))
    if readme is not None and readme.exists() and README_BEGIN in (text := readme.read_text()):
        before, _, rest = text.partition(README_BEGIN)
        _, _, after = rest.partition(README_END)
        readme.write_text(f"{before}{README_BEGIN}\n{promised}{README_END}{after}")
        written.append(readme)
    return written


def marked_part(readme: str) -> str:
    """What stands between the markers of a README."""
    return readme.partition(README_BEGIN + "\n")[2].partition(README_END)[0]


def cost_markdown(costs: Costs) -> str:
    """One row a curve, then the bytes of the rows."""
    lines = ["| a decision by | CPU µs of one request |", "| --- | --- |"]
    for curve in costs.curves:
        told = ", ".join(f"{point.at:,}: {point.cpu_us:.1f}" for point in curve.points)
        lines.append(f"| {curve.of} | {told} |")
    lines += ["", "| row | bytes, key and value |", "| --- | ---: |"]
    lines += [f"| {name} | {bytes_:.0f} |" for name, bytes_ in costs.rows.items()]
    lines += ["", f"* {costs.method}. Machine: {costs.machine}."]
    return "\n".join(lines) + "\n"


def markdown(comparisons: Mapping[str, Comparison]) -> str:
    """One row a session: ours, the peer's, their ratio."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for key, one in comparisons.items():
        latency = f"{_number(one.p50_ms)} / {_number(one.p99_ms)}" if one.p50_ms else ""
        own = sum(run.contestant == one.contestant for run in one.runs)
        cells = (
            key + _note(one),
            one.contestant,
            _number(one.decisions_per_s),
            _number(one.cpu_us_per_decision),
            latency,
            one.peer or "",
            _number(one.peer_decisions_per_s),
            _number(one.peer_cpu_us_per_decision),
            _number(one.ratio) + (" of p99" if one.ratio and one.compared_by == "p99_ms" else ""),
            str(own),
        )
        lines.append(f"| {' | '.join(cells)} |")
    machines = dict.fromkeys(one.machine for one in comparisons.values())
    notes = [f"Medians; ours and the peer's runs alternate. Machine: {'; '.join(machines)}."]
    methods = {one.name: one.method for one in comparisons.values()}
    notes += [f"{name}: {method}." for name, method in methods.items()]
    return "\n".join(lines) + "\n\n" + "\n".join(f"* {note}" for note in notes) + "\n"


def _note(one: Comparison) -> str:
    """What only this benchmark knows, in brackets."""
    parts = [f"{key} {_number(one.extra[key])}" for key in NOTED if key in one.extra]
    return f" ({', '.join(parts)})" if parts else ""


def _number(value: float | str | None) -> str:
    """Three significant places below 100, whole numbers above."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plot(comparisons: Sequence[Comparison]) -> str:
    """Bars of the rates that are comparable: ours, and below it each peer's."""
    bars: list[tuple[str, float, str]] = []
    for name in ("spread", "hot", "zipf", "reject", "mixed"):
        some = [one for one in comparisons if one.name == name]
        if some:
            best = max(some, key=lambda one: len(one.runs))
            bars.append((f"{name}: {best.contestant}", best.decisions_per_s, OURS_COLOUR))
        bars += [
            (f"{name}: {one.peer}", one.peer_decisions_per_s, PEER_COLOUR)
            for one in some
            if one.peer and one.peer_decisions_per_s
        ]
    longest = max((rate for _, rate, _ in bars), default=1.0)
    height = BAR_HEIGHT * (len(bars) + 1)
    rows = [
        _bar(number, label, rate, rate / longest, colour)
        for number, (label, rate, colour) in enumerate(bars)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL_WIDTH + BAR_WIDTH_MAX + 80}" '
        f'height="{height}" font-family="sans-serif" font-size="12">\n'
        "<title>Decisions per second</title>\n" + "\n".join(rows) + "\n</svg>\n"
    )


def _bar(number: int, label: str, rate: float, share: float, colour: str) -> str:
    top = BAR_HEIGHT * number + 6
    width = max(1, round(share * BAR_WIDTH_MAX))
    return (
        f'<text x="{LABEL_WIDTH - 8}" y="{top + 12}" text-anchor="end">{html.escape(label)}</text>'
        f'<rect x="{LABEL_WIDTH}" y="{top}" width="{width}" height="16" fill="{colour}"/>'
        f'<text x="{LABEL_WIDTH + width + 6}" y="{top + 12}">{rate:,.0f}</text>'
    )


def cost_plot(curves: Sequence[Curve]) -> str:
    """One small panel a curve: CPU by what is varied, its values at even steps."""
    panels = [_panel(number, curve) for number, curve in enumerate(curves)]
    width = PANEL_WIDTH * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{PANEL_HEIGHT}" '
        'font-family="sans-serif" font-size="11">\n<title>CPU of one request</title>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _panel(number: int, curve: Curve) -> str:
    left, bottom, room = PANEL_WIDTH * number + 30, PANEL_HEIGHT - 30, PANEL_HEIGHT - 70
    most = max(point.cpu_us for point in curve.points) or 1.0
    step = (PANEL_WIDTH - 70) / max(1, len(curve.points) - 1)
    spots = [
        (left + step * place, bottom - room * point.cpu_us / most, point)
        for place, point in enumerate(curve.points)
    ]
    line = " ".join(f"{x:.0f},{y:.0f}" for x, y, _ in spots)
    drawn = [
        f'<text x="{left}" y="16">CPU µs of a request, by {html.escape(curve.of)}</text>',
        f'<polyline points="{line}" fill="none" stroke="{OURS_COLOUR}" stroke-width="2"/>',
    ]
    for x, y, point in spots:
        drawn.append(
            f'<text x="{x:.0f}" y="{y - 6:.0f}" text-anchor="middle">{point.cpu_us:.0f}</text>'
            f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{point.at:,}</text>'
        )
    return "\n".join(drawn)
