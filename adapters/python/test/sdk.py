"""Calls GHL with its official SDK and evergreen's tokens.

python3 test/sdk.py <evergreen's internal URL> <key> <GHL's URL> <location>

Prints the results as one JSON object. GHL must be the sandbox.
"""

import asyncio
import json
import sys

import httpx
from highlevel import GHLError, HighLevel

from evergreen_ghl_session_storage import EvergreenSessionStorage


def client(storage):
    credentials = {"client_id": "unused", "client_secret": "unused"}
    return HighLevel(**credentials, session_storage=storage, log_level="none")


async def expire(sandbox, location_id):
    """Lets the token expire at GHL before its time."""
    async with httpx.AsyncClient() as http:
        (await http.post(f"{sandbox}/_sandbox/expire", json={"locationId": location_id})).raise_for_status()


async def failure(call):
    try:
        await call
    except GHLError as error:
        return {"statusCode": error.status_code, "message": str(error)}
    except RuntimeError as error:
        return {"message": str(error)}


async def main(url, key, sandbox, location_id):
    # Also for the SDK's own token calls, so that the sandbox would count them.
    HighLevel.BASE_URL = sandbox
    storage = EvergreenSessionStorage(url, key)
    ghl = storage.attach(client(storage))
    detached = client(storage)

    for name in "abc":
        await ghl.contacts.create_contact({"locationId": location_id, "email": f"{name}@example.com"})
    search = {"locationId": location_id, "pageLimit": 2}
    pages = [await ghl.contacts.search_contacts_advanced({**search, "page": page}) for page in (1, 2)]

    await expire(sandbox, location_id)
    refused = await failure(detached.contacts.search_contacts_advanced({**search, "page": 1}))

    # All at once: a call with the location in its body, in its query, and in a header.
    contact_id = pages[0]["contacts"][0]["id"]
    created, listed, shown = await asyncio.gather(
        ghl.contacts.create_contact({"locationId": location_id, "email": "d@example.com"}),
        ghl.products.list_invoices(location_id),  # The SDK's name for the list of products.
        ghl.contacts.get_contact(contact_id, {"headers": {"locationId": location_id}}),
    )

    # The SDK's own method sends the form as JSON.
    media = await ghl.get_http_client().post(
        "/medias/upload-file",
        headers={
            "Authorization": await ghl.get_auth_token(location_id),
            "Content-Type": "multipart/form-data; boundary=upload",
        },
        data={"name": "note"},
        files={"file": ("note.txt", b"hello", "text/plain")},
    )

    return {
        "pages": [[contact["email"] for contact in page["contacts"]] for page in pages],
        "refusedWithoutAttach": refused,
        "created": created["contact"]["email"],
        "listed": listed["products"],
        "shown": shown["contact"]["id"] == contact_id,
        "media": type(media.json()["fileId"]).__name__,
        "refreshToken": await storage.get_refresh_token(location_id),
        "setSession": await failure(storage.set_session(location_id, {"access_token": "x"})),
        "unknownLocation": await failure(storage.get_session("nowhere")),
    }


print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
