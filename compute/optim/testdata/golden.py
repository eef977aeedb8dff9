#!/usr/bin/python3
"""Writes golden.json: weights after some steps of every optimizer, computed by
PyTorch where it has the optimizer and by plain float64 code from the papers
otherwise. Run with Debian's python3-torch:

    /usr/bin/python3 golden.py > golden.json
"""
import json
import math

import numpy as np
import torch

N, STEPS = 6, 12
rng = np.random.RandomState(5)
START = np.round(rng.randn(N), 3)
GRADS = np.round(rng.randn(STEPS, N), 3)
COUNTS = [1 + int(x) for x in rng.randint(0, 4, STEPS)]


def by_torch(make, schedule=None):
    w = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    o = make([w])
    plan = torch.optim.lr_scheduler.LambdaLR(o, lambda i: schedule(i + 1)) if schedule else None
    for g in GRADS:
        w.grad = torch.tensor(g, dtype=torch.float64)
        o.step()
        if plan:
            plan.step()
    return w.detach().numpy()


def by_hand(step):
    w, state = START.copy(), {}
    for t, g in enumerate(GRADS, 1):
        w = step(w, g.copy(), t, state)
    return w


def zeros(state, *names):
    for n in names:
        state.setdefault(n, np.zeros(N))


def norm(x):
    return math.sqrt(float((x * x).sum()))


def lamb(lr, wd, eps=1e-6, b1=0.9, b2=0.999, apex=False, coupled=False, averaging=True, floor=0.0, least=0.0, most=math.inf):
    """TensorFlow Addons' lamb.py; with apex=True multi_tensor_lamb.cu without
    its clipping of the gradient. The paper's phi is clip(max(norm, floor))."""
    def step(w, g, t, s):
        zeros(s, "m", "v")
        if coupled:
            g = g + wd * w
        s["m"] = b1 * s["m"] + (1 - b1 if averaging else 1) * g
        s["v"] = b2 * s["v"] + (1 - b2) * g * g
        u = s["m"] / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + eps)
        if not coupled:
            u = u + wd * w
        ratio = 1.0
        weight = max(norm(w), floor)
        if (not apex or wd != 0) and weight > 0 and norm(u) > 0:
            ratio = min(max(weight / norm(u), least), most)
        return w - lr * ratio * u
    return step


def lars(lr, momentum, wd, coefficient, eps=0.0):
    def step(w, g, t, s):
        zeros(s, "b")
        ratio = 1.0
        if norm(w) > 0 and norm(g) > 0:
            ratio = coefficient * norm(w) / (norm(g) + wd * norm(w) + eps)
        s["b"] = momentum * s["b"] + lr * ratio * (g + wd * w)
        return w - s["b"]
    return step


def ftrl(lr, smoothing, l1, l2, accumulator=0.0):
    def step(w, g, t, s):
        zeros(s, "z")
        s.setdefault("n", np.full(N, accumulator))
        sigma = (np.sqrt(s["n"] + g * g) - np.sqrt(s["n"])) / lr
        s["z"] = s["z"] + g - sigma * w
        s["n"] = s["n"] + g * g
        z = s["z"]
        new = -(z - np.sign(z) * l1) / ((smoothing + np.sqrt(s["n"])) / lr + l2)
        return np.where(np.abs(z) <= l1, 0.0, new)
    return step


def row_adagrad(lr, wd, eps=1e-10):
    def step(w, g, t, s):
        g = g + wd * w
        s["s"] = s.get("s", 0.0) + float((g * g).mean())
        return w - lr * g / (math.sqrt(s["s"]) + eps)
    return step


def cowclip(lr, wd, ratio, floor, b1=0.9, b2=0.999, eps=1e-8):
    """clip.py of LargeBatchCTR in front of Adam."""
    def step(w, g, t, s):
        zeros(s, "m", "v")
        g = g + wd * w
        bound = ratio * COUNTS[t - 1] * max(norm(w), ratio * math.sqrt(N) * floor)
        g = g * bound / max(norm(g), bound)
        s["m"] = b1 * s["m"] + (1 - b1) * g
        s["v"] = b2 * s["v"] + (1 - b2) * g * g
        return w - lr * s["m"] / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + eps)
    return step


def warmup_then(warmup, rest):
    return lambda t: t / warmup if t <= warmup else rest(t - warmup)


