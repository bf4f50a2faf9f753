//! Takes a move back, as long as nobody has used the target.
//!
//! A refresh token is spent only after its intent is in the record, which changes the record's revision. So a target in
//! which every record has the revision of the file has spent nothing. A broker may begin in this moment. So each record
//! is removed only if it still has that revision, and a broker without a record spends nothing. If one of them has
//! another revision by then, the others are put back.
//!
//! Callers' keys are not removed one by one. So the target is closed first, and compared again once no write is under
//! way that began while it was open.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use store::InstallationId;
use store::connection::COMMAND_TIMEOUT;
use tokio::time::sleep;

use super::copy::{others, records};
use super::decide::{UndoStep, decide_undo};
use super::{FileState, Move, MoveError, Moved, Progress, Refusal};
use crate::backend::redis::moving::NewMark;
use crate::backend::{Backend, REVISION};
use crate::identity::{StoreId, StoreMark};

/// How many records are read or written at once.
const AT_ONCE: usize = 32;

/// How long a write may be under way that began before the target was closed: longer than the time of a command.
const WRITES_END: Duration = COMMAND_TIMEOUT.saturating_add(Duration::from_secs(1));

/// Whether the target must have all that the file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    All,
    /// An earlier undo may have removed a part.
    Part,
}

/// The state of the target after an undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// The target is empty.
    Emptied,
    /// The target did not answer, or is another store by now. The copied data may still be there, and no broker uses
    /// it.
    LeftThere,
}

impl Move {
    /// Takes a move back. Repeat it after an error.
    ///
    /// # Errors
    /// When the target may have been used, or one of the stores fails.
    pub async fn undo(&self, watch: &mut dyn FnMut(Progress)) -> Result<Undone, MoveError> {
        let mark = self.mark(None).await?;
        let file = self.file_state()?;
        let target = self.target.state(&mark.id).await;
        let step = match (&file, target) {
            (FileState::Moved(_), Err(error)) => return Err(error.into()),
            (FileState::Here | FileState::Moving(_), Err(_)) => decide_undo(&file, None)?,
            (_, Ok(target)) => decide_undo(&file, Some(&target))?,
        };
        let (moved, was_complete) = match file {
            FileState::Here => return Err(Refusal::NotMoved.into()),
            FileState::Moving(moved) => (moved, false),
            FileState::Moved(moved) => (moved, true),
        };
        match step {
            UndoStep::Forget => {
                self.file.set_moved(&mark, None).await?;
                return Ok(Undone::LeftThere);
            }
            UndoStep::EmptyUnused => {
                if let Some(what) = self.find_use(Expected::All).await? {
                    return Err(used(&moved, what).into());
                }
                self.mark_target(&mark.id, &moved, NewMark::Closed).await?;
                watch(Progress::Closed);
                self.check_closed(&mark, &moved, Expected::All).await?;
            }
            // An earlier undo may have been killed before it had checked.
            UndoStep::Empty if was_complete => {
                self.check_closed(&mark, &moved, Expected::Part).await?;
            }
            UndoStep::Empty => {}
        }
        self.empty(&mark, &moved, watch).await?;
        Ok(Undone::Emptied)
    }

    /// Waits until all writes have ended that began before the target was closed, and looks for them. Opens the target
    /// again if there are some.
    async fn check_closed(
        &self,
        mark: &StoreMark,
        moved: &Moved,
        expected: Expected,
    ) -> Result<(), MoveError> {
        sleep(WRITES_END).await;
        let Some(what) = self.find_use(expected).await? else {
            return Ok(());
        };
        if expected == Expected::Part {
            self.restore().await?;
        }
        self.reopen(mark, moved, what).await
    }

