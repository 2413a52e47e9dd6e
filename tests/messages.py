"""Messages built byte by byte, so that it is known which of their bytes may change"""

import base64
import quopri
import random
from typing import NamedTuple

# Text for each charset, with what its bytes make awkward: 5C as a second byte, escapes, shifts.
SAMPLES = {
    "utf-8": "Grüße, 世界 \N{BALLOON}",
    "iso-8859-1": "Grüße, ÿ\xa0\xd7",
    "windows-1252": "“Grüße” \N{EN DASH} 10 €",
    "iso-2022-jp": "こんにちは、表示",
    "shift_jis": "表示ソフト能力",
    "gb18030": "你好\N{FULLWIDTH COMMA}𠀀㒨",
    "koi8-r": "Привет, мир",
    "euc-kr": "안녕하세요",
    "utf-7": "Grüße + 世界",
    "us-ascii": "plain words",
}
LINES = (
    '<p class="a">{}</p>',
    '<a href="https://shop.example/p?a=1&amp;b={n}">{}</a>',
    "<a title='x' href='http://news.example/{n}/?q=%C3%BC'>{}</a> and {}",
    '<A HREF = "HTTPS://Shop.example/{n}">{}</A><a href="mailto:alice@example.com">{}</a>',
    '<img src="cid:{n}@example.com" alt="{}">',
    "a = b =3D =20 {}",
    "From here {}",
    ".",
    "--not a boundary {}",
    "trailing blanks {}  \t ",
    "",
    '<td style="color:#fff;background:#{n}{n}{n}">' + "lorem ipsum {} " * 12 + "</td>",
)
PLAIN_LINES = (
    "See https://shop.example/p?a=1&b={n} for {}.",
    "{} <http://news.example/{n}/>",
    "> {}",
    "-- ",
    "",
)


class Spot(NamedTuple):
    """A body that may change: what it says, and how it is written."""

    text: str
    charset: str
    encoding: str
    html: bool
    body: bytes

    def decode(self, body: bytes) -> str:
        """What another body in its place says, as the standard library reads it."""
        if self.encoding == "base64":
            body = base64.b64decode(body)
        elif self.encoding == "quoted-printable":
            body = quopri.decodestring(body)
        return body.decode(self.charset)


class Made(NamedTuple):
    """A message in pieces: bytes that must stay, and spots."""

    pieces: list[bytes | Spot]
    shown: Spot | None  # where the pixel belongs

    @property
    def raw(self) -> bytes:
        return b"".join(piece if isinstance(piece, bytes) else piece.body for piece in self.pieces)

    def spots(self) -> list[Spot]:
        return [piece for piece in self.pieces if isinstance(piece, Spot)]


