"""Who may ask: the person who was told the address, from a page of ours or from none.

Any program on this machine can connect to 127.0.0.1, and any web page can have a browser do so. What a request must
bring:

    token    the first part of its path, random, compared in constant time. In the path and not in a cookie: cookies
             do not know ports, and one of ours would be sent to every other server of this machine
    Host     127.0.0.1 or localhost with our port, or a name that an attacker points at this machine would do
    Origin, Sec-Fetch-Site    ours or none: another site, another port of this machine too, gets nothing
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import parse_qsl

LOOPBACK = "127.0.0.1"
MOST_TARGET, MOST_FIELDS, MOST_VALUE = 4096, 80, 400
"""Characters of an address; parameters in it; characters of one."""

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""What a page of ours may do: our own style, our own script, asking us again, and nothing else."""
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer, refusals too."""


class Refused(Exception):  # noqa: N818 (it says what became of a request)
    """A request that is not answered: its status, and why, in a sentence for whoever asked.

    Nothing of the request is repeated in it.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


@dataclass(frozen=True, slots=True)
class Asked:
    """What an admitted request asks for."""

    path: str
    """What follows the token, without its first slash."""
    values: dict[str, str]
    """Parameters that hold anything."""


@dataclass(frozen=True)
class Gate:
    """Admits requests to one server."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def base(self) -> str:
        """How every path of ours begins."""
        return f"/{self.token}"

    @property
    def url(self) -> str:
        """The address that is told to the person."""
        return f"http://{LOOPBACK}:{self.port}{self.base}/"

    @property
    def hosts(self) -> set[str]:
        """Names that this server goes by, in the header Host."""
        names = (LOOPBACK, "localhost")
        return {f"{name}:{self.port}" for name in names} | (set(names) if self.port == 80 else set())

    def admit(self, target: str, headers: Message) -> Asked:
        """What is asked for.

        Raises:
            Refused: If the request may not be answered, or cannot be understood.
        """
        if len(target) > MOST_TARGET:
            raise Refused(414, "This address is too long.")
        hosts = headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].strip().lower() not in self.hosts:
            raise Refused(403, "This server goes by 127.0.0.1 and localhost, with its own port, and by no other name.")
        origins = {f"http://{host}" for host in self.hosts}
        if any(origin.strip().lower() not in origins for origin in headers.get_all("Origin") or []):
            raise Refused(403, "Another site asked for this.")
        if any(site.strip() not in ("none", "same-origin") for site in headers.get_all("Sec-Fetch-Site") or []):
            raise Refused(403, "Another site led here. Paste the address that was printed into the address bar.")
        path, _, query = target.partition("?")
        token, _, rest = path.removeprefix("/").partition("/")
        if not path.startswith("/") or not hmac.compare_digest(token.encode(), self.token.encode()):
            raise Refused(403, "The address needs the token that was printed when the server was started.")
        return Asked(rest, _values(query))


def _values(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise Refused(400, "The parameters of this address cannot be read.") from error
    if len(dict(pairs)) != len(pairs):
        raise Refused(400, "A parameter of this address is there twice.")
    if any(len(value) > MOST_VALUE for _, value in pairs):
        raise Refused(400, f"A parameter of this address is longer than {MOST_VALUE} characters.")
    return {name: value for name, value in pairs if value.strip()}
