"""The report: everything is on the page, the page needs nothing else, and no number is rounded the wrong way."""

import base64
import math
import re
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems.errors import InputError
from verifier.report import Audit, AuditedSample, Curve, NormAudit, SampleRadius, overview, page, plots, plots_certified, tables, write
from verifier.report.record import Certified, CertifiedMethod, LossCurve, Move, TightShare, WorstDistribution

VOID = {"meta", "link", "img", "br", "hr", "input"}


def synthetic(*, complete: bool = True, size: int = 16, count: int = 12) -> Audit:
    """An audit of invented numbers: sample 0 wrong, sample 1 open, sample 2 never misclassified, the rest closed."""
    generator = np.random.default_rng(0)
    images = generator.uniform(0.2, 0.8, size=(count, size)).round(3)
    samples = tuple(AuditedSample(i, i % 10, (i + (i == 0)) % 10, i == 0, tuple(images[i].tolist())) for i in range(count))
    norms = []
    for norm in ("inf", "2"):
        radii = [SampleRadius(0, 0.0, 0.0, 0.0, "CLOSED", "Closed.", True, 0.001, samples[0].image, 1, True)]
        for i in range(1, count if complete else 5):
            step = 0.01 * i
            witness = tuple((images[i] + step).tolist())
            radii.append(SampleRadius(i, step, step, 1.1 * step, "CLOSED", "Closed.", True, 0.1 * i, witness, 9 - i % 10, True, 60.0))
        radii[1] = replace(radii[1], lower=0.005, closed=False, status="TIMED_OUT", sentence="The time limit was reached; raise --timeout.")
        radii[2] = replace(
            radii[2], lower=math.inf, upper=math.inf, attack=math.inf, status="EMPTY", witness=None, witness_label=None, checked=None
        )
        grid = tuple(k / 100 for k in range(16))
        curves = tuple(
            Curve(
                order,
                grid,
                tuple(min(1.0, e * 6) for e in grid),
                tuple(min(1.0, e * 7) for e in grid),
                tuple(min(1.0, e * 8) for e in grid),
            )
            for order in (1.0, 2.0, math.inf)
        )
        norms.append(NormAudit(norm, tuple(radii), curves, 4.5))
    return Audit(
        network={"name": "net<1>", "source": "net.onnx", "fingerprint": "ab" * 32, "architecture": "16-8-10", "input_shape": [size],
                 "output_size": 10, "neurons": 8, "precision": "float32", "roundings": ["node 3: a square root"]},
        data={"name": "data & co", "fingerprint": "cd" * 32, "available": 40, "domain": "[0, 1]¹⁶", "image_shape": None},
        options={"count": count, "norms": ["inf", "2"], "orders": [1.0, 2.0, math.inf], "timeout": 60.0, "memory": None, "workers": 2,
                 "device": "cpu", "solver": "auto", "tolerance": 1e-6, "seed": 0, "semantics": "real"},
        samples=samples, norms=tuple(norms), sessions=((61.0, 10), (30.5, 14)), date="2026-11-20T07:00:00+00:00",
        machine={"system": "Linux", "processor": "a processor", "cores": 2, "memory_gib": 23.4, "device": "cpu"},
        versions={"tightcert": "0.1.0", "python": "3.11"}, complete=complete,
    )  # fmt: skip


def with_parts(audit: Audit) -> Audit:
    """The same audit with invented worst losses (E = -2, L = 100, the second epsilon open), certificates and tightness."""
    epsilon = (0.01, 0.02, 0.04)
    losses = []
    for loss in ("margin", "cross-entropy"):
        for norm in ("inf", "2"):
            point = tuple(value + 0.1 for value in audit.samples[3].image)
            moves = (Move(3, 0.5, 0.1, -3.0, 1.0, 2.0 / 12, point), Move(4, 1.0, 0.05, -2.0, -1.0, 1.0 / 12))
            losses.append(
                LossCurve(
                    loss, norm, 1.0, (-2.0, -2.0), epsilon, (-1.9, -1.8, -1.7), (-1.8, -1.6, -1.4), (-1.8, -1.5, -1.4), (-1.0, 0.0, 2.0),
                    (-1.5, -1.0, 0.0), (-math.inf,) * 3, ("CLOSED", "TIMED_OUT", "CLOSED"),
                    (WorstDistribution(0.02, -1.6, 0.01, moves),), 30.0, 38.0, ("L is <known> by a bracket.",),
                )
            )  # fmt: skip
    certified = []
    for norm in audit.norms:
        lower = {radius.sample: radius.lower for radius in norm.radii}
        radii = tuple(lower.get(sample.sample, 0.0) * 0.5 for sample in audit.samples)
        methods = tuple(CertifiedMethod(name, f"certificate {name}", "how & why", radii, 12, 11, 3.0) for name in "abcde")
        certified.append(Certified(norm.norm, methods, 8.0, 20.0))
    tight = tuple(
        TightShare(
            norm,
            (50.0, 1000.0),
            (0.0, 900.0),
            (9.0, 900.0),
            0.25,
            0,
            0,
            False,
            97,
            3,
            "The region is bounded: kappa* = 0.",
            "TIMED_OUT",
            4.0,
            4.0,
        )
        for norm in ("inf", "2")
    )
    return replace(audit, losses=tuple(losses), certified=tuple(certified), tightness=tight)


