//! A fair queue: each caller has its own queue, and the callers are served round robin.

use std::collections::VecDeque;

use store::KeyHash;

/// The most waiting calls of one location. At GHL's limits these take more than three minutes.
pub(super) const CAPACITY: usize = 2_000;

/// The caller of a waiting call. `None` for all callers without a key.
pub(super) type Caller = Option<KeyHash>;

/// Which of a caller's calls goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// After those that wait already.
    New,
    /// Before them. The call was sent already, and GHL refused it.
    Again,
}

/// The waiting calls of one location, with what each gets when it is admitted.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// None of them is empty. The first is next.
    queues: VecDeque<CallerQueue<T>>,
    len: usize,
    next_id: u64,
}

#[derive(Debug)]
struct CallerQueue<T> {
    caller: Caller,
    waiting: VecDeque<(u64, T)>,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            queues: VecDeque::new(),
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

    /// How many calls go before a new one of this caller, if none is cancelled.
    pub(super) fn ahead_of(&self, caller: &Caller) -> usize {
        let own = self.queues.iter().find(|queue| queue.caller == *caller);
        let rounds = own.map_or(0, |queue| queue.waiting.len());
        let before = self
            .queues
            .iter()
            .map(|queue| queue.waiting.len().min(rounds));
        before.sum()
    }

    /// Adds a call. Returns the id to remove it by.
    pub(super) fn push(&mut self, caller: Caller, priority: Priority, call: T) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.len += 1;
        let known = self.queues.iter().position(|queue| queue.caller == caller);
        let queue = known.unwrap_or(self.queues.len());
        if known.is_none() {
            self.queues.push_back(CallerQueue {
                caller,
                waiting: VecDeque::new(),
            });
        }
        let waiting = &mut self.queues[queue].waiting;
        match priority {
            Priority::New => waiting.push_back((id, call)),
            Priority::Again => waiting.push_front((id, call)),
        }
        id
    }

    /// Takes the next call.
    pub(super) fn pop(&mut self) -> Option<T> {
        let mut queue = self.queues.pop_front()?;
        let call = queue.waiting.pop_front().map(|(_, call)| call);
        self.len -= usize::from(call.is_some());
        if !queue.waiting.is_empty() {
            self.queues.push_back(queue);
        }
        call
    }

    /// Removes a call, if it still waits.
    pub(super) fn remove(&mut self, caller: &Caller, id: u64) {
        let Some(at) = self.queues.iter().position(|queue| queue.caller == *caller) else {
            return;
        };
        let waiting = &mut self.queues[at].waiting;
        if let Some(index) = waiting.iter().position(|(queued, _)| *queued == id) {
            waiting.remove(index);
            self.len -= 1;
        }
        if waiting.is_empty() {
            self.queues.remove(at);
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
    fn callers_are_served_round_robin() {
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
    fn call_queued_again_goes_before_new_calls_of_its_caller() {
        let mut queue = Queue::new();
        queue.push(caller("a"), Priority::New, "a1");
        queue.push(caller("b"), Priority::New, "b1");
        queue.push(caller("b"), Priority::Again, "b0");
        assert_eq!(drained(&mut queue), ["a1", "b0", "b1"]);
    }

    #[test]
    fn removed_calls_are_skipped() {
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
    fn calls_ahead_depend_on_the_callers_own_queue() {
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
