"""One look for plots and page: colours, fonts and sizes. Light, calm, readable on a laptop and in print."""

from typing import Any

INK = "#1b2330"
MUTED = "#5d6878"
LINE = "#dfe3ea"
PAPER = "#ffffff"
PROVED = "#1f4e9c"  # what is proved
ATTACK = "#d2691e"  # what an attack found
GAP = "#f6dfca"  # between the attack and the proof
OPEN = "#b9c9e8"  # between witness and proof: what a longer search could still close
PUBLISHED = "#7b2d8b"  # what a published bound says
SLOPE = "#2e7d4f"  # lines of slope lambda_0
WRONG = "#b3261e"
GOOD = "#2e7d4f"

_FAMILIES = ("Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")


def blend(colour: str, share: float) -> tuple[float, ...]:
    """The colour on white, covering this share of it."""
    return tuple(1.0 - share * (1.0 - int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))


def settings() -> Any:
    """matplotlib settings, for `matplotlib.rc_context`."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return {
        "font.family": [name for name in _FAMILIES if name in installed],  # naming one that is absent prints a warning
        "font.size": 9.5,
        "text.color": INK,
        "figure.facecolor": PAPER,
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.h_pad": 0.09,
        "savefig.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "axes.edgecolor": "#aab2bf",
        "axes.linewidth": 0.8,
        "axes.labelcolor": INK,
        "axes.labelsize": 9.5,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.7,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "lines.linewidth": 1.7,
        "lines.solid_capstyle": "round",
        "legend.frameon": False,
        "legend.fontsize": 9,
        "svg.fonttype": "path",  # the same picture everywhere, whatever fonts the reader has
        "svg.hashsalt": "tightcert",  # the same file on every run
    }


def new_figure(width: float, height: float) -> Any:
    """An empty figure, of so many inches, that belongs to no window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


