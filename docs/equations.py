"""The equations of every operation as TeX, forward and backward, which the site typesets.

The docstrings hold the same in plain text; ``dx`` there is the gradient of the cost with respect to
x, written with a bar here: x-bar.
"""

CONV = (
    r"y_{n;o;pq} = b_o + \sum_{c,i,j} w_{o;cij}\, x_{n;c;\,sp+di-P,\,sq+dj-P}",
    r"\bar w_{o;cij} = \sum_{n,p,q} \bar y_{n;o;pq}\, x_{n;c;\,sp+di-P,\,sq+dj-P}, \qquad "
    r"\bar x = A_w^T \bar y, \qquad \bar b_o = \sum_{n,p,q} \bar y_{n;o;pq}",
)
TRANSPOSED = (
    r"y = b + A_w^T x \quad \text{with the matrix } A_w \text{ of a convolution}",
    r"\bar x = A_w \bar y, \qquad \bar b_o = \sum \bar y_o",
)
MAX = (
    r"y_{pq} = \max_{(h,w) \in R_{pq}} x_{hw}",
    r"\bar x_{hw} = \sum_{p,q} \bar y_{pq}\, [x_{hw} \text{ is the maximum of } R_{pq}]",
)
MEAN = (
    r"y_{pq} = \frac{1}{D_{pq}} \sum_{(h,w) \in R_{pq}} x_{hw}",
    r"\bar x_{hw} = \sum_{R_{pq} \ni (h,w)} \frac{\bar y_{pq}}{D_{pq}}",
)
LP = (
    r"y_{pq} = \left( \sum_{(h,w) \in R_{pq}} |x_{hw}|^k \right)^{1/k}",
    r"\bar x_{hw} = \mathrm{sign}(x_{hw})\, |x_{hw}|^{k-1} "
    r"\sum_{R_{pq} \ni (h,w)} \frac{\bar y_{pq}}{y_{pq}^{k-1}}",
)
NORM = (
    r"y = w\, \hat x + b, \qquad \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}}",
    r"\bar x = \frac{w}{\sqrt{\sigma^2 + \varepsilon}} \left( \bar y - \langle \bar y \rangle "
    r"- \hat x \langle \bar y \hat x \rangle \right), \qquad \bar w = \sum \bar y \hat x, \qquad "
    r"\bar b = \sum \bar y",
)
COPY = (r"y = A x, \quad A \text{ copies elements}", r"\bar x = A^T \bar y")

