"""Whose page asked: ours, another site's, or no browser's (protection against CSRF)."""

OURS, FOREIGN, SILENT = range(3)

SAME_SITE = (b"same-origin", b"none")


def asked_by(headers: dict[bytes, bytes], base_url: str) -> int:
    """OURS, FOREIGN, or SILENT where no header tells: then it was no browser of today.

    By Sec-Fetch-Site; browsers send it to https and to localhost alone, so else by Origin, which
    is that of BASE_URL or of the Host that was asked. `null` is not ours: pages with forms say
    `Referrer-Policy: same-origin`, since `no-referrer` would make their Origin null.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return OURS if site in SAME_SITE else FOREIGN
    origin = headers.get(b"origin")
    if origin is None:
        return SILENT
    scheme, _, rest = base_url.encode("ascii").partition(b"://")
    ours = {scheme + b"://" + rest.partition(b"/")[0]}
    host = headers.get(b"host")
    if host:
        ours.add(b"https://" + host)
        if scheme != b"https":  # what was read in the clear may be anybody's
            ours.add(b"http://" + host)
    return OURS if origin.lower() in {one.lower() for one in ours} else FOREIGN
