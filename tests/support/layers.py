"""Tar+gzip layers for tests, hostile ones too: headers are written by hand where tarfile would not."""

import gzip
import io
import tarfile


def header(name, size=0, flag=b"0", *, prefix=b"", magic=b"ustar\x0000"):
    """A tar header, its checksum right whatever the rest says; `size` a number, or the field's own bytes."""
    name = name.encode() if isinstance(name, str) else name
    field = b"%011o\0" % size if isinstance(size, int) else size
    block = (
        name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field.ljust(12, b"\0") + b"0" * 11 + b"\0"
    )
    block += b" " * 8 + flag + bytes(100) + magic.ljust(8, b"\0") + bytes(80) + prefix.ljust(155, b"\0")
    return sealed(block.ljust(512, b"\0"))


def sealed(block):
    """A header with the checksum that it should have."""
    total = sum(block[:148]) + sum(block[156:]) + 8 * 0x20
    return block[:148] + b"%06o\0 " % total + block[156:]


def padded(content):
    """A file's bytes, filled up to a block."""
    return content + bytes(-len(content) % 512)


def file(name, content, **fields):
    """A file with its header."""
    return header(name, len(content), **fields) + padded(content)


def pax(records, flag=b"x"):
    """A pax header, as POSIX has its records."""
    return file("pax", b"".join(record(key, value) for key, value in records.items()), flag=flag)


def record(key, value):
    """A pax record, which begins with its own length."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


END = bytes(1024)


def layer(*parts, end=END):
    """What these parts of a tar are as a layer."""
    return gzip.compress(b"".join(parts) + end, 1, mtime=0)


def tar(files, *, format_=tarfile.PAX_FORMAT):
    """A tar of names and contents, as tarfile makes it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format_) as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


MEBIBYTE = gzip.compress(bytes(2**20), 9, mtime=0)


def zeros(mebibytes):
    """Zeros, compressed: a thousandth of what they unpack to, made without making them."""
    return MEBIBYTE * mebibytes
