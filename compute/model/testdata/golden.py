#!/usr/bin/python3
"""Writes golden.json, the reference of TestModelsMatchPyTorch.

Needs PyTorch (Debian: python3-torch; the file in the tree was made by 1.13.1):

    /usr/bin/python3 golden.py > golden.json

Everything is computed in float64 from float32 inputs, by functions and autograd
of PyTorch, with the definitions of FuxiCTR. Every model is a function of its
tensors t (by fathom's names) and of its columns c: [SAMPLES, FIELDS, width] each.
It takes what it needs from both, so that the definitions read as the formulas and
share nothing with fathom's code.
"""

import json

import torch
import torch.nn.functional as F

FIELDS, SAMPLES = 4, 6


def draw(*shape):
    """Random values that are exact in float32 and short in decimal."""
    return (torch.randint(-96, 97, shape) / 128.0).double()


class Tensors(dict):
    """Tensors by name, drawn when first asked for."""

    def __init__(self):
        super().__init__()
        self.training = False

    def get(self, name, *shape):
        if name not in self:
            value = draw(*shape)
            if name.endswith("running_var"):
                value = value.abs() + 0.25
            self[name] = value if "running" in name else value.requires_grad_()
        return self[name]


def mlp(t, name, x, hidden, batch_norm=False, out=1):
    """Hidden layers and, unless out is 0, a last linear layer."""
    for i, width in enumerate(hidden):
        x = F.linear(x, t.get(f"{name}.{i}.weight", width, x.shape[1]), t.get(f"{name}.{i}.bias", width))
        if batch_norm:
            bn = f"{name}.{i}.bn."
            # momentum 1: the running statistics become those of the batch.
            x = F.batch_norm(
                x, t.get(bn + "running_mean", width), t.get(bn + "running_var", width),
                t.get(bn + "weight", width), t.get(bn + "bias", width), t.training, 1.0)
        x = F.relu(x)
    if out:
        last = len(hidden)
        x = F.linear(x, t.get(f"{name}.{last}.weight", out, x.shape[1]), t.get(f"{name}.{last}.bias", out))
    return x


def residual(t, s, name, x, hidden, out=1):
    """A tower of residual blocks, as mlp."""
    width, peri = s["tower_width"], s["norm_placement"] == "peri"

    def linear(name, x, out):
        return F.linear(x, t.get(name + ".weight", out, x.shape[1]), t.get(name + ".bias", out))

    def norm(name, x):
        return F.layer_norm(x, (width,), t.get(name + ".weight", width), t.get(name + ".bias", width))

    z = linear(name + ".lift", x, width)
    if peri:
        z = norm(name + ".entry", z)
    first = z
    for i, h in enumerate(hidden):
        block = f"{name}.{i}"
        f = F.relu(linear(block + ".up", norm(block + ".norm", first if s["tower"] == "parallel" else z), h))
        f = linear(block + ".down", f, width)
        z = z + (norm(block + ".after", f) if peri else f)
    y = norm(name + ".norm", z)
    return linear(f"{name}.{len(hidden)}", y, out) if out else y


def pairs():
    return torch.triu_indices(FIELDS, FIELDS, offset=1)


def tower(t, s, name, x, hidden="hidden", norm="batch_norm", out=0):
    if "tower" in s:
        return residual(t, s, name, x, s[hidden], out)
    return mlp(t, name, x, s[hidden], s.get(norm, False), out)


def network(t, s, x):
    return tower(t, s, "mlp", x, out=1)


def lr(t, s, linear):
    return linear.sum(dim=1) + t.get("bias", 1)


def second_order(e):
    return 0.5 * (e.sum(dim=1) ** 2 - (e**2).sum(dim=1)).sum(dim=1, keepdim=True)


def fm(t, s, linear, e):
    return lr(t, s, linear) + second_order(e)


def deepfm(t, s, linear, e):
    return linear.sum(dim=1) + second_order(e) + network(t, s, e.flatten(1))


def dnn(t, s, e):
    return network(t, s, e.flatten(1))


def wide_deep(t, s, linear, e):
    return linear.sum(dim=1) + network(t, s, e.flatten(1))


def fnn(t, s, linear, e):
    bias = t.get("bias", 1).repeat(SAMPLES, 1)
    return network(t, s, torch.cat([bias, torch.cat([linear, e], dim=2).flatten(1)], dim=1))


def inner_products(e):
    i, j = pairs()
    return torch.bmm(e, e.transpose(1, 2))[:, i, j]


