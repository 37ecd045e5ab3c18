"""Splats for the tests, and a rasteriser that is slow, plain, in float64, and shares no code with ours."""

import math

import numpy as np
import torch


def cloud(count=60, channels=3, seed=0, far=6.0):
    """Splats scattered in front of a camera at the origin that looks along z."""
    draw = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=draw)

    means = torch.cat([uniform(count, 2) * 4 - 2, 2 + far * uniform(count, 1)], dim=1)
    return {
        "means": means,
        "quats": torch.randn(count, 4, generator=draw),
        "scales": 0.02 + 0.5 * uniform(count, 3) ** 2,
        "opacities": 0.05 + 0.95 * uniform(count),
        "colors": uniform(count, channels),
    }


def pinhole(width=41, height=30, focal=35.0):
    K = torch.tensor([[focal, 0, width / 2 - 0.7], [0, 0.9 * focal, height / 2 + 0.4], [0, 0, 1]])
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.1, 0.2], [0.1, 0, 0.15], [-0.2, -0.15, 0.0]]))
    view = torch.eye(4)
    view[:3, :3], view[:3, 3] = turn, torch.tensor([0.1, -0.2, 0.3])
    return {"viewmats": view[None], "Ks": K[None], "width": width, "height": height}


def slow_render(splats, camera, eps2d=0.3, antialiased=False, ortho=False):
    """Colour (h, w, d), opacity (h, w) and summed depth (h, w), a pixel at a time and a splat at a time."""
    s = {k: v.double().numpy() for k, v in splats.items()}
    view, K = camera["viewmats"][0].double().numpy(), camera["Ks"][0].double().numpy()
    width, height = camera["width"], camera["height"]
    flat = []
    for mean, quat, scale, opacity, color in zip(*(s[k] for k in splats), strict=True):
        w, *v = quat / np.linalg.norm(quat)
        v = np.array(v)
        cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
        turn = np.eye(3) + 2 * w * cross + 2 * cross @ cross
        covariance = view[:3, :3] @ turn @ np.diag(scale**2) @ turn.T @ view[:3, :3].T
        x, y, z = view[:3, :3] @ mean + view[:3, 3]
        if z <= 0.01:
            continue
        (fx, fy), (cx, cy) = np.diag(K)[:2], K[:2, 2]
        if ortho:
            centre, J = np.array([fx * x + cx, fy * y + cy]), np.array([[fx, 0, 0], [0, fy, 0]])
        else:
            centre = np.array([fx * x / z + cx, fy * y / z + cy])
            tx = min(max(x / z, -cx / fx - 0.15 * width / fx), (width - cx) / fx + 0.15 * width / fx)
            ty = min(max(y / z, -cy / fy - 0.15 * height / fy), (height - cy) / fy + 0.15 * height / fy)
            J = np.array([[fx / z, 0, -fx * tx / z], [0, fy / z, -fy * ty / z]])
        flat_covariance = J @ covariance @ J.T
        wide = flat_covariance + eps2d * np.eye(2)
        if antialiased:
            opacity *= math.sqrt(max(np.linalg.det(flat_covariance), 0) / np.linalg.det(wide))
        flat.append((z, centre, np.linalg.inv(wide), opacity, color))
    flat.sort(key=lambda one: one[0])
    colour = np.zeros((height, width, s["colors"].shape[1]))
    cover, depth = np.zeros((height, width)), np.zeros((height, width))
    for row in range(height):
        for col in range(width):
            through = 1.0
            for z, centre, inverse, opacity, color in flat:
                d = np.array([col + 0.5, row + 0.5]) - centre
                alpha = min(0.999, opacity * math.exp(-0.5 * d @ inverse @ d))
                if alpha < 1 / 255:
                    continue
                if through * (1 - alpha) <= 1e-4:
                    break
                colour[row, col] += through * alpha * color
                depth[row, col] += through * alpha * z
                cover[row, col] += through * alpha
                through *= 1 - alpha
    return colour, cover, depth
