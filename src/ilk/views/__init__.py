"""Two random views of every image in a batch, computed on the device, with one random draw per image."""

from ilk.system.pixels import channels_last, plain
from ilk.views.domains import DOMAINS, choose_views, describe, from_description, get_views, view_names
from ilk.views.random_views import ViewRecipe, Views

__all__ = [
    "DOMAINS",
    "ViewRecipe",
    "Views",
    "channels_last",
    "choose_views",
    "describe",
    "from_description",
    "get_views",
    "plain",
    "view_names",
]
