//! `evergreen installations list`: pages of the API as one list.

use std::cmp::Reverse;

use serde_json::Value;
use store::AppName;
use url::form_urlencoded::Serializer;

use crate::args::{ListInstallations, Order};
use crate::exit::Failure;
use crate::operate::{Admin, array};
use crate::output::{Column, List, Output, in_words, member, time};

/// The entries of one page.
const PAGE: u32 = 500;
/// The most installations that are sorted, which takes some 20 MB.
const MOST_SORTED: usize = 10_000;

pub(super) const INSTALLATIONS: List = List {
    columns: &[
        Column::text("INSTALLATION", |one| member(one, "installationId")),
        Column::text("APP", |one| member(one, "app")).spare(2),
        Column::state("TOKEN", |one| member(one, "tokenStatus")),
        Column::text("LOCATION OR COMPANY", owner),
        Column::time("EXPIRES", |one| time(one, "expiresAt")).spare(1),
        Column::time("NEXT REFRESH", |one| time(one, "nextRefreshAt")).spare(3),
        Column::text("LAST ERROR", |one| member(&one["lastError"], "message")),
    ],
    id: |one| member(one, "installationId"),
    empty: "There are no installations yet. `evergreen installations connect-link` makes a link with which a customer \
            connects, and `evergreen installations import` takes tokens that you have",
};

const NONE_MATCHES: &str =
    "No installation matches. `evergreen installations list` without filters shows all";

pub(super) async fn list(
    admin: &Admin,
    output: Output,
    only: &ListInstallations,
) -> Result<(), Failure> {
    let limit = only.limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(usize::MAX);
    let mut pages = Pages::of(admin, only);
    let mut rows = output.list(&INSTALLATIONS);
    if let Some(order) = only.sort {
        let mut all = pages.all().await?;
        sort(&mut all, order);
        rows.add(all.iter().take(limit))?;
    } else {
        while rows.count() < limit
            && let Some(page) = pages.next().await?
        {
            rows.add(page.iter().take(limit - rows.count()))?;
        }
    }
    match has_filter(only) {
        true => rows.end_saying(NONE_MATCHES),
        false => rows.end(),
    }
}

/// Pages of installations, one after the other.
pub(super) struct Pages<'a> {
    admin: &'a Admin,
    only: &'a ListInstallations,
    next: Next,
}

enum Next {
    First,
    After(String),
    None,
}

impl<'a> Pages<'a> {
    pub(super) fn of(admin: &'a Admin, only: &'a ListInstallations) -> Self {
        Self {
            admin,
            only,
            next: Next::First,
        }
    }

    /// The next page, which may have no entries. `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Value>>, Failure> {
        let after = match &self.next {
            Next::First => None,
            Next::After(after) => Some(after.as_str()),
            Next::None => return Ok(None),
        };
        let path = path(self.only, after);
        let page = self.admin.get(&path, "installations").await?;
        self.next = match page["next"].as_str() {
            Some(after) => Next::After(after.to_owned()),
            None => Next::None,
        };
        Ok(Some(array(&page, "installations").cloned().collect()))
    }

    /// All of them, if they are few enough to be sorted.
    async fn all(&mut self) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
            if all.len() > MOST_SORTED {
                return Err(Failure::Refused(format!(
                    "more than {MOST_SORTED} installations match, which is too many to sort. Use a filter such as \
                     --status or --tag, or leave --sort out"
                )));
            }
        }
        Ok(all)
    }
}

/// Times are as RFC 3339 in UTC, which sorts as text.
fn sort(installations: &mut [Value], order: Order) {
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
    match order {
        Order::Name => installations.sort_by_key(owner),
        Order::Expires => installations.sort_by_key(|one| {
            let expires_at = text(one, "expiresAt");
            // Those that never expire, or have no token, come last.
            (expires_at.is_empty(), expires_at)
        }),
        Order::Updated => installations.sort_by_key(|one| Reverse(text(one, "lastRefreshAt"))),
    }
}

fn owner(one: &Value) -> String {
    match &one["locationId"] {
        Value::Null => member(one, "companyId"),
        location => in_words(location),
    }
}

fn has_filter(only: &ListInstallations) -> bool {
    filters(only).iter().any(|(_, value)| value.is_some())
}

fn filters(only: &ListInstallations) -> [(&'static str, Option<&str>); 8] {
    [
        ("app", only.app.as_ref().map(AppName::as_str)),
        ("company", only.company.as_deref()),
        ("parent", only.parent.as_deref()),
        ("status", only.status.as_deref()),
        ("tag", only.tag.as_deref()),
        ("external_id", only.external_id.as_deref()),
        ("location", only.location.as_deref()),
        ("q", only.search.as_deref()),
    ]
}

fn path(only: &ListInstallations, after: Option<&str>) -> String {
    // A page that is sorted later is as long as it can be.
    let page = match (only.sort, only.limit) {
        (None, Some(limit)) => limit.min(PAGE),
        (_, _) => PAGE,
    };
    let mut text = Serializer::new(String::new());
    text.append_pair("limit", &page.to_string());
    text.extend_pairs(after.map(|after| ("after", after)));
    for (name, value) in filters(only) {
        text.extend_pairs(value.map(|value| (name, value)));
    }
    format!("/v1/installations?{}", text.finish())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sorted(order: Order) -> Vec<String> {
        let mut all = vec![
            json!({ "installationId": "1", "locationId": "b", "expiresAt": "2026-12-02T00:00:00.000Z",
                "lastRefreshAt": "2026-12-01T00:00:00.000Z" }),
            json!({ "installationId": "2", "companyId": "c", "expiresAt": null, "lastRefreshAt": null }),
            json!({ "installationId": "3", "locationId": "a", "expiresAt": "2026-12-01T00:00:00.000Z",
                "lastRefreshAt": "2026-11-01T00:00:00.000Z" }),
        ];
        sort(&mut all, order);
        all.iter()
            .map(|one| member(one, "installationId"))
            .collect()
    }

    #[test]
    fn installations_are_sorted_and_those_without_a_value_come_last() {
        assert_eq!(sorted(Order::Expires), ["3", "1", "2"]);
        assert_eq!(sorted(Order::Updated), ["1", "3", "2"]);
        assert_eq!(sorted(Order::Name), ["3", "1", "2"]);
    }

    #[test]
    fn filters_and_limit_are_part_of_the_request() {
        let mut only = ListInstallations {
            tag: Some("größe 2".to_owned()),
            limit: Some(10),
            ..ListInstallations::default()
        };
        let expected = "/v1/installations?limit=10&after=x&tag=gr%C3%B6%C3%9Fe+2";
        assert_eq!(path(&only, Some("x")), expected);
        assert!(has_filter(&only));
        only.sort = Some(Order::Name);
        assert!(path(&only, None).contains("limit=500"));
        assert!(!has_filter(&ListInstallations::default()));
    }
}
