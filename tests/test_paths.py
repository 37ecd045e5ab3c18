"""Tracks: read from what people have, resampled evenly, and turned into cameras in true coordinates."""

import json
import math

import numpy as np
import pytest
from pyproj import CRS, Geod
from solid_toys import FRAME

from gensat.errors import InputError
from gensat.render.cameras import Camera, Panorama
from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid
from gensat.render.paths import Track, angles_of
from gensat.render.track_files import read_track, save_camera_path

GRID = Grid.centred(400, 400, 1.0)
CORNER = Track(FRAME, np.array([0.0, 30, 30]), np.array([0.0, 0, 40]))


def lonlat(track):
    return np.stack(track.frame.lonlat(track.x, track.y), axis=1)


def test_even_steps_by_distance():
    made = CORNER.resampled(spacing=2.5, smooth=0)
    assert len(made) == 29 and made.length == pytest.approx(70)
    np.testing.assert_allclose(np.diff(made.along), 2.5)
    assert (made.y[made.x < 30 - 1e-9] == 0).all()  # the corner stays
    east, north = FRAME.heading(90.0), FRAME.heading(0.0)
    assert made.heading[3] == pytest.approx(east, abs=0.01) and made.heading[20] == pytest.approx(north, abs=0.01)


def test_even_steps_by_time():
    slow = Track(FRAME, np.array([0.0, 10, 40]), np.zeros(3), time=np.array([0.0, 10, 20]))
    made = slow.resampled(fps=2)
    assert len(made) == 41
    np.testing.assert_allclose(made.time, np.arange(41) / 2)
    np.testing.assert_allclose(np.diff(made.x)[:20], 0.5)
    np.testing.assert_allclose(np.diff(made.x)[20:], 1.5)
    steady = slow.resampled(fps=10, speed=4.0)
    np.testing.assert_allclose(np.diff(steady.x), 0.4)
    with pytest.raises(InputError, match="speed"):
        CORNER.resampled(fps=10)


def test_turns_are_smoothed_over_the_distance_that_was_asked_for():
    sharp = CORNER.resampled(spacing=0.5, smooth=0)
    soft = CORNER.resampled(spacing=0.5, smooth=10)
    assert np.abs(np.diff(sharp.heading)).max() > 40
    turning = np.abs((np.diff(soft.heading) + 180) % 360 - 180)
    assert turning.max() < 9 and turning.sum() == pytest.approx(90, abs=0.1)
    where = soft.along[1:][turning > 1e-2]
    assert where.min() >= 24.5 and where.max() <= 35.5


def test_given_headings_turn_the_short_way_over_north():
    track = Track(FRAME, np.array([0.0, 10]), np.zeros(2), heading=np.array([350.0, 10]))
    made = track.resampled(spacing=2.5, smooth=0)
    np.testing.assert_allclose(made.heading, [350, 355, 0, 5, 10], atol=1e-9)
    still = Track(FRAME, np.zeros(3), np.zeros(3), heading=np.array([0.0, 90, 90]), time=np.array([0.0, 1, 2]))
    np.testing.assert_allclose(still.resampled(fps=2, smooth=0).heading, [0, 45, 90, 90, 90], atol=1e-9)


def test_headings_are_true_where_the_grid_leans():
    """At 2 degrees of convergence: a walk along a geodesic due north has heading 0, whatever the grid says."""
    frame = SceneFrame(CRS.from_epsg(32618), (322000.5 + 170000, 4296000.25, 0.0))
    frame = SceneFrame(CRS.from_epsg(32618), (233000.0, 4296000.25, 0.0))
    assert abs(frame.convergence()) > 1.8
    lon, lat = (float(v) for v in frame.lonlat(0, 0))
    ends = [Geod(ellps="WGS84").fwd(lon, lat, 0.0, d)[:2] for d in (0, 100)]
    x, y = frame.local(*np.array(ends).T)
    made = Track(frame, x, y).resampled(spacing=10)
    turned = (made.heading + 180) % 360 - 180
    assert np.abs(turned).max() < 0.01 and abs(made.x[-1] - made.x[0]) > 3


def test_cameras_stand_on_the_ground_and_look_along_the_way():
    made = CORNER.resampled(spacing=10, smooth=0)
    cameras = made.cameras(width=64, height=48, ground=lambda x, y: 0.1 * x, fov=70, pitch=-5)
    assert len(cameras) == 8 and all(isinstance(c, Camera) for c in cameras)
    np.testing.assert_allclose([c.position[2] for c in cameras], 0.1 * made.x + 1.7)
    assert cameras[0].pose[2, 0] == pytest.approx(math.cos(math.radians(5)), abs=1e-4)  # ahead is east
    assert cameras[0].fx == pytest.approx(32 / math.tan(math.radians(35)))
    around = made.cameras(width=64, height=32, panorama=True, eye=3.0)
    assert all(isinstance(c, Panorama) for c in around) and around[0].position[2] == 3.0
    assert around[0].azimuth % 360 == pytest.approx(90, abs=1e-6)
    high = Track(FRAME, CORNER.x, CORNER.y, height=np.full(3, 20.0)).cameras(width=8, height=8)
    assert high[1].position[2] == 20.0
    with pytest.raises(InputError, match="ground at point 2"):
        CORNER.cameras(width=8, height=8, ground=lambda x, y: np.where(x > 10, np.nan, 0.0)[[0, 1, 0]])


