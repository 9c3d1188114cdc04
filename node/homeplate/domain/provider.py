"""What may run the models."""

from enum import StrEnum


class Provider(StrEnum):
    """A closed list: `cpu` runs the int8 models, `tensorrt` runs fp16 engines that were built on this machine."""

    CPU = "cpu"
    TENSORRT = "tensorrt"
