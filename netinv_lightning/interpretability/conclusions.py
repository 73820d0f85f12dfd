"""The numbers of a feature study in sentences, each with its control.

The raw numbers are in `interpretation.csv` and `summary.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netinv_lightning.metric_names import interpretation

Number = Callable[..., float]
"""Returns a number of the study by its name; raises KeyError if it is missing."""


def conclude(metrics: Mapping[str, float]) -> list[str]:
    """Return one sentence per result of the study, without those whose numbers are missing."""

    def number(what: str, *of: str) -> float:
        return metrics[interpretation(what, *of)]

    sentences = []
    for sentence in (_components, _plane, _clusters, _sparse_units, _anomaly, *_RULES):
        try:
            sentences.append(sentence(number))
        except KeyError:
            continue
    return sentences


def _components(number: Number) -> str:
    return (
        f"Two principal components have {number('variance_of_plane'):.0%} of the variance of the "
        f"inverted features; {number('components_90'):.0f} components have 90%."
    )


def _plane(number: Number) -> str:
    test = _optional(number, " ({:.0%} on test images)", "agreement", "test")
    return (
        "Decisions from these two components agree with those of the classifier on "
        f"{number('agreement', 'inverted'):.0%} of the inverted images{test}; by chance on "
        f"{number('agreement_of_chance', 'inverted'):.0%}."
    )


def _clusters(number: Number) -> str:
    test = _optional(number, ", and {:.1f} in test images", "clusters_test")
    return (
        f"A class has {number('clusters'):.1f} clusters on average in the inverted images "
        f"(HDBSCAN: {number('clusters_hdbscan'):.1f}){test}; two merged classes, as a control, "
        f"have {number('clusters_of_pairs'):.1f}."
    )


def _sparse_units(number: Number) -> str:
    return (
        "The active sparse units of inverted and training images overlap by "
        f"{number('overlap', 'training_inverted'):.0%} (Jaccard index); those of test and training "
        f"images by {number('overlap', 'training_test'):.0%}, and those of two halves of the "
        f"training images by {number('overlap', 'training_halves'):.0%}."
    )


def _anomaly(number: Number) -> str:
    control = number("anomaly", "reconstruction", "auc_test_against_training")
    return (
        "An autoencoder of real features separates inverted from real images with an AUC of "
        f"{number('anomaly', 'reconstruction', 'auc'):.3f}; test from training images, as a "
        f"control, with {control:.3f} (0.5: not at all)."
    )


def _rules(kind: str, what: str) -> Callable[[Number], str]:
    def sentence(number: Number) -> str:
        test = _optional(number, " and of {:.0%} of the test images", *kind_of, "fidelity", "test")
        majority = number(*kind_of, "fidelity_majority", "inverted")
        return (
            f"{number(*kind_of, 'number'):.0f} rules on {what} give the decision of the classifier "
            f"for {number(*kind_of, 'fidelity', 'inverted'):.0%} of the inverted images{test}; "
            f"the most frequent class, as a control, for {majority:.0%}."
        )

    kind_of = ("rules", kind)
    return sentence


_RULES = (_rules("features_rest", "features"), _rules("pixels_rest", "pixels"))


def _optional(number: Number, text: str, what: str, *of: str) -> str:
    """Return the text with the number, or nothing if the number is missing."""
    try:
        return text.format(number(what, *of))
    except KeyError:
        return ""
