//! Copies the file to the target, and counts there what was written.

use futures_util::{StreamExt, TryStreamExt, stream};
use store::record::Fields;
use store::{InstallationId, keys};

use super::{Counts, Move, MoveError, Moved, Part, Position, Progress, Refusal, Step, TargetState};
use crate::backend::REVISION;
use crate::backend::redis::moving::{NewMark, REQUEST_BYTES, REQUEST_KEYS};
use crate::identity::StoreId;

/// How many records are written or read at once.
const AT_ONCE: usize = 32;

impl Move {
    /// Moves the store, or reports that it was done. `journal`: the store that the journal belongs to, which must have
    /// nothing that the file lacks. `watch` is called with the progress. Repeat it after an error.
    ///
    /// # Errors
    /// When it must not be done, or one of the stores fails.
    pub async fn run(
        &self,
        journal: Option<&StoreId>,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Step, MoveError> {
        let step = self.next_step(journal).await?;
        let mark = self.mark(journal).await?;
        let own = &mark.id;
        let moved = match (step, self.file.moved()?) {
            (Step::Done, _) => return Ok(step),
            (Step::Continue, Some(moved)) => moved,
            (Step::Begin | Step::Continue, _) => Moved {
                id: store::random::hex::<8>(),
                is_complete: false,
                to: self.to.clone(),
            },
        };
        if step == Step::Begin {
            self.file.set_moved(&mark, Some(&moved)).await?;
            let begun = (moved.id.as_str(), NewMark::Closed);
            if !self.target.set_mark(own, None, begun).await? {
                // Somebody else has taken it meanwhile.
                let id = match self.target.state(own).await? {
                    TargetState::Foreign(id) => id,
                    TargetState::Empty | TargetState::Closed(_) | TargetState::Open(_) => None,
                };
                return Err(Refusal::Foreign(id).into());
            }
        }
        self.copy(watch).await?;
        self.count_in_target(watch).await?;
        let complete = Moved {
            is_complete: true,
            ..moved
        };
        self.file.set_moved(&mark, Some(&complete)).await?;
        watch(Progress::FileMarked);
        let opened = (complete.id.as_str(), NewMark::Open);
        match self
            .target
            .set_mark(own, Some(&complete.id), opened)
            .await?
        {
            true => Ok(step),
            false => Err(Refusal::Elsewhere(complete.to).into()),
        }
    }

    /// Copies every key. A record with another revision in the target stays there.
    async fn copy(&self, watch: &mut dyn FnMut(Progress)) -> Result<(), MoveError> {
        let mut copied = 0;
        let all = self.for_some(async |parts| {
            self.put_records(&parts).await?;
            let replicas = self.target.put(&others(&parts), self.replicas).await?;
            if replicas < self.replicas {
                return Err(MoveError::Unconfirmed);
            }
            copied += parts.len() as u64;
            watch(Progress::Copied(copied));
            Ok(())
        });
        all.await.map(drop)
    }

    /// Writes the records among these. One with another revision in the target stays there.
    pub(super) async fn put_records(&self, parts: &[Part]) -> Result<(), MoveError> {
        let written = stream::iter(records(parts))
            .map(async |(id, access, refresh)| self.target.put_record(id, access, refresh).await)
            .buffer_unordered(AT_ONCE);
        written.try_collect::<Vec<bool>>().await?;
        Ok(())
    }

    /// Compares what the target has with what was written, and waits until enough replicas have it.
    async fn count_in_target(&self, watch: &mut dyn FnMut(Progress)) -> Result<(), MoveError> {
        let mut counted = 0;
        let all = self.for_some(async |parts| {
            let checked = stream::iter(records(&parts))
                .map(async |(id, _, refresh)| {
                    let expected = refresh.bytes(REVISION).unwrap_or_default();
                    match self.target.revision(id).await? {
                        None => Err(lost(keys::refresh(id), refresh.iter().count(), 0)),
                        Some(found) if found != expected => Ok(()),
                        Some(_) => match self.target.is_confirmed(id, refresh).await? {
                            true => Ok(()),
                            false => Err(MoveError::Unconfirmed),
                        },
                    }
                })
                .buffer_unordered(AT_ONCE);
            checked.try_collect::<Vec<()>>().await?;
            let others = others(&parts);
            let lengths = self.target.lengths(&others).await?;
            for (part, found) in others.iter().zip(lengths) {
                // A string may have expired, and a broker that waits may have added its key.
                let may_end = matches!(part, Part::Text { ttl: Some(_), .. });
                if found < part.len() && !may_end {
                    return Err(lost(part.key(), part.len(), found));
                }
            }
            counted += parts.len() as u64;
            watch(Progress::Counted(counted));
            Ok(())
        });
        all.await.map(drop)
    }

    /// Reads the whole file, and calls `act` with some keys at a time.
    pub(super) async fn for_some(
        &self,
        mut act: impl AsyncFnMut(Vec<Part>) -> Result<(), MoveError>,
    ) -> Result<Counts, MoveError> {
        let (mut position, mut counts) = (Position::default(), Counts::default());
        let (mut some, mut bytes) = (Vec::new(), 0);
        while let Some((next, part)) = self.file.part_after(&position)? {
            position = next;
            counts.add(&part);
            bytes += part.bytes();
            some.push(part);
            if some.len() == REQUEST_KEYS || bytes >= REQUEST_BYTES {
                act(std::mem::take(&mut some)).await?;
                bytes = 0;
            }
        }
        if !some.is_empty() {
            act(some).await?;
        }
        Ok(counts)
    }
}

/// The records among these: id, the half of gateways, and the half of brokers.
pub(super) fn records(parts: &[Part]) -> impl Iterator<Item = (&InstallationId, &Fields, &Fields)> {
    parts.iter().filter_map(|part| match part {
        Part::Record {
            id,
            access,
            refresh,
        } => Some((id, access, refresh)),
        Part::Hash { .. }
        | Part::Set { .. }
        | Part::List { .. }
        | Part::Sorted { .. }
        | Part::Text { .. } => None,
    })
}

/// The parts that are no records.
pub(super) fn others(parts: &[Part]) -> Vec<Part> {
    let others = parts
        .iter()
        .filter(|part| !matches!(part, Part::Record { .. }));
    others.cloned().collect()
}

fn lost(key: String, expected: usize, found: usize) -> MoveError {
    MoveError::Lost {
        key,
        expected,
        found,
    }
}
