"""Every metric's name, in one place: modules, summaries, sweeps and dashboards read it from here."""

from __future__ import annotations

INVERSION_ACCURACY = "inversion/accuracy"
INVERSION_ACCURACY_HOT = "inversion/accuracy_hot"
INVERSION_ACCURACY_TRAIN = "inversion/accuracy_train"
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
TRANSFER_CEILING = "transfer/ceiling"

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

SECONDS = "cost/seconds"
TRAINING_SECONDS = "cost/training_seconds"
CLASSIFIER_TRAINING_SECONDS = "cost/classifier_training_seconds"
IMAGES_PER_SECOND = "cost/images_per_second"
PEAK_MEMORY_MB = "cost/peak_memory_mb"
GENERATOR_PARAMETERS = "cost/generator_parameters"
CLASSIFIER_FORWARDS = "cost/classifier_forwards"
CLASSIFIER_BACKWARDS = "cost/classifier_backwards"

LOSS_TOTAL = "loss/total"

SAMPLES_GRID = "samples/grid"
SAMPLES_TABLE = "samples/table"

STEP = "trainer/global_step"
"""The axis that W&B shows everything over."""


def loss(term: str) -> str:
    """Name of a term of the objective, logged unweighted."""
    return f"loss/{term}"


def excess(term: str) -> str:
    """Name of a term's distance to the least value that it can have."""
    return f"{loss(term)}_excess"


def of_network(name: str, network: str) -> str:
    """Name of a metric by the logits or in the penultimate features of one network."""
    return f"{name}/{network}"


def target_error(row: int) -> str:
    """Name of the mean error of the images of one target."""
    return f"target/error_of/{row}"


def activation(images: str, what: str) -> str:
    """Name of the mean or the 99th percentile of a target neuron over a set of images."""
    return f"target/{images}_{what}"


def stability(disturbance: str) -> str:
    """Name of the inversion accuracy that is left after a disturbance, one of `metrics.stability.DISTURBANCES`."""
    return f"stability/{disturbance}"


def class_accuracy(label: str) -> str:
    return f"{INVERSION_ACCURACY}_class/{label}"


def generator(name: str, g: int) -> str:
    """Name of a metric of one of several generators."""
    return f"{name}_generator/{g}"


def interpretation(what: str, *of: object) -> str:
    """Name of a number of a study of features: what it is, and of what."""
    return "/".join(["interpretation", what, *map(str, of)])


CLUSTERS = interpretation("clusters")
"""Mean number of clusters a class, counted in feature space."""


OOD_MEAN_AUROC = "ood/best/mean/auroc"
"""Mean over the sets of the AUROC of the detector that is best in it: chosen on these very sets, so an upper bound."""


def ood(score: str, dataset: str, what: str) -> str:
    """Name of how well a score tells a set from the classifier's own data."""
    return f"ood/{score}/{dataset}/{what}"


OOD_ECE = ood("plain", "own", "ece")
OOD_BRIER = ood("plain", "own", "brier")
"""Calibration of the classifier without a garbage class, on its own test images."""


def ood_gain(direction: str, norm: str) -> str:
    """Name of how much better perturbations of a norm are detected than those of Linf at equal RMS, a mean difference of AUROC."""
    return f"ood/shifts/{direction}_{norm}/gain"


def garbage(classifier: str, what: str) -> str:
    """Name of a number of the training of a classifier with a garbage class."""
    return f"garbage/{classifier}/{what}"


def reconstruction(what: str, *of: object) -> str:
    """Name of a number of the comparison of reconstructions with training and held-out images: what it is, and of what."""
    return "/".join(["reconstruction", what, *map(str, of)])


RECONSTRUCTION_AUC = reconstruction("auc")
"""Chance that a training image is nearer to the reconstructions than a held-out image; 0.5 where nothing is given away."""

RECONSTRUCTION_STUDENT = reconstruction("student_accuracy")
"""Accuracy on real test images of a network that learnt from reconstructions alone."""


STUDENT_ACCURACY = "student/accuracy"
STUDENT_AGREEMENT = "student/agreement"
STUDENT_AGREEMENT_FRESH = "student/agreement_fresh"
"""Of a student that learnt on inverted images: on real test images, and on fresh inverted ones."""
STUDENT_LOSS = "student/loss"
TEACHER_ACCURACY = "student/teacher_accuracy"


def noise_student(what: str) -> str:
    """Name of a number of the control, a student that learnt on noise."""
    return f"student/noise_{what}"


COUNTERFEIT_SUCCESS = "counterfeit/success"
"""Share of the images that the classifier takes for their class with the confidence asked for."""
COUNTERFEIT_UNRECOGNISED = "counterfeit/unrecognised"
"""Share of the counterfeits that no other network takes for their class."""


def counterfeit(images: str, what: str) -> str:
    """Name of a number of a set of images that are compared with counterfeits, or of these."""
    return f"counterfeit/{images}/{what}"


def finetune(arm: str, what: str) -> str:
    """Name of what a classifier is before fine-tuning, or after one of its kinds."""
    return f"finetune/{arm}/{what}"


FINETUNE_ACCURACY = finetune("inverted", "accuracy")


def figure(stem: str) -> str:
    """Name under which a figure of a study appears."""
    return f"figures/{stem}"
