"""What resources have in common that keep somebody out: one that cannot be read is not just left out."""

from __future__ import annotations

from pydantic import PrivateAttr

from meshlib.resources.base import Resource


class Guarding(Resource):
    """An AuthorizationPolicy, RequestAuthentication or PeerAuthentication, or what stands for one."""

    _stands_for: str = PrivateAttr(default="")
    _placed: bool = PrivateAttr(default=True)

    @property
    def stands_for(self) -> str:
        """Why the policy of this name could not be read, of which there is no good version yet: this stands for all that it
        may have refused. "" of one that could."""
        return self._stands_for

    @property
    def placed(self) -> bool:
        """Whether namespace and selector are those of the policy: not known of every one that could not be read."""
        return self._placed

    @property
    def refuses(self) -> str:
        """What is refused while this stands for another, for people."""
        return "everything that it may have refused is refused"
