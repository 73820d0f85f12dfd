"""Names of all metrics, and the registry of metric groups."""

from __future__ import annotations

METRIC_GROUPS = {
    "accuracy": "netinv_lightning.evaluation.metric_groups.accuracy:Accuracy",
    "stability": "netinv_lightning.evaluation.metric_groups.stability:Stability",
    "transfer": "netinv_lightning.evaluation.metric_groups.transfer:Transfer",
    "diversity": "netinv_lightning.evaluation.metric_groups.diversity:Diversity",
    "manifold": "netinv_lightning.evaluation.metric_groups.manifold:Manifold",
    "fid": "netinv_lightning.evaluation.metric_groups.fid:FID",
    "lpips": "netinv_lightning.evaluation.metric_groups.lpips:LPIPS",
    "c2st": "netinv_lightning.evaluation.metric_groups.c2st:C2ST",
    "cas": "netinv_lightning.evaluation.metric_groups.cas:CAS",
}
"""Groups of metrics of a set of images (`measure.metrics`), in the order of the table."""

INVERSION_ACCURACY = "inversion/accuracy"
INVERSION_ACCURACY_HOT = "inversion/accuracy_hot"
INVERSION_ACCURACY_TRAIN = "inversion/accuracy_train"
INVERSION_LABEL_ACCURACY = "inversion/label_accuracy"
"""Share of requested labels that are predicted, for labels that do not exclude each other."""
INVERSION_CONFIDENCE = "inversion/confidence"
INVERSION_CONFIDENCE_HOT = "inversion/confidence_hot"
INVERSION_MARGIN = "inversion/margin"
INVERSION_KL = "inversion/kl"
INVERSION_CONFUSION = "inversion/confusion"
STEPS_TO_95 = "inversion/steps_to_95"
SECONDS_TO_95 = "inversion/seconds_to_95"

INTRA_CLASS_COSINE = "diversity/intra_class_cosine"
INTER_CLASS_COSINE = "diversity/inter_class_cosine"
VENDI = "diversity/vendi"
VENDI_CLASS = "diversity/vendi_class"
DUPLICATES = "diversity/duplicates"
RECALL = "diversity/recall"
COVERAGE = "diversity/coverage"

TRANSFER_ACCURACY = "transfer/accuracy"
TRANSFER_TOP5 = "transfer/top5"
"""Share of the images whose label is among the five most probable classes of a verifier."""
TRANSFER_ACCURACY_HOT = "transfer/accuracy_hot"
TRANSFER_WORST_CLASS = "transfer/worst_class"
"""Smallest share over the verifiers and the classes; that of one verifier is `of_network`."""
TRANSFER_WORST_CLASS_HOT = "transfer/worst_class_hot"
TRANSFER_CEILING = "transfer/ceiling"
TRANSFER_MIXTURES = "transfer/mixtures"
"""Accuracy of the verifiers on mixtures of real images, as ambiguous as the vectors."""

DENSITY = "fidelity/density"
PRECISION = "fidelity/precision"
FID = "fidelity/fid"
KID = "fidelity/kid"
C2ST = "fidelity/c2st"
LPIPS = "fidelity/lpips"
CAS = "fidelity/cas"

MEMORISATION_GAP = "memorisation/gap"
MEMORISATION_GAP_LOW = "memorisation/gap_low"
MEMORISATION_GAP_HIGH = "memorisation/gap_high"
MEMORISATION_GAP_P_VALUE = "memorisation/gap_p_value"
MEMORISATION_NEAREST_TRAINING = "memorisation/nearest_training"
MEMORISATION_NEAREST_HELD_OUT = "memorisation/nearest_held_out"

TARGET_ERROR = "target/error"
TARGET_ERROR_BEST = "target/error_best"
TARGET_ERROR_NOISE = "target/error_noise"
TARGET_ERROR_UNRELATED = "target/error_unrelated"
TARGET_CLOSED = "target/closed"
TARGET_TOTAL_VARIATION = "target/total_variation"
TARGET_REACHED = "target/reached"
TARGET_REACHED_BEST = "target/reached_best"
TARGET_RMSE = "target/rmse"
TARGET_RMSE_UNRELATED = "target/rmse_unrelated"
TARGET_SSIM = "target/ssim"
TARGET_SSIM_UNRELATED = "target/ssim_unrelated"
TARGET_SPREAD = "target/spread"
TARGET_AGREEMENT = "target/agreement"
TARGET_AGREEMENT_NOISE = "target/agreement_noise"

CLASSIFIER_LOSS = "classifier/loss"
CLASSIFIER_VAL_ACCURACY = "classifier/val_accuracy"
CLASSIFIER_TEST_ACCURACY = "classifier/test_accuracy"
CLASSIFIER_TRAIN_ACCURACY = "classifier/train_accuracy"

COST = "cost/"
"""Beginning of all names below, which a run reports once."""
SECONDS = "cost/seconds"
TRAINING_SECONDS = "cost/training_seconds"
CLASSIFIER_TRAINING_SECONDS = "cost/classifier_training_seconds"
IMAGES_PER_SECOND = "cost/images_per_second"
PEAK_MEMORY_MB = "cost/peak_memory_mb"
GENERATOR_PARAMETERS = "cost/generator_parameters"
CLASSIFIER_FORWARDS = "cost/classifier_forwards"
CLASSIFIER_BACKWARDS = "cost/classifier_backwards"
QUERIES = "cost/queries"
"""Number of images that the optimisation sent to a black box."""

