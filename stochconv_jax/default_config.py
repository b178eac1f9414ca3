"""Every key, its unit and its default. A key exists here or nowhere; other configs change a few lines of this one.

What a value may be is in config_rules.py, one rule a key. The config itself takes any value of any type, for the rules
read more than the default's own type: an image_size of 512, say.

The defaults are the full split model trained as in the project report (2021), on a folder of images.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """The default config."""
    return ConfigDict(
        {
            "seed": 0,  # of everything random: initial weights, order, augmentation, windows, dropout
            "num_epochs": 60,
            "batch_size": 100,  # images in a step, over all devices of all hosts
            "model": model(),
            "init": {
                "weights": "",  # Keras EfficientNet weights to start from, .h5 or .weights.h5; '' starts at random
            },
            "distributed": distributed(),
            "data": data(),
            "augment": augment(),
            "optimizer": optimizer(),
            "sharding": {
                # And the optimiser's state: replicated, whole on every device | sharded, split along the longest axis
                # that the devices divide and gathered in each step: less memory, more traffic, equal to rounding.
                "parameters": "replicated",
            },
            "loss": {
                "label_smoothing": 0.0,  # share of the target spread evenly over the classes
                "class_weights": (),  # one weight a class, 0 or more, e.g. (1.0, 5.0); () weighs all alike
            },
            "checkpoint": {
                "best_metric": "val_roc_auc",  # column of metrics.csv: *_loss is minimised, the others maximised
                "every_steps": 0,  # steps between saves inside an epoch; 0: at the end of each epoch only
                "grace_seconds": 100.0,  # from SIGTERM, or an error, to the end; also the longest wait for a save
            },
            "eval": {
                "batch_size": 100,  # images in a batch, over all devices; rounded up to a multiple of the devices
                "passes": 1,  # draws of windows an image; the probability is their mean
                "checkpoint": "best",  # best | last | the number of a saved step: what evaluate and predict restore
                "path": "",  # evaluate: folder of a test set's images; '': data.path
                "labels": "",  # evaluate: CSV of a test set, all of which is measured; '': the validation images
                # evaluate: folder to write into, in the run folder unless it is an absolute path; '': the run folder
                # itself, and of a test set test_NAME in it, by the name of eval.labels.
                "output": "",
            },
            "predict": {
                "output": "predicted.csv",  # file to write, in the run folder unless it is an absolute path
                "images": "",  # a folder, a glob pattern, or a table (CSV) with a column of image names
            },
            "plan": {
                "topology": "",  # to compile for: '' nothing, 'devices' those here, or such as 'v5e:16x16', 'h100:1x8'
                "largest_batch": True,  # search for the largest batch that fits, by up to three more compilations
            },
            "prepare": prepare(),
            "report": {
                # Model to compare with, by its name in the table; '': what the runs' own configs say here, as those of
                # an ablation do, else the smallest thumbnail-only one.
                "baseline": "",
                "output": "",  # folder to write into, in --workdir unless it is an absolute path; '': --workdir
            },
            "sweep": {
                "seeds": (0, 1, 2, 3, 4),  # each variant runs once with each
                "shard": "1/1",  # share of the runs that this process takes, e.g. '2/8' of the second of eight jobs
                "passes": 1,  # draws of windows an image when the trained run is evaluated; 0: it is not
            },
            "show": {
                "images": "",  # as predict.images; '': of the validation images
                "count": 3,  # the first so many of the validation images
                "topics": ("augmentation", "windows", "coverage", "sampling", "filters", "relevance"),  # what to draw
                "passes": 256,  # draws of windows that a relevance map is estimated from
                "output": "show",  # folder to write into, in the run folder unless it is an absolute path
            },
            "log_every_seconds": 10.0,  # between progress lines
            "compilation_cache": "~/.cache/stochconv_jax",  # folder of compiled programs; '' keeps none
        },
        type_safe=False,
    )


def distributed() -> ConfigDict:
    """The processes that train, evaluate or predict together. Where SLURM, MPI, a TPU VM or variables such as
    JAX_COORDINATOR_ADDRESS say it, the first three need not be set.
    """
    return ConfigDict(
        {
            "coordinator": "",  # host:port of process 0, where the others can reach it
            "num_processes": config_dict.placeholder(int),  # 1: this one alone, whatever the environment says
            "process_id": config_dict.placeholder(int),  # 0 .. num_processes - 1: this one
            "timeout_seconds": 300,  # longest wait for another process; 100 at most for one that has died on the way
        },
        type_safe=False,
    )


def model() -> ConfigDict:
    """What network."""
    return ConfigDict(
        {
            "variant": "b0",  # b0 .. b7 | b0_wide_stem | tiny
            "branches": ("thumbnail", "windows"),  # one of them or both
            "merge_after": "head",  # where two branches meet: after stage '0' (the stem) .. '7', or 'head'
            "sampling": "per_image",  # who gets windows of its own: per_image | per_batch | shared
            "axes": "independent",  # independent | diagonal: one draw for both axes, as the report's published code
            "dropout": 0.3,  # rate before the dense layer
            "stochastic_depth": 0.2,  # rate that the last block approaches; earlier blocks in proportion
            "conventions": "official",  # official | as_published: of the blocks, as the report's published code
            "batch_norm_momentum": 0.99,  # share of the running statistics kept each step
            "dtype": "float32",  # of activations: float32 | bfloat16; parameters and statistics are float32
            "remat": False,  # recompute each stage in the backward pass: less memory, the same numbers
        },
        type_safe=False,
    )


def data() -> ConfigDict:
    """Which images, at which sizes."""
    return ConfigDict(
        {
            "seed": 0,  # of the split and of drawn images; apart from `seed`, so that other runs see the same data
            "source": "folder",  # folder | tfds: what --mode=prepare has made | synthetic
            "path": "",  # folder: where the images are; tfds: --workdir of --mode=prepare
            "labels": "",  # folder: table (CSV) of the images and their classes
            "validation_labels": "",  # folder: table of the validation images; '' splits `labels`
            "image_column": "",  # of tables: the column of image names; '': image, image_name, image_id or isic_id
            "target_column": "target",  # of tables: the column of classes 0, 1, ...
            "validation_fraction": 0.2,  # share of the images that validate, where they are split
            "fold": "",  # '2/5' validates on the second of five folds instead of a share
            "group_by": "",  # CSV column whose equal values stay on one side of the split, e.g. patient_id
            "stratify_by": "",  # CSV column kept in proportion on both sides, beside the target
            "num_classes": 2,  # 2: one logit and binary cross-entropy; more: softmax
            "image_size": (1024, 1024),  # pixels, height and width of the full-resolution image; 512 or 512x768 will do
            "thumbnail_size": (224, 224),  # pixels, height and width, likewise
            "order": "shuffled",  # shuffled: every image once an epoch | balanced: every class in the same share
            "num_train": 640,  # synthetic: number of training images
            "num_validation": 200,  # synthetic: number of validation images
            "num_workers": 2,  # processes that read and augment; 0: threads of the main process
            "timeout_seconds": 600.0,  # longest wait for a batch; then the run ends and names the batch's images
            "on_bad_image": "error",  # error | skip: replace it by another, count it and list it
            # Of all images before the first step: headers, that each file is there and says a size that will do | full,
            # that each can be decoded | none. A validation image that is a copy of a training image is refused.
            "check": "headers",
            "hash_distance": -1,  # bits of 64 in which the looks of such copies may differ; -1: same bytes alone
        },
        type_safe=False,
    )


def prepare() -> ConfigDict:
    """How --mode=prepare makes a data set of the ISIC archives' files. Folders and files: several by commas."""
    return ConfigDict(
        {
            "raw": "",  # folders of the original images, searched with all below them; '' makes the tables alone
            "labels": "",  # label, metadata and duplicates CSVs: files, folders or patterns; '': those in `raw`
            "rule": "report",  # what a class is: report | melanoma_only | categories | a list such as 'MEL=1,NV=0'
            "size": 1024,  # pixels, of both sides; images with a smaller side are dropped
            "crop": "report",  # report: above 3048 pixels to 2048, then squeezed | square: the middle, in proportion
            "jpeg_quality": 95,  # 1..100
            "formats": ("folder", "tfds"),  # plain files and a CSV | ArrayRecord shards; one of them or both
            "hash_distance": -1,  # bits of 64 in which the looks of duplicates may differ; -1 does not compare looks
            "images_per_shard": 256,
            "folds": 5,  # of splits.csv
            "num_workers": 0,  # processes; 0: one a core
        },
        type_safe=False,
    )


