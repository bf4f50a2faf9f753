//! Contacts, opportunities, products and media files: lists, searches, changes.

use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Sandbox, answer};

const HARBOR: &str = "sandboxHarborDental1";

struct Location {
    sandbox: Sandbox,
    access: String,
}

impl Location {
    async fn start() -> Self {
        let sandbox = Sandbox::start().await;
        let access = sandbox.install(HARBOR).await.access;
        Self { sandbox, access }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.sandbox.call(method, path, &self.access)
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        answer(self.request(method, path).json(&body)).await
    }

    async fn add_contact(&self, fields: Value) -> String {
        let mut contact = json!({"locationId": HARBOR});
        let others = fields.as_object().unwrap().clone();
        contact.as_object_mut().unwrap().extend(others);
        let (status, body) = self.send(Method::POST, "/contacts/", contact).await;
        assert_eq!(status, 201, "{body}");
        body["contact"]["id"].as_str().unwrap().to_owned()
    }
}

fn names(list: &Value) -> Vec<&str> {
    let records = list.as_array().unwrap();
    records
        .iter()
        .map(|record| record["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn contacts_are_paged_by_the_url_of_the_next_page() {
    let location = Location::start().await;
    for number in 1..=5 {
        location
            .add_contact(json!({"name": format!("c{number}")}))
            .await;
    }
    let mut path = format!("/contacts/?locationId={HARBOR}&limit=2");
    let mut seen = Vec::new();
    for page in 1..=3 {
        let (status, body) = location.get(&path).await;
        assert_eq!(status, 200, "{body}");
        seen.extend(names(&body["contacts"]).into_iter().map(str::to_owned));
        let meta = &body["meta"];
        assert_eq!(
            (&meta["total"], &meta["currentPage"]),
            (&json!(5), &json!(page))
        );
        assert_eq!(
            meta["prevPage"],
            if page == 1 {
                json!(null)
            } else {
                json!(page - 1)
            }
        );
        if page == 3 {
            assert_eq!(
                (&meta["nextPage"], &meta["nextPageUrl"]),
                (&json!(null), &json!(null))
            );
            break;
        }
        assert_eq!(meta["nextPage"], page + 1);
        assert!(
            meta["startAfter"].is_u64() && meta["startAfterId"].is_string(),
            "{meta}"
        );
        let url = meta["nextPageUrl"].as_str().unwrap();
        path = url.strip_prefix(&location.sandbox.base).unwrap().to_owned();
    }
    assert_eq!(seen, ["c5", "c4", "c3", "c2", "c1"]);
}

#[tokio::test]
async fn contacts_are_searched_by_filters_and_pages() {
    let location = Location::start().await;
    for (name, email, tag) in [
        ("Ada", "ada@example.com", "vip"),
        ("Bob", "bob@example.com", "new"),
        ("Ann", "ann@example.org", "vip"),
    ] {
        let contact = json!({"name": name, "email": email, "tags": [tag]});
        location.add_contact(contact).await;
    }
    let filter = |field: &str, operator: &str, value: Value| json!({"field": field, "operator": operator, "value": value});
    for (search, expected) in [
        (json!({}), &["Ann", "Bob", "Ada"][..]),
        (json!({"pageLimit": 1, "page": 2}), &["Bob"]),
        (json!({"query": "AN"}), &["Ann"]),
        (
            json!({"filters": [filter("tags", "eq", json!("vip"))]}),
            &["Ann", "Ada"],
        ),
        (
            json!({"filters": [filter("tags", "not_eq", json!(["vip"]))]}),
            &["Bob"],
        ),
        (
            json!({"filters": [filter("email", "contains", json!(".ORG"))]}),
            &["Ann"],
        ),
        (
            json!({"filters": [filter("phone", "exists", json!(null))]}),
            &[],
        ),
        (
            json!({"filters": [{"group": "OR", "filters": [
                filter("name", "eq", json!("bob")), filter("name", "eq", json!("ada"))]}]}),
            &["Bob", "Ada"],
        ),
    ] {
        let mut body = search.clone();
        body["locationId"] = json!(HARBOR);
        let (status, body) = location.send(Method::POST, "/contacts/search", body).await;
        assert_eq!(status, 200, "{search}: {body}");
        assert_eq!(names(&body["contacts"]), expected, "{search}");
    }
    for invalid in [
        json!({}),
        json!({"locationId": HARBOR, "pageLimit": 501}),
        json!({"locationId": HARBOR, "filters": [filter("name", "resembles", json!("x"))]}),
    ] {
        let (status, _) = location
            .send(Method::POST, "/contacts/search", invalid)
            .await;
        assert_eq!(status, 422);
    }
}

#[tokio::test]
async fn contacts_are_updated_and_deleted() {
    let location = Location::start().await;
    let ada = location
        .add_contact(json!({"name": "Ada", "email": "ada@example.com"}))
        .await;
    let bob = location
        .add_contact(json!({"name": "Bob", "email": "bob@example.com"}))
        .await;
    let path = format!("/contacts/{bob}");
    let taken = json!({"email": "ADA@example.com"});
    let (status, body) = location.send(Method::PUT, &path, taken).await;
    assert_eq!(
        (status.as_u16(), &body["meta"]["contactId"]),
        (400, &json!(ada))
    );
    let change = json!({"email": "b@example.com", "name": "B", "locationId": "other", "id": "x"});
    let (status, body) = location.send(Method::PUT, &path, change).await;
    assert_eq!((status.as_u16(), &body["succeded"]), (200, &json!(true)));
    assert_eq!(body["contact"]["id"], json!(bob));
    assert_eq!(body["contact"]["locationId"], HARBOR);
    // The old address is free.
    location
        .add_contact(json!({"name": "Bo", "email": "bob@example.com"}))
        .await;

    let (status, body) = location.send(Method::DELETE, &path, json!({})).await;
    assert_eq!((status.as_u16(), body), (200, json!({"succeded": true})));
    assert_eq!(location.get(&path).await.0, 404);
    assert_eq!(location.send(Method::DELETE, &path, json!({})).await.0, 404);
    assert_eq!(location.send(Method::PUT, &path, json!({})).await.0, 404);
    location
        .add_contact(json!({"name": "New", "email": "b@example.com"}))
        .await;
}

#[tokio::test]
async fn opportunities_are_searched_in_both_ways() {
    let location = Location::start().await;
    for (name, status) in [("Roof", "open"), ("Door", "won"), ("Roof 2", "open")] {
        let opportunity = json!({"locationId": HARBOR, "name": name, "status": status,
            "pipelineId": "p1", "contactId": "c1"});
        let (status, body) = location
            .send(Method::POST, "/opportunities/", opportunity)
            .await;
        assert_eq!(status, 201, "{body}");
        assert!(body["opportunity"]["id"].is_string());
    }
    for (query, expected, total) in [
        ("", &["Roof 2", "Door", "Roof"][..], 3),
        ("&status=open", &["Roof 2", "Roof"], 2),
        ("&status=all", &["Roof 2", "Door", "Roof"], 3),
        ("&q=roof&limit=1", &["Roof 2"], 2),
        ("&q=roof&limit=1&page=2", &["Roof"], 2),
        ("&pipeline_id=p2", &[], 0),
    ] {
        let path = format!("/opportunities/search?location_id={HARBOR}{query}");
        let (status, body) = location.get(&path).await;
        assert_eq!(status, 200, "{query}: {body}");
        assert_eq!(names(&body["opportunities"]), expected, "{query}");
        assert_eq!(body["meta"]["total"], total, "{query}");
    }
    let search = json!({"locationId": HARBOR, "query": "roof", "limit": 1, "page": 2});
    let (status, body) = location
        .send(Method::POST, "/opportunities/search", search)
        .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        (names(&body["opportunities"]), &body["total"]),
        (vec!["Roof"], &json!(2))
    );
    let (status, _) = location.get("/opportunities/search").await;
    assert_eq!(status, 422);
}

#[tokio::test]
async fn products_are_updated() {
    let location = Location::start().await;
    let product = json!({"name": "Hat", "locationId": HARBOR, "productType": "PHYSICAL"});
    let (_, made) = location
        .send(Method::POST, "/products/", product.clone())
        .await;
    let path = format!("/products/{}", made["_id"].as_str().unwrap());
    let change = json!({"name": "Cap", "locationId": HARBOR, "productType": "DIGITAL",
        "_id": "x", "createdAt": "x"});
    let (status, body) = location.send(Method::PUT, &path, change).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        (&body["_id"], &body["createdAt"]),
        (&made["_id"], &made["createdAt"])
    );
    assert_eq!(
        (&body["name"], &body["productType"]),
        (&json!("Cap"), &json!("DIGITAL"))
    );
    let (_, shown) = location.get(&format!("{path}?locationId={HARBOR}")).await;
    assert_eq!(shown, body);
    let (status, _) = location
        .send(Method::PUT, &path, json!({"locationId": HARBOR}))
        .await;
    assert_eq!(status, 422);
    let (status, _) = location.send(Method::PUT, "/products/none", product).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn media_files_are_listed_renamed_and_deleted() {
    let location = Location::start().await;
    let owner = json!({"altType": "location", "altId": HARBOR});
    let with = |fields: Value| {
        let mut body = owner.clone();
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        body
    };
    let folder = with(json!({"name": "Pictures"}));
    let (status, folder) = location.send(Method::POST, "/medias/folder", folder).await;
    assert_eq!(
        (status.as_u16(), &folder["type"]),
        (200, &json!("folder")),
        "{folder}"
    );
    let mut ids = Vec::new();
    for name in ["b.png", "a.png", "c.png"] {
        let form = Form::new()
            .text("hosted", "true")
            .text("fileUrl", "https://example.com/x.png")
            .text("parentId", folder["_id"].as_str().unwrap().to_owned())
            .text("name", name);
        let upload = location.request(Method::POST, "/medias/upload-file");
        let (_, body) = answer(upload.multipart(form)).await;
        ids.push(body["fileId"].as_str().unwrap().to_owned());
    }
    let list = async |query: &str| {
        let path = format!("/medias/files?altType=location&altId={HARBOR}&{query}");
        let (status, body) = location.get(&path).await;
        assert_eq!(status, 200, "{body}");
        names(&body["files"])
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let by_name = "sortBy=name&sortOrder=asc&type=file";
    assert_eq!(list(by_name).await, ["a.png", "b.png", "c.png"]);
    assert_eq!(
        list("sortBy=name&sortOrder=desc&type=file&limit=1").await,
        ["c.png"]
    );
    assert_eq!(
        list("sortBy=name&sortOrder=asc&type=folder").await,
        ["Pictures"]
    );
    assert_eq!(list(&format!("{by_name}&query=B.")).await, ["b.png"]);
    assert!(list(&format!("{by_name}&parentId=none")).await.is_empty());

    let path = format!("/medias/{}", ids[0]);
    let (status, body) = location
        .send(Method::POST, &path, with(json!({"name": "z.png"})))
        .await;
    assert_eq!((status.as_u16(), &body["updated"]), (200, &json!(true)));
    let several =
        with(json!({"filesToBeUpdated": [{"id": ids[1], "name": "y.png"}, {"id": "none"}]}));
    let (_, body) = location
        .send(Method::PUT, "/medias/update-files", several)
        .await;
    assert_eq!(body[0], json!({"updated": true, "id": ids[1]}));
    assert_eq!(body[1]["updated"], false);
    assert_eq!(list(by_name).await, ["c.png", "y.png", "z.png"]);

    let delete = format!("{path}?altType=location&altId={HARBOR}");
    assert_eq!(
        location.send(Method::DELETE, &delete, json!({})).await.0,
        200
    );
    assert_eq!(
        location.send(Method::DELETE, &delete, json!({})).await.0,
        404
    );
    let several = with(json!({"filesToBeDeleted": [{"_id": ids[2]}], "status": "deleted"}));
    let (_, body) = location
        .send(Method::PUT, "/medias/delete-files", several)
        .await;
    assert_eq!(body, json!([{"deleted": true, "id": ids[2]}]));
    assert_eq!(list(by_name).await, ["y.png"]);
    let foreign = json!({"altType": "location", "altId": "other", "name": "x"});
    assert_eq!(location.send(Method::POST, &path, foreign).await.0, 403);
}
