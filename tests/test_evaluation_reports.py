"""Reports: rows and pages that lose nothing, comparisons that say no more than they can."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from gensat.errors import InputError
from gensat.metrics.base import Measurement
from gensat.metrics.regions import by_region
from gensat.train.evaluation.compare import HIGHER, LOWER, compare, difference_interval
from gensat.train.evaluation.page import page
from gensat.train.evaluation.publish import publish
from gensat.train.evaluation.report import Report, markdown, measurements


def figure(metric="psnr", value=28.123, n=40, extractor="net@224", interval=(27.0, 29.0)):
    return Measurement(metric, value, n, extractor, interval, 0.95).to_dict()


def report(name="toy", **figures):
    return Report({"name": name, "seed": 0}, dict(figures))


class Reader(HTMLParser):
    """Checks that tags close in order, and keeps the text and the sources of pictures."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.sources = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [v for k, v in attributes if k in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_every_figure_is_a_row_with_its_number_of_samples():
    one = figure()
    both = report(autoencoder={"houston": [one, one]}, gsd=one, counts={"a": 1})
    assert [name for name, _ in measurements(both.figures)] == ["autoencoder / houston"] * 2 + ["gsd"]
    assert "| gsd: psnr | 28.1 [27, 29] | 40 | net@224 |" in markdown(both)


def test_the_page_needs_no_other_file_and_says_everything(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.jpg")
    whole = report("a <toy>", gsd=figure(), regions={"kernel": region()})
    whole.pictures["a <sheet>"] = "a.jpg"
    whole.left_out["lpips"] = "give --lpips FILE"
    whole.about = {
        "command": "gensat evaluate x",
        "versions": {"torch": "2"},
        "data": {"name": "d", "images": 3, "digest": "ab"},
    }
    text = page(whole, tmp_path, compare(whole, whole), "before")
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    said = " ".join(reader.text)
    for words in (
        "a <toy>",
        "28.1 [27, 29]",
        "give --lpips FILE",
        "gensat evaluate x",
        "torch 2",
        "cannot tell",
        "east (fewest)",
    ):
        assert words in said
    assert all(s.startswith(("data:image/jpeg;base64,", "#")) for s in reader.sources)
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert not re.search(r"<script|https?://", text)


def region():
    values = torch.arange(20.0)
    return by_region(
        lambda rows: Measurement("kernel_distance", float(values[rows].mean()), len(rows), "net", (0.0, 1.0), 0.95),
        ["east"] * 6 + ["west"] * 14,
    ).to_dict()


def test_a_report_survives_being_saved(tmp_path):
    whole = report(gsd=figure())
    whole.left_out["x"] = "y"
    whole.save(tmp_path)
    again = Report.load(tmp_path)
    assert (again.figures, again.left_out, again.model) == (whole.figures, whole.left_out, whole.model)
    (tmp_path / "figures.json").write_text("[]")
    with pytest.raises(InputError, match="is no report"):
        Report.load(tmp_path / "figures.json")


def test_the_interval_of_a_difference_is_that_of_independent_normals():
    # symmetric intervals: half widths add in quadrature
    low, high = difference_interval(5.0, (4.0, 6.0), 3.0, (1.0, 5.0))
    assert (low, high) == (pytest.approx(2 - 5**0.5), pytest.approx(2 + 5**0.5))
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(100000, generator=g) * s + m for s, m in ((1.0, 5.0), (2.0, 3.0)))
    z = 1.959964
    low, high = difference_interval(5.0, (5 - z, 5 + z), 3.0, (3 - 2 * z, 3 + 2 * z))
    drawn = torch.quantile(a - b, torch.tensor([0.025, 0.975]))
    assert (low, high) == (pytest.approx(float(drawn[0]), abs=0.05), pytest.approx(float(drawn[1]), abs=0.05))


def test_verdicts_follow_the_direction_of_the_metric():
    old = report(
        a=figure("psnr", 20.0, interval=(19.5, 20.5)),
        b=figure("frechet_64 (forced)", 100.0, interval=(90.0, 110.0)),
        c=figure("kernel_distance", 0.5, interval=(0.1, 0.9)),
        d=figure("memorisation", 1.0, interval=(0.9, 1.1)),
    )
    new = report(
        a=figure("psnr", 25.0, interval=(24.5, 25.5)),
        b=figure("frechet_64 (forced)", 150.0, interval=(140.0, 160.0)),
        c=figure("kernel_distance", 0.3, interval=(0.1, 0.5)),
        d=figure("memorisation", 0.5, interval=(0.4, 0.6)),
    )
    assert [d.verdict for d in compare(new, old)] == ["better", "worse", "cannot tell", "differs"]
    assert [d.verdict for d in compare(old, new)] == ["worse", "better", "cannot tell", "differs"]
    assert {d.verdict for d in compare(old, old)} == {"cannot tell"}
    assert not LOWER & HIGHER


def test_unlike_figures_are_not_compared():
    old = report(a=figure(n=320), b=figure(extractor="other"), c=figure(interval=None), e=figure())
    new = report(a=figure(n=64), b=figure(), c=figure(interval=None), f=figure(), e=figure())
    verdicts = {d.name: d.verdict for d in compare(new, old)}
    assert verdicts == {
        "a: psnr": "not comparable: N 320 and 64",
        "b: psnr": "not comparable: by other and net@224",
        "c: psnr": "cannot tell (no interval)",
        "e: psnr": "cannot tell",
    }
    old.about["data"], new.about["data"] = {"digest": "a"}, {"digest": "b"}
    assert "not comparable: measured on other images" in {d.verdict for d in compare(new, old)}


def test_several_reports_are_compared_with_the_first(tmp_path):
    first, second = report("one", a=figure(value=20.0, interval=(19.0, 21.0))), report("two", a=figure())
    for r in (first, second):
        (tmp_path / r.model["name"]).mkdir()
        for title in ("asked", "made"):
            r.pictures[title] = f"{title}.jpg"
            (tmp_path / r.model["name"] / r.pictures[title]).write_bytes(b"")
    found = publish({"one": first, "two": second}, tmp_path)
    assert found.data["compared"]["two"]["a: psnr"]["verdict"] == "better"
    assert "better" in (tmp_path / "two" / "index.html").read_text()
    assert json.loads((tmp_path / "figures.json").read_text())["one"]["a"]["value"] == 20.0
    overview = (tmp_path / "index.html").read_text()
    assert "one/index.html" in overview and "better" in overview
    assert overview.count("<figure>") == 3  # the real images once, what was made of each
    assert "compared" not in publish({"one": first}, tmp_path / "one").data
    assert "compared" in publish({"one": first}, tmp_path / "one", second).data
