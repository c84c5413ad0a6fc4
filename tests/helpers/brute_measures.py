"""The measures from features, in numpy and scipy, by their published formulas and without a Gram of the package."""

import numpy as np
from scipy.linalg import subspace_angles
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

NEIGHBOURS = COMPONENTS = 10


def song_hsic(k, l):  # noqa: E741
    """Song et al. 2012, eq. 5, by traces and sums."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    one = np.ones(n)
    total = np.trace(k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l @ one)
    return total / (n * (n - 3))


def hsic_ratio(k, l):  # noqa: E741
    return song_hsic(k, l) / np.sqrt(song_hsic(k, k) * song_hsic(l, l))


def cka(x, y):
    return hsic_ratio(x @ x.T, y @ y.T)


def rbf_cka(x, y):
    k, l = (np.exp(-(squareform(pdist(z)) ** 2) / (2 * np.median(pdist(z)) ** 2)) for z in (x, y))  # noqa: E741
    return hsic_ratio(k, l)


def distance_correlation(x, y):
    """Székely & Rizzo 2013, by U-centring entry by entry."""
    n = len(x)
    centred = []
    for z in (x, y):
        far = squareform(pdist(z))
        u = far - far.sum(0) / (n - 2) - far.sum(0)[:, None] / (n - 2) + far.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(u, 0)
        centred.append(u)
    a, b = centred
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def rsa(x, y):
    return spearmanr(pdist(x), pdist(y)).statistic


def rsa_pearson(x, y):
    return pearsonr(pdist(x), pdist(y)).statistic


def nearest(z):
    far = squareform(pdist(z))
    np.fill_diagonal(far, np.inf)
    k = min(NEIGHBOURS, max(1, (len(z) - 1) // 2))
    return [set(row[:k].tolist()) for row in far.argsort(axis=1)]


def mutual_knn(x, y):
    return np.mean([len(a & b) / len(a) for a, b in zip(nearest(x), nearest(y), strict=True)])


def jaccard(x, y):
    return np.mean([len(a & b) / len(a | b) for a, b in zip(nearest(x), nearest(y), strict=True)])


def cknna(x, y):
    grams = [(z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y)]

    def align(k, l, near_k, near_l):  # noqa: E741
        return sum(k[i, j] * l[i, j] for i in range(len(k)) for j in near_k[i] & near_l[i])

    (k, l), (near_k, near_l) = grams, (nearest(x), nearest(y))  # noqa: E741
    return align(k, l, near_k, near_l) / np.sqrt(align(k, k, near_k, near_k) * align(l, l, near_l, near_l))


def procrustes(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.svd(x.T @ y, compute_uv=False).sum() / np.linalg.norm(x) / np.linalg.norm(y)


def bures(x, y):
    """tr((K^(1/2) L K^(1/2))^(1/2)) / sqrt(tr K tr L)."""
    k, l = ((z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y))  # noqa: E741
    lengths, vectors = np.linalg.eigh(k)
    vectors = vectors[:, lengths > 1e-12 * lengths[-1]] * lengths[lengths > 1e-12 * lengths[-1]] ** 0.25
    values = np.linalg.eigvalsh(vectors @ vectors.T @ l @ vectors @ vectors.T)
    return np.sqrt(values[values > 1e-14 * values[-1]]).sum() / np.sqrt(np.trace(k) * np.trace(l))


def leading(z):
    """The scores of the leading principal components, (n, k)."""
    left, lengths, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
    count = min(max(1, min(COMPONENTS, len(z) // 4)), int((lengths**2 > 1e-6 * lengths[0] ** 2).sum()))
    return left[:, :count] * lengths[:count]


def svcca(x, y):
    return np.cos(subspace_angles(leading(x), leading(y))).mean()


def pwcca(x, y):
    def directed(a, b):
        """Morcos et al. 2018: canonical variates of a, weighted by their inner products with its columns."""
        basis_a, basis_b = np.linalg.qr(a)[0], np.linalg.qr(b)[0]
        u, r, _ = np.linalg.svd(basis_a.T @ basis_b, full_matrices=False)
        weights = np.abs((basis_a @ u).T @ a).sum(axis=1)
        return (weights * r).sum() / weights.sum()

    a, b = leading(x), leading(y)
    return (directed(a, b) + directed(b, a)) / 2
