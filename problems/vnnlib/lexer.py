"""Text of a VNN-LIB file -> tokens, in one pass of one regular expression.

Places are not stored: a large file has 10^5 tokens and no error. The place of a token is found again from its index.
"""

import gzip
import re
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NoReturn

from problems.errors import SpecificationError

# A comment, a parenthesis, a quoted symbol or string (in set-info), an atom (with the brackets behind it: 'X[0, 3]' of VNN-LIB 2.0 is
# one token, 'float32 [1,5]' too), or a bracket that stands alone.
_TOKEN = re.compile(r';[^\n\r]*|[()]|\|[^|]*\||"[^"]*"|[^\s();\[\]]+(?:\s*\[[^\[\]();]*\])?|[\[\]]')
_LINE_BREAK = re.compile(r"\r\n?|\n")  # SMT-LIB ends a comment at either character: a comment must not swallow what follows
END = ""  # stands after the last token
MAX_BYTES = 1 << 29  # of a file, unpacked


@dataclass(frozen=True, eq=False)
class Source:
    """The tokens of a file, closed by a few END tokens so that looking ahead needs no test."""

    name: str
    text: str
    tokens: list[str]

    def place(self, index: int) -> str:
        """'file, line 3, column 7' of token `index`; of the end of the file for END."""
        start = len(self.text)
        count = -1
        for match in _TOKEN.finditer(self.text):
            if self.text[match.start()] != ";":
                count += 1
                if count == index:
                    start = match.start()
                    break
        ends = [match.end() for match in _LINE_BREAK.finditer(self.text, 0, start)]
        return f"{self.name}, line {len(ends) + 1}, column {start - (ends[-1] if ends else 0) + 1}"

    def line(self, index: int) -> str:
        """'line 3' of token `index`."""
        return self.place(index).removeprefix(self.name + ", ").split(",")[0]

    def fail(self, index: int, problem: str, advice: str = "") -> NoReturn:
        """SpecificationError at token `index`."""
        raise SpecificationError(self.place(index), problem, advice)


def tokenise(text: str, name: str) -> Source:
    """The tokens of `text` without comments; `name` is what errors call the file."""
    tokens = [token for token in _TOKEN.findall(text) if token[0] != ";"]
    return Source(name, text, [*tokens, *[END] * 8])


def load(path: str | Path) -> str:
    """The text of a file, plain or gzip (told by its first bytes, not by its name). Raises SpecificationError."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=BytesIO(data)) as packed:
                data = packed.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SpecificationError(str(path), f"is larger than {MAX_BYTES} bytes.", "Split the property into several files.")
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise SpecificationError(str(path), "does not exist.", "Give the path of a .vnnlib or .vnnlib.gz file.") from None
    except UnicodeDecodeError as error:
        raise SpecificationError(
            str(path), f"is not text: byte {error.start} is not UTF-8.", "Give a .vnnlib or .vnnlib.gz file."
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise SpecificationError(str(path), "is a damaged gzip file.", "Copy or download it again.") from None
    except OSError as error:
        raise SpecificationError(str(path), f"cannot be read: {error.strerror or error}.") from None
