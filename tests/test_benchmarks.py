"""The benchmark programs: how they time, and which rows a machine gets."""

import pytest
from saved_toy import toy_folder

from benchmarks import common, speed


def test_pairs_are_interleaved_and_the_ratio_is_the_median_of_their_ratios(monkeypatch):
    calls = []
    times = {"a": iter([1.0, 2.0, 30.0]), "b": iter([2.0, 1.0, 10.0])}
    first, second = lambda: calls.append("a"), lambda: calls.append("b")

    def seconds(run, clock):
        run()
        return next(times[calls[-1]])

    monkeypatch.setattr(common, "seconds", seconds)
    compared = common.pairs(first, second, runs=3)
    assert "".join(calls) == "ab" + "abbaab"  # a warm-up, then in turns
    assert (compared.first, compared.second, compared.ratio) == (2.0, 2.0, 2.0)  # pairs: 0.5, 2, 3
    assert compared.text(0.5) == "1.00 [0.62, 1.25]"


def test_a_gpu_gets_rows_for_number_formats_compilation_and_xformers():
    here, there = speed.cases(False, "x"), speed.cases(True, "it is not installed")
    assert here[0].changes == there[0].changes == {}, "the first row is what the others are compared with"
    more = {case.name: case for case in there if case not in here}
    assert {"float32", "torch.compile", "xformers attention"} <= set(more)
    assert more["xformers attention"].impossible == "it is not installed"
    assert not any(case.impossible for case in speed.cases(True, ""))
    assert len({case.name for case in there}) == len(there)
    for case in there:
        assert set(case.changes) <= set(speed.BASE)
        assert case.other_numerics == (not set(case.changes) <= {"side", "batch"})


@pytest.mark.parametrize(
    ("changes", "quality"), [({"batch": 2}, "same"), ({"guidance": 1.0}, "dB"), ({"side": 64}, "size")]
)
def test_a_row_has_seconds_a_ratio_memory_and_quality(changes, quality):
    base = {**speed.BASE, "side": 32, "steps": 1}
    case = speed.Case("", changes, quality == "dB")
    seconds, ratio, peak, image = speed.measure(str(toy_folder()), base, case, 1)
    assert float(seconds) > 0 and float(ratio.split()[0]) > 0 and float(peak) > 0 and quality in image
