//! Checks the main responses against the required fields and types of GHL's OpenAPI documents.

use reqwest::Method;
use reqwest::multipart::Form;
use serde_json::{Value, json};

use crate::harness::{Sandbox, answer};

/// A field in a document.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Number,
    Boolean,
    /// A list whose elements have these fields.
    List(&'static [Field]),
    Object(&'static [Field]),
}
use Kind::{Boolean, List, Number, Object, Text};

#[derive(Clone, Copy, Debug)]
struct Field {
    name: &'static str,
    kind: Kind,
    required: bool,
}

const fn must(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: true,
    }
}

const fn may(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: false,
    }
}

// oauth.json: GetAccessCodeSuccessfulResponseDto. Only `userId` is required there, but a response without
// tokens is useless.
const TOKENS: &[Field] = &[
    must("access_token", Text),
    must("refresh_token", Text),
    must("token_type", Text),
    must("expires_in", Number),
    must("scope", Text),
    must("userType", Text),
    must("userId", Text),
    must("companyId", Text),
    may("locationId", Text),
    may("planId", Text),
    may("approvedLocations", List(&[])),
    may("isBulkInstallation", Boolean),
    may("installToFutureLocations", Boolean),
    may("approveAllLocations", Boolean),
];
// GetLocationAccessTokenSuccessfulResponseDto.
const LOCATION_TOKEN: &[Field] = &[
    must("access_token", Text),
    must("refresh_token", Text),
    must("token_type", Text),
    must("expires_in", Number),
    must("scope", Text),
    must("userType", Text),
    must("locationId", Text),
    must("companyId", Text),
    must("userId", Text),
    must("appId", Text),
    must("versionId", Text),
    must("traceId", Text),
];
// GetInstalledLocationsSuccessfulResponseDto, InstalledLocationSchema.
const INSTALLED: &[Field] = &[
    must(
        "locations",
        List(&[
            must("_id", Text),
            must("name", Text),
            must("address", Text),
            must("isInstalled", Boolean),
            may("versionId", Text),
            may("installedAt", Text),
        ]),
    ),
    must("count", Number),
    must("installToFutureLocations", Boolean),
];
// products.json: DefaultProductResponseDto, CreateProductResponseDto, GetProductResponseDto.
const PRODUCT: &[Field] = &[
    must("_id", Text),
    must("locationId", Text),
    must("name", Text),
    must("productType", Text),
    must("createdAt", Text),
    must("updatedAt", Text),
    may("description", Text),
    may("availableInStore", Boolean),
];
const PRODUCTS: &[Field] = &[
    must("products", List(PRODUCT)),
    must("total", List(&[must("total", Number)])),
];
// contacts.json: CreateContactSchema, GetContectByIdSchema, ContactsSearchSchema.
const CONTACT: &[Field] = &[
    must("id", Text),
    must("locationId", Text),
    may("email", Text),
    must("dateAdded", Text),
    may("dateUpdated", Text),
    may("tags", List(&[])),
    may("customFields", List(&[])),
];
// locations.json: GetLocationByIdSchema, GetLocationSchema.
const LOCATION: &[Field] = &[
    must("id", Text),
    must("name", Text),
    may("companyId", Text),
    may("address", Text),
    may("city", Text),
    may("country", Text),
    may("timezone", Text),
    may("email", Text),
];
const ERROR: &[Field] = &[
    must("statusCode", Number),
    must("message", Text),
    may("error", Text),
];

#[track_caller]
fn check(body: &Value, fields: &[Field], place: &str) {
    for field in fields {
        let place = format!("{place}.{}", field.name);
        let Some(value) = body.get(field.name) else {
            assert!(!field.required, "{place} is missing in {body}");
            continue;
        };
        match field.kind {
            Text => assert!(value.is_string(), "{place}: {value}"),
            Number => assert!(value.is_number(), "{place}: {value}"),
            Boolean => assert!(value.is_boolean(), "{place}: {value}"),
            Object(fields) => check(value, fields, &place),
            List(fields) => {
                for element in value.as_array().expect(&place) {
                    check(element, fields, &place);
                }
            }
        }
    }
}

async fn conforms(
    request: reqwest::RequestBuilder,
    status: u16,
    fields: &[Field],
    place: &str,
) -> Value {
    let (got, body) = answer(request).await;
    assert_eq!(got.as_u16(), status, "{place}: {body}");
    check(&body, fields, place);
    body
}

const COMPANY: &str = "sandboxNorthwindHQ01";
const HARBOR: &str = "sandboxHarborDental1";

