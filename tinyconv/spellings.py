"""How Keras, PyTorch and scikit-learn call what has another name here: for messages."""

#: A foreign argument -> ours, the first that the function has; or a sentence.
OTHER_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "activation": ("an activation is a layer of its own, such as ReLU(), behind this one",),
    "alpha": ("negative_slope",),
    "axis": ("the channels are the first axis of a sample, and are normalised",),
    **dict.fromkeys(("beta_1", "beta_2"), ("betas",)),
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm", "max_norm"), ("clip_norm",)),
    "data_format": ("images are (N, C, H, W), channels first",),
    "dilation_rate": ("dilation",),
    "early_stopping": ("pass callbacks=[EarlyStopping()]",),
    "epsilon": ("eps",),
    "filters": ("out_channels",),
    "initial_epoch": ("resume=True goes on where the checkpoint stands",),
    "inplace": ("a layer never changes its input; leave it out",),
    "input_dim": ("in_features", "input_shape"),
    "kernel_initializer": ("weight_init",),
    "bias_initializer": ("bias_init",),
    "kernel_regularizer": ("pass weight_decay= to the optimizer",),
    "learning_rate": ("lr", "pass it to the optimizer: optimizer=SGD(lr=...)"),
    "lr": ("pass it to the optimizer: optimizer=SGD(lr=...)",),
    "momentum": ("pass it to the optimizer: optimizer=SGD(lr=..., momentum=...)",),
    **dict.fromkeys(("n_epochs", "nb_epoch", "num_epochs"), ("epochs",)),
    **dict.fromkeys(
        ("max_queue_size", "use_multiprocessing", "workers"),
        ("batches are made in this process; leave it out",),
    ),
    **dict.fromkeys(("negative_slope", "rho"), ("alpha",)),
    "pool_size": ("kernel_size",),
    "rate": ("p",),
    "reduction": ("the loss is the mean over the batch; leave it out",),
    "class_weight": ("weights of classes are an argument of the loss: weight=",),
    "start_dim": ("the batch stays and all else is flattened; leave it out",),
    "steps_per_epoch": ("an epoch sees every sample; pass fewer samples, or batches of your own",),
    "strides": ("stride",),
    "units": ("out_features",),
    "use_bias": ("bias",),
    "validation_batch_size": ("any size gives the same figures; leave it out",),
    "validation_freq": ("every epoch is validated; leave it out",),
    "verbose": ("verbose", "nothing is printed; leave it out"),
    "weight_decay": ("pass it to the optimizer: optimizer=SGD(lr=..., weight_decay=...)",),
}

#: A foreign attribute of a history -> what to write instead.
OTHER_COLUMNS: dict[str, str] = {
    "accuracy": 'history["accuracy"]',
    "history": 'history["loss"] is a column itself, and history.rows are the epochs',
    "items": "history.rows, a dictionary an epoch",
    "keys": "history.rows[0].keys()",
    "loss": 'history["loss"]',
    **dict.fromkeys(("to_frame", "to_pandas"), "pandas.DataFrame(history)"),
}

#: A foreign attribute of a layer -> what to write instead.
OTHER_ATTRIBUTES: dict[str, str] = {
    "bias": 'params["bias"]',
    **dict.fromkeys(
        ("get_weights", "parameters", "state_dict", "weights"), "params, arrays by name"
    ),
    **dict.fromkeys(("kernel", "weight"), 'params["weight"]'),
    **dict.fromkeys(("requires_grad", "requires_grad_"), "trainable = False freezes a layer"),
    "set_weights": 'params["weight"][...] = array',
}

