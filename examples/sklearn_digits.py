"""A convolutional network on scikit-learn's digits, on the split of scikit-learn's own example.

That example, "Recognizing hand-written digits", trains a support vector machine on the first half
of the 1,797 images of 8 x 8 pixels and tests it on the second. Needs
``pip install "tinyconv[sklearn]"``.
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from tinyconv.interop.sklearn import ConvNetClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=0.5, shuffle=False)

svm = SVC(gamma=0.001 * 16**2).fit(X_train, y_train)
print(f"support vector machine {svm.score(X_test, y_test):.2%}")
for seed in range(3):
    net = ConvNetClassifier(image_shape=(1, 8, 8), random_state=seed).fit(X_train, y_train)
    print(f"convolutional network, seed {seed}: {net.score(X_test, y_test):.2%}")
