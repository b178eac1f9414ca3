"""Maps from positions to rows without images, in a module of their own so that worker processes can load them."""

import os
import resource

import grain
import numpy as np


class ProcessRows(grain.transforms.Map):
    """Rows that say which process made them."""

    def map(self, position):
        return {"process": np.int64(os.getpid())}

    def where(self, position):
        return "a batch"

    def name(self, position):
        return ""


class PageFaultRows(ProcessRows):
    """Rows that say how many page faults it takes to touch 100 MB for the first and for the second time."""

    def map(self, position):
        size = 100_000_000 + position - position  # not a constant, which Python would make once
        faults = []
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            b"x" * size
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        return {"first": np.array(faults[0]), "again": np.array(faults[1])}


class DyingRows(ProcessRows):
    """Rows that end their process by the signal `number`, as a lack of memory does."""

    def __init__(self, number):
        self.number = number

    def map(self, position):
        os.kill(os.getpid(), self.number)


class WideRows(ProcessRows):
    """Rows of so many bytes that they are told apart from what other programs have in shared memory."""

    BYTES = 2**20 + os.getpid() % 2**10

    def __init__(self):
        self.bytes = self.BYTES

    def map(self, position):
        return {"row": np.ones(self.bytes, np.uint8)}