def ipnn(t, s, e):
    return network(t, s, torch.cat([e.flatten(1), inner_products(e)], dim=1))


def cross_out(t, s, e, crossed):
    """The network's place: on top of the cross layers, beside them, nowhere."""
    structure = s.get("cross_structure", "parallel")
    if structure == "stacked":
        return network(t, s, crossed)
    if structure == "parallel":
        deep = tower(t, s, "mlp", e.flatten(1))
        crossed = torch.cat([crossed, deep], dim=1)
    return F.linear(crossed, t.get("fc.weight", 1, crossed.shape[1]), t.get("fc.bias", 1))


def dcn(t, s, e):
    x0 = x = e.flatten(1)
    width = x0.shape[1]
    for i in range(s["cross_layers"]):
        x = x0 * (x @ t.get(f"cross.{i}.weight", 1, width).T) + t.get(f"cross.{i}.bias", width) + x
    return cross_out(t, s, e, x)


def dcnv2(t, s, e):
    x0 = x = e.flatten(1)
    width = x0.shape[1]
    for i in range(s["cross_layers"]):
        name = f"cross.{i}."
        if "low_rank" in s:
            experts, rank = s["experts"], s["low_rank"]
            gate = (x @ t.get("cross.gate", experts, width).T).softmax(dim=1)
            u, v = t.get(name + "u", experts, width, rank), t.get(name + "v", experts, width, rank)
            low = torch.tanh(torch.einsum("nw,ewr->ner", x, v))
            mid = torch.tanh(torch.einsum("ner,esr->nes", low, t.get(name + "c", experts, rank, rank)))
            each = torch.einsum("ner,ewr->new", mid, u) + t.get(name + "bias", width)
            x = x0 * (gate.unsqueeze(2) * each).sum(dim=1) + x
        else:
            x = x0 * F.linear(x, t.get(name + "weight", width, width), t.get(name + "bias", width)) + x
    return cross_out(t, s, e, x)


def xdeepfm(t, s, linear, e):
    h, pooled = e, []
    for k, units in enumerate(s["cin_units"]):
        maps = h.shape[1]
        w = t.get(f"cin.{k}.weight", units, FIELDS * maps).reshape(units, FIELDS, maps)
        h = torch.einsum("uij,nid,njd->nud", w, e, h) + t.get(f"cin.{k}.bias", units)[:, None]
        pooled.append(h.sum(dim=2))
    pooled = torch.cat(pooled, dim=1)
    cin = F.linear(pooled, t.get("cin.fc.weight", 1, pooled.shape[1]), t.get("cin.fc.bias", 1))
    return linear.sum(dim=1) + cin + network(t, s, e.flatten(1))