#[tokio::test]
async fn token_responses_have_the_documented_fields() {
    let sandbox = Sandbox::start().await;
    for choice in [("locationId", HARBOR), ("companyId", COMPANY)] {
        let code = sandbox.code(&[choice]).await;
        let body = sandbox.exchange(&code).await;
        check(&body, TOKENS, choice.0);
        let refresh = body["refresh_token"].as_str().unwrap();
        conforms(sandbox.refresh_request(refresh), 200, TOKENS, "refresh").await;
    }
    let agency = sandbox.install_agency(COMPANY).await.access;
    let form = [("companyId", COMPANY), ("locationId", HARBOR)];
    let call = sandbox
        .call(Method::POST, "/oauth/locationToken", &agency)
        .form(&form);
    conforms(call, 200, LOCATION_TOKEN, "locationToken").await;
    let path = format!("/oauth/installedLocations?companyId={COMPANY}&appId=sandbox");
    let call = sandbox.call(Method::GET, &path, &agency);
    conforms(call, 200, INSTALLED, "installedLocations").await;
}

#[tokio::test]
async fn api_responses_have_the_documented_fields() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install(HARBOR).await.access;
    let get = |path: String| sandbox.call(Method::GET, &path, &access);
    let post = |path: &str, body: Value| sandbox.call(Method::POST, path, &access).json(&body);

    let product = json!({"name": "x", "locationId": HARBOR, "productType": "PHYSICAL/DIGITAL"});
    let made = conforms(post("/products/", product), 201, PRODUCT, "product").await;
    let id = made["_id"].as_str().unwrap();
    let path = format!("/products/{id}?locationId={HARBOR}");
    conforms(get(path.clone()), 200, PRODUCT, "product").await;
    let list = format!("/products/?locationId={HARBOR}");
    conforms(get(list), 200, PRODUCTS, "products").await;
    let deleted = sandbox.call(Method::DELETE, &path, &access);
    conforms(deleted, 200, &[must("status", Boolean)], "deleted").await;

    let contact = json!({"locationId": HARBOR, "email": "a@example.com"});
    let one: &[Field] = &[must("contact", Object(CONTACT))];
    let made = conforms(post("/contacts/", contact.clone()), 201, one, "contact").await;
    let id = made["contact"]["id"].as_str().unwrap();
    conforms(get(format!("/contacts/{id}")), 200, one, "contact").await;
    let upserted: &[Field] = &[
        must("new", Boolean),
        must("contact", Object(CONTACT)),
        must("traceId", Text),
    ];
    conforms(post("/contacts/upsert", contact), 200, upserted, "upsert").await;
    let list: &[Field] = &[must("contacts", List(CONTACT)), must("count", Number)];
    conforms(
        get(format!("/contacts/?locationId={HARBOR}")),
        200,
        list,
        "contacts",
    )
    .await;

    let location: &[Field] = &[must("location", Object(LOCATION))];
    conforms(
        get(format!("/locations/{HARBOR}")),
        200,
        location,
        "location",
    )
    .await;
    let found: &[Field] = &[must("locations", List(LOCATION))];
    conforms(get("/locations/search".to_owned()), 200, found, "search").await;

    let form = Form::new()
        .text("hosted", "true")
        .text("fileUrl", "https://example.com/x.png");
    let upload = sandbox
        .call(Method::POST, "/medias/upload-file", &access)
        .multipart(form);
    let uploaded: &[Field] = &[must("fileId", Text), must("url", Text)];
    conforms(upload, 200, uploaded, "upload").await;
    let list = format!(
        "/medias/files?altId={HARBOR}&altType=location&sortBy=name&sortOrder=asc&type=file"
    );
    conforms(get(list), 200, &[must("files", List(&[]))], "files").await;

    let uninstall = sandbox
        .call(Method::DELETE, "/marketplace/app/a/installations", &access)
        .json(&json!({"locationId": HARBOR}));
    conforms(uninstall, 200, &[must("success", Boolean)], "uninstall").await;
}

#[tokio::test]
async fn errors_have_the_documented_fields() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install(HARBOR).await.access;
    let get = |path: &str| sandbox.call(Method::GET, path, &access);
    conforms(get("/locations/other"), 403, ERROR, "403").await;
    conforms(get("/contacts/none"), 404, ERROR, "404").await;
    conforms(sandbox.get("/contacts/none"), 401, ERROR, "401").await;
    conforms(sandbox.post("/oauth/token"), 400, ERROR, "400").await;
    // UnprocessableDTO: the message is a list.
    let (status, body) = answer(get("/products/")).await;
    assert_eq!(status, 422);
    assert!(
        body["message"]
            .as_array()
            .unwrap()
            .iter()
            .all(Value::is_string)
    );
    assert_eq!(body["error"], "Unprocessable Entity");
}
