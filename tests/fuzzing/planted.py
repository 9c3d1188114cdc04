"""A parser with a planted fault, which shows that the search finds one: by chance alone it would need 2**32 inputs."""

from tests.fuzzing.targets import Target


def planted() -> Target:
    """Return a target that fails on one word; each letter that is right is a branch that was not taken before."""

    def read(data: bytes) -> None:
        if data[0:1] != b"f":
            return
        if data[1:2] != b"a":
            return
        if data[2:3] != b"i":
            return
        if data[3:4] == b"l":
            raise LookupError("the planted fault")

    return Target(read=read, refusals=(), seeds=[b"nothing"], most_bytes=16)
