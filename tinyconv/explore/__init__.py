"""The page that shows a gradient on its way through a convolution: ``tinyconv explore``.

assemble.py  puts the one HTML file together
example.py   the network that is worked out by hand, and its numbers from the operations
trained.py   a trained network as the page holds it
assets/      the page itself: HTML, CSS and JavaScript modules, written by hand
"""

from tinyconv.explore.assemble import MODULES, page
from tinyconv.explore.example import EXAMPLE, numbers
from tinyconv.explore.trained import pack

__all__ = ["EXAMPLE", "MODULES", "numbers", "pack", "page"]
