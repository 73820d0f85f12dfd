"""Invalid command lines and environments in named groups.

`{inputs}` stands for the folder that `inputs.py` fills.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from experiments.robustness.inputs import DAMAGES


@dataclass(frozen=True)
class Case:
    """One invalid command.

    Attributes:
        group: Kind of mistake.
        words: Command-line arguments of `netinv`.
        environment: Environment variables that are set.
    """

    group: str
    words: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join(
            [
                *(f"{name}={value}" for name, value in self.environment.items()),
                *(word or "''" for word in self.words),
            ]
        )


NUMBERS = """
seed=-1|seed=4294967296|seed=4294967295 n_generators=2|seed=nan|seed=1.5|seed=null|recipe.seed=-1|data.split_seed=-1
data.split_seed=4294967296|interpret.embedding_seeds=[-1]|interpret.embedding_seeds=[0,4294967296]|n_generators=0|n_generators=-2
application=benchmark application.seeds=[0,-1]|application.betas=[0.5,1]|application.betas=[-0.1,0.9]|application.betas=[0.5]
application.betas=[0.5,0.9,0.99]|application.betas=[nan,0.9]|application.lr=0|application.lr=-1|application.lr=nan|application.lr=inf
application.lr=fast|application.lr=true|application.weight_decay=-1|application.weight_decay=nan|application.warmup=-1
application.final_lr=-0.1|application.final_lr=2|application.batch_size=1|application.batch_size=0|application.steps=0
application.eval_samples=0|application.eval_batch_size=0|application.keep_samples=0|application.grid_columns=0|application.grid_every=0
application.log_every=0|application.checkpoint_every=0|application.sampling_batch_norm=both|recipe.epochs=0|recipe.lr=0
recipe.momentum=-1|recipe.momentum=1.5|recipe.weight_decay=inf|recipe.l1=-1|recipe.label_smoothing=1.5|recipe.warmup=2
recipe.optimizer=adamm|conditioning.temperature=0|conditioning.temperature=nan|conditioning.temperature=-1|generator.dropout=1
generator.dropout=-0.5|generator.slope=nan|generator.weight_std=0|generator.seed_widths=[]|generator.image_widths=[24,0]
generator.latent_dim=0|generator.hidden=-4|perturbation.radius=-1|perturbation.radius=inf|perturbation.steps=0
perturbation.direction=sign perturbation.norm=l2|augmentation.shift=-1|augmentation.scale=1|augmentation.noise=nan
augmentation.rotation=1000|classifier.mean=[nan]|classifier.std=[0]|classifier.std=[-1]|classifier.channels=1 classifier.std=[1,1,1]
classifier.channels=5000|classifier.channels=0|classifier.num_classes=1|classifier.num_classes=-10|classifier.image_size=600
classifier.image_size=0|loss.kl.weight=nan|loss.kl.weight=-1|loss.kl.weight=true|+loss.ce.label_smoothing=2
+loss.cosine.absolute=3|loss=natural +loss.class_spread.pool=0|+trainer.gradient_clip_val=nan|data.batch_size=1|data.val_fraction=1
data.val_fraction=-0.1|data.val_fraction=nan|data.subset_size=1|data.shift=-1|data.shift=28|data.classes=[0]|data.classes=[0,0]
data.classes=[0,99]|method=gradient method.lr=0|method=gradient method.steps=0|method=gradient method.jitter=-1
method=kkt method.final_sharpness=1|method=kkt method.candidates=0|method=kkt method.sharpness=inf|interpret.perplexities=[0]
interpret.perplexities=[inf]|interpret.samples=50|interpret.sparse_active=1000|measure.samples=0
application=finetune application.run=x application.share=1.5|application=counterfeit application.run=x application.confidence=-1
application=distill application.run=x application.temperature=0|application=detect_ood application.strengths=[2]
application.compile=3|classifier.train=2|measure.full=-1|application.channels_last=0.5|interpret.full=7
garbage=inverted application=detect_ood garbage.inverted.zoom=0|application=approach application.vector=[nan,1]
trainer.devices=0|trainer.devices=-2|trainer.devices=two|trainer.devices=[0,-1]|+trainer.max_steps=0|+trainer.max_epochs=-2
+trainer.num_nodes=0|+trainer.accumulate_grad_batches=0|+trainer.gradient_clip_val=-1
method=gradient n_generators=2|method=kkt n_generators=2|method=kkt application.compile=true|method=kkt application.classes=[0,1]
"""
SIZES = """
classifier.num_classes=1000000000|application.eval_samples=1000000000000|application.keep_samples=1000000000|application.steps=1000000000
application.grid_columns=100000|application.batch_size=1000000000|application.eval_batch_size=1000000000|generator.latent_dim=1000000000
generator.hidden=1000000000|generator.image_widths=[1000000000]|n_generators=1000000|application.log_every=1000000000
data.batch_size=1000000000|recipe.epochs=1000000000|method=kkt method.candidates=1000000000000|measure.samples=1000000000000
application=reconstruct application.reconstructions=10000000 data=cifar10 classifier.zoo=cifar10_cnn
"""
NAMES = """
application=inver|application.name=inverts|application.stepz=3|+application.stepz=3|method=gradiant|method.name=gradients
loss=inversio|loss.cosin.weight=1|+loss.cosinus={weight: 1}|+loss.cosine.wieght=2|+loss.cosine.weights=2|~loss.cosinus
conditioning=vectr|conditioning.mode=vectr|conditioning.matrix=cross|conditioning.vectors=cold|generator=huge
generator.upsampling=bilinear|perturbation.norm=l3|perturbation.direction=up|classifier.zoo=mnist_cn|classifier=cnnn
application.verifiers=[mnist_mpl]|application.verifiers=[mnist_cnn]|data=minst|data.name=minst|logger=wandbb|logger.name=wandbb
measure.metrics=[acuracy]|measure.controls=[means]|interpret.analyses=[tsne]|application=audit application.attacks=[inversoin]
application=audit application.effort=quik|application=audit application.trained_on=al
application=detect_ood application.detectors=[]|application=detect_ood application.outliers=[noise]
application=detect_ood application.outliers=[mnist]|application=detect_ood application.outliers=[photos/]
application=detect_ood garbage=nois|application=approach application.target=sotf|application=finetune application.kind=labelz
trainer.precision=foo|trainer.precision=8|trainer.accelerator=tpu|trainer.accelerator=cpuu|+trainer.gradient_clip_algorithm=max
loss.cosine.layers=[penultimate]|+loss.cosine.layers=[penultimte]|+loss.orthogonality.layers=[conv9]|method=gradient +loss.l1.weight=1|method=kkt +loss.l1.weight=1
+trainer.max_stepz=3|trainer.max_steps=3|trainer.devicess=2|application=detect_ood application.detectors=[mps]
application=detect_ood application.detectors=[msp,mahalanobi]|classifier.feature_layers=[penultimte]|classifier.feature_layers=[hed]
interpret.layer=convolution|interpret.map_layer=hiden|application=approach application.layer=hiden|measure.metrics=[fidd]
classifier=mlp classifier.zoo=mnist_cnn|classifier=resnet classifier.zoo=mnist_mlp|classifier.zoo=mnist_cnn classifier.num_classes=5
classifier=cnn classifier.train=true +classifier.network.hiden=3
+experiment=mnist_invrt|experiment=mnist_invert|+sweep=conditioning|+data.foo=1|+a.b.c=1|hydra/launcher=nothing
"""
GRAMMAR = (
    ("classifier.path=epoch=3-step=100.ckpt",), ("data.path=a#b.npz",), ("data.path=~/images.npz",), ("data.path=bücher.npz",),
    ("data.path=日本.npz",), ("data.path=images[1].npz",), ("data.path=images(1).npz",), ("data.path=a{1}",), ("data.path=a&b",),
    ("data.path='a",), ('data.path="a',), ("data.path=a;b",), ("data.path=a!b",), ("application.run=runs/a,b",), ("seed=1,2",),
    ("data=mnist,svhn",), ("application.verifiers=mnist_mlp,mnist_resnet",), ("seed=[1",), ("loss.kl={weight: 1",), ("seed==3",), ("",),
    (" ",), ("=3",), ("a b=3",), ("größe=3",), ("--unknown-flag",), ("--cfg=everything",), ("-x",), ("--multirun=3",), ("reprot",),
    ("exlpore", "runs/latest"), ("hlep",), ("help", "loss.cosin"), ("list", "experimets"), ("monitor=erly_stopping",), ("monitor.patience=0",), ("monitor.mode=up",), ("application.recompute=maybe",), ("+debug=fsat",), ("--dry-run",), ("+seed=3",), ("~seeed",), ("~seed",), ("~seed=5",), ("seed=range(3)",), ("data=null",),
    ("name=null",), ("data.path=${nothing}",), ("data.root=${oc.env:NOT_SET}",), ("hydra.foo=1",), ("retry",), ("retry", "nowhere"),
    ("report",), ("report", "nowhere"), ("explore",), ("explore", "nowhere"), ("dashboard", "--nothing"),
)  # fmt: skip
FILES = """
classifier=checkpoint classifier.path=gone.safetensors|classifier=checkpoint classifier.path={inputs}/empty.pt
classifier=checkpoint classifier.path={inputs}/empty.safetensors|classifier=checkpoint classifier.path={inputs}/folder.pt
classifier=cnn classifier.path={inputs}/cut.safetensors|classifier=cnn classifier.path={inputs}/longer.safetensors
classifier=cnn classifier.path={inputs}/header.safetensors|classifier=cnn classifier.path={inputs}/text.safetensors
classifier=checkpoint classifier.path={inputs}/foreign.pt|classifier.path={inputs}/foreign.pt
classifier=checkpoint classifier.path=/dev/null|application=train_classifier classifier=cnn data=npz
application=train_classifier classifier=cnn data=npz data.path=gone.npz
application=train_classifier classifier=cnn data=npz data.path={inputs}/cut.npz
application=train_classifier classifier=cnn data=npz data.path={inputs}/text.npz
application=train_classifier classifier=cnn data=npz data.path={inputs}/empty.npz
application=train_classifier classifier=cnn data=npz data.path={inputs}/pickle.npz
application=train_classifier classifier=cnn data=npz data.path={inputs}/folder.pt
application=train_classifier classifier=cnn data=npz data.path={inputs}/good.npz data.test_path=gone.npz
application=train_classifier classifier=cnn data=image_folder data.path=gone
application=train_classifier classifier=cnn data=image_folder data.path={inputs}/good.npz
application=train_classifier classifier=cnn data=image_folder data.path={inputs}/no_classes
application=train_classifier classifier=cnn data=mnist5k application.save_as=/proc/a.safetensors
application=train_classifier classifier=cnn data=mnist5k application.save_as=/proc/a/b.safetensors
application=train_classifier classifier=cnn data=mnist5k application.save_as={inputs}/good.npz/a.safetensors
application=train_classifier classifier=cnn data=mnist5k application.save_as={inputs}/cut.safetensors
application=train_classifier classifier=cnn data=mnist5k application.save_as={inputs}/folder.pt
application=train_classifier classifier=cnn data=mnist5k application.save_as=model.bin
application=train_classifier data=mnist5k|application=approach application.target=features application.file=gone.safetensors
application=approach application.target=features application.file={inputs}/cut.safetensors
application=measure|application=measure application.samples=gone.safetensors|application=measure application.samples={inputs}/text.npz
application=interpret|application=distill|application=counterfeit|application=finetune|resume=nowhere|output=/proc/nowhere
classifier.train=true|classifier=cnn classifier.train=true classifier.path=x.pt|classifier=mlp classifier.path={inputs}/foreign.safetensors
application=train_classifier classifier=cnn data=svhn_head data.root={inputs}
application=train_classifier classifier=cnn data=cifar100_subset data.root={inputs}
application=detect_ood data=svhn_head_clean classifier.zoo=svhn_head_cnn data.root={inputs}
application=train_classifier classifier=cnn data=npz data.path={inputs}/labels_with_a_gap.npz
application=train_classifier classifier=cnn data=npz data.path={inputs}/labels_from_1.npz
application=train_classifier classifier=cnn data=npz data.path={inputs}/labels_with_a_gap.npz data.classes=[0,2]
"""
LOGGERS = (
    f"+logger.tags={{{'x' * 65}: true}}", "logger.project=a/b", "logger.project=" + "p" * 129, "logger.entity=a b", "name=" + "n" * 130,
    "logger.mode=offlin", "logger.group=" + "g" * 129,
)  # fmt: skip
ENVIRONMENTS = (
    {"RANK": "1"}, {"LOCAL_RANK": "1"}, {"SLURM_PROCID": "1"}, {"RANK": "1", "WORLD_SIZE": "2"},
    {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
    {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a"},
    {"RANK": "first"}, {"RANK": ""}, {"WORLD_SIZE": "two"}, {"LOCAL_RANK": "-1"}, {"TORCHELASTIC_RUN_ID": "none"},
    {"HOME": "{inputs}/nowhere", "RANK": "1"}, {"TMPDIR": "{inputs}/nowhere", "RANK": "1"},
    {"COLUMNS": "0", "TERM": "dumb", "RANK": "1"}, {"HOME": "/proc", "XDG_CACHE_HOME": "/proc", "RANK": "1"},
    {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, {"MASTER_PORT": "http"},
)  # fmt: skip
RESUMED = (
    "config_gone",
    "config_empty",
    "config_not_YAML",
    "config_a_list",
    "unknown_key",
    "unknown_method",
    "unknown_loss",
)
OF_RUNS = ("explore", "measure", "interpret", "distill", "counterfeit", "finetune")


def _lines(group: str, text: str) -> Iterator[Case]:
    for words in text.replace("\n", "|").split("|"):
        if words:
            merged: list[str] = []
            for word in words.split(" "):  # blanks inside braces do not separate words
                if merged and merged[-1].count("{") > merged[-1].count("}"):
                    merged[-1] += f" {word}"
                else:
                    merged.append(word)
            yield Case(group, tuple(merged))


def all_cases() -> list[Case]:
    """Return all cases, in the order of the table."""
    damaged = [name.replace(" ", "_") for name in DAMAGES]
    return [
        *_lines("names", NAMES),
        *(Case("grammar", words) for words in GRAMMAR),
        *_lines("files and places", FILES),
        *(Case("loggers", ("logger=wandb", "logger.mode=offline", word)) for word in LOGGERS),
        *(Case("environment", ("data=mnist",), variables) for variables in ENVIRONMENTS),
        Case("environment", ("logger=wandb",), {"WANDB_MODE": "of"}),
        Case("loggers", ("logger=wandb", "logger.mode=online"), {"HOME": "{inputs}/nowhere"}),
        # Two commands per kind of damage, in turn; then `resume=` with each damage that it reads.
        *(
            Case("finished runs", _command(OF_RUNS[(number + turn) % len(OF_RUNS)], f"{{inputs}}/damaged/{name}"))
            for number, name in enumerate(damaged)
            for turn in range(2)
        ),
        *(Case("finished runs", (f"resume={{inputs}}/damaged/{name}",)) for name in RESUMED),
        *(
            Case("finished runs", (f"resume={{inputs}}/damaged/{name}", "application.steps=20"))
            for name in damaged
            if name.startswith("checkpoint_") and name != "checkpoint_gone"
        ),
        *_lines("numbers", NUMBERS),
        *_lines("sizes", SIZES),
    ]  # fmt: skip


def _command(command: str, run: str) -> tuple[str, ...]:
    return (
        ("explore", run)
        if command == "explore"
        else (f"application={command}", f"application.run={run}")
    )