@pytest.fixture(scope="module")
def html() -> str:
    return page(synthetic())


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by tests that are not about plots, which take a second per page."""
    monkeypatch.setattr("verifier.report.plots.data_address", lambda draw, audit: "data:,")


@pytest.fixture(scope="module")
def whole() -> str:
    return page(with_parts(synthetic()))


class _Reader(HTMLParser):
    """Checks that tags are nested and closed, and gathers text, addresses and identifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "data", "action"):
                self.addresses.append(value or "")
            if name == "id":
                assert value not in self.names
                self.names.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_page_is_well_formed_and_links_within_itself(html: str) -> None:
    reader = read(html)
    inner = [address[1:] for address in reader.addresses if address.startswith("#")]
    assert len(inner) >= 7
    assert set(inner) <= reader.names


def test_page_fetches_nothing(html: str) -> None:
    assert all(address.startswith(("#", "data:")) for address in read(html).addresses)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|<iframe", html)
    for picture in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html):
        svg = base64.b64decode(picture).decode()
        assert not re.search(r'(href|src)="(?!#|data:)', svg)
        assert "@import" not in svg


def test_page_shows_what_was_asked_found_proved_and_trusted(html: str) -> None:
    text = " ".join(" ".join(read(html).words).split())
    for words in (
        "Audit of net<1>", "16-8-10", "data & co", "abababababab", "clean error", "8.3%",
        "median ℓ∞ radius", "22 of 24", "W₁", "W₂", "W∞", "≤ proved", "≥ attacked", "Closest images", "Slowest samples", "Not trusted",
        "a square root", "22 of 22", "a processor", "seed 0", "92 s", "timed out", "wrong already", "2026-11-20",
    ):  # fmt: skip
        assert words in text, words


def test_all_parts_are_on_the_page(whole: str) -> None:
    text = " ".join(" ".join(read(whole).words).split())
    for words in (
        "What is proved, and how large the gap is", "Worst expected loss", "where the bounds disagree", "L is <known> by a bracket.",
        "E + L ε", "5 ×", "2 ×",  # at the first epsilon: (-1 + 2) / (-1.8 + 2), and (-1.8 + 2) / (-1.9 + 2)
        "20.00%",  # (upper - lower) / (upper - E) at the second
        "Other certificates", "certificate c", "(11 of 12 finished)", "50%", "Who is moved", "50.0% of its mass", "66.7% of the rise",
        "On [0, 1]¹⁶ never.", "κ* = 0", "50 to 1000", "25.0%", "3 of 97", "not counted", "worst expected cross-entropy, ℓ2",
        "tightness, ℓ∞",
        "up to 5 × the rise",
    ):  # fmt: skip
        assert words in text, words
    assert whole.count("data:image/svg+xml") == 6
    inner = [address[1:] for address in read(whole).addresses if address.startswith("#")]
    assert {"losses", "certified", "moved", "tightness"} <= set(inner)


def test_certified_shares_are_counts_of_larger_radii() -> None:
    assert [plots_certified.share_above([0.0, 0.1, 0.2, math.inf], epsilon) for epsilon in (0.0, 0.1, 0.15, 1.0)] == [0.75, 0.5, 0.5, 0.25]
    assert plots_certified.steps([0.0, 0.1, 0.1, 5.0], 1.0) == ([0.0, 0.1, 1.0], [0.75, 0.25, 0.25])


def test_page_has_a_row_per_radius_and_pictures_of_the_closest(html: str) -> None:
    audit = synthetic()
    assert html.count("<tr>") >= audit.radii_done
    assert html.count("data:image/png") == 3 * 8 * 2
    assert html.count("data:image/svg+xml") == 2


def test_incomplete_page_says_so(html: str, no_plots: None) -> None:
    text = page(synthetic(complete=False))
    assert "<b>Incomplete.</b> 10 of 24 radii" in text
    assert "Incomplete" not in html
    assert "radius of the 5 done" in text
    assert "done</span>" not in html