def plain(lr):
    return lambda p: torch.optim.SGD(p, lr=lr)


o = torch.optim
cases = [
    ({"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.2}, by_torch(lambda p: o.SGD(p, lr=0.1, weight_decay=0.2))),
    ({"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.2, "momentum": 0.8},
     by_torch(lambda p: o.SGD(p, lr=0.1, weight_decay=0.2, momentum=0.8))),
    ({"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.2, "momentum": 0.8, "nesterov": True},
     by_torch(lambda p: o.SGD(p, lr=0.1, weight_decay=0.2, momentum=0.8, nesterov=True))),
    ({"name": "adam", "learning_rate": 0.1, "weight_decay": 0.2}, by_torch(lambda p: o.Adam(p, lr=0.1, weight_decay=0.2))),
    ({"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.2}, by_torch(lambda p: o.AdamW(p, lr=0.1, weight_decay=0.2))),
    ({"name": "adagrad", "learning_rate": 0.1, "weight_decay": 0.2, "accumulator": 0.5},
     by_torch(lambda p: o.Adagrad(p, lr=0.1, weight_decay=0.2, initial_accumulator_value=0.5))),
    ({"name": "row_adagrad", "learning_rate": 0.1, "weight_decay": 0.2}, by_hand(row_adagrad(0.1, 0.2))),
    ({"name": "lamb", "learning_rate": 0.1}, by_hand(lamb(0.1, 0.0))),
    ({"name": "lamb", "learning_rate": 0.1, "weight_decay": 0.2}, by_hand(lamb(0.1, 0.2))),
    ({"name": "lamb", "learning_rate": 0.1, "convention": "apex"}, by_hand(lamb(0.1, 0.0, apex=True))),
    ({"name": "lamb", "learning_rate": 0.1, "weight_decay": 0.2, "convention": "apex", "sum_gradients": True},
     by_hand(lamb(0.1, 0.2, apex=True, averaging=False))),
    ({"name": "lamb", "learning_rate": 0.1, "weight_decay": 0.2, "convention": "apex", "coupled": True},
     by_hand(lamb(0.1, 0.2, apex=True, coupled=True))),
    ({"name": "lamb", "learning_rate": 0.1, "trust_floor": 30}, by_hand(lamb(0.1, 0.0, floor=30))),
    ({"name": "lamb", "learning_rate": 0.1, "weight_decay": 0.2, "trust_min": 0.9, "trust_max": 1.1},
     by_hand(lamb(0.1, 0.2, least=0.9, most=1.1))),
    ({"name": "lars", "learning_rate": 0.5, "weight_decay": 0.1, "trust_coefficient": 0.05, "momentum": 0.7},
     by_hand(lars(0.5, 0.7, 0.1, 0.05))),
    ({"name": "ftrl", "learning_rate": 0.2, "smoothing": 1, "l1": 0.3, "weight_decay": 0.1, "accumulator": 0.1},
     by_hand(ftrl(0.2, 1, 0.3, 0.1, 0.1))),
    ({"name": "cowclip", "learning_rate": 0.1, "weight_decay": 0.05, "clip_ratio": 0.5, "clip_floor": 0.3},
     by_hand(cowclip(0.1, 0.05, 0.5, 0.3))),
    ({"name": "sgd", "learning_rate": 0.1, "warmup_steps": 4}, by_torch(plain(0.1), warmup_then(4, lambda x: 1.0))),
    ({"name": "sgd", "learning_rate": 0.1, "warmup_steps": 2, "schedule": "step", "decay_steps": 3, "decay_rate": 0.5},
     by_torch(plain(0.1), warmup_then(2, lambda x: 0.5 ** (x // 3)))),
    ({"name": "sgd", "learning_rate": 0.1, "schedule": "cosine", "decay_steps": 8, "least_rate": 0.1},
     by_torch(plain(0.1), lambda x: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1, x / 8))))),
    ({"name": "sgd", "learning_rate": 0.1, "schedule": "linear", "decay_steps": 8, "least_rate": 0.25},
     by_torch(plain(0.1), lambda x: 1 - 0.75 * min(1, x / 8))),
]
print(json.dumps({
    "start": START.tolist(), "grads": GRADS.tolist(), "counts": COUNTS,
    "cases": [{"config": c, "want": w.tolist()} for c, w in cases],
}, indent=1))