class Maker:
    """Makes one message out of a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ends = self.random.choice((["\r\n"], ["\n"], ["\r\n", "\r\n", "\n"]))
        self.used = 0

    def end(self) -> bytes:
        return self.random.choice(self.ends).encode()

    def message(self) -> Made:
        head = b""
        for line in (
            "From: Alice <alice@example.com>",
            "To: bob@example.com,\0 charlie@example.com",
            "subject:=?utf-8?Q?Gr=C3=BC=C3=9Fe?=\0 and more",
            "List-Unsubscribe: <https://shop.example/unsubscribe?u=7>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
            "X-Empty:",
            "MIME-Version: 1.0",
        ):
            if line.startswith("MIME") or self.random.random() < 0.7:
                head += line.encode().replace(b"\0", self.end()) + self.end()
        pieces, shown = self.entity(0)
        return Made([head, *pieces], shown)

    def entity(self, depth: int) -> tuple[list[bytes | Spot], Spot | None]:
        """The rest of a header and a body; and the HTML in it that people see first."""
        kinds = ["html", "html", "text", "image", "attachment", "rfc822", "calendar"]
        if depth < 4:
            kinds = ["alternative", "mixed", "related", "signed", *(kinds if depth else ["html"])]
        kind = self.random.choice(kinds)
        if kind == "html":
            spot = self.spot(True)
            return [*self.leaf_head("text/html", spot), spot], spot
        if kind == "text":
            spot = self.spot(False)
            return [*self.leaf_head("text/plain", spot), spot], None
        if kind == "signed":
            pieces, _ = self.multipart("signed", depth)
            return [b"".join(p if isinstance(p, bytes) else p.body for p in pieces)], None
        if kind in ("alternative", "mixed", "related"):
            return self.multipart(kind, depth)
        return [self.other(kind)], None

    def multipart(self, kind: str, depth: int) -> tuple[list[bytes | Spot], Spot | None]:
        boundary = self.boundary()
        pieces: list[bytes | Spot] = [self.multipart_head(kind, boundary)]
        if self.random.random() < 0.5:
            pieces.append(b"This is a preamble, --" + boundary + self.end())
        found = []
        for number in range(self.random.randint(1, 3)):
            pieces.append(b"--" + boundary + self.random.choice((b"", b"", b" \t")) + self.end())
            inside, shown = self.entity(depth + 1)
            if kind == "related" and number:  # the first one is the root
                inside = [b"".join(p if isinstance(p, bytes) else p.body for p in inside)]
                shown = None
            pieces += inside
            pieces.append(self.end())
            if shown is not None:
                found.append(shown)
        pieces.append(b"--" + boundary + b"--")
        pieces.append(
            self.random.choice(
                (b"", self.end(), self.end() + b"epilogue <a href='http://e.example'>")
            )
        )
        shown = None
        if found:
            shown = found[-1] if kind == "alternative" else found[0]
        return pieces, shown

    def multipart_head(self, kind: str, boundary: bytes) -> bytes:
        word = (
            self.random.choice(("multipart/", "Multipart/", "MULTIPART/")).encode() + kind.encode()
        )
        fold = self.random.choice((b" ", self.end() + b" ", self.end() + b"\t", b""))
        name = self.random.choice((b"boundary=", b"Boundary=", b"charset=utf-8; BOUNDARY="))
        field = b"Content-Type: " + word + b";" + fold + name + b'"' + boundary + b'"'
        return field + self.random.choice((b"", b";", b" (comment)")) + self.end() + self.end()

    def boundary(self) -> bytes:
        """Odd ones, some of them the beginning of others."""
        self.used += 1
        odd = self.random.choice((b"----=_Part_", b"=_'()+,-./:=? x", b"b", b"--", b"0" * 60))
        return odd + b"%03d" % self.used + b"1" * self.random.randint(0, 2)

    def spot(self, html: bool) -> Spot:
        charset = self.random.choice(list(SAMPLES))
        sample = SAMPLES[charset]
        rows = self.random.choices(LINES if html else PLAIN_LINES, k=self.random.randint(0, 9))
        text = "".join(
            row.replace("{n}", str(self.random.randint(100, 999))).replace("{}", sample)
            + self.random.choice(self.ends)
            for row in rows
        )
        if html and self.random.random() < 0.7:
            text = f"<html><body>{text}</body></html>"
        if text and self.random.random() < 0.3:
            text = text.rstrip("\r\n")
        data = text.encode(charset)
        seven = data.isascii()
        encoding = self.random.choice(("7bit" if seven else "8bit", "quoted-printable", "base64"))
        body = data
        if encoding == "quoted-printable":
            body = self.quoted(data)
        elif encoding == "base64":
            body = self.packed(data)
        return Spot(text, charset, encoding, html, body)

    def leaf_head(self, kind: str, spot: Spot) -> list[bytes | Spot]:
        charset = self.random.choice((spot.charset, spot.charset.upper(), f'"{spot.charset}"'))
        encoding = self.random.choice(
            (spot.encoding, spot.encoding.upper(), f"{spot.encoding} (c)")
        )
        fields = [
            self.random.choice((kind, kind.title(), kind.upper())) + f"; charset={charset}",
            encoding,
        ]
        if self.random.random() < 0.3:
            fields[0] = f"{kind};\0\tcharset={charset}"
        names = ["Content-Type: ", "content-transfer-encoding:"]
        lines = [name + field for name, field in zip(names, fields, strict=True)]
        if spot.encoding == "7bit" and self.random.random() < 0.5:
            lines.pop()
        if self.random.random() < 0.3:
            lines.append("Content-Disposition: inline")
        self.random.shuffle(lines)
        head = b"".join(line.encode().replace(b"\0", self.end()) + self.end() for line in lines)
        return [head + self.end()]

    def other(self, kind: str) -> bytes:
        """A part that is never changed."""
        link = b'<a href="https://shop.example/">x</a>'
        head, body = {
            "image": (b"Content-Type: image/png\nContent-Transfer-Encoding: base64", b"iVBORw0K"),
            "attachment": (
                b'Content-Type: text/html\nContent-Disposition: attachment; filename="a.html"',
                link,
            ),
            "rfc822": (b"Content-Type: message/rfc822", b"Content-Type: text/html\n\n" + link),
            "calendar": (b"Content-Type: text/calendar", b"URL:https://shop.example/"),
        }[kind]
        return (head + b"\n\n" + body).replace(b"\n", self.end())

    def quoted(self, data: bytes) -> bytes:
        """Quoted-printable as mailers write it: in more than one way."""
        width = self.random.choice((76, 76, 60, 40))
        digits = self.random.choice((b"=%02X", b"=%02x"))
        out = b""
        for line in data.splitlines(keepends=True):
            end = b"\r\n" if line.endswith(b"\r\n") else b"\n" if line.endswith(b"\n") else b""
            bare = line.removesuffix(end)
            column = 0
            for at, byte in enumerate(bare):
                last = at == len(bare) - 1
                literal = (32 < byte < 127 and byte != 61) or (byte in b" \t" and not last)
                coded = bytes([byte])
                if not literal or self.random.random() < 0.03:
                    coded = digits % byte
                if column + len(coded) > width - 1:
                    out += b"=" + self.end()
                    column = 0
                out += coded
                column += len(coded)
            out += end
        return out

    def packed(self, data: bytes) -> bytes:
        packed = base64.b64encode(data)
        width = self.random.choice((76, 76, 60, 4000))
        body = b"".join(packed[at : at + width] + self.end() for at in range(0, len(packed), width))
        return body if self.random.random() < 0.5 else body.rstrip(b"\r\n")
