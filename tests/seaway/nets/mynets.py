"""Nets of a user's own, right and wrong, as `python:mynets:NAME`."""

import torch
from torch import nn


def small(image_size, classes):
    height, width = image_size
    return nn.Sequential(nn.Flatten(), nn.Linear(height * width, 9), nn.Dropout(), nn.ReLU(), nn.Linear(9, classes))


def few(image_size, classes):
    return small(image_size, classes - 1)


def half(image_size, classes):
    return small(image_size, classes).half()


def tuples(image_size, classes):
    class Two(nn.Module):
        def forward(self, x):
            return x, torch.zeros(len(x), classes)

    return Two()


def breaks(image_size, classes):
    return nn.Linear(5, classes)


def nothing(image_size, classes):
    return None


def raises(image_size, classes):
    raise ValueError("no such size")


def other(image_size):
    return small(image_size, 2)


number = 3