LOSS_TOTAL = "loss/total"

SAMPLES_GRID = "samples/grid"
SAMPLES_TABLE = "samples/table"

STEP = "trainer/global_step"
"""The x axis of W&B's charts."""


def loss(term: str) -> str:
    """Name of a term of the objective, logged unweighted."""
    return f"loss/{term}"


def excess(term: str) -> str:
    """Name of the excess of a term over its smallest possible value."""
    return f"{loss(term)}_excess"


def of_network(name: str, network: str) -> str:
    """Name of a metric of one network; "" is the inverted classifier."""
    return f"{name}/{network}" if network else name


def target_error(row: int) -> str:
    """Name of the mean error of the images of one target."""
    return f"target/error_of/{row}"


def activation(images: str, what: str) -> str:
    """Name of the mean or the 99th percentile of a target neuron over a set of images."""
    return f"target/{images}_{what}"


def stability(disturbance: str) -> str:
    """Name of the inversion accuracy after a disturbance of `metrics.stability.DISTURBANCES`."""
    return f"stability/{disturbance}"


def class_accuracy(label: str, of: str = INVERSION_ACCURACY) -> str:
    """Name of the accuracy of one class: of the inversion, or of the transfer."""
    return f"{of}_class/{label}"


OF_CLASSES = tuple(
    class_accuracy("", of) for of in (INVERSION_ACCURACY, TRANSFER_ACCURACY, TRANSFER_ACCURACY_HOT)
)
"""Beginnings of the names of metrics of one class."""


def generator(name: str, g: int) -> str:
    """Name of a metric of one of several generators."""
    return f"{name}_generator/{g}"


def interpretation(what: str, *of: object) -> str:
    """Name of a metric of a feature study, from the quantity and what it describes."""
    return "/".join(["interpretation", what, *map(str, of)])


CLUSTERS = interpretation("clusters")
"""Mean number of clusters per class in feature space."""


OOD_MEAN_AUROC = "ood/best/mean/auroc"
"""Largest mean AUROC of a detector over the sets. It is an upper bound, because the detector is
selected on these sets."""


PLAIN = "plain"
"""Name of the classifier without a garbage class."""
OWN = "own"
"""Name of the in-distribution data in metrics and tables."""
RESERVED = (OWN, "mean", "best")
"""Names that a data set must not have, because they are in names of metrics."""


def ood(score: str, dataset: str, what: str) -> str:
    """Name of a metric of a score that separates a data set from in-distribution data."""
    return f"ood/{score}/{dataset}/{what}"


OOD_ECE = ood(PLAIN, OWN, "ece")
OOD_BRIER = ood(PLAIN, OWN, "brier")
"""Calibration of the classifier without a garbage class on in-distribution test images."""


def ood_gain(direction: str, norm: str) -> str:
    """Name of the mean gain in AUROC of a perturbation norm, relative to Linf at equal RMS."""
    return f"ood/shifts/{direction}_{norm}/gain"


def garbage(classifier: str, what: str) -> str:
    """Name of a metric of the training of a classifier with a garbage class."""
    return f"garbage/{classifier}/{what}"


def reconstruction(what: str, *of: object) -> str:
    """Name of a metric of the comparison of reconstructions with real images."""
    return "/".join(["reconstruction", what, *map(str, of)])


def membership(what: str) -> str:
    """Name of a rate of membership inference by the loss."""
    return f"membership/{what}"


def audit(what: str) -> str:
    """Name of a number of an audit as a whole."""
    return f"audit/{what}"


AUDIT_LEAK = audit("leak")
"""1 if the verdict of an audit is that training images leak, otherwise 0."""

RECONSTRUCTION_AUC = reconstruction("auc")
"""Probability that a member is nearer to the reconstructions than a non-member; 0.5: no leak."""

RECONSTRUCTION_STUDENT = reconstruction("student_accuracy")
"""Accuracy on real test images of a network that was trained on reconstructions only."""


LEAKAGE_PSNR = "leakage/psnr"
LEAKAGE_PSNR_CONTROL = "leakage/psnr_control"
LEAKAGE_LABELS = "leakage/labels"
"""Self-test of `method=gradient_leakage`: the reconstructed batch against the true one."""


STUDENT_ACCURACY = "student/accuracy"
STUDENT_AGREEMENT = "student/agreement"
STUDENT_AGREEMENT_FRESH = "student/agreement_fresh"
"""Student trained on inverted images: agreement on real test images and on new inverted images."""
STUDENT_LOSS = "student/loss"
TEACHER_ACCURACY = "student/teacher_accuracy"


def noise_student(what: str) -> str:
    """Name of a metric of the control, a student that was trained on noise."""
    return f"student/noise_{what}"


COUNTERFEIT_SUCCESS = "counterfeit/success"
"""Share of the images that the classifier assigns to their class with enough confidence."""
COUNTERFEIT_UNRECOGNISED = "counterfeit/unrecognised"
"""Share of the counterfeits that no other network assigns to their class."""


def counterfeit(images: str, what: str) -> str:
    """Name of a metric of the counterfeits, or of a set that they are compared with."""
    return f"counterfeit/{images}/{what}"


def finetune(arm: str, what: str) -> str:
    """Name of a metric of the classifier before fine-tuning, or after one kind of fine-tuning."""
    return f"finetune/{arm}/{what}"


FINETUNE_ACCURACY = finetune("inverted", "accuracy")


def figure(stem: str) -> str:
    """Name of a figure of a study."""
    return f"figures/{stem}"
