"""Who may come in: a token that cannot be guessed at speed, and a cookie that is no token."""

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Guesses", "Secret"]

_TRIES = 10  # wrong tokens of one address that are answered at once
_SECONDS_PER_TRY = 6.0  # and how long each of those after them takes
_MOST_ADDRESSES = 4096


class Guesses:
    """Counts wrong tokens by address (of IPv6 by the /64 that one machine has to itself).

    Args:
        tries: how many of one address are answered at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, tries: int = _TRIES) -> None:
        self._clock, self._tries = clock, tries
        self._debts: OrderedDict[str, tuple[float, float]] = OrderedDict()  # wrong tokens, and when they were counted

    def seconds_to_wait(self, address: str) -> float:
        """How long no further token of this address is looked at; 0 where the next one is."""
        return max(0.0, (self._debt(_network(address)) - self._tries + 1) * _SECONDS_PER_TRY)

    def add_wrong(self, address: str) -> None:
        """Count a wrong token."""
        network = _network(address)
        self._debts[network] = (self._debt(network) + 1, self._clock())
        self._debts.move_to_end(network)
        if len(self._debts) > _MOST_ADDRESSES:
            self._debts.popitem(last=False)

    def forgive(self, address: str) -> None:
        """Take back the last wrong one of an address, which was right."""
        network = _network(address)
        if network in self._debts:
            self._debts[network] = (max(0.0, self._debt(network) - 1), self._clock())

    def _debt(self, network: str) -> float:
        debt, counted = self._debts.get(network, (0.0, 0.0))
        return max(0.0, debt - (self._clock() - counted) / _SECONDS_PER_TRY)


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ip.version == 6 else str(ip)


class Secret:
    """The token of a server, and the cookie that a browser holds in its place.

    The cookie is drawn anew by each process and far too long to be guessed, so it is never made to wait: whoever is in
    stays in while somebody guesses tokens from the same address.
    """

    def __init__(self, token: str) -> None:
        self._token = _digest(token)
        self.cookie = secrets.token_urlsafe(32)
        self.guesses = Guesses()

    def is_cookie(self, text: str) -> bool:
        return hmac.compare_digest(_digest(text), _digest(self.cookie))

    def is_token(self, text: str) -> bool:
        return hmac.compare_digest(_digest(text), self._token)


def _digest(text: str) -> bytes:
    """Of one length, whatever is compared."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
