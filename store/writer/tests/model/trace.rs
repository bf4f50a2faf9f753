//! Prints a counterexample for people.

use std::fmt::Debug;

use stateright::Path;

use crate::protocol::Action;
use crate::system::System;

/// One line for each action, and the changes that it made.
pub(crate) fn of(path: Path<System, Action>) -> String {
    let mut text = String::new();
    let mut steps = path.into_vec().into_iter().peekable();
    while let Some((before, action)) = steps.next() {
        if let (Some(action), Some((after, _))) = (action, steps.peek()) {
            text.push_str(&format!("{action:?}{}\n", changes(&before, after)));
        }
    }
    text
}

fn changes(before: &System, after: &System) -> String {
    let mut text = String::new();
    for (me, broker) in after.brokers.iter().enumerate() {
        note(
            &mut text,
            &format!("broker {me}"),
            &before.brokers[me],
            broker,
        );
    }
    note(&mut text, "store", &before.store, &after.store);
    note(&mut text, "replica", &before.replica, &after.replica);
    note(&mut text, "escrow", &before.escrow, &after.escrow);
    note(&mut text, "GHL", &before.ghl, &after.ghl);
    note(&mut text, "history", &before.history, &after.history);
    text
}

fn note<T: Debug + PartialEq>(text: &mut String, name: &str, before: &T, after: &T) {
    if before != after {
        text.push_str(&format!("\n    {name}: {after:?}"));
    }
}
