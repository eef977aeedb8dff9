#!/usr/bin/python3
"""Writes golden.json, the reference of TestModelsMatchPyTorch.

Needs PyTorch (Debian: python3-torch; the file in the tree was made by 1.13.1):

    /usr/bin/python3 golden.py > golden.json

Everything is computed in float64 from float32 inputs, by modules and autograd
of PyTorch, with the definitions of FuxiCTR: LR = sum of weights + bias, FM =
LR + pairs, DeepFM = sum of weights + pairs + network. The other models are in
zoo.py.
"""

import json

import torch
from torch import nn

import zoo

FIELDS, SAMPLES = 3, 5
CASES = [
    {"name": "lr"},
    {"name": "fm", "embedding_dim": 4},
    {"name": "deepfm", "embedding_dim": 4, "hidden": [5, 3]},
    {"name": "deepfm", "embedding_dim": 2, "hidden": [4], "batch_norm": True},
    {"name": "deepfm", "embedding_dim": 3, "hidden": [6, 4, 2], "batch_norm": True},
]


def draw(*shape):
    """Random values that are exact in float32 and short in decimal."""
    return (torch.randint(-96, 97, shape) / 64.0).double()


def network(spec):
    """Returns the layers of the network and its tensors by fathom's names."""
    layers, tensors, width = [], {}, FIELDS * spec["embedding_dim"]
    for i, out in enumerate(spec["hidden"]):
        linear = nn.Linear(width, out).double()
        layers.append(linear)
        tensors[f"mlp.{i}.weight"], tensors[f"mlp.{i}.bias"] = linear.weight, linear.bias
        if spec.get("batch_norm"):
            # momentum 1: the running statistics become those of the batch.
            norm = nn.BatchNorm1d(out, momentum=1.0).double()
            layers.append(norm)
            for name in ("weight", "bias", "running_mean", "running_var"):
                tensors[f"mlp.{i}.bn.{name}"] = getattr(norm, name)
        layers.append(nn.ReLU())
        width = out
    linear = nn.Linear(width, 1).double()
    layers.append(linear)
    last = len(spec["hidden"])
    tensors[f"mlp.{last}.weight"], tensors[f"mlp.{last}.bias"] = linear.weight, linear.bias
    return nn.Sequential(*layers), tensors


def numbers(tensor):
    return [float(f"{v:.10g}") for v in tensor.detach().flatten().tolist()]


def case(spec):
    deep = spec["name"] == "deepfm"
    net, tensors = network(spec) if deep else (None, {"bias": nn.Parameter(torch.zeros(1).double())})
    with torch.no_grad():
        for name, tensor in tensors.items():
            values = draw(*tensor.shape)
            tensor.copy_(values.abs() + 0.25 if name.endswith("running_var") else values)
    given = {name: numbers(tensor) for name, tensor in tensors.items()}
    linear = draw(SAMPLES, FIELDS).requires_grad_()
    columns = [linear]
    if "embedding_dim" in spec:
        embedding = draw(SAMPLES, FIELDS, spec["embedding_dim"]).requires_grad_()
        columns.append(embedding)
    labels = torch.randint(0, 2, (SAMPLES,)).double()

    def forward():
        logits = linear.sum(dim=1)
        if not deep:
            logits = logits + tensors["bias"]
        if "embedding_dim" in spec:
            total = embedding.sum(dim=1)
            logits = logits + 0.5 * (total**2 - (embedding**2).sum(dim=1)).sum(dim=1)
        if deep:
            logits = logits + net(embedding.flatten(1)).squeeze(1)
        return logits

    if deep:
        net.eval()
    evaluated = numbers(forward())
    if deep:
        net.train()
    logits = forward()
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
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
            name: numbers(tensor if "running" in name else tensor.grad) for name, tensor in tensors.items()
        },
        "column_grads": [numbers(c.grad) for c in columns],
    }


torch.manual_seed(20)
cases = [json.dumps(case(spec)) for spec in CASES]
cases += [json.dumps(c) for c in zoo.cases()]
print("[\n" + ",\n".join(cases) + "\n]")
