"""The default config: every key with its unit, what it is for and its default.

A key is defined here or it does not exist. Other configs change some values of this one. The values that a key accepts
are in config_rules.py, one rule for each key. The config itself accepts any value of any type, because a rule may read
more types than the default's own, such as an image_size of 512.

The defaults are the full split model of the project report (2021), trained as in the report on a folder of images.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """Returns the default config."""
    return ConfigDict(
        {
            "seed": 0,  # of everything random in a run: initial weights, order, augmentation, windows, dropout
            "num_epochs": 60,  # the report's length; a run may go on with more, unless its schedule is cosine
            "batch_size": 100,  # images per step, over all devices of all hosts
            "model": model(),
            "init": {
                # Weights of an EfficientNet to start from: a file, .safetensors (timm, torchvision) or .h5 (Keras); a
                # name, such as 'timm/tf_efficientnet_b0.ns_jft_in1k' or 'keras/efficientnetb0'; or 'auto', timm's
                # ImageNet weights of model.variant. '': random weights.
                "weights": "",
                # Folder of a run to start from, which may have other classes, branches or another merge_after: what
                # fits is taken from the checkpoint that its eval.checkpoint names, and the rest is logged. '': none.
                "run": "",
            },
            "distributed": distributed(),
            "data": data(),
            "augment": augment(),
            "optimizer": optimizer(),
            "sharding": {
                # Placement of parameters and optimiser state. replicated: a full copy on every device. sharded: each
                # array is split along its longest axis that the number of devices divides, and gathered in each step.
                # Sharding takes less memory and more communication; the results are equal to rounding.
                "parameters": "replicated",
            },
            "loss": {
                "label_smoothing": 0.0,  # share of the target that is spread evenly over the classes
                # Power of the focal loss, 2 in its paper; 0: the cross-entropy, which val_loss is always.
                "focal_gamma": 0.0,
                # Weight of each class in the loss, 0 or more, e.g. (1.0, 5.0); (): all equal; 'balanced': the number of
                # training images divided by the number of classes and by that of the class's own images.
                "class_weights": (),
            },
            "checkpoint": {
                # Column of metrics.csv whose maximum, or minimum of a *_loss, is the best checkpoint.
                "best_metric": "val_roc_auc",
                # Epochs without an improvement of best_metric after which training ends early; 0: it does not.
                "patience": 0,
                "every_steps": 0,  # steps between saves within an epoch; 0: save at the end of each epoch only
                # Seconds that a process has to end after SIGTERM or an error, and the longest wait for a save.
                "grace_seconds": 100.0,
            },
            "eval": {
                "batch_size": 100,  # images per batch, over all devices; rounded up to a multiple of the devices
                "passes": 1,  # draws of windows per image; their probabilities are averaged
                # evaluate, predict, export: views of each image whose probabilities are averaged, each with `passes`
                # draws of windows. 1: the image. 2: its left-right flip too. 4: both flips. 8: quarter turns too.
                "views": 1,
                "checkpoint": "best",  # best | last | number of a saved step; what evaluate, predict and show restore
                "path": "",  # evaluate: folder of the images of a test set; '': data.path
                # evaluate: CSV of a test set, all of whose images are evaluated. '': the class folders in `path`, or in
                # its subfolder test; without a `path`, the validation images.
                "labels": "",
                # evaluate: folder to write into, relative to the run folder or absolute. '': the run folder for the
                # validation images, and its subfolder test_NAME for a test set, where NAME is that of eval.labels or,
                # without it, of eval.path.
                "output": "",
                "sensitivity": 0.95,  # to class 1 of two, of the threshold 'sensitivity' on the validation images
                "coverage": 0.9,  # share of the images of each class whose prediction sets contain that class
            },
            "predict": {
                "output": "predicted.csv",  # file to write, relative to the run folder or absolute
                "images": "",  # images to predict: a folder, a glob pattern, or a CSV with a column of image names
            },
            "export": {
                "formats": ("stablehlo", "onnx"),  # files to write, beside model_card.md
                "platforms": ("cpu", "cuda", "tpu"),  # machines that the StableHLO file runs on
                "output": "export",  # folder to write into, relative to the run folder or absolute
            },
            "plan": {
                # Machine to compile for: a TPU such as 'v5e:16x16', GPUs such as 'h100:1x8', 'devices' for those of
                # this process, or '' to count parameters and multiply-adds only.
                "topology": "",
                "largest_batch": True,  # search for the largest batch that fits, with up to three more compilations
            },
            "prepare": prepare(),
            "report": {
                # Name of the model, as the report's table has it, that the others are compared with. '': the one that
                # the runs' own configs name here, as ablations do, else the smallest model with a thumbnail only.
                "baseline": "",
                "output": "",  # folder to write into, relative to --workdir or absolute; '': --workdir itself
            },
            "sweep": {
                "variants": (),  # names of the ablation's variants to train; (): all
                "seeds": (0, 1, 2, 3, 4),  # each variant is trained once with each seed
                "folds": 0,  # number of folds, each of which validates the runs of its own; 0: data.fold as it is
                "shard": "1/1",  # part of the runs that this process does, e.g. '2/8' in the second of eight jobs
                "passes": 1,  # draws of windows per image when a trained run is evaluated; 0: no evaluation
            },
            "show": {
                "images": "",  # images to draw, given as in predict.images; '': validation images
                "count": 3,  # number of validation images, from the first on
                # Figures to draw; also suitability.
                "topics": ("augmentation", "windows", "coverage", "sampling", "filters", "relevance"),
                "detail": 0,  # suitability: size in pixels of what decides; 0: estimated from validation images
                "places": 1.0,  # suitability: mean number of places of an image that show such a detail
                "passes": 256,  # draws of windows per relevance map; more of them make the map less noisy
                "output": "show",  # folder to write into, relative to the run folder or absolute
            },
            # Programs that draw the figures of metrics.csv: tensorboard, clu (by TensorFlow), wandb, mlflow; (): none.
            "log": {"trackers": ("tensorboard",)},
            "log_every_seconds": 10.0,  # seconds between progress lines
            "compilation_cache": "~/.cache/stochconv_jax",  # folder of compiled programs for later starts; '': none
        },
        type_safe=False,
    )


def distributed() -> ConfigDict:
    """Returns the settings of a run by several processes.

    The first three need not be set where a launcher or the environment gives them: SLURM, MPI, a TPU VM, or variables
    such as JAX_COORDINATOR_ADDRESS.
    """
    return ConfigDict(
        {
            "coordinator": "",  # host:port of process 0, reachable from the others; '': from the environment
            "num_processes": config_dict.placeholder(int),  # None: from the environment; 1: no other process
            "process_id": config_dict.placeholder(int),  # of this process, 0 .. num_processes - 1; None: as above
            # Seconds to wait for a process that starts late. For one that has died the wait is at most 100 s.
            "timeout_seconds": 300,
        },
        type_safe=False,
    )


def model() -> ConfigDict:
    """Returns the settings of the network."""
    return ConfigDict(
        {
            "variant": "b0",  # EfficientNet b0 .. b7, lite0 .. lite4 | b0_wide_stem | tiny, for tests and quickstart
            "branches": ("thumbnail", "windows"),  # inputs of the network: one of the two or both
            "merge_after": "head",  # stage after which two branches are concatenated: '0' (the stem) .. '7', or 'head'
            "window_stem_filters": 0,  # filters in the stem of the window branch; 0: as many as the variant's stem has
            # Sets which filters share a window. per_image: each filter of each image has its own. per_batch: each has
            # its own, the same in all images of a batch. shared: each image has its own, the same for all filters.
            "sampling": "per_image",
            # Filters of the window branch that share a window: 1, as in the report, up to all. Filters with windows of
            # their own see more places; the layers above can combine only what filters see at the same place.
            "filters_per_window": 1,
            # independent: a window's row and column are drawn separately. diagonal: one draw serves both, so that
            # windows lie on the image's diagonal, as in the report's published code.
            "axes": "independent",
            "dropout": 0.3,  # rate before the dense layer
            "stochastic_depth": 0.2,  # drop rate that the last block approaches; it grows linearly over the blocks
            # Details of the blocks. official: TensorFlow's padding, as in keras.applications and timm's tf_*. torch:
            # symmetric padding, as in torchvision and timm's other networks. as_published: as in the report's code.
            "conventions": "official",
            "normalization": "batch",  # batch | group: norm of 8 channels of each image, without pretrained weights
            "batch_norm_momentum": 0.99,  # share of the running statistics that a step keeps; the official value
            # Training images, as evaluation sees them, from which batch norm's statistics are computed anew at the end
            # of each epoch, rounded down to whole batches; 0: the running statistics are kept.
            "batch_norm_images": 0,
            # Sets the dtype of activations: auto | float32 | bfloat16. Parameters and statistics are always float32.
            # auto: bfloat16 on a GPU or TPU, float32 on a CPU. A run keeps the dtype that its config.json records.
            "dtype": "auto",
            "remat": False,  # recompute each stage in the backward pass: less memory, more time, the same numbers
        },
        type_safe=False,
    )


def data() -> ConfigDict:
    """Returns the settings of the images: where they are, how they are split, and at which sizes they are read."""
    return ConfigDict(
        {
            "seed": 0,  # of the split and of synthetic images; not `seed`, so that runs of all seeds share their data
            "source": "folder",  # folder | tfds: made by --mode=prepare | synthetic: drawn images of the quickstart
            # folder: where the images are, a folder, a zip, an HDF5 file or an address such as gs://bucket/images.
            # tfds: the --workdir of --mode=prepare.
            "path": "",
            # folder: CSV of image names and classes. '': images are in a folder for each class in `path`, or in its
            # subfolders train, val and test.
            "labels": "",
            "validation_labels": "",  # folder: CSV of the validation images; '': the subfolder val, else a split
            "image_column": "",  # CSV column of image names; '': image, image_name, image_id or isic_id
            "target_column": "target",  # CSV column of the classes: the numbers 0, 1, ..., or words
            # Names of the classes 0, 1, ..., e.g. ('nevus', 'melanoma'); (): the words in the target column, or the
            # names of the class folders, in sorted order. A run's config.json has those that were found.
            "classes": (),
            "validation_fraction": 0.2,  # share of the images used for validation, if they are split
            "fold": "",  # '2/5': the second of five folds is used for validation, instead of validation_fraction
            "group_by": "",  # CSV column whose equal values stay on one side of the split, e.g. patient_id; '': none
            # CSV columns that the network takes besides the image, e.g. ('age', 'sex', 'site'); (): none. Numbers are
            # standardised, words are one-hot, and a missing value has a feature of its own.
            "metadata_columns": (),
            "stratify_by": "",  # CSV column that is distributed alike on both sides, in addition to the target
            "num_classes": 2,  # 2: one logit and binary cross-entropy; more: one logit per class and softmax
            "image_size": (1024, 1024),  # height and width in pixels of the full image; also 512 or '512x768'
            "thumbnail_size": (224, 224),  # height and width in pixels of the small image; B0's own resolution
            "order": "shuffled",  # shuffled: every image once per epoch | balanced: equally many images of every class
            "num_train": 640,  # synthetic: number of training images
            "num_validation": 200,  # synthetic: number of validation images
            "num_workers": 2,  # processes that read and augment images; 0: threads of the main process
            "timeout_seconds": 600.0,  # longest wait for a batch; after it the run ends and names the images
            # An image that cannot be read. error: the run ends. skip: another image takes its place, and it is listed.
            "on_bad_image": "error",
            # Check of all images before the first step. headers: each file exists, and its header has a usable size.
            # full: each image can be decoded. none: no check. The first two refuse validation images that are copies of
            # training images.
            "check": "headers",
            # Largest distance between perceptual hashes, in bits of 64, at which such images count as copies. -1: only
            # files of the same bytes do.
            "hash_distance": -1,
        },
        type_safe=False,
    )


def prepare() -> ConfigDict:
    """Returns the settings of --mode=prepare. `raw` and `labels` take several places, separated by commas."""
    return ConfigDict(
        {
            # Folders, zips and HDF5 files of original images, searched recursively; '': writes the tables only.
            "raw": "",
            "labels": "",  # CSVs of labels, metadata and duplicates: files, folders or patterns; '': those below `raw`
            "rule": "report",  # classes: report | melanoma_only | categories | a list such as 'MEL=1,NV=0'
            "size": 1024,  # height and width of prepared images, pixels; images with a shorter side are left out
            # report: an image with a side above 3048 pixels is cropped to its central 2048 pixels, then resized without
            # keeping its aspect ratio. square: the largest central square is resized.
            "crop": "report",
            "jpeg_quality": 95,  # 1..100
            "formats": ("folder", "tfds"),  # folder: image files and a CSV; tfds: ArrayRecord shards; or both
            "hash_distance": -1,  # largest distance between hashes of duplicates, in bits of 64; -1: not compared
            "images_per_shard": 256,  # of the tfds format
            "folds": 5,  # number of folds in splits.csv
            "num_workers": 0,  # processes; 0: one per CPU core
        },
        type_safe=False,
    )


def augment() -> ConfigDict:
    """Returns the settings of the augmentation of training images. One affine warp does the geometric part."""
    return ConfigDict(
        {
            "area": (0.6, 1.0),  # range of the random crop's area, as a share of the image's
            "aspect": (0.75, 4 / 3),  # range of the crop's aspect ratio (width / height), relative to the image's
            "flip": True,  # flip left-right and up-down, each with probability 1/2
            "rotation": 180.0,  # degrees; the angle is uniform in -rotation .. rotation
            "brightness": 0.0,  # range b: a factor uniform in 1 - b .. 1 + b; 0: off
            "contrast": 0.0,  # range of a factor, as for brightness, applied about middle grey; 0: off
            "saturation": 0.0,  # range of a factor, as for brightness; 0: off
            "color_ops": 0.0,  # strength of two colour operations, drawn as in RandAugment, e.g. 0.5; 0: off
            "cutout": 0.0,  # share of the image's area that a random square covers; 0: off
            "mixup": 0.0,  # parameter of the beta distribution, e.g. 0.2; two images are read for each; 0: off
        },
        type_safe=False,
    )


def optimizer() -> ConfigDict:
    """Returns the settings of the optimiser and its schedule. Numbers of epochs may be fractions."""
    return ConfigDict(
        {
            "name": "rmsprop",  # rmsprop | adamw | sgd | lion | adafactor | muon: of the kernels of 1x1 convolutions
            "learning_rate": 1e-3,  # its maximum, after the warm-up
            "schedule": "exponential",  # constant | exponential | cosine
            "warmup_epochs": 0.0,  # epochs in which the rate rises linearly from zero
            "decay_start_epoch": 15.0,  # exponential: the first decay is at the end of this epoch
            "decay_every_epochs": 1.0,  # exponential: epochs between decays
            "decay_rate": 0.9,  # exponential: factor of each decay
            "momentum": 0.0,  # rmsprop, sgd
            "rms_decay": 0.99,  # rmsprop: share of the running mean square that a step keeps
            "epsilon": 1e-8,  # rmsprop, adamw, muon: added to the root of the mean square
            "weight_decay": 0.0,  # times the learning rate; on kernels, not on biases or batch norm
            "clip_norm": config_dict.placeholder(float),  # largest global norm of the gradient; None: no clipping
            # Parts that stay as they are, also their batch statistics, by the beginnings of their names: stems, stages,
            # heads and the classifier, e.g. ('thumbnail',) for that branch, or ('windows/stage1', 'windows_stem').
            "freeze": (),
            # Factors of the learning rate by the beginning of parameters' names, as in parameters.txt, e.g.
            # ('thumbnail=0.1', 'classifier=10'). The last that fits counts.
            "factors": (),
            # Parts of a batch that a step processes one after the other, to save memory. The gradient is that of the
            # whole batch; batch norm is over each part, and its running statistics are averaged over the parts.
            "accumulate_steps": 1,
            # Decay per step of an average of parameters and statistics, which evaluation then uses. None: no average.
            "ema_decay": config_dict.placeholder(float),
            # Makes rmsprop, adamw or sgd schedule-free: the share of the average in the point of the gradients, often
            # 0.9. Evaluation uses the average. None: an ordinary optimiser.
            "schedule_free": config_dict.placeholder(float),
        },
        type_safe=False,
    )
