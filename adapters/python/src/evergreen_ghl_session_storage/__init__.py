"""GHL's SDK with access tokens that evergreen keeps fresh."""

import time
from urllib.parse import quote

import httpx
from highlevel import HighLevel, ISessionData, SessionStorage

__all__ = ["EvergreenSessionStorage"]

# Shorter than the time by which evergreen refreshes a token before it expires.
KEEP_SECONDS = 30.0


class EvergreenSessionStorage(SessionStorage):
    """Asks evergreen for tokens. A token is used again for up to 30 s.

    url: the address of evergreen's internal listener, such as http://127.0.0.1:9080.
    key: a key with the scope tokens.
    app: the name of the app, if locations have several apps and the key is not for one.
    """

    def __init__(self, url: str, key: str, app: str | None = None) -> None:
        super().__init__()
        headers = {"Authorization": f"Bearer {key}", **({"X-Evergreen-App": app} if app else {})}
        # Without idle connections, since they do not survive the event loop that opened them.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=30)
        self._kept: dict[str, tuple[ISessionData, float]] = {}  # until when, in s since 1970

    def attach(self, ghl: HighLevel) -> HighLevel:
        """After a 401 the SDK asks evergreen for a newer token, instead of refreshing at GHL, and repeats the call."""
        if not hasattr(ghl, "_refresh_token_if_needed"):
            raise RuntimeError("unknown version of gohighlevel-api-client")
        locate = ghl.extract_resource_id

        # After a 401 the SDK has the names of headers in lower case, in which it does not find the location.
        def extract_resource_id(needs, headers=None, *rest, **named):
            names = {"locationid": "locationId", "companyid": "companyId"}
            return locate(needs, {names.get(name, name): value for name, value in (headers or {}).items()}, *rest, **named)

        ghl.extract_resource_id = extract_resource_id
        ghl._refresh_token_if_needed = self._newer_than
        return ghl

    async def get_session(self, resource_id: str) -> ISessionData:
        """The session of a location or company. Raises with evergreen's message if there is no token."""
        session, until = self._kept.get(resource_id, (None, 0.0))
        return session if session and time.time() < until else await self._ask(resource_id)

    async def get_access_token(self, resource_id: str) -> str:
        return (await self.get_session(resource_id))["access_token"]

    async def get_refresh_token(self, resource_id: str) -> None:
        """None, since refresh tokens do not leave evergreen."""

    async def set_session(self, resource_id: str, session_data: ISessionData) -> None:
        raise RuntimeError("evergreen keeps the tokens: let customers connect there, and do not call set_session")

    async def delete_session(self, resource_id: str) -> None:
        """Forgets the token, so that the next call asks evergreen. It ends no installation."""
        self._kept.pop(resource_id, None)

    async def disconnect(self) -> None:
        await self._http.aclose()

    def set_client_id(self, client_id: str) -> None: ...
    async def init(self) -> None: ...
    async def create_collection(self, collection_name: str) -> None: ...
    async def get_collection(self, collection_name: str) -> None: ...

    async def _newer_than(self, resource_id: str, refused: ISessionData) -> str | None:
        # evergreen does not see GHL's answers. It refreshes at once if this token is still the current one.
        session = await self._ask(resource_id, {"refused": refused["generation"]})
        return None if session["access_token"] == refused["access_token"] else f"Bearer {session['access_token']}"

    async def _ask(self, resource_id: str, query: dict[str, str] | None = None) -> ISessionData:
        """A session without refresh_token and expire_at, so that the SDK never refreshes."""
        answer = await self._http.get(f"/v1/installations/{quote(resource_id, safe='')}/token", params=query)
        body = answer.json()
        if answer.is_error:
            raise RuntimeError(f"evergreen: {body['message']} ({body['code']}). {body.get('hint', '')}")
        names = {"scopes": "scope", "user_type": "userType", "location_id": "locationId", "company_id": "companyId"}
        session = ISessionData({names.get(name, name): value for name, value in body.items()})
        keep = min(KEEP_SECONDS, session.get("expires_in", KEEP_SECONDS * 2) / 2)
        self._kept[resource_id] = (session, time.time() + keep)
        return session