def test_geojson_in_any_crs(tmp_path):
    line = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "LineString", "coordinates": lonlat(CORNER).tolist()},
    }
    (tmp_path / "walk.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [line]}))
    read = read_track(tmp_path / "walk.geojson", FRAME)
    np.testing.assert_allclose(np.stack([read.x, read.y]), np.stack([CORNER.x, CORNER.y]), atol=1e-6)
    (tmp_path / "bare.json").write_text(json.dumps(line["geometry"]))
    np.testing.assert_allclose(read_track(tmp_path / "bare.json", FRAME).x, CORNER.x, atol=1e-6)
    mercator = {
        **line,
        "geometry": {"type": "LineString", "coordinates": np.stack(FRAME.to_crs(CORNER.x, CORNER.y), 1).tolist()},
    }
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32618"}}
    (tmp_path / "utm.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [mercator]}))
    np.testing.assert_allclose(read_track(tmp_path / "utm.geojson", FRAME).y, CORNER.y, atol=1e-5)
    (tmp_path / "two.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [line, line]}))
    with pytest.raises(InputError, match="holds 2 lines"):
        read_track(tmp_path / "two.geojson", FRAME)


def test_gpx_with_time(tmp_path):
    points = "".join(
        f'<trkpt lat="{lat:.9f}" lon="{lon:.9f}"><ele>55</ele><time>2024-06-21T09:00:{7 * k:02d}Z</time></trkpt>'
        for k, (lon, lat) in enumerate(lonlat(CORNER))
    )
    text = (
        '<gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{}</trkseg></trk></gpx>'
    )
    (tmp_path / "walk.gpx").write_text(text.format(points))
    read = read_track(tmp_path / "walk.gpx", FRAME)
    np.testing.assert_allclose(read.x, CORNER.x, atol=1e-3)
    np.testing.assert_allclose(read.time, [0, 7, 14])
    assert read.height is None  # GPS elevations are of another datum
    (tmp_path / "empty.gpx").write_text(text.format(""))
    with pytest.raises(InputError, match="neither a track nor a route"):
        read_track(tmp_path / "empty.gpx", FRAME)
    (tmp_path / "cut.gpx").write_text(text.format(points)[:150])
    with pytest.raises(InputError, match="GPX"):
        read_track(tmp_path / "cut.gpx", FRAME)


def test_csv_of_places(tmp_path):
    rows = ["lon,lat,height,heading,time"]
    rows += [
        f"{lon:.9f},{lat:.9f},{2 + k},{k * 90},2024-06-21T09:00:0{k}Z" for k, (lon, lat) in enumerate(lonlat(CORNER))
    ]
    (tmp_path / "walk.csv").write_text("\n".join(rows))
    read = read_track(tmp_path / "walk.csv", FRAME)
    np.testing.assert_allclose(read.y, CORNER.y, atol=1e-3)
    np.testing.assert_allclose(read.heading, [0, 90, 180])
    np.testing.assert_allclose(read.height, [2, 3, 4])
    np.testing.assert_allclose(read.time, [0, 1, 2])


def test_csv_of_sat2density(tmp_path):
    (tmp_path / "pixels.csv").write_text("w,h,angle\n-1,-1,0\n0,0,1.5707963\n1,1,-1.5707963\n")
    read = read_track(tmp_path / "pixels.csv", FRAME, GRID)
    np.testing.assert_allclose(read.x, [-200, 0, 200])
    np.testing.assert_allclose(read.y, [200, 0, -200])
    grid_headings = [FRAME.azimuth(h, x, y) for h, x, y in zip(read.heading, read.x, read.y, strict=True)]
    np.testing.assert_allclose(grid_headings, [90, 180, 0], atol=1e-4)  # east, south, north
    with pytest.raises(InputError, match="give the image"):
        read_track(tmp_path / "pixels.csv", FRAME)


def test_places_in_an_image_are_pixels_or_shares_of_it(tmp_path):
    """The published programs write pixels of the picture that the path was drawn on."""
    half = 2 * GRID.columns
    (tmp_path / "shares.csv").write_text("w,h,angle\n-0.5,0,0\n0.5,-1,0\n")
    (tmp_path / "pixels.csv").write_text(f"w,h,angle\n{half / 4},{half / 2},0\n{half * 3 / 4},0,0\n")
    shares = read_track(tmp_path / "shares.csv", FRAME, GRID)
    pixels = read_track(tmp_path / "pixels.csv", FRAME, GRID, drawn_on=(half, 2 * GRID.rows))
    np.testing.assert_allclose([pixels.x, pixels.y], [shares.x, shares.y], atol=1e-9)
    np.testing.assert_allclose(pixels.heading, shares.heading)
    with pytest.raises(InputError, match="drawn_on"):
        read_track(tmp_path / "pixels.csv", FRAME, GRID)
    (tmp_path / "one.csv").write_text("x,y,angle\n3,4,90\n")
    with pytest.raises(InputError, match="1 points"):
        read_track(tmp_path / "one.csv", FRAME, GRID)


@pytest.mark.parametrize("heading,pitch,roll", [(0, 0, 0), (123, -35, 0), (300, 60, 25), (45, -90, 0), (45, 90, 0)])
def test_angles_come_back_from_a_pose(heading, pitch, roll):
    camera = Camera.looking(FRAME, (5.0, -7.0, 30.0), heading=heading, pitch=pitch, roll=roll)
    found = angles_of(FRAME, camera.pose)
    again = Camera.looking(FRAME, (5.0, -7.0, 30.0), heading=found[0], pitch=found[1], roll=found[2])
    np.testing.assert_allclose(again.pose, camera.pose, atol=1e-9)


def test_camera_path_of_nerfstudio_goes_round(tmp_path):
    track = Track(
        FRAME, np.array([0.0, 20, 30]), np.array([0.0, 5, 30]), z=np.array([30.0, 20, 10]), heading=np.array([10.0, 80, 170]),
        pitch=np.array([-60.0, -30, 0]), roll=np.array([0.0, 5, -5]), fov=np.array([80.0, 70, 60]),
    )  # fmt: skip
    cameras = track.cameras(width=320, height=180)
    save_camera_path(cameras, tmp_path / "path.json", FRAME, fps=4)
    raw = json.loads((tmp_path / "path.json").read_text())
    assert raw["render_width"] == 320 and len(raw["camera_path"][0]["camera_to_world"]) == 16
    assert raw["camera_path"][0]["fov"] == pytest.approx(
        math.degrees(2 * math.atan(math.tan(math.radians(40)) * 180 / 320))
    )
    read = read_track(tmp_path / "path.json", FRAME)
    np.testing.assert_allclose(read.time, [0, 0.25, 0.5])
    for mine, again in zip(cameras, read.cameras(width=320, height=180), strict=True):
        np.testing.assert_allclose(again.pose, mine.pose, atol=1e-9)
        assert again.fx == pytest.approx(mine.fx)
    # in another scene of the same zone the same cameras stand at the same places
    moved = SceneFrame(FRAME.crs, (FRAME.origin[0] - 100, FRAME.origin[1] + 50, 0.0))
    there = read_track(tmp_path / "path.json", moved).cameras(width=320, height=180)
    np.testing.assert_allclose(there[1].position, cameras[1].position + np.array([100, -50, 12.5]), atol=1e-6)


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name,text,words",
    [
        ("a.csv", "lon,lat\n-77,95\n-77,38", "point 1 of a.csv.*latitude 95"),
        ("a.csv", "lon,lat\n-77,38\n-77,", "line 3 of a.csv has lat ''"),
        ("a.csv", "lon,lat\n-77,38\n-77", "1 values for 2 columns"),
        ("a.csv", "lon,lat\n-77,38", "1 points"),
        ("a.csv", "x,y\n1,2\n3,4", "first line has to name lon,lat"),
        ("a.csv", "lon,lat,colour\n-77,38,1\n-77,38,2", "column 'colour'"),
        ("a.csv", "lon,lat,time\n-77,38,5\n-77,38,1", "backward at point 2"),
        ("a.csv", "lon,lat,time\n-77,38,soon\n-77,38,later", "ISO 8601"),
        ("a.csv", "lon,lat\n-77,38\nnan,38", "longitude|finite"),
        ("a.csv", "", "first line"),
        ("a.csv", "w,h\n500,0\n0,0", "drawn_on"),
        ("a.json", "{", "JSON"),
        ("a.json", '{"camera_path": []}', "0 cameras"),
        ("a.json", '{"camera_path": [{"camera_to_world": [1, 2]}]}', "no camera path"),
        ("a.json", '{"hello": 1}', "line"),
        ("a.geojson", '{"type": "Point", "coordinates": [1, 2]}', "0 lines"),
        ("a.txt", "hello", "is no track"),
    ],
)
def test_bad_files_are_one_sentence(name, text, words, tmp_path):
    with pytest.raises(InputError, match=words) as caught:
        read_track(write(tmp_path / name, text), FRAME, GRID)
    assert "\n" not in str(caught.value)


def test_bad_tracks_are_one_sentence():
    for call, words in [
        (lambda: Track(FRAME, np.zeros(1), np.zeros(1)), "at least two"),
        (lambda: Track(FRAME, np.zeros(2), np.array([0.0, np.nan])), "point 2.*y nan"),
        (lambda: CORNER.resampled(), "spacing"),
        (lambda: CORNER.resampled(spacing=0), "above 0"),
        (lambda: CORNER.resampled(spacing=1e-6), "frames"),
        (lambda: Track(FRAME, np.zeros(2), np.zeros(2)).resampled(spacing=1), "same place"),
        (lambda: CORNER.require_inside(Grid.centred(50, 50, 1.0)), r"point 2 of the track at lon=.*2 of 3"),
    ]:
        with pytest.raises(InputError, match=words):
            call()
    assert CORNER.require_inside(GRID) is CORNER
