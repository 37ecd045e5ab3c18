"""Videos: what was put in comes out of other readers, and nothing half-written stays behind."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from gensat.errors import InputError, OutputError
from gensat.render.video import save_video


def frames(count=12, height=48, width=64):
    y, x = np.mgrid[:height, :width]
    for k in range(count):
        yield np.stack([x * 3, y * 4, np.full_like(x, 20 * k)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_mp4_in_opencv(tmp_path, size):
    cv2 = pytest.importorskip("cv2")
    assert save_video(frames(12, *size), tmp_path / "walk.mp4", fps=8) == 12
    reader = cv2.VideoCapture(str(tmp_path / "walk.mp4"))
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(8)
    read = []
    while True:
        good, frame = reader.read()
        if not good:
            break
        read.append(frame[..., ::-1])
    assert len(read) == 12 and read[0].shape == (48, 64, 3)
    for mine, theirs in zip(frames(12, *size), read, strict=True):
        assert np.abs(theirs[: size[0], : size[1]].astype(int) - mine).mean() < 6
    order = [frame[..., 2].mean() for frame in read]
    assert order == sorted(order)


def test_gif_in_pillow(tmp_path):
    save_video(frames(), tmp_path / "walk.gif", fps=10)
    with Image.open(tmp_path / "walk.gif") as read:
        assert read.n_frames == 12 and read.info["duration"] == 100 and b"synthetic" in read.info["comment"]
        for mine, theirs in zip(frames(), ImageSequence.Iterator(read), strict=True):
            assert np.abs(np.asarray(theirs.convert("RGB")).astype(int) - mine).mean() < 12


@pytest.mark.parametrize("name", ["walk.mp4", "walk.gif"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_leaves_what_was(tmp_path, name, error):
    path = tmp_path / name
    save_video(frames(3), path)
    before = path.read_bytes()

    def broken():
        yield from frames(5)
        raise error

    with pytest.raises(error):
        save_video(broken(), path, overwrite=True)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [name]


def test_an_encoder_that_stops_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("imageio_ffmpeg.count_frames_and_secs", lambda path: (2, 0.1))
    with pytest.raises(OutputError, match="2 of 5 frames"):
        save_video(frames(5), tmp_path / "walk.mp4")
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_sentence(tmp_path):
    mixed = [*frames(2), *frames(1, 40, 40)]
    for given, name, more, words in [
        (frames(2), "a.avi", {}, ".mp4 or .gif"),
        ([], "a.mp4", {}, "no frames"),
        ([], "a.gif", {}, "no frames"),
        (mixed, "a.mp4", {}, "frame 3 is uint8"),
        ([np.zeros((4, 4, 3))], "a.gif", {}, "float64"),
        (frames(2), "a.mp4", {"fps": 0}, "fps"),
        (frames(2), "a.mp4", {"fps": 1000}, "fps"),
    ]:
        with pytest.raises(InputError, match=words):
            save_video(given, tmp_path / name, **more)
    assert not list(tmp_path.iterdir())
    save_video(frames(1), tmp_path / "a.gif")
    with pytest.raises(InputError, match="exists"):
        save_video(frames(1), tmp_path / "a.gif")
