//! Real processes that look like trainers, and a sampler that looks at them often. Everything waits for a fact.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hookbusd::sampler::{Rate, Sampler, Settings, identity};
use hookbusd::store::Live;

/// No fact of these tests takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A Python program that has said "ready"; it is killed with its workers when the test ends.
pub(crate) struct Trainer {
    child: Child,
    start_ticks: u64,
}

impl Trainer {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        let start_ticks = identity::start_ticks(child.id()).expect("it runs");
        Self { child, start_ticks }
    }

    /// Its pid and start ticks.
    pub(crate) fn key(&self) -> (u32, u64) {
        (self.child.id(), self.start_ticks)
    }

    /// Gives it the line that it waits for.
    #[allow(dead_code, reason = "not every test binary has one that waits")]
    pub(crate) fn go_on(&mut self) {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(b"go\n").expect("it reads");
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        // Its workers end with its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Reads everything often, whatever it costs.
#[allow(dead_code, reason = "the measurement has the usual rates")]
pub(crate) fn sampler(live: &Live) -> Sampler {
    let often = Rate {
        interval: Duration::from_millis(50),
        budget_percent: 100.0,
    };
    let settings = Settings {
        host: often,
        process: often,
        children: often,
        smaps: often,
        cgroup: often,
        shm: often,
        gpu: false,
        ..Settings::default()
    };
    Sampler::start(settings, live.clone()).expect("a thread")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the fact is another process's: it can only be asked for again"
)]
pub(crate) fn until(what: &str, fact: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < deadline, "no sign of {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