#: Operation -> forward and backward.
EQUATIONS: dict[str, tuple[str, str]] = {
    "conv1d": CONV,
    "conv2d": CONV,
    "conv2d_direct": CONV,
    "conv3d": CONV,
    "conv_transpose1d": TRANSPOSED,
    "conv_transpose2d": TRANSPOSED,
    "conv_transpose3d": TRANSPOSED,
    "linear": (
        r"y = x w^T + b",
        r"\bar x = \bar y\, w, \qquad \bar w = \bar y^T x, \qquad \bar b = \sum_n \bar y_n",
    ),
    "max_pool1d": MAX,
    "max_pool2d": MAX,
    "max_pool3d": MAX,
    "global_max_pool": MAX,
    "avg_pool1d": MEAN,
    "avg_pool2d": MEAN,
    "avg_pool3d": MEAN,
    "global_avg_pool": MEAN,
    "l2_pool2d": (
        r"y_{pq} = \sqrt{\sum_{(h,w) \in R_{pq}} x_{hw}^2}",
        r"\bar x_{hw} = x_{hw} \sum_{R_{pq} \ni (h,w)} \frac{\bar y_{pq}}{y_{pq}}",
    ),
    "lp_pool1d": LP,
    "lp_pool2d": LP,
    "lp_pool3d": LP,
    "subsample2d": (
        r"y_{c;pq} = w_c \sum_{(h,v) \in R_{pq}} x_{c;hv} + b_c",
        r"\bar x_{c;hv} = w_c \sum_{R_{pq} \ni (h,v)} \bar y_{c;pq}, \qquad "
        r"\bar w_c = \sum_{p,q} \bar y_{c;pq} \sum_{(h,v) \in R_{pq}} x_{c;hv}, \qquad "
        r"\bar b_c = \sum \bar y_c",
    ),
    "relu": (r"y = \max(x, 0)", r"\bar x = \bar y\, [x > 0]"),
    "leaky_relu": (
        r"y = x \text{ where } x > 0, \text{ else } \alpha x",
        r"\bar x = \bar y \text{ where } x > 0, \text{ else } \alpha \bar y",
    ),
    "elu": (
        r"y = x \text{ where } x > 0, \text{ else } \alpha (e^x - 1)",
        r"\bar x = \bar y \text{ where } x > 0, \text{ else } \alpha e^x \bar y",
    ),
    "gelu": (r"y = x\, \Phi(x)", r"\bar x = \bar y \left( \Phi(x) + x\, \varphi(x) \right)"),
    "silu": (
        r"y = x\, \sigma(x)",
        r"\bar x = \bar y\, \sigma(x) \left( 1 + x (1 - \sigma(x)) \right)",
    ),
    "softplus": (r"y = \ln(1 + e^x)", r"\bar x = \bar y\, \sigma(x)"),
    "sigmoid": (r"y = \frac{1}{1 + e^{-x}}", r"\bar x = \bar y\, y (1 - y)"),
    "tanh": (r"y = \tanh x", r"\bar x = \bar y\, (1 - y^2)"),
    "scaled_tanh": (
        r"y = a \tanh(s x)",
        r"\bar x = \bar y\, a s \left( 1 - \tanh^2(s x) \right)",
    ),
    "softmax": (
        r"y_k = \frac{e^{x_k}}{\sum_l e^{x_l}}",
        r"\bar x_k = y_k \left( \bar y_k - \sum_l \bar y_l y_l \right)",
    ),
    "log_softmax": (
        r"y_k = x_k - \ln \sum_l e^{x_l}",
        r"\bar x_k = \bar y_k - e^{y_k} \sum_l \bar y_l",
    ),
    "cross_entropy": (
        r"C = -\frac{1}{N} \sum_n \ln \mathrm{softmax}(z_n)_{t_n}",
        r"\bar z_{nk} = \frac{1}{N} \left( \mathrm{softmax}(z_n)_k - [k = t_n] \right)",
    ),
    "binary_cross_entropy": (
        r"C = -\langle t \ln y + (1 - t) \ln(1 - y) \rangle",
        r"\bar y = \frac{1}{M} \, \frac{y - t}{y (1 - y)}",
    ),
    "binary_cross_entropy_with_logits": (
        r"C = -\langle t \ln \sigma(z) + (1 - t) \ln(1 - \sigma(z)) \rangle",
        r"\bar z = \frac{1}{M} (\sigma(z) - t)",
    ),
    "mse_loss": (r"C = \langle (y - t)^2 \rangle", r"\bar y = \frac{2}{M} (y - t)"),
    "l1_loss": (r"C = \langle |y - t| \rangle", r"\bar y = \frac{1}{M} \mathrm{sign}(y - t)"),
    "huber_loss": (
        r"C = \langle h(y - t) \rangle, \quad h(r) = \frac{r^2}{2} \text{ where } |r| \le \delta, "
        r"\text{ else } \delta \left( |r| - \frac{\delta}{2} \right)",
        r"\bar y = \frac{1}{M} \text{ of } y - t, \text{ cut to } [-\delta, \delta]",
    ),
    "multi_margin_loss": (
        r"C = \frac{1}{NK} \sum_n \sum_{k \ne t_n} \max(0,\; m - z_{n t_n} + z_{nk})^p",
        r"\bar z_{nk} = \frac{p}{NK} \max(0,\; m - z_{n t_n} + z_{nk})^{p-1}, \qquad "
        r"\bar z_{n t_n} = -\sum_{k \ne t_n} \bar z_{nk}",
    ),
    "batch_norm": NORM,
    "layer_norm": NORM,
    "group_norm": NORM,
    "local_response_norm": (
        r"y_c = x_c\, d_c^{-\beta}, \qquad d_c = k + \frac{\alpha}{n} \sum_{c'} x_{c'}^2",
        r"\bar x_c = \bar y_c\, d_c^{-\beta} - \frac{2 \alpha \beta}{n} x_c "
        r"\sum_{c'} \bar y_{c'} x_{c'} d_{c'}^{-\beta - 1}",
    ),
    "dropout": (r"y = \frac{m\, x}{1 - p}", r"\bar x = \frac{m\, \bar y}{1 - p}"),
    "pad": COPY,
    "crop": COPY,
    "flatten": COPY,
    "reshape": COPY,
    "im2col": COPY,
    "max_unpool2d": COPY,
    "upsample_nearest2d": COPY,
    "resize": (r"y = A x, \quad A \text{ interpolates}", r"\bar x = A^T \bar y"),
    "upsample_bilinear2d": (r"y = A x, \quad A \text{ interpolates}", r"\bar x = A^T \bar y"),
}
