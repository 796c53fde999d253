"""Methods. A method is a folder, and nothing outside it asks for its name.

To add one: a folder with its options, its model and a `Method`, and a line in METHODS.
"""

from nerf_pl.methods.method import Foreign, Method
from nerf_pl.methods.nerf.options import CLASSIC
from nerf_pl.methods.stored import from_dict, read_settings
from nerf_pl.methods.table import DEFAULT, METHODS, method_of

__all__ = ["CLASSIC", "DEFAULT", "METHODS", "Foreign", "Method", "from_dict", "method_of", "read_settings"]
