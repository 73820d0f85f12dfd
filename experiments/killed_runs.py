"""Short runs of every application, which other scripts kill or compare.

Each takes a few seconds and needs no data.
"""

from __future__ import annotations

import json

DIGITS = ["data=mnist5k", "classifier.zoo=mnist_cnn"]
SHORT = [
    "application.steps=100", "application.batch_size=16", "application.eval_samples=200",
    "application.checkpoint_every=10",
    "application.grid_every=40", "application.log_every=7", "application.keep_samples=100",
    "application.grid_columns=3", "generator=tiny",
]  # fmt: skip
COMPARED = ["application.reconstructions=40", "application.members=60"]
STUDENT = ["+application.student.stages=[[8],[16]]", "+application.student.hidden=16"]
GARBAGE = {
    "epochs": 3,
    "images": 400,
    "initial": 100,
    "per_class": 10,
    "lr": 0.01,
    "batch_norm": "batch",
}
INVERTED = {"steps": 20, "warm_steps": 10, "inversion": []}


def garbage(name: str, **options: object) -> list[str]:
    return [f"garbage.{name}.{key}={value}" for key, value in (GARBAGE | options).items()]


TRAINED = [
    "data=mnist5k", "classifier=mlp", "classifier.train=true", "classifier.kept_in={run}_kept",
    "recipe.epochs=2",
]  # fmt: skip
"""Options that train a classifier, so that its members and non-members are known."""
SOURCE = [*DIGITS, *SHORT]
"""Options of the inversion whose images other runs use; `{source}` is its run directory."""
INVERSIONS = {
    "label": ["conditioning=label"],
    "vector": ["conditioning=vector", "+experiment=cifar_invert", "application.steps=30"],
    "matrix": ["conditioning=matrix", "+experiment=fmnist_invert"],
    "vector_matrix": ["+experiment=svhn_invert", "application.steps=30"],
    "three generators": ["n_generators=3", "application.steps=50"],
    "natural": ["loss=natural", "application.steps=50"],
    "nine terms": ["loss=reconstruction", "conditioning.vectors=hot", "application.steps=20"],
    "adversarial perturbation": [
        "+loss.kl_perturbed={weight: 1}",
        "perturbation.direction=adversarial",
        "perturbation.norm=l2",
    ],
    "W&B offline": ["logger=wandb", "logger.mode=offline"],
    "another seed and much dropout": [
        "seed=11",
        "generator.dropout=0.5",
        "application.sampling_batch_norm=batch",
    ],
}
"""Ten variants of `application=invert`."""
TRAINING = {
    "train_classifier": [
        "application=train_classifier", "data=mnist5k", "classifier=mlp", "recipe.epochs=4",
        "data.batch_size=32", "data.shift=2",
        "application.checkpoint_every=40",
    ],
    "distill": [
        "application=distill", "application.run={source}", *STUDENT, "application.steps=40",
        "application.batch_size=16",
        "application.every=20", "application.checkpoint_every=10", "data=mnist5k",
    ],
    "finetune": [
        "application=finetune", "application.run={source}", "application.kind=adversarial",
        "application.steps=40", "data=mnist5k",
        "application.images=60", "application.attacked=20", "application.attack_steps=2",
        "data.batch_size=32",
        "application.checkpoint_every=10",
    ],
    "classifier.train=true": [
        *SHORT, "data=mnist5k", "classifier=mlp", "classifier.train=true",
        "classifier.kept_in={run}_kept", "recipe.epochs=4",
        "data.batch_size=16", "application.steps=40",
    ],
    "method=kkt": [
        *SHORT, "method=kkt", "data=mnist5k", "classifier.zoo=mnist_mlp", "method.candidates=40",
        "method.steps=200",
    ],
    "detect_ood": [
        "application=detect_ood", "data=mnist5k", "classifier.zoo=mnist_mlp", "data.batch_size=50",
        "garbage=[inverted,noise]",
        *garbage("inverted", **INVERTED), *garbage("noise"), "application.detectors=[msp]",
        "application.samples=200",
    ],
    "reconstruct": [
        "application=reconstruct", *SHORT, *TRAINED, *COMPARED, "application.steps=20",
    ],
    "audit": [
        "application=audit", *TRAINED, *COMPARED, "application.attacks=[inversion,natural]",
        f"application.overrides={json.dumps([*SHORT[1:], 'application.steps=30'])}",
        "generator=tiny",
    ],
    "benchmark": [
        "application=benchmark", "application.methods=[generator]", "application.seeds=[0,1]",
        "measure.controls=[noise]",
        "measure.samples=50", f"application.overrides={json.dumps([*SHORT, *DIGITS])}",
    ],
}  # fmt: skip
"""Applications that train, except `application=invert`."""
RESTARTED = {
    "method=gradient": [*SHORT, *DIGITS, "method=gradient", "method.steps=10"],
    "approach": [
        "application=approach",
        *DIGITS,
        "application.vector=[.5,0,0,.5,0,0,0,0,0,0]",
        "application.steps=100",
    ],
    "measure": [
        "application=measure",
        "application.run={source}",
        "measure.samples=50",
        "measure.controls=[noise]",
    ],
    "interpret": [
        "application=interpret",
        "application.run={source}",
        "interpret.samples=100",
        "interpret.analyses=[projection]",
    ],
    "counterfeit": [
        "application=counterfeit",
        "application.run={source}",
        "application.samples=200",
        "application.confidence=0.5",
    ],
}
"""Applications that train no network; after a kill they restart in the same directory."""
