"""Monodepth2's objective by loops over pixels, for tiny images whose sources are shifted along x."""

import math

import torch


def at(image, row, column):
    """Return a (H, W) image read between pixels, its border beyond it."""
    height, width = image.shape
    row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    top, left = min(int(row), height - 2), min(int(column), width - 2)
    b, a = row - top, column - left
    corners = [image[top + i, left + j].item() for i in (0, 1) for j in (0, 1)]
    return (1 - b) * ((1 - a) * corners[0] + a * corners[1]) + b * ((1 - a) * corners[2] + a * corners[3])


def slow_pe(x, y, row, column):
    """Return 0.85 (1 - SSIM) / 2 + 0.15 |x - y| at a pixel of images (3, H, W)."""
    height, width = x.shape[-2:]

    def mirrored(place, side):
        return -place if place < 0 else 2 * (side - 1) - place if place >= side else place

    total = 0.0
    for c in range(3):
        places = [(mirrored(row + i, height), mirrored(column + j, width)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        a, b = ([image[c][place].item() for place in places] for image in (x, y))
        ma, mb = sum(a) / 9, sum(b) / 9
        va, vb = (sum(v * v for v in values) / 9 - m * m for values, m in ((a, ma), (b, mb)))
        cov = sum(v * w for v, w in zip(a, b, strict=True)) / 9 - ma * mb
        ssim = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4))
        total += 0.85 * min(max((1 - ssim) / 2, 0.0), 1.0) + 0.15 * abs(x[c, row, column] - y[c, row, column]).item()
    return total / 3


def slow_warp(source, depth, K, shift):
    """Return a source (3, H, W) as the target sees it, the source's camera `shift` along x."""
    height, width = depth.shape
    fx, cx = K[0, 0].item(), K[0, 2].item()
    warped = torch.zeros_like(source)
    for row in range(height):
        for column in range(width):
            z = depth[row, column].item()
            place = fx * ((column - cx) / fx * z + shift) / z + cx
            for c in range(3):
                warped[c, row, column] = at(source[c], row, place)
    return warped


def slow_smoothness(sigma, image):
    height, width = sigma.shape
    mean = sigma.mean().item()
    down = across = 0.0
    for row in range(height):
        for column in range(width):
            for i, j in ((1, 0), (0, 1)):
                if row + i < height and column + j < width:
                    slope = abs(sigma[row + i, column + j] - sigma[row, column]).item() / mean
                    colour = (image[:, row + i, column + j] - image[:, row, column]).abs().mean().item()
                    down += i * slope * math.exp(-colour) / ((height - 1) * width)
                    across += j * slope * math.exp(-colour) / (height * (width - 1))
    return down + across


def slow_loss(task, sigmas, image, sources, K, shifts):
    """Return Monodepth2's objective of one image whose sources are shifted along x."""
    height, width = image.shape[-2:]
    total = 0.0
    for stride, sigma in sigmas.items():
        full = torch.zeros(height, width, dtype=torch.float64)
        for row in range(height):
            for column in range(width):
                full[row, column] = at(sigma, (row + 0.5) / stride - 0.5, (column + 0.5) / stride - 0.5)
        depth = 1 / (1 / task.max_depth + (1 / task.min_depth - 1 / task.max_depth) * full)
        warped = [slow_warp(source, depth, K, shift) for source, shift in zip(sources, shifts, strict=True)]
        for row in range(height):
            for column in range(width):
                moved = [slow_pe(image, other, row, column) for other in warped]
                left = [slow_pe(image, other, row, column) for other in sources]
                if not task.min_select:
                    moved, left = [sum(moved) / len(moved)], [sum(left) / len(left)]
                total += min(moved + (left if task.auto_mask else [])) / (height * width) / len(sigmas)
        small = torch.zeros(3, height // stride, width // stride, dtype=torch.float64)
        for row in range(height // stride):
            for column in range(width // stride):
                block = image[:, stride * row : stride * (row + 1), stride * column : stride * (column + 1)]
                small[:, row, column] = block.mean((1, 2))
        total += task.smoothness / stride * slow_smoothness(sigma, small) / len(sigmas)
    return total