def augment() -> ConfigDict:
    """Augmentation of training images; one affine warp does the geometry. Angles in degrees."""
    return ConfigDict(
        {
            "area": (0.6, 1.0),  # share of the image's area in the random crop, from and to
            "aspect": (0.75, 4 / 3),  # width / height of the crop relative to the image's, from and to
            "flip": True,  # left-right and up-down, each with probability 1/2
            "rotation": 180.0,  # uniform in +- this
            "brightness": 0.0,  # factor uniform in 1 +- this; 0: off
            "contrast": 0.0,  # likewise, about middle grey
            "saturation": 0.0,  # likewise
            "cutout": 0.0,  # share of the image that a square hides; 0: off
            "mixup": 0.0,  # parameter of the beta distribution, e.g. 0.2; each image is then read for two; 0: off
        },
        type_safe=False,
    )


def optimizer() -> ConfigDict:
    """How the parameters move. Epochs may be fractions."""
    return ConfigDict(
        {
            "name": "rmsprop",  # rmsprop | adamw | sgd
            "learning_rate": 1e-3,  # at its highest
            "schedule": "exponential",  # constant | exponential | cosine
            "warmup_epochs": 0.0,  # linear from zero
            "decay_start_epoch": 15.0,  # exponential: the first decay comes at the end of this epoch
            "decay_every_epochs": 1.0,  # exponential: and the next ones this far apart
            "decay_rate": 0.9,  # exponential: factor of each
            "momentum": 0.0,  # rmsprop, sgd
            "rms_decay": 0.99,  # rmsprop: share of the mean square kept each step
            "epsilon": 1e-8,  # rmsprop, adamw: added to the root
            "weight_decay": 0.0,  # times the learning rate; on kernels, not on biases or batch norm
            "clip_norm": config_dict.placeholder(float),  # largest global norm of the gradient
            # Parts in which a step takes its batch, one after the other, to save memory. The gradient is the whole
            # batch's; batch norm is over each part, and their running statistics are averaged.
            "accumulate_steps": 1,
            "ema_decay": config_dict.placeholder(float),  # of averaged parameters and statistics, used to evaluate
        },
        type_safe=False,
    )
