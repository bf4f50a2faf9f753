//! Calls that wait for their turn: each caller has a lane, and the lanes take turns.

use std::collections::VecDeque;

use store::KeyHash;

/// More calls of one location do not wait: at GHL's limits these take more than three minutes.
pub(super) const CAPACITY: usize = 2_000;

/// Who waits; `None` for all who need no key.
pub(super) type Caller = Option<KeyHash>;

/// Which of a caller's calls goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// After those that wait already.
    New,
    /// Before them: it has had its turn, and GHL refused it.
    Again,
}

/// The calls of one location that wait, with what is handed to each when its turn comes.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// None of them empty; the first is next.
    lanes: VecDeque<Lane<T>>,
    len: usize,
    next_id: u64,
}

#[derive(Debug)]
struct Lane<T> {
    caller: Caller,
    waiting: VecDeque<(u64, T)>,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            lanes: VecDeque::new(),
            len: 0,
            next_id: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many calls go before a new one of this caller, if nobody leaves.
    pub(super) fn ahead_of(&self, caller: &Caller) -> usize {
        let own = self.lanes.iter().find(|lane| lane.caller == *caller);
        let rounds = own.map_or(0, |lane| lane.waiting.len());
        let before = self.lanes.iter().map(|lane| lane.waiting.len().min(rounds));
        before.sum()
    }

    /// Adds a call; returns the id to remove it by.
    pub(super) fn push(&mut self, caller: Caller, priority: Priority, call: T) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.len += 1;
        let known = self.lanes.iter().position(|lane| lane.caller == caller);
        let lane = known.unwrap_or(self.lanes.len());
        if known.is_none() {
            self.lanes.push_back(Lane {
                caller,
                waiting: VecDeque::new(),
            });
        }
        let waiting = &mut self.lanes[lane].waiting;
        match priority {
            Priority::New => waiting.push_back((id, call)),
            Priority::Again => waiting.push_front((id, call)),
        }
        id
    }

    /// Takes the call whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let mut lane = self.lanes.pop_front()?;
        let call = lane.waiting.pop_front().map(|(_, call)| call);
        self.len -= usize::from(call.is_some());
        if !lane.waiting.is_empty() {
            self.lanes.push_back(lane);
        }
        call
    }

    /// Takes a call out, if it still waits.
    pub(super) fn remove(&mut self, caller: &Caller, id: u64) {
        let Some(at) = self.lanes.iter().position(|lane| lane.caller == *caller) else {
            return;
        };
        let waiting = &mut self.lanes[at].waiting;
        if let Some(place) = waiting.iter().position(|(waits, _)| *waits == id) {
            waiting.remove(place);
            self.len -= 1;
        }
        if waiting.is_empty() {
            self.lanes.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Caller {
        Some(KeyHash::of(name))
    }

    fn drained(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn callers_take_turns_whatever_each_has_waiting() {
        let mut queue = Queue::new();
        for call in ["a1", "a2", "a3", "a4"] {
            queue.push(caller("a"), Priority::New, call);
        }
        queue.push(caller("b"), Priority::New, "b1");
        queue.push(None, Priority::New, "c1");
        assert_eq!(queue.pop(), Some("a1"));
        queue.push(caller("b"), Priority::New, "b2");
        assert_eq!(drained(&mut queue), ["b1", "c1", "a2", "b2", "a3", "a4"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn who_was_refused_goes_first_of_its_own() {
        let mut queue = Queue::new();
        queue.push(caller("a"), Priority::New, "a1");
        queue.push(caller("b"), Priority::New, "b1");
        queue.push(caller("b"), Priority::Again, "b0");
        assert_eq!(drained(&mut queue), ["a1", "b0", "b1"]);
    }

    #[test]
    fn who_goes_away_leaves_no_gap() {
        let mut queue = Queue::new();
        let a1 = queue.push(caller("a"), Priority::New, "a1");
        let a2 = queue.push(caller("a"), Priority::New, "a2");
        queue.push(caller("b"), Priority::New, "b1");
        queue.remove(&caller("a"), a2);
        queue.remove(&caller("a"), a2);
        assert_eq!(queue.len(), 2);
        queue.remove(&caller("a"), a1);
        assert_eq!(drained(&mut queue), ["b1"]);
        queue.remove(&caller("b"), 7);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_caller_with_little_waits_for_little() {
        let mut queue = Queue::new();
        for _ in 0..100 {
            queue.push(caller("a"), Priority::New, "");
        }
        queue.push(caller("b"), Priority::New, "");
        assert_eq!(queue.ahead_of(&caller("a")), 101);
        assert_eq!(queue.ahead_of(&caller("b")), 2);
        assert_eq!(queue.ahead_of(&caller("c")), 0);
    }
}