    async fn empty(
        &self,
        mark: &StoreMark,
        moved: &Moved,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<(), MoveError> {
        let (mut removed, mut changed) = (0, None);
        let counts = self
            .for_some(async |parts| {
                let dropped = stream::iter(records(&parts))
                    .map(async |(id, _, refresh)| {
                        let is_gone = self.target.drop_record(id, refresh).await?;
                        Ok::<_, MoveError>((!is_gone).then(|| id.clone()))
                    })
                    .buffer_unordered(AT_ONCE);
                let dropped: Vec<_> = dropped.try_collect().await?;
                changed = changed.take().or(dropped.into_iter().flatten().next());
                removed += parts.len() as u64;
                watch(Progress::Removed(removed));
                Ok(())
            })
            .await?;
        // The schedule still has the removed ones, and a customer may have connected in this moment.
        let there = self.target.backend().stats().await?.installations;
        if changed.is_some() || there > counts.installations {
            // A broker was faster. Its record stays, and the others come back.
            let what = match changed {
                Some(id) => is_changed(&id),
                None => has_installations(there, counts.installations),
            };
            self.restore().await?;
            return self.reopen(mark, moved, what).await;
        }
        let emptied = self.for_some(async |parts| Ok(self.target.delete(&others(&parts)).await?));
        emptied.await?;
        // The file first, because without its mark the target could not be distinguished from an empty one.
        self.file.set_moved(mark, None).await?;
        self.mark_target(&mark.id, moved, NewMark::None).await
    }

    /// Puts back what was removed. It overwrites nothing that a broker has written since.
    async fn restore(&self) -> Result<(), MoveError> {
        let restored = self.for_some(async |parts| {
            self.put_records(&parts).await?;
            let others = others(&parts);
            let lengths = self.target.lengths(&others).await?;
            let lacking = others.into_iter().zip(lengths);
            let lacking = lacking.filter(|(part, found)| *found == 0 || part.is_set());
            let lacking: Vec<_> = lacking.map(|(part, _)| part).collect();
            match self.target.add(&lacking, self.replicas).await? {
                replicas if replicas < self.replicas => Err(MoveError::Unconfirmed),
                _ => Ok(()),
            }
        });
        restored.await.map(drop)
    }

    /// Opens the target for brokers again, and refuses the undo.
    async fn reopen(&self, mark: &StoreMark, moved: &Moved, what: String) -> Result<(), MoveError> {
        self.mark_target(&mark.id, moved, NewMark::Open).await?;
        Err(used(moved, what).into())
    }

    async fn mark_target(
        &self,
        own: &StoreId,
        moved: &Moved,
        mark: NewMark,
    ) -> Result<(), MoveError> {
        let id = moved.id.as_str();
        match self.target.set_mark(own, Some(id), (id, mark)).await? {
            true => Ok(()),
            false => Err(Refusal::Elsewhere(moved.to.clone()).into()),
        }
    }

    /// Compares every record, and the callers' keys. Returns in words what differs.
    async fn find_use(&self, expected: Expected) -> Result<Option<String>, MoveError> {
        let mut changed = None;
        let counts = self.for_some(async |parts| {
            let compared = stream::iter(records(&parts))
                .map(async |(id, _, refresh)| {
                    let found = self.target.revision(id).await?;
                    let is_same = match &found {
                        Some(found) => refresh.bytes(REVISION).is_ok_and(|it| it == found),
                        None => expected == Expected::Part,
                    };
                    Ok::<_, MoveError>((!is_same).then(|| id.clone()))
                })
                .buffer_unordered(AT_ONCE);
            let compared: Vec<_> = compared.try_collect().await?;
            changed = changed.take().or(compared.into_iter().flatten().next());
            Ok(())
        });
        let here = counts.await?.installations;
        if let Some(id) = changed {
            return Ok(Some(is_changed(&id)));
        }
        let there = self.target.backend().stats().await?.installations;
        if there > here || (there < here && expected == Expected::All) {
            return Ok(Some(has_installations(there, here)));
        }
        let here = self.file.callers().await.map_err(MoveError::Source)?;
        let there = self.target.backend().callers().await?;
        let [here, there] = [here, there].map(|all| all.into_iter().collect::<BTreeMap<_, _>>());
        let is_same = match expected {
            Expected::All => here == there,
            Expected::Part => there
                .iter()
                .all(|(key, caller)| here.get(key) == Some(caller)),
        };
        Ok((!is_same).then(|| "callers' keys were made or changed".to_owned()))
    }
}

fn is_changed(id: &InstallationId) -> String {
    format!("{id} was changed")
}

fn has_installations(there: u64, here: u64) -> String {
    format!("it has {there} installations instead of {here}")
}

fn used(moved: &Moved, what: String) -> Refusal {
    Refusal::Used {
        to: moved.to.clone(),
        what,
    }
}
