"""Runs survive: a search that is killed, at any moment, is gone on with by the same command; nothing but the last second is lost."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from problems import exact, readers
from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions.box import Box
from problems.specification import Specification, robustness
from verifier import verify
from verifier.bracket import Status
from verifier.property import Property
from verifier.search.budget import Budget
from verifier.search.checkpoint import Checkpoint
from verifier.search.search import Search
from verifier.search.store import Store, StoreError


def digits(radius: float, sample: int = 3) -> Specification:
    """A property of digits-conv that takes a search of a few hundred pieces: robustness around a test image."""
    from problems.data import load

    data = load("digits:test").select(slice(sample, sample + 1))
    center, label = data.x[0], int(data.y[0])
    return robustness(Box(np.maximum(center - radius, 0.0), np.minimum(center + radius, 1.0)), label, 10)
