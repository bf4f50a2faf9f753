//! Finds installations: with an index where there is one, else by looking at them for a bounded time.

use std::time::Duration;

use store::{ExternalId, InstallationId, LocationId, Tag, UserType};
use store_writer::StoreWriter;
use store_writer::writer::Listed;

use super::filter::{Filter, Needle};
use crate::Broker;
use crate::api::error::Error;
use crate::api::status::Name;
use crate::diagnosis::facts::read;

/// How long installations are looked at for one page.
const BUDGET: Duration = Duration::from_millis(200);

/// A page that is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    /// The last one of the page before, or the last one that was looked at for it.
    pub(crate) after: Option<InstallationId>,
    /// The most entries.
    pub(crate) limit: usize,
    /// The name of an agency whose locations are wanted.
    pub(crate) parent: Option<String>,
    pub(crate) filter: Filter,
    /// Whether only agencies are wanted.
    pub(crate) are_agencies: bool,
    /// A text, see [`super::Page`].
    pub(crate) q: Option<String>,
    /// Whether to look at all of them, even if `q` is exactly the id of one.
    pub(crate) is_everywhere: bool,
}

/// A page.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) entries: Vec<Listed>,
    /// The `after` of the next page. `None` on the last one.
    pub(crate) next: Option<InstallationId>,
    /// How many were looked at. `None` if an index has answered.
    pub(crate) searched: Option<u64>,
    /// Whether the text is exactly the id or a tag of these.
    pub(crate) is_exact: bool,
}

/// Finds a page of installations.
///
/// # Errors
/// 400 if a filter is malformed, or there is no such agency. 503 if the store is unavailable.
pub(crate) async fn search(broker: &Broker, wanted: &Search) -> Result<Found, Error> {
    let writer = &broker.0.writer;
    let known = broker.0.worker.apps.current().known();
    let Search { filter, limit, .. } = wanted;
    let (after, limit) = (wanted.after.as_ref(), *limit);
    let parent = match &wanted.parent {
        Some(name) => {
            let app = filter.app.as_deref();
            Some(Name { name, app }.resolve(writer).await?)
        }
        None => None,
    };
    let matches = |entry: &Listed| {
        let is_kind = !wanted.are_agencies || is_agency(entry);
        is_kind && filter.matches(entry, parent.as_ref(), &known)
    };
    let text = wanted.q.as_deref().map(str::trim);
    let text = text.filter(|text| !text.is_empty());
    if let Some(text) = text.filter(|_| !wanted.is_everywhere)
        && let Some(mut found) = exact(broker, text, after, limit).await?
    {
        found.entries.retain(matches);
        // A filter may leave none of them.
        found.is_exact &= !found.entries.is_empty() || after.is_some() || found.next.is_some();
        return Ok(found);
    }
    let needle = text.map(Needle::new);
    let is_wanted =
        |entry: &Listed| matches(entry) && needle.as_ref().is_none_or(|needle| needle.is_in(entry));
    if let Some(listed) = indexed(writer, wanted, parent.as_ref(), (after, limit)).await? {
        let mut found = page(listed, limit);
        found.entries.retain(is_wanted);
        return Ok(found);
    }
    // It never closes.
    let _turn = broker.0.searches.acquire().await;
    let scanned = writer.scan(after, limit, BUDGET, is_wanted).await?;
    Ok(Found {
        entries: scanned.found,
        next: scanned.next,
        searched: Some(scanned.seen),
        is_exact: false,
    })
}

fn is_agency(listed: &Listed) -> bool {
    match listed {
        Listed::Readable(it) => it.installation.access.user_type == UserType::Company,
        Listed::Unreadable { .. } => false,
    }
}

/// The page that an index has for a filter. `None` if no index has it.
async fn indexed(
    writer: &StoreWriter,
    wanted: &Search,
    parent: Option<&InstallationId>,
    (after, limit): (Option<&InstallationId>, usize),
) -> Result<Option<Vec<Listed>>, Error> {
    let filter = &wanted.filter;
    let invalid = |error: store::id::ParseIdError| Error::invalid(error.to_string());
    let listed = match (&filter.external_id, &filter.location, &filter.tag, parent) {
        (Some(id), _, _, _) => {
            let id: ExternalId = id.parse().map_err(invalid)?;
            writer.list_named(&id.index_name(), after, limit).await?
        }
        (None, Some(location), _, _) => {
            let location: LocationId = location.parse().map_err(invalid)?;
            writer.list_named(location.as_str(), after, limit).await?
        }
        (None, None, Some(tag), _) => {
            let tag: Tag = tag.parse().map_err(invalid)?;
            writer.list_tagged(&tag, after, limit).await?
        }
        (None, None, None, Some(parent)) => writer.list_children(parent, after, limit).await?,
        (None, None, None, None) if wanted.are_agencies => {
            writer.list_agencies(after, limit).await?
        }
        (None, None, None, None) => return Ok(None),
    };
    Ok(Some(listed))
}

/// Those whose id, location, company, external id or tag is exactly this. `None` if there are none.
async fn exact(
    broker: &Broker,
    text: &str,
    after: Option<&InstallationId>,
    limit: usize,
) -> Result<Option<Found>, Error> {
    let writer = &broker.0.writer;
    let mut entries = Vec::new();
    // They are few, and all on the first page.
    if after.is_none() {
        if let Ok(id) = text.parse::<InstallationId>() {
            entries.extend(read(broker, &id).await?);
        }
        if entries.is_empty() && text.parse::<LocationId>().is_ok() {
            entries = writer.list_named(text, None, limit).await?;
        }
        if let Ok(id) = text.parse::<ExternalId>() {
            let named = writer.list_named(&id.index_name(), None, limit).await?;
            let known: Vec<InstallationId> = entries.iter().map(|it| it.id().clone()).collect();
            entries.extend(named.into_iter().filter(|it| !known.contains(it.id())));
        }
        if !entries.is_empty() {
            return Ok(Some(Found {
                entries,
                is_exact: true,
                ..Found::default()
            }));
        }
    }
    let Ok(tag) = text.parse::<Tag>() else {
        return Ok(None);
    };
    let is_tag = match after {
        None => true,
        // The last page of a tag may be empty.
        Some(_) => !writer.list_tagged(&tag, None, 1).await?.is_empty(),
    };
    if !is_tag {
        return Ok(None);
    }
    let tagged = writer.list_tagged(&tag, after, limit).await?;
    if tagged.is_empty() && after.is_none() {
        return Ok(None);
    }
    Ok(Some(Found {
        is_exact: true,
        ..page(tagged, limit)
    }))
}

/// A full page may have another one after it.
fn page(entries: Vec<Listed>, limit: usize) -> Found {
    let last = entries.last().filter(|_| entries.len() == limit);
    Found {
        next: last.map(|last| last.id().clone()),
        entries,
        ..Found::default()
    }
}
