//! Decides from the marks of the file and of the target what a move may do.

use super::Moved;
use crate::identity::StoreId;

/// The state of a move, by the mark in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It was not moved.
    Here,
    /// A move has begun. Its target was never opened.
    Moving(Moved),
    /// Everything was copied. Its target may be in use.
    Moved(Moved),
}

/// The state of a move, by the mark in the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetState {
    /// It has nothing.
    Empty,
    /// It has this store, and brokers refuse it. The id of the move, if it has one.
    Closed(Option<String>),
    /// It has this store, and brokers may use it.
    Open(Option<String>),
    /// It has another store, or data without an id.
    Foreign(Option<StoreId>),
}

/// The step that a move takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It begins in an empty target.
    Begin,
    /// It goes on, and copies everything again.
    Continue,
    /// It was done. There is nothing to do.
    Done,
}

/// The step that an undo takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UndoStep {
    /// The target has nothing of this move: the mark of the file is removed, and that is all.
    Forget,
    /// The target was never opened, or is closed again: it is emptied.
    Empty,
    /// The target may be in use. It is emptied if nobody has changed anything in it.
    EmptyUnused,
}

/// Why a move or an undo is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The target has data of somebody else.
    #[error(
        "the store to move to is not empty: it holds {}. Name an empty one; or, if nobody needs what is in it, stop \
         the brokers there and empty it (FLUSHALL, as its operator)",
        .0.as_ref().map_or_else(|| "data without a store's id".to_owned(), |id| format!("the store {id}"))
    )]
    Foreign(Option<StoreId>),
    /// The target has a part of this store.
    #[error(
        "the store to move to holds the rest of an earlier move of this store that was given up: empty it (FLUSHALL, \
         as its operator), or name another one"
    )]
    Rest,
    /// The target has this store, but this file does not know of it.
    #[error(
        "this store was moved there before, and brokers may have used it since: this file is an older copy of it, and \
         its refresh tokens may be spent. Use the store there, and do not start `evergreen up` with this directory"
    )]
    OlderCopy,
    /// The file was moved to another place.
    #[error(
        "this store was moved to {0}, and the one that you name is not that store, or no longer holds it"
    )]
    Elsewhere(String),
    /// There is nothing to undo.
    #[error("this store was not moved, so there is nothing to undo: `evergreen up` starts with it")]
    NotMoved,
    /// The target was used.
    #[error(
        "the store at {to} was used since: {what}. Going back would lose that, and refresh tokens that are spent \
         would be sent again. Go on with the brokers there"
    )]
    Used {
        /// The address of the target.
        to: String,
        /// The change, in words.
        what: String,
    },
}

/// Decides the step of a move for a file and a target in these states.
///
/// # Errors
/// When it must not be done.
pub fn decide(file: &FileState, target: &TargetState) -> Result<Step, Refusal> {
    match (file, target) {
        (FileState::Here | FileState::Moving(_), TargetState::Empty) => Ok(Step::Begin),
        (FileState::Moving(moved) | FileState::Moved(moved), TargetState::Closed(Some(id)))
            if *id == moved.id =>
        {
            Ok(Step::Continue)
        }
        (FileState::Moved(moved), TargetState::Open(Some(id))) if *id == moved.id => Ok(Step::Done),
        (FileState::Moved(moved), _) => Err(Refusal::Elsewhere(moved.to.clone())),
        (FileState::Here | FileState::Moving(_), TargetState::Foreign(id)) => {
            Err(Refusal::Foreign(id.clone()))
        }
        (FileState::Here | FileState::Moving(_), TargetState::Closed(_)) => Err(Refusal::Rest),
        (FileState::Here | FileState::Moving(_), TargetState::Open(_)) => Err(Refusal::OlderCopy),
    }
}

/// Decides the step of an undo. `target`: `None` if it does not answer.
///
/// # Errors
/// When it must not be done.
pub(super) fn decide_undo(
    file: &FileState,
    target: Option<&TargetState>,
) -> Result<UndoStep, Refusal> {
    match (file, target) {
        (FileState::Here, _) => Err(Refusal::NotMoved),
        (
            FileState::Moving(moved) | FileState::Moved(moved),
            Some(TargetState::Closed(Some(id))),
        ) if *id == moved.id => Ok(UndoStep::Empty),
        // A move opens its target only after its file says so: this file is a copy from before.
        (FileState::Moving(_), Some(TargetState::Open(_))) => Err(Refusal::OlderCopy),
        (FileState::Moving(_), _) => Ok(UndoStep::Forget),
        (FileState::Moved(moved), Some(TargetState::Open(Some(id)))) if *id == moved.id => {
            Ok(UndoStep::EmptyUnused)
        }
        (FileState::Moved(moved), _) => Err(Refusal::Elsewhere(moved.to.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(id: &str) -> Moved {
        Moved {
            id: id.to_owned(),
            is_complete: false,
            to: "redis://there".to_owned(),
        }
    }

    fn targets() -> Vec<TargetState> {
        let ids = [None, Some("ours".to_owned()), Some("other".to_owned())];
        let mut all = vec![TargetState::Empty, TargetState::Foreign(None)];
        all.extend(ids.clone().map(TargetState::Closed));
        all.extend(ids.map(TargetState::Open));
        all
    }

    fn ours(target: &TargetState, is_open: bool) -> bool {
        let ours = Some("ours".to_owned());
        *target
            == if is_open {
                TargetState::Open(ours)
            } else {
                TargetState::Closed(ours)
            }
    }

    #[test]
    fn only_an_empty_target_is_begun_and_only_the_own_one_is_continued() {
        for target in targets() {
            let here = decide(&FileState::Here, &target);
            assert_eq!(
                here.is_ok(),
                target == TargetState::Empty,
                "{target:?}: {here:?}"
            );
            let moving = decide(&FileState::Moving(moved("ours")), &target);
            let begun = (target == TargetState::Empty).then_some(Step::Begin);
            let expected = begun.or(ours(&target, false).then_some(Step::Continue));
            assert_eq!(moving.clone().ok(), expected, "{target:?}: {moving:?}");
        }
    }

    #[test]
    fn file_that_was_moved_is_moved_nowhere_else() {
        for target in targets() {
            let step = decide(&FileState::Moved(moved("ours")), &target);
            let continued = ours(&target, false).then_some(Step::Continue);
            let expected = continued.or(ours(&target, true).then_some(Step::Done));
            assert_eq!(step.clone().ok(), expected, "{target:?}: {step:?}");
        }
    }

    #[test]
    fn move_is_undone_without_its_target_only_if_that_was_never_opened() {
        let all = targets().into_iter().map(Some).chain([None]);
        for target in all {
            let target = target.as_ref();
            let undo = |file: &FileState| decide_undo(file, target).ok();
            assert_eq!(undo(&FileState::Here), None);
            let is_closed = target.is_some_and(|target| ours(target, false));
            let is_open = target.is_some_and(|target| ours(target, true));
            let moving = undo(&FileState::Moving(moved("ours")));
            let expected = match target {
                Some(TargetState::Open(_)) => None,
                Some(TargetState::Closed(_)) if is_closed => Some(UndoStep::Empty),
                Some(TargetState::Closed(_) | TargetState::Empty | TargetState::Foreign(_))
                | None => Some(UndoStep::Forget),
            };
            assert_eq!(moving, expected, "{target:?}");
            let complete = undo(&FileState::Moved(moved("ours")));
            let emptied = is_closed.then_some(UndoStep::Empty);
            let expected = emptied.or(is_open.then_some(UndoStep::EmptyUnused));
            assert_eq!(complete, expected, "{target:?}");
        }
    }
}
