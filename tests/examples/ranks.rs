//! Many ranks of one run: `ranks ADDRESS RANKS RATE SECONDS`. Each emits ten events an iteration, five of them when it begins
//! and five half an iteration later, and asks a gate in the last one. Says `ready` on a line when all of them are attached, and
//! waits for a line of input, so that others can come in. Prints a line of JSON: gates, median and p99 of one in microseconds,
//! gates without an answer in time, events a second in all, and the processor seconds of all of it.
//!
//! With a RATE, in iterations a second, each rank is a process of its own, as it is in a training: it sleeps between its
//! iterations, and the ranks begin one after the other, spread over an iteration. With RATE 0 all are in this process and take
//! turns as fast as they can: what is measured then is a gate on a machine that has no core left.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use hookbus_client::{Given, Options, Session, Signal, attach};

const SLICE: Duration = Duration::from_millis(50);
/// So long a rank that begins is not measured.
const WARM: Duration = Duration::from_millis(500);
/// Of the events of an iteration, so many come when it begins, and so many half of it later, the last with a gate.
const EVENTS: (usize, usize) = (5, 5);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (all, rank) = match args.as_slice() {
        [address, ranks, rate, seconds] => ([address, ranks, rate, seconds], None),
        [address, ranks, rate, seconds, rank] => ([address, ranks, rate, seconds], Some(rank)),
        _ => panic!("ranks ADDRESS RANKS RATE SECONDS"),
    };
    let [address, ranks, rate, seconds] = all;
    let load = Load {
        address: address.clone(),
        ranks: ranks.parse().expect("RANKS is a number"),
        rate: rate.parse().expect("RATE is a number"),
        lasts: Duration::from_secs_f64(seconds.parse().expect("SECONDS is a number")),
    };
    if let Some(rank) = rank {
        let measured = load.one(rank.parse().expect("a rank is a number"));
        println!("{}", measured.written());
    } else if load.rate > 0.0 {
        println!("{}", load.apart(&args).summed(&load));
    } else {
        println!("{}", load.turns().summed(&load));
    }
}

/// What is asked for.
struct Load {
    address: String,
    ranks: u32,
    /// Iterations a second of each rank; 0: as many as can be.
    rate: f64,
    lasts: Duration,
}

/// What one process saw.
#[derive(Default)]
struct Measured {
    gates_us: Vec<f64>,
    timeouts: u64,
    events: u64,
    cpu_s: f64,
}

impl Load {
    fn attached(&self, rank: u32) -> Session {
        let mut options = Options::new("ranks", Some(&self.address)).expect("an address");
        options.identity.launch = "bench".to_owned();
        options.identity.rank = rank;
        options.identity.world_size = self.ranks;
        options.timeout = Duration::from_secs(60);
        let session = attach(options);
        let before = session.point("before_train").expect("a point");
        while session.emit(before, &Given::default(), &[], &[]) == Signal::Prepare {
            session.prepare(SLICE);
        }
        session
    }

    /// One rank at its rate, in this process.
    fn one(&self, rank: u32) -> Measured {
        let session = self.attached(rank);
        ready_and_told();
        let iteration = Duration::from_secs_f64(1.0 / self.rate);
        let begins = Instant::now();
        let mut next = begins + iteration.mul_f64(f64::from(rank) / f64::from(self.ranks));
        let mut measured = Measured::default();
        let before = cpu_s();
        while begins.elapsed() < self.lasts {
            sleep_until(next);
            emit(&session, EVENTS.0);
            sleep_until(next + iteration / 2);
            emit(&session, EVENTS.1 - 1);
            let waited = gate(&session);
            measured.events += (EVENTS.0 + EVENTS.1) as u64;
            if begins.elapsed() > WARM {
                measured.gates_us.extend(waited);
            }
            next += iteration;
        }
        measured.timeouts = session.gate_timeouts();
        measured.cpu_s = cpu_s() - before;
        measured
    }

    /// Each rank at its rate, in a process of its own.
    fn apart(&self, args: &[String]) -> Measured {
        let program = std::env::current_exe().expect("this program is a file");
        let ranks = (0..self.ranks).map(|rank| Apart::start(&program, args, rank));
        let mut ranks: Vec<_> = ranks.collect();
        for rank in &mut ranks {
            assert_eq!(rank.line(), "ready\n", "a rank did not attach");
        }
        ready_and_told();
        for rank in &mut ranks {
            rank.told.write_all(b"\n").expect("a rank reads its input");
        }
        let mut all = Measured::default();
        for mut rank in ranks {
            all.add(Measured::read(&rank.line()));
            rank.process.wait().expect("a rank ends");
        }
        all
    }

