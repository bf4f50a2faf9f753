//! The page that a customer sees who is not sent back to the product.

use super::*;

const TITLE: (&str, &str) = ("EVERGREEN_APP_TITLE", "Acme <Sync>");
const LOGO: (&str, &str) = (
    "EVERGREEN_APP_LOGO_URL",
    "https://cdn.example/logo.svg?a=1&b=2",
);

/// Checks that a page names the product alone.
fn check_brand(page: &Page) {
    let body = &page.body;
    assert!(body.contains("Acme &lt;Sync&gt;"), "{body}");
    let logo = "src=\"https://cdn.example/logo.svg?a=1&amp;b=2\"";
    assert!(body.contains(logo), "{body}");
    let lower = body.to_lowercase();
    for word in ["evergreen", "ghl", "highlevel", "leadconnector", "install_"] {
        assert!(!lower.contains(word), "{word}: {body}");
    }
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(policy.contains("img-src https://cdn.example"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn page_says_how_it_went_in_the_name_of_the_product() {
    let up = Up::start(&[TITLE, LOGO]).await;
    let browser = Browser::new(&up.public);
    let callback = browser.callback("/oauth/install", "locationId=locA").await;
    let redirect = browser.open(&callback).await;
    assert_eq!(redirect.status, 303);
    let path = redirect.leads_to().to_owned();
    assert!(path.starts_with("/oauth/result/"), "{path}");
    // Reload, and back.
    for _ in 0..2 {
        let page = browser.open(&path).await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains("<h1>Connected</h1>"), "{}", page.body);
        assert!(!page.body.contains("<a "), "{}", page.body);
        check_brand(&page);
        assert_eq!(browser.open(&callback).await.leads_to(), path);
    }
    assert_eq!(exchanges(&up).await, 1);

    let denied = browser.consent("/oauth/install", "deny=1").await;
    let page = browser.open(denied.leads_to()).await;
    assert!(
        page.body.contains("<h1>Not connected</h1>"),
        "{}",
        page.body
    );
    assert!(
        page.body.contains("href=\"/oauth/install\""),
        "{}",
        page.body
    );
    check_brand(&page);
    let twice = browser.open("/oauth/callback?code=a&code=b").await;
    assert_eq!(twice.status, 400);
    check_brand(&twice);
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_a_forged_outcome_is_not_shown() {
    let up = Up::start(&[TITLE, LOGO]).await;
    let browser = Browser::new(&up.public);
    let redirect = browser.consent("/oauth/install", "locationId=locA").await;
    let path = redirect.leads_to().to_owned();
    let (body, signature) = path.split_once('.').unwrap();
    let denied = browser.consent("/oauth/install", "deny=1").await;
    let (_, other) = denied.leads_to().split_once('.').unwrap();
    let shortened = &signature[..signature.len() - 4];
    for forged in [
        format!("{body}A.{signature}"),
        format!("{body}.{other}"),
        format!("{body}.{shortened}"),
        format!("{body}."),
        body.to_owned(),
        "/oauth/result/<b>.x".to_owned(),
        "/oauth/result/%00".to_owned(),
    ] {
        let page = browser.open(&forged).await;
        assert_eq!(page.status, 404, "{forged}: {page:?}");
        assert!(!page.body.contains("<h1>Connected"), "{forged}: {page:?}");
        assert!(!page.body.contains("<b>"), "{forged}: {page:?}");
        check_brand(&page);
    }
    let page = browser.open(&path).await;
    assert!(page.body.contains("<h1>Connected</h1>"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn page_without_a_brand_loads_no_images() {
    let up = Up::start(&[]).await;
    let browser = Browser::new(&up.public);
    let redirect = browser.consent("/oauth/install", "locationId=locA").await;
    let page = browser.open(redirect.leads_to()).await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(!policy.contains("img-src"), "{policy}");
    assert!(!page.body.contains("<img"), "{}", page.body);
}