def test_page_without_any_radius_is_still_a_page(no_plots: None) -> None:
    audit = synthetic(complete=False)
    text = page(replace(audit, norms=tuple(NormAudit(norm.norm, (), (), 0.0) for norm in audit.norms)))
    assert "0 of 24 radii" in text
    read(text)


def test_inputs_that_are_no_images_are_not_drawn(no_plots: None) -> None:
    text = page(synthetic(size=18))
    assert "data:image/png" not in text
    assert "not images" in text


def test_warnings_of_the_audit_are_shown(no_plots: None) -> None:
    assert "Sample 3 &lt;failed&gt;" in page(replace(synthetic(), notes=("Sample 3 <failed>",)))


def test_results_go_to_json_and_back_without_loss(tmp_path: Path, no_plots: None) -> None:
    audit = with_parts(synthetic())
    index = write(audit, tmp_path / "new" / "folder")
    assert index == tmp_path / "new" / "folder" / "index.html"
    text = (index.parent / "results.json").read_text(encoding="utf-8")
    assert Audit.from_json(text) == audit
    assert '"inf"' in text
    assert not re.search(r"\bInfinity\b|\bNaN\b", text)
    assert sorted(path.name for path in index.parent.iterdir()) == ["index.html", "results.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "tightcert-audit", "version": 1}',
        '{"format": "tightcert-audit", "version": 2}',
        synthetic().to_json().replace('"label"', '"lapel"'),
        synthetic().to_json().replace('"complete": true', '"complete": true, "more": 1'),
    ],
    ids=["empty", "list", "nothing", "older", "alone", "misspelt", "more"],
)
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"results\.json"):
        Audit.from_json(text)


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="NaN"):
        replace(synthetic(), sessions=((math.nan, 1),)).to_json()


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(synthetic(), tmp_path / "file" / "report")


@given(st.floats(1e-12, 1e12), st.integers(2, 9))
def test_shortened_numbers_keep_their_side(value: float, digits: int) -> None:
    below, above = (Fraction(tables.number(value, digits, rounding)) for rounding in ("down", "up"))
    assert below <= Fraction(value) <= above
    assert above - below <= Fraction(value) * Fraction(10) ** (1 - digits)


@given(st.floats(0, 1))
def test_shortened_percentages_keep_their_side(value: float) -> None:
    below, above = (Fraction(tables.percent(value, rounding)[:-1]) for rounding in ("down", "up"))
    slack = Fraction(1, 10**7)  # in percent: 1e-9 of the share, as the page says
    assert below - slack <= 100 * Fraction(value) <= above + slack
    assert above - below <= Fraction(1, 10)


def test_counts_show_as_counts() -> None:
    assert [tables.percent(0.15, rounding) for rounding in ("down", "up", "near")] == ["15.0%"] * 3
    assert [tables.percent(0.15 + 1e-8, rounding) for rounding in ("down", "up", "near")] == ["15.0%", "15.1%", "15.0%"]


def test_brackets_and_durations_as_text() -> None:
    assert tables.bracket(0.123444, 0.123446) == "0.1234"
    assert tables.bracket(0.125, 0.25) == "0.125 to 0.25"
    assert tables.bracket(0.5, math.inf) == "0.5 to ∞"
    assert tables.number(math.inf) == "∞"
    assert [tables.duration(s) for s in (0.0001, 0.123, 9.96, 75.2, 135.0, 7260.0)] == [
        "under 1 ms", "0.12 s", "10 s", "75 s", "2 min 15 s", "2 h 1 min",
    ]  # fmt: skip


def test_first_screen_epsilons_are_on_the_grid_and_near_the_median() -> None:
    norm = synthetic().norms[0]
    chosen = [norm.curves[0].epsilon[i] for i in tables.shown_epsilons(norm)]
    assert chosen == sorted(set(chosen))
    assert 2 <= len(chosen) <= 4
    assert 0 < chosen[0] <= chosen[-1] <= 1.3 * norm.median[1]


def test_difference_pictures_are_white_where_nothing_changed() -> None:
    colours = plots.picture(np.array([[0.0, 0.5], [-0.5, 0.25]]), limit=0.5)
    assert colours[0, 0] == pytest.approx([1, 1, 1])
    assert colours[0, 1, 0] > colours[0, 1, 2]  # grew: orange
    assert colours[1, 0, 2] > colours[1, 0, 0]  # fell: blue
    assert colours.min() >= 0
    assert colours.max() <= 1


@pytest.mark.parametrize("audit", [synthetic(), with_parts(synthetic())], ids=["radii", "all parts"])
def test_summary_picture_is_written(audit: Audit, tmp_path: Path) -> None:
    overview.save(audit, tmp_path / "audit.png")
    assert (tmp_path / "audit.png").read_bytes().startswith(b"\x89PNG")