    /// All ranks in this process, one after the other.
    fn turns(&self) -> Measured {
        let sessions: Vec<_> = (0..self.ranks).map(|rank| self.attached(rank)).collect();
        ready_and_told();
        let mut measured = Measured::default();
        let (begins, before) = (Instant::now(), cpu_s());
        while begins.elapsed() < self.lasts {
            for session in &sessions {
                emit(session, EVENTS.0 + EVENTS.1 - 1);
                let waited = gate(session);
                measured.events += (EVENTS.0 + EVENTS.1) as u64;
                if begins.elapsed() > WARM {
                    measured.gates_us.extend(waited);
                }
            }
        }
        measured.timeouts = sessions.iter().map(Session::gate_timeouts).sum();
        measured.cpu_s = cpu_s() - before;
        measured
    }
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.gates_us.extend(other.gates_us);
        self.timeouts += other.timeouts;
        self.events += other.events;
        self.cpu_s += other.cpu_s;
    }

    /// For who started this process: the last numbers, then the gates.
    fn written(&self) -> String {
        let gates: Vec<_> = self.gates_us.iter().map(|us| format!("{us:.1}")).collect();
        let (timeouts, events, cpu_s) = (self.timeouts, self.events, self.cpu_s);
        format!("{timeouts} {events} {cpu_s} {}", gates.join(" "))
    }

    fn read(line: &str) -> Self {
        let numbers = line.split_whitespace().map(|word| word.parse::<f64>());
        let numbers: Result<Vec<_>, _> = numbers.collect();
        let numbers = numbers.expect("a rank writes numbers");
        let [timeouts, events, cpu_s, gates_us @ ..] = numbers.as_slice() else {
            panic!("a rank ended without its numbers: {line:?}");
        };
        Self {
            gates_us: gates_us.to_vec(),
            timeouts: *timeouts as u64,
            events: *events as u64,
            cpu_s: *cpu_s,
        }
    }

    fn summed(mut self, load: &Load) -> String {
        self.gates_us.sort_by(f64::total_cmp);
        let gates = &self.gates_us;
        let us = |share: usize| gates.get(gates.len() * share / 100).unwrap_or(&f64::NAN);
        format!(
            "{{\"gates\": {}, \"median_us\": {:.1}, \"p99_us\": {:.1}, \"timeouts\": {}, \"events_per_s\": {:.0}, \"cpu_s\": {:.3}}}",
            gates.len(),
            us(50),
            us(99),
            self.timeouts,
            self.events as f64 / load.lasts.as_secs_f64(),
            self.cpu_s,
        )
    }
}

/// A rank in a process of its own.
struct Apart {
    process: Child,
    told: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Apart {
    fn start(program: &std::path::Path, args: &[String], rank: u32) -> Self {
        let mut process = Command::new(program)
            .args(args)
            .arg(rank.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a rank starts");
        Self {
            told: process.stdin.take().expect("it is piped"),
            says: BufReader::new(process.stdout.take().expect("it is piped")),
            process,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("a rank says a line");
        line
    }
}

fn ready_and_told() {
    println!("ready");
    let mut line = String::new();
    let told = std::io::stdin().lock().read_line(&mut line);
    assert!(told.expect("a line") > 0, "who started this has left");
}

#[expect(
    clippy::disallowed_methods,
    reason = "a step of a training takes its time"
)]
fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

fn emit(session: &Session, count: usize) {
    let point = session.point("before_train_iter").expect("a point");
    for _ in 0..count {
        let _ = session.emit(point, &Given::default(), &[], &[]);
    }
}

/// How long the gate of this iteration took, in microseconds; None: none was asked.
fn gate(session: &Session) -> Option<f64> {
    let point = session.point("after_train_iter").expect("a point");
    let loss = session.metric("loss").expect("a metric");
    let start = Instant::now();
    let signal = session.emit(point, &Given::default(), &[(loss, f64::NAN)], &[]);
    let mut waited = None;
    if let Signal::Gate(mut ticket) = signal {
        while !session.wait(&mut ticket, SLICE) {}
        waited = Some(start.elapsed().as_secs_f64() * 1e6);
    }
    session.take_actions(point);
    waited
}

/// User and system time of this process.
fn cpu_s() -> f64 {
    use rustix::time::{ClockId, clock_gettime};
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