def autoint(t, s, *columns):
    e = h = columns[-1]
    width, heads = s["attention_dim"], s["heads"]
    for i in range(s["attention_layers"]):
        name, given = f"attention.{i}.", h
        peri = s.get("layer_norm") and s.get("norm_placement") == "peri"
        if peri:
            inner = h.shape[2]
            h = F.layer_norm(h, (inner,), t.get(name + "before.weight", inner), t.get(name + "before.bias", inner))
        q, k, v = (
            (h @ t.get(name + part, width, h.shape[2]).T).reshape(SAMPLES, FIELDS, heads, width // heads).transpose(1, 2)
            for part in ("query", "key", "value"))
        scores = q @ k.transpose(2, 3)
        if s.get("scale"):
            scores = scores / (width // heads) ** 0.5
        out = (scores.softmax(dim=3) @ v).transpose(1, 2).reshape(SAMPLES, FIELDS, width)
        if peri:
            out = F.layer_norm(out, (width,), t.get(name + "norm.weight", width), t.get(name + "norm.bias", width))
        h = given
        if s["residual"]:
            out = out + (h if h.shape[2] == width else h @ t.get(name + "residual", width, h.shape[2]).T)
        if s.get("layer_norm") and not peri:
            out = F.layer_norm(out, (width,), t.get(name + "norm.weight", width), t.get(name + "norm.bias", width))
        h = F.relu(out)
    y = F.linear(h.flatten(1), t.get("fc.weight", 1, FIELDS * width), t.get("fc.bias", 1))
    if s.get("wide"):
        y = y + columns[0].sum(dim=1)
    return y


def autoint_plus(t, s, *columns):
    return autoint(t, s, *columns) + network(t, s, columns[-1].flatten(1))


def products(e):
    i, j = pairs()
    return e[:, i] * e[:, j]


def nfm(t, s, linear, e):
    return linear.sum(dim=1) + network(t, s, products(e).sum(dim=1))


def afm(t, s, linear, e):
    product, width = products(e), s["attention_dim"]
    hidden = F.relu(F.linear(product, t.get("attention.weight", width, e.shape[2]), t.get("attention.bias", width)))
    weights = (hidden @ t.get("attention.score", 1, width).T).softmax(dim=1)
    pooled = (weights * product).sum(dim=1)
    return linear.sum(dim=1) + t.get("bias", 1) + pooled @ t.get("fc.weight", 1, e.shape[2]).T


def fwfm(t, s, *columns):
    kind = s["linear_type"]
    e = columns[1] if kind == "LW" else columns[0]
    product = inner_products(e)
    y = F.linear(product, t.get("pairs.weight", 1, product.shape[1]), t.get("pairs.bias", 1))
    if kind == "LW":
        return y + columns[0].sum(dim=1)
    if kind == "FeLV":
        return y + (e * columns[1]).sum(dim=(1, 2)).unsqueeze(1)
    return y + e.flatten(1) @ t.get("linear.weight", 1, FIELDS * e.shape[2]).T


def ffm(t, s, linear, e):
    e = e.reshape(SAMPLES, FIELDS, FIELDS - 1, s["embedding_dim"])
    y = linear.sum(dim=1) + t.get("bias", 1)
    for i in range(FIELDS - 1):
        for j in range(i + 1, FIELDS):
            y = y + (e[:, i, j - 1] * e[:, j, i]).sum(dim=1, keepdim=True)
    return y


def dlrm(t, s, e):
    return network(t, s, inner_products(e) if s["interaction"] == "dot" else e.flatten(1))


def finalmlp(t, s, *columns):
    e = columns[0]
    out = []
    for i, hidden, norm in ((1, "hidden", "batch_norm"), (2, "hidden2", "batch_norm2")):
        x = e.flatten(1)
        if "gate_hidden" in s:
            fields = s.get(f"context{i}", [])
            context = columns[1][:, fields].flatten(1) if fields else t.get(f"gate{i}.context", e.shape[2]).repeat(SAMPLES, 1)
            x = x * 2 * torch.sigmoid(mlp(t, f"gate{i}", context, s["gate_hidden"], out=x.shape[1]))
        out.append(tower(t, s, f"mlp{i}", x, hidden, norm))
    x, y = out
    heads = s["heads"]
    a, b = x.shape[1] // heads, y.shape[1] // heads
    xy = torch.einsum("nha,hab,nhb->n", x.reshape(-1, heads, a), t.get("fusion.xy", heads, a, b), y.reshape(-1, heads, b))
    return (F.linear(x, t.get("fusion.x.weight", 1, x.shape[1]), t.get("fusion.x.bias", 1))
            + F.linear(y, t.get("fusion.y.weight", 1, y.shape[1]), t.get("fusion.y.bias", 1)) + xy.unsqueeze(1))


# Per case the model, its specification and the widths of its columns.
CASES = [
    (lr, {}, [1]),
    (fm, {"embedding_dim": 4}, [1, 4]),
    (deepfm, {"embedding_dim": 4, "hidden": [5, 3]}, [1, 4]),
    (deepfm, {"embedding_dim": 2, "hidden": [4], "batch_norm": True}, [1, 2]),
    (deepfm, {"embedding_dim": 3, "hidden": [6, 4, 2], "batch_norm": True}, [1, 3]),
    (dnn, {"embedding_dim": 3, "hidden": [5, 4], "batch_norm": True}, [3]),
    (wide_deep, {"embedding_dim": 2, "hidden": [5, 3]}, [1, 2]),
    (fnn, {"embedding_dim": 2, "hidden": [5, 3]}, [1, 2]),
    (ipnn, {"embedding_dim": 3, "hidden": [5, 3]}, [3]),
    (dcn, {"embedding_dim": 2, "hidden": [5, 3], "cross_layers": 2, "cross_structure": "parallel"}, [2]),
    (dcn, {"embedding_dim": 3, "cross_layers": 3, "cross_structure": "crossnet_only"}, [3]),
    (dcnv2, {"embedding_dim": 2, "hidden": [5, 3], "batch_norm": True, "cross_layers": 2, "cross_structure": "parallel"}, [2]),
    (dcnv2, {"embedding_dim": 2, "hidden": [5, 3], "cross_layers": 2, "cross_structure": "stacked"}, [2]),
    (dcnv2, {"embedding_dim": 2, "cross_layers": 2, "cross_structure": "crossnet_only", "low_rank": 3, "experts": 2}, [2]),
    (xdeepfm, {"embedding_dim": 2, "hidden": [5], "cin_units": [3, 2]}, [1, 2]),
    (autoint, {"embedding_dim": 3, "attention_layers": 2, "attention_dim": 4, "heads": 2, "residual": True}, [3]),
    (autoint, {"embedding_dim": 2, "attention_layers": 1, "attention_dim": 4, "heads": 2, "residual": False,
               "scale": True, "wide": True}, [1, 2]),
    (autoint_plus, {"embedding_dim": 3, "hidden": [5], "batch_norm": True, "attention_layers": 2, "attention_dim": 4,
                    "heads": 1, "residual": True, "scale": True, "layer_norm": True}, [3]),
    (nfm, {"embedding_dim": 4, "hidden": [5], "batch_norm": True}, [1, 4]),
    (afm, {"embedding_dim": 3, "attention_dim": 4}, [1, 3]),
    (fwfm, {"embedding_dim": 3, "linear_type": "LW"}, [1, 3]),
    (fwfm, {"embedding_dim": 3, "linear_type": "FeLV"}, [3, 3]),
    (fwfm, {"embedding_dim": 3, "linear_type": "FiLV"}, [3]),
    (ffm, {"embedding_dim": 2}, [1, 6]),
    (dlrm, {"embedding_dim": 3, "hidden": [5, 2], "interaction": "dot"}, [3]),
    (dlrm, {"embedding_dim": 2, "hidden": [5], "interaction": "cat"}, [2]),
    (finalmlp, {"embedding_dim": 2, "hidden": [5, 4], "hidden2": [6], "batch_norm2": True, "heads": 2}, [2]),
    (finalmlp, {"embedding_dim": 2, "hidden": [4], "batch_norm": True, "hidden2": [2], "heads": 1,
                "gate_hidden": [3], "context1": [2, 0]}, [2, 2]),
    (autoint, {"embedding_dim": 3, "attention_layers": 2, "attention_dim": 4, "heads": 2, "residual": True,
               "layer_norm": True, "norm_placement": "peri"}, [3]),
    (dnn, {"embedding_dim": 3, "hidden": [4, 3], "tower": "hourglass", "tower_width": 7, "norm_placement": "pre"}, [3]),
    (dnn, {"embedding_dim": 3, "hidden": [4, 3, 2], "tower": "hourglass", "tower_width": 6, "norm_placement": "peri"}, [3]),
    (wide_deep, {"embedding_dim": 2, "hidden": [4, 3], "tower": "parallel", "tower_width": 7, "norm_placement": "pre"}, [1, 2]),
    (dcnv2, {"embedding_dim": 2, "hidden": [4, 3], "cross_layers": 1, "cross_structure": "parallel", "tower": "parallel",
             "tower_width": 6, "norm_placement": "peri"}, [2]),
    (finalmlp, {"embedding_dim": 2, "hidden": [4, 3], "hidden2": [3], "heads": 2, "tower": "hourglass", "tower_width": 6,
                "norm_placement": "pre"}, [2]),
]


def numbers(tensor):
    return [float(f"{v:.10g}") for v in tensor.detach().flatten().tolist()]


def case(model, spec, widths):
    spec = {"name": model.__name__, **spec}
    t = Tensors()
    columns = [draw(SAMPLES, FIELDS, w).requires_grad_() for w in widths]
    labels = torch.randint(0, 2, (SAMPLES,)).double()
    evaluated = numbers(model(t, spec, *columns))
    given = {name: numbers(tensor) for name, tensor in t.items()}
    t.training = True
    logits = model(t, spec, *columns).squeeze(1)
    loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    (loss / SAMPLES).backward()
    return {
        "spec": spec,
        "fields": FIELDS,
        "samples": SAMPLES,
        "params": given,
        "columns": [numbers(c) for c in columns],
        "labels": numbers(labels),
        "eval_logits": evaluated,
        "logits": numbers(logits),
        "loss_sum": numbers(loss)[0],
        "param_grads": {
            name: numbers(tensor if "running" in name else tensor.grad) for name, tensor in t.items()
        },
        "column_grads": [numbers(c.grad) for c in columns],
    }


torch.manual_seed(5)
print("[\n" + ",\n".join(json.dumps(case(*c)) for c in CASES) + "\n]")
