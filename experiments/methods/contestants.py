"""The methods and the classifiers of the benchmark. A new method is one line in `CONTESTANTS`."""

from __future__ import annotations

from dataclasses import dataclass

from netinv_lightning.config.method_registry import METHODS, Method

IMAGES_PER_CLASS = 20
IMAGES = 10 * IMAGES_PER_CLASS
"""Images of every method; their optimisation or the training of a generator is part of the cost."""


@dataclass(frozen=True)
class Contestant:
    """A method with its settings.

    Attributes:
        method: Its name in the registry.
        overrides: Overrides of the config.
        steps_key: The key that sets its length; None if it has none.
        trial: Numbers of steps of the two short runs that measure the seconds of a step.
        published: Overrides at the published budget; the defaults of the method if empty.
    """

    method: str
    overrides: tuple[str, ...] = ()
    steps_key: str | None = "method.steps"
    trial: tuple[int, int] = (5, 15)
    published: tuple[str, ...] = ()

    @property
    def facts(self) -> Method:
        return METHODS[self.method]

    @property
    def access(self) -> str:
        return self.facts.access

    @property
    def counts_queries(self) -> bool:
        return self.access in ("scores", "labels")


def generator(*overrides: str) -> Contestant:
    return Contestant(
        "generator",
        overrides,
        steps_key="application.steps",
        trial=(10, 40),
        published=("application.steps=600",),
    )


CONTESTANTS: dict[str, Contestant] = {
    "generator, natural": generator("loss=natural"),
    "generator, papers": generator("loss=inversion"),
    "gradient": Contestant("gradient"),
    "kkt": Contestant("kkt", (f"method.candidates={IMAGES}",)),
}
"""All methods of the table, by title."""
PLANNED = (
    "evolution", "nullspace", "deepinversion", "maco", "lucid", "sat", "admm", "born",
    "gradient_leakage", "background", "min", "landscape", "dafl", "cmi", "naturalinversion",
)  # fmt: skip
"""Methods of the papers and of their rivals; those that are no contestant are named as missing."""


@dataclass(frozen=True)
class Network:
    """A classifier of the benchmark.

    Attributes:
        data: Its data set, and the group of its verifiers.
        overrides: Overrides that select it.
    """

    title: str
    data: str
    overrides: tuple[str, ...]


def _zoo(title: str, data: str, name: str) -> Network:
    return Network(title, data, (f"data={data}", "classifier=zoo", f"classifier.zoo={name}"))


NETWORKS: dict[str, Network] = {
    "mnist_cnn": _zoo("MNIST, CNN", "mnist", "mnist_cnn"),
    "mnist_mlp": _zoo("MNIST, MLP", "mnist", "mnist_mlp"),
    "cifar10_cnn": _zoo("CIFAR-10, CNN", "cifar10", "cifar10_cnn"),
}
"""The classifiers, by the name in the zoo."""
MAIN = "mnist_cnn"
"""The classifier of the runs at the published budgets."""