CSS = f"""
:root {{ --ink: {INK}; --muted: {MUTED}; --line: {LINE}; --proved: {PROVED}; --attack: {ATTACK}; --wrong: {WRONG}; --good: {GOOD}; }}
* {{ box-sizing: border-box; }}
html {{ scroll-behavior: smooth; color-scheme: light; }}
body {{ margin: 0; background: #f5f6f8; color: var(--ink); line-height: 1.55; font-size: 15.5px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%; }}
main {{ max-width: 1120px; margin: 0 auto; padding: 0 24px 64px; }}
header {{ background: var(--ink); color: #fff; }}
header > div {{ max-width: 1120px; margin: 0 auto; padding: 26px 24px 22px; }}
header h1 {{ margin: 0; font-size: 27px; font-weight: 650; letter-spacing: -0.01em; }}
header p {{ max-width: none; margin: 6px 0 0; color: #c3cbd8; }}
header code {{ color: #e4e9f1; white-space: nowrap; }}
nav {{ background: #fff; border-bottom: 1px solid var(--line); position: sticky; top: 0; z-index: 2; }}
nav div {{ max-width: 1120px; margin: 0 auto; padding: 0 24px; display: flex; gap: 22px; overflow-x: auto; white-space: nowrap; }}
nav a {{ padding: 10px 0; color: var(--muted); text-decoration: none; font-size: 14px; }}
nav a:hover {{ color: var(--proved); }}
section {{ background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 22px 26px 24px; margin-top: 22px;
  scroll-margin-top: 56px; }}
h2 {{ margin: 0 0 10px; font-size: 19px; font-weight: 650; }}
h3 {{ margin: 22px 0 8px; font-size: 15.5px; font-weight: 650; }}
p {{ margin: 8px 0; max-width: 82ch; }}
.lead {{ font-size: 16.5px; }}
.muted, .note {{ color: var(--muted); }}
.note {{ font-size: 13.5px; }}
code {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 0.92em; overflow-wrap: anywhere; }}
.banner {{ border-left: 5px solid var(--attack); background: #fdf3ea; padding: 12px 18px; border-radius: 6px; margin-top: 22px; }}
.banner.bad {{ border-color: var(--wrong); background: #fcebea; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 14px; margin: 18px 0 20px; }}
.tile {{ border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px 13px; }}
.tile b {{ display: block; font-size: 25px; font-weight: 650; letter-spacing: -0.01em; line-height: 1.25;
  font-variant-numeric: tabular-nums; }}
.tile b.long {{ font-size: 19px; line-height: 1.65; }}
.tile span {{ display: block; color: var(--muted); font-size: 13px; }}
figure {{ margin: 14px 0 6px; }}
figure img {{ width: 100%; height: auto; display: block; }}
figcaption {{ color: var(--muted); font-size: 13.5px; margin-top: 8px; max-width: 95ch; }}
.scroll {{ overflow: auto; max-height: 560px; border: 1px solid var(--line); border-radius: 8px; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 6px 11px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }}
th {{ font-weight: 600; color: var(--muted); background: #f8f9fb; }}
.scroll th {{ position: sticky; top: 0; box-shadow: inset 0 -1px var(--line); }}
tr:last-child td {{ border-bottom: 0; }}
th.left, td.left {{ text-align: left; }}
td.text {{ white-space: normal; text-align: left; min-width: 24ch; }}
table.sortable th {{ cursor: pointer; user-select: none; }}
table.sortable th:hover {{ color: var(--proved); }}
table.sortable th[aria-sort="ascending"]::after {{ content: " ↑"; color: var(--proved); }}
table.sortable th[aria-sort="descending"]::after {{ content: " ↓"; color: var(--proved); }}
.closed {{ color: var(--good); }}
.claims table {{ font-size: 13.5px; }}
.claims th, .claims td {{ padding: 6px 8px; }}
.claims small {{ color: var(--muted); font-weight: 400; }}
.claims th:nth-child(n+6), .claims td:nth-child(n+6) {{ background: #f8f9fb; }}
.proved {{ color: var(--proved); font-weight: 600; }}
.attacked {{ color: var(--attack); }}
.wrong {{ color: var(--wrong); }}
.gallery {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(236px, 1fr)); gap: 16px; }}
.card {{ border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px 11px; }}
.card .row {{ display: grid; grid-template-columns: 1fr 1fr 1fr; gap: 7px; }}
.card img {{ width: 100%; display: block; image-rendering: pixelated; border: 1px solid var(--line); border-radius: 3px; }}
.card small {{ display: block; text-align: center; color: var(--muted); font-size: 11.5px; line-height: 1.5; }}
.card p {{ margin: 7px 0 0; font-size: 13.5px; line-height: 1.45; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 5px 22px; margin: 10px 0; font-size: 14.5px; }}
dt {{ color: var(--muted); }}
dd {{ margin: 0; overflow-wrap: anywhere; }}
.columns {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 8px 34px; }}
.columns h3 {{ margin-top: 10px; }}
details {{ margin-top: 6px; }}
summary {{ cursor: pointer; color: var(--proved); font-size: 14.5px; }}
ul {{ margin: 8px 0; padding-left: 20px; }}
li {{ margin: 4px 0; }}
footer {{ color: var(--muted); font-size: 13px; margin-top: 22px; text-align: center; }}
@media (max-width: 640px) {{ main, header > div, nav div {{ padding-left: 14px; padding-right: 14px; }} section {{ padding: 16px; }} }}
@media print {{ body {{ background: #fff; }} nav {{ display: none; }} section {{ break-inside: avoid; border: 0; padding: 0; }}
  .scroll {{ max-height: none; }} }}
"""

# Sorting the long table, in the page itself: numbers come from data-value, so that infinities sort last.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((head, column) => {
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const number = (text) => text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text);
      const numeric = [...body.rows].every((row) => !Number.isNaN(number(key(row))));
      const order = (a, b) => numeric ? (number(key(a)) < number(key(b)) ? -1 : number(key(a)) > number(key(b)) ? 1 : 0)
                                      : key(a).localeCompare(key(b));
      [...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)).forEach((row) => body.append(row));
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}
"""
