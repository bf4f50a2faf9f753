//! The faults and logs of a run, which are printed for a violation.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Timeline {
    began: Instant,
    faults: Mutex<Vec<(Duration, String)>>,
    logs: Mutex<Vec<(String, Vec<String>)>>,
}

impl Timeline {
    pub(crate) fn begin() -> Self {
        Self {
            began: Instant::now(),
            faults: Mutex::default(),
            logs: Mutex::default(),
        }
    }

    /// Records and prints a fault or its end.
    pub(crate) fn record(&self, what: String) {
        let at = self.began.elapsed();
        println!("{:7.1} s  {what}", at.as_secs_f64());
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((at, what));
    }

    /// Keeps the log of a process that ended.
    pub(crate) fn keep_log(&self, target: &str, log: Vec<String>) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.push((target.to_owned(), log));
    }

    /// All faults, and all log lines about an installation.
    pub(crate) fn report(&self, about: &[String]) -> String {
        let mut text = String::from("  faults:\n");
        for (at, what) in self
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            text.push_str(&format!("    {:7.1} s  {what}\n", at.as_secs_f64()));
        }
        for (target, log) in self
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            for line in log
                .iter()
                .filter(|line| about.iter().any(|name| line.contains(name.as_str())))
            {
                text.push_str(&format!("  {target}: {line}\n"));
            }
        }
        text
    }
}
