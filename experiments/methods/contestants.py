"""The methods and the classifiers of the benchmark. A new method is one line in `CONTESTANTS`."""

from __future__ import annotations

from dataclasses import dataclass

from netinv_lightning.config.method_registry import METHODS

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
        published: Overrides at the published budget; None if it was not run.
        uses: Access of its objective, if it needs more than the method: statistics of BatchNorm
            are part of the weights; or `labels`, if the method is limited to them.
        choice: The choice of the config group `method`, if it is a preset with another name.
    """

    method: str
    overrides: tuple[str, ...] = ()
    steps_key: str | None = "method.steps"
    trial: tuple[int, int] = (5, 15)
    published: tuple[str, ...] | None = ()
    uses: str = ""
    choice: str = ""

    @property
    def access(self) -> str:
        return self.uses or METHODS[self.method].access

    @property
    def needs_data(self) -> bool:
        return METHODS[self.method].data

    @property
    def counts_queries(self) -> bool:
        return self.access in ("scores", "labels")


def _generator(*overrides: str, uses: str = "") -> Contestant:
    length = ("application.steps=600",)
    return Contestant("generator", overrides, "application.steps", (10, 40), length, uses)


CONTESTANTS: dict[str, Contestant] = {
    "generator, natural": _generator("loss=natural", uses="weights"),
    "generator, natural without BatchNorm": _generator("loss=natural", "~loss.batch_norm"),
    "generator, papers": _generator("loss=inversion"),
    "generator, dafl": _generator("loss=dafl"),
    "generator, cmi": _generator("loss=cmi", uses="weights"),
    "generator, born": _generator("loss=born", uses="weights"),
    "gradient": Contestant("gradient"),
    "deepinversion": Contestant("gradient", uses="weights", choice="deepinversion"),
    "maco": Contestant("gradient", choice="maco"),
    "lucid": Contestant("gradient", choice="lucid"),
    "nullspace": Contestant("nullspace", trial=(2, 6)),
    "evolution": Contestant("evolution", trial=(2, 6)),
    "evolution, labels only": Contestant(
        "evolution", ("method.access=labels",), trial=(1, 3), published=None, uses="labels"
    ),
    "kkt": Contestant("kkt", (f"method.candidates={IMAGES}",), trial=(2, 4), published=None),
    "admm": Contestant("admm", trial=(2, 6)),
    "landscape": Contestant("landscape", trial=(10, 40)),
    "naturalinversion": Contestant("naturalinversion"),
    "sat": Contestant("sat", steps_key=None, published=None),
    "background": Contestant("background", trial=(10, 40)),
    "min": Contestant("min", trial=(10, 40)),
}
"""All methods of the table, by title."""
NOT_COMPARED = {
    "gradient_leakage": "gets the gradient of a training batch, which no other method has",
    "informed": "an attack of `application=audit`, which trains networks of its own and "
    "reconstructs single images",
    "uncertainty": "a term of the objective (`loss.uncertainty`), for every method",
}
"""Methods of the papers and of their rivals that are not in the table, and why."""


@dataclass(frozen=True)
class Network:
    """A classifier of the benchmark.

    Attributes:
        data: Its data set.
        overrides: Overrides that select it, and its auxiliary images.
        verified_by: The data set of its verifiers, which resize the images if necessary.
    """

    title: str
    data: str
    overrides: tuple[str, ...]
    verified_by: str


def _zoo(title: str, data: str, name: str, verified_by: str) -> Network:
    keys = (f"data={data}", "classifier=zoo", f"classifier.zoo={name}")
    return Network(title, data, keys, verified_by)


NETWORKS: dict[str, Network] = {
    "mnist_cnn": _zoo("MNIST, CNN", "mnist", "mnist_cnn", "mnist"),
    "mnist_mlp": _zoo("MNIST, MLP", "mnist", "mnist_mlp", "mnist"),
    "cifar10_cnn": _zoo("CIFAR-10, CNN", "cifar10", "cifar10_cnn", "cifar10"),
    "mnist14_binarised": _zoo("MNIST 14 x 14, binarised", "mnist14", "mnist14_binarised", "mnist"),
}
"""The classifiers, by the name in the zoo."""
MAIN = "mnist_cnn"
"""The classifier of the runs at the published budgets."""
