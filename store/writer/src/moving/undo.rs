//! Takes a move back, as long as nobody has used the target.
//!
//! A refresh token is spent only after its intent is in the record, which changes the record's revision. So a target in
//! which every record has the revision of the file has spent nothing. A broker may begin in this moment. So each record
//! is removed only if it still has that revision, and a broker without a record spends nothing. If one of them has
//! another revision by then, the others are put back.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::copy::others;
use super::decide::{UndoStep, decide_undo};
use super::{FileState, Move, MoveError, Moved, Part, Progress, Refusal};
use crate::backend::redis::moving::NewMark;
use crate::backend::{Backend, REVISION};
use crate::identity::{StoreId, StoreMark};

const AT_ONCE: usize = 32;

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
        let moved = match file {
            FileState::Here => return Err(Refusal::NotMoved.into()),
            FileState::Moving(moved) | FileState::Moved(moved) => moved,
        };
        match step {
            UndoStep::Forget => {
                self.file.set_moved(&mark, None).await?;
                return Ok(Undone::LeftThere);
            }
            UndoStep::EmptyUnused => {
                self.check_unused(&moved).await?;
                self.mark_target(&mark.id, &moved, NewMark::Closed).await?;
            }
            UndoStep::Empty => {}
        }
        self.empty(&mark, &moved, watch).await?;
        Ok(Undone::Emptied)
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
                    .map(async |part| match part {
                        Part::Record { id, refresh, .. } => {
                            let is_gone = self.target.drop_record(id, refresh).await?;
                            Ok::<_, MoveError>((!is_gone).then(|| id.clone()))
                        }
                        Part::Hash { .. }
                        | Part::Set { .. }
                        | Part::List { .. }
                        | Part::Sorted { .. }
                        | Part::Text { .. } => Ok(None),
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
            let what = match changed {
                Some(id) => format!("{id} was changed"),
                None => format!(
                    "it has {there} installations instead of {}",
                    counts.installations
                ),
            };
            // A broker was faster. Its record stays, and the others come back.
            self.copy(&mut |_| {}).await?;
            self.mark_target(&mark.id, moved, NewMark::Open).await?;
            return Err(used(moved, what).into());
        }
        let emptied = self.for_some(async |parts| Ok(self.target.delete(&others(&parts)).await?));
        emptied.await?;
        // The file first, because without its mark the target could not be distinguished from an empty one.
        self.file.set_moved(mark, None).await?;
        self.mark_target(&mark.id, moved, NewMark::None).await
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

    /// Compares every record, and the callers' keys.
    async fn check_unused(&self, moved: &Moved) -> Result<(), MoveError> {
        let mut installations = 0;
        self.for_some(async |parts| {
            let compared = stream::iter(records(&parts))
                .map(async |part| match part {
                    Part::Record { id, refresh, .. } => {
                        let found = self.target.revision(id).await?;
                        let is_same = found.as_deref() == refresh.bytes(REVISION).ok();
                        match is_same {
                            true => Ok(1),
                            false => Err(used(moved, format!("{id} was changed")).into()),
                        }
                    }
                    Part::Hash { .. }
                    | Part::Set { .. }
                    | Part::List { .. }
                    | Part::Sorted { .. }
                    | Part::Text { .. } => Ok::<u64, MoveError>(0),
                })
                .buffer_unordered(AT_ONCE);
            let same: Vec<u64> = compared.try_collect().await?;
            installations += same.iter().sum::<u64>();
            Ok(())
        })
        .await?;
        let there = self.target.backend().stats().await?.installations;
        if there != installations {
            let what = format!("it has {there} installations instead of {installations}");
            return Err(used(moved, what).into());
        }
        let here = self.file.callers().await.map_err(MoveError::Source)?;
        let there = self.target.backend().callers().await?;
        let [here, there] = [here, there].map(|all| all.into_iter().collect::<BTreeMap<_, _>>());
        match here == there {
            true => Ok(()),
            false => Err(used(moved, "callers' keys were made or changed".to_owned()).into()),
        }
    }
}

fn records(parts: &[Part]) -> impl Iterator<Item = &Part> {
    parts
        .iter()
        .filter(|part| matches!(part, Part::Record { .. }))
}

fn used(moved: &Moved, what: String) -> Refusal {
    Refusal::Used {
        to: moved.to.clone(),
        what,
    }
}
