"""Tours: what cross-validation says of each way of using a pretrained network, and what is true of it."""

from jaxdl.demo.digits import DigitsTour, few_shots, two_tasks
from jaxdl.demo.photographs import PhotoTour, photo_methods, photo_tour
from jaxdl.demo.story import Demo, tell

__all__ = ["Demo", "DigitsTour", "PhotoTour", "few_shots", "photo_methods", "photo_tour", "tell", "two_tasks"]
