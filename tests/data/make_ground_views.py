"""Makes ground_views.npz: small slices of what the original Sat2Density and Sat2Density++ computed, from the recorded runs.

``python tests/data/make_ground_views.py FOLDER``, where FOLDER holds sat2density_cvact.npz and sat2densitypp.npz. Both ran in
float32 on a CPU with weights drawn from tensor names (tests/parity_fill.py), at commits aee554d of
github:qianmingduowan/Sat2Density and 019e491 of github:qianmingduowan/Sat2Densitypp.
"""

import sys
from pathlib import Path

import numpy as np

PLAIN = ("hist", "mu", "logvar", "style_w")
PLUS = ("z", "hist_pp", "wp_row", "w_sky_row", "position_hwz", "rays_s8", "radii_s8", "imp_radii_det")


def main() -> None:
    folder = Path(sys.argv[1])
    plain, plus = np.load(folder / "sat2density_cvact.npz"), np.load(folder / "sat2densitypp.npz")
    kept = {name: plain[name] for name in PLAIN}
    kept |= {name: plus[name] for name in plus if name in PLUS or name.startswith("int_")}
    kept = {name: v.astype(np.float32) if name != "z" else v for name, v in kept.items()}
    np.savez_compressed(Path(__file__).with_name("ground_views.npz"), **kept)


if __name__ == "__main__":
    main()
