"""Calls GHL for one location of an agency with GHL's official SDK.

python3 agency.py <base URL> <key> <company> <location>

Prints the results as one JSON object.
"""

import asyncio
import json
import sys

from highlevel import HighLevel


async def main(base, key, company_id, location_id):
    ghl = HighLevel(private_integration_token=key, log_level="error")
    # Besides the key, the only difference to a program that calls GHL directly, except for the header below.
    ghl.get_http_client().base_url = base

    # Ten operations that name their location or their company themselves.
    contacts, products, locations = ghl.contacts, ghl.products, ghl.locations
    contact = {"locationId": location_id, "email": "sdk@example.com"}
    created = await contacts.create_contact(contact)
    upserted = await contacts.upsert_contact({**contact, "firstName": "Nora"})
    found = await contacts.search_contacts_advanced(
        {
            "locationId": location_id,
            "page": 1,
            "pageLimit": 10,
            "filters": [{"field": "email", "operator": "eq", "value": "sdk@example.com"}],
        }
    )
    kind = {"locationId": location_id, "productType": "DIGITAL"}
    product = await products.create_product({**kind, "name": "from the SDK"})
    product_id = product["_id"]
    renamed = await products.update_product_by_id(product_id, {**kind, "name": "renamed"})
    shown = await products.get_product_by_id(product_id, location_id)
    listed = await products.list_invoices(location_id)  # The SDK's name for the list of products.
    location = await locations.get_location(location_id)
    every = await locations.search_locations(company_id)
    company = await ghl.companies.get_company(company_id)

    # Operations that name neither. GHL takes the location from the token, so a header names it for the gateway.
    # This SDK cannot upload a file, because it sends the form as JSON.
    contact_id = created["contact"]["id"]
    options = {"headers": {"locationId": location_id}}
    await contacts.update_contact(contact_id, {"lastName": "North"}, options)
    updated = (await contacts.get_contact(contact_id, options))["contact"]
    deleted = await contacts.delete_contact(contact_id, options)
    await ghl.get_http_client().aclose()

    return {
        "createContact": created["contact"]["email"],
        "upsertContact": [upserted["new"], upserted["contact"]["id"] == contact_id],
        "searchContacts": [contact["firstName"] for contact in found["contacts"]],
        "createProduct": product["name"],
        "updateProduct": renamed["name"],
        "getProduct": shown["name"],
        "listProducts": [product["name"] for product in listed["products"]],
        "getLocation": location["location"]["id"],
        "searchLocations": len(every["locations"]),
        "getCompany": company["company"]["id"],
        "getContact": [updated["firstName"], updated["lastName"]],
        "deleteContact": deleted["succeded"],
    }


print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