#: A foreign name of the package -> what to write instead.
OTHER_NAMES: dict[str, str] = {
    "Activation": "ReLU(), Tanh(), Sigmoid() and the others are layers",
    **dict.fromkeys(("AdaptiveAvgPool2d", "GlobalAveragePooling2D"), "GlobalAvgPool()"),
    "AveragePooling2D": "AvgPool2d(kernel_size)",
    "BatchNormalization": "BatchNorm2d(None)",
    "BinaryCrossentropy": "BCEWithLogitsLoss(), of logits",
    "CosineAnnealingLR": "Cosine(length), in Schedule(...)",
    **dict.fromkeys(
        ("CategoricalCrossentropy", "SparseCategoricalCrossentropy"), "CrossEntropyLoss()"
    ),
    "Conv2D": "Conv2d(in_channels, out_channels, kernel_size)",
    "Conv2DTranspose": "ConvTranspose2d(in_channels, out_channels, kernel_size)",
    **dict.fromkeys(("DataLoader", "utils"), "fit takes arrays and a batch_size"),
    "Dense": "Linear(in_features, out_features)",
    "Dropout2d": "Dropout(p)",
    "GlobalMaxPooling2D": "GlobalMaxPool()",
    **dict.fromkeys(
        ("AveragedModel", "ExponentialMovingAverage"), "AverageWeights(decay), a callback"
    ),
    "ExponentialLR": "Exponential(factor), in Schedule(...)",
    **dict.fromkeys(("Input", "InputLayer"), "Sequential([...], input_shape=(1, 28, 28))"),
    "LogSoftmax": "the loss applies the softmax; end the network with Linear(None, K)",
    **dict.fromkeys(("LambdaLR", "LearningRateScheduler"), "Schedule(function of (t, rows))"),
    "MNIST": "load('mnist')",
    "MaxPooling2D": "MaxPool2d(kernel_size)",
    "Model": "Sequential([...])",
    "ModelCheckpoint": "fit(checkpoint=folder), KeepBest()",
    "Module": "tinyconv.layers.Layer",
    "NLLLoss": "CrossEntropyLoss(), of logits",
    "ReduceLROnPlateau": "OnPlateau(monitor), in Schedule(...)",
    "RMSprop": "RMSProp(lr=...)",
    "Softmax": "the loss applies the softmax; end the network with Linear(None, K), and ask "
    "predict_proba for probabilities",
    **dict.fromkeys(("StepLR", "lr_scheduler"), "Step(every), in Schedule(...)"),
    **dict.fromkeys(("Tensor", "tensor"), "arrays are NumPy's"),
    "Unflatten": "Reshape(shape)",
    "UpSampling2D": "Upsample(scale_factor=2)",
    "ZeroPadding2D": "Pad(padding)",
    "cuda": 'Sequential([...], device="gpu")',
    "datasets": "data.load(name)",
    **dict.fromkeys(("from_pretrained", "load_model"), "load(path)"),
    "functional": "ops, pairs of functions such as ops.relu and ops.relu_backward",
    "manual_seed": "Sequential([...], seed=...), of which all draws follow",
    "nn": "the layers are names of the package itself, such as tinyconv.Conv2d",
    "no_grad": "predict and forward(x) take no gradients",
    **dict.fromkeys(("one_hot", "to_categorical"), "fit takes class indices as they are"),
    "optim": "the optimizers are names of the package itself, such as tinyconv.SGD",
    "relu": "ops.relu and ops.relu_backward, or the layer ReLU()",
    "save": "net.save(path)",
    "sigmoid": "ops.sigmoid and ops.sigmoid_backward, or the layer Sigmoid()",
    "softmax": "ops.softmax, or net.predict_proba(x)",
    "tanh": "ops.tanh and ops.tanh_backward, or the layer Tanh()",
    "train_test_split": "fit(validation_split=...)",
}

#: A foreign method of a network -> what to write instead.
OTHER_METHODS: dict[str, str] = {
    **dict.fromkeys(
        ("add", "append", "pop"), "the layers are the list that Sequential([...]) takes"
    ),
    "compile": "pass optimizer= and loss= to fit",
    "cpu": "Sequential([...], device='cpu')",
    "cuda": "Sequential([...], device='gpu')",
    "eval": "predict and evaluate switch dropout off; forward(x, training=False) too",
    "fit_generator": "fit(x, y)",
    "get_params": "tinyconv.interop.sklearn has estimators with get_params",
    **dict.fromkeys(("get_weights", "weights"), "state_dict()"),
    "load": "tinyconv.load(path)",
    "load_weights": "load_state_dict(tensors), or tinyconv.load(path)",
    **dict.fromkeys(("named_parameters", "trainable_weights"), "parameters.values"),
    **dict.fromkeys(("partial_fit", "train_on_batch"), "train_step(x, y)"),
    "predict_classes": "predict(x)",
    "save_weights": "save(path)",
    "set_weights": "load_state_dict(tensors)",
    "to": "Sequential([...], dtype=..., device=...)",
    "requires_grad_": "trainable = False freezes all layers, that of net[0] one",
    "train": "fit(x, y); forward(x, training=True)",
    "zero_grad": "backward sets the gradients anew",
}

#: A foreign text, in small letters -> ours, the first that is one of those known.
OTHER_VALUES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("acc", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy"),
        ("accuracy",),
    ),
    **dict.fromkeys(("bce", "binary_crossentropy"), ("bce_with_logits",)),
    **dict.fromkeys(
        (
            "categorical_crossentropy",
            "ce",
            "log_loss",
            "nll_loss",
            "softmax",
            "sparse_categorical_crossentropy",
        ),
        ("cross_entropy",),
    ),
    "constant": ("zeros",),
    "cuda": ("gpu",),
    "edge": ("replicate",),
    **dict.fromkeys(("glorot_normal", "glorot_uniform", "xavier"), ("glorot",)),
    **dict.fromkeys(("he_normal", "he_uniform", "kaiming"), ("he",)),
    **dict.fromkeys(("mae", "mean_absolute_error"), ("l1", "mae")),
    **dict.fromkeys(("mean_squared_error", "squared_error"), ("mse",)),
    **dict.fromkeys(("mirror", "symmetric"), ("reflect",)),
    "smooth_l1": ("huber",),
    "sum": ("add",),
    "val_acc": ("val_accuracy", "accuracy"),
    "wrap": ("circular",),
}
