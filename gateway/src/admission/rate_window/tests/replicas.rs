//! Replicas that share a location's budget by its answers alone, in time that is only counted.

use std::collections::VecDeque;

use super::*;

const WINDOW_MS: u64 = 1_000;
const MAX: u32 = 100;

/// GHL as the sandbox plays it: a window begins with the first call in it.
#[derive(Default)]
struct Ghl {
    began_ms: Option<u64>,
    used: u32,
    refused: u32,
}

impl Ghl {
    fn answer(&mut self, ms: u64) -> RateLimitHeaders {
        if self.began_ms.is_none_or(|began| ms >= began + WINDOW_MS) {
            self.began_ms = Some(ms);
            self.used = 0;
        }
        if self.used == MAX {
            self.refused += 1;
            return refusal();
        }
        self.used += 1;
        left(MAX - self.used)
    }
}

struct Replica {
    trial: Trial,
    queued: u32,
    /// Who is answered when, with what.
    answers: VecDeque<(u64, CountedCall, RateLimitHeaders)>,
}

/// Lets replicas with so many calls each, all there at once, come to the end of them; returns
/// what GHL saw and when the last call was answered.
fn burst(queued: &[u32], way_ms: impl Fn(u64, usize) -> u64) -> (Ghl, u64) {
    let mut ghl = Ghl::default();
    let mut under_way: Vec<(u64, usize, CountedCall)> = Vec::new();
    let mut replicas: Vec<_> = queued
        .iter()
        .map(|queued| Replica {
            trial: Trial::new(),
            queued: *queued,
            answers: VecDeque::new(),
        })
        .collect();
    for ms in 0..60_000 {
        for (number, replica) in replicas.iter_mut().enumerate() {
            let is_due = |(at, _, _): &(u64, CountedCall, RateLimitHeaders)| *at <= ms;
            while let Some(place) = replica.answers.iter().position(is_due) {
                let (_, sent, told) = replica.answers.remove(place).unwrap();
                replica.trial.answer(sent, told, ms);
                replica.queued += u32::from(told.is_refusal);
            }
            while replica.queued > 0 {
                let Decision::Go(sent) = replica.trial.admit(ms) else {
                    break;
                };
                replica.queued -= 1;
                under_way.push((ms + way_ms(ms, number), number, sent));
            }
        }
        under_way.sort_by_key(|(arrives, ..)| *arrives);
        while under_way
            .first()
            .is_some_and(|(arrives, ..)| *arrives <= ms)
        {
            let (_, number, sent) = under_way.remove(0);
            let told = ghl.answer(ms);
            let back = ms + way_ms(ms + 7, number);
            replicas[number].answers.push_back((back, sent, told));
        }
        let is_done = |replica: &Replica| replica.queued == 0 && replica.answers.is_empty();
        if under_way.is_empty() && replicas.iter().all(is_done) {
            return (ghl, ms);
        }
    }
    panic!("it never ended");
}

/// From 1 to 16 ms, with no pattern to speak of.
fn uneven(ms: u64, number: usize) -> u64 {
    let seed = ms
        .wrapping_mul(0x9E37_79B9)
        .wrapping_add(number as u64 * 77);
    1 + (seed.wrapping_mul(seed | 1) >> 7) % 16
}

#[test]
fn three_replicas_use_a_limit_up_and_run_into_it_seldom() {
    for (name, queued) in [
        ("even", &[334, 333, 333][..]),
        ("uneven", &[800, 150, 50]),
        ("alone", &[1000]),
    ] {
        let (ghl, ended) = burst(queued, uneven);
        assert!((9_000..10_600).contains(&ended), "{name}: {ended} ms");
        let replicas = u32::try_from(queued.len()).unwrap();
        assert!(ghl.refused <= 20 * replicas, "{name}: {}", ghl.refused);
    }
}

#[test]
fn a_window_is_used_up_even_where_answers_take_long() {
    for queued in [&[1000][..], &[334, 333, 333], &[100; 10]] {
        let (_, ended) = burst(queued, |ms, number| 10 + 4 * uneven(ms, number));
        let replicas = queued.len();
        assert!(ended < 12_000, "{replicas} replicas: {ended} ms");
    }
}

#[test]
fn ten_replicas_lose_little() {
    let (ghl, ended) = burst(&[100; 10], uneven);
    assert!(ended < 11_100, "{ended} ms");
    assert!(ghl.refused < 500, "{}", ghl.refused);
}

#[test]
fn a_replica_that_is_further_away_gets_its_share() {
    let far = |ms, number| uneven(ms, number) + if number == 2 { 30 } else { 0 };
    let (ghl, ended) = burst(&[333, 333, 333], far);
    assert!(ended < 11_100, "{ended} ms");
    assert!(ghl.refused < 150, "{}", ghl.refused);
}
